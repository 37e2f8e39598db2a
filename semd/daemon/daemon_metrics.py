"""The daemon's health as metrics: `semd.prom` in the state directory."""

from __future__ import annotations

from pathlib import Path

from semd import __version__
from semd.daemon.health import HEALTH_POINTS, DaemonHealth
from semd.service.metrics import DAEMON_METRICS_FILE, Metric, counter, gauge, render
from semd.service.storage import write_atomically


def daemon_metrics(health: DaemonHealth) -> list[Metric]:
    """Everything in the snapshot that is a number."""
    info = {"version": __version__, "models": health.models[:12]}
    metrics = [
        Metric("semd_info", "gauge", "Version and digest of the models.", ((info, 1.0),)),
        gauge("semd_heartbeat_timestamp_seconds", health.written_at, "When the daemon last said how it fares."),
        gauge("semd_start_timestamp_seconds", health.started_at, "When the daemon started."),
        gauge("semd_watching", health.watching, "Whether events come from the watch directory."),
        gauge("semd_unheard_frames", health.unheard_frames, "Frames in a row that no event announced."),
        gauge("semd_scan_ok", health.directory_ok, "Whether the watch directory could be scanned."),
        gauge("semd_scan_age_seconds", health.scan_age_s, "Time since the watch directory was last looked at."),
        gauge("semd_storage_ok", health.storage_ok, "Whether ledger and action directory could be written."),
        gauge("semd_models_unchanged", health.models_unchanged, "Whether the verified model files are still on disk."),
        gauge("semd_frames_waiting", health.waiting, "Frames seen and not yet answered."),
        gauge("semd_queue_growing_seconds", health.queue_growing_s, "For how long ever more frames have been waiting."),
        gauge("semd_frames_unreadable", health.unreadable, "Frames waiting because a file of theirs cannot be read."),
        gauge(
            "semd_frames_failed_in_a_row",
            health.failed_in_a_row,
            "Frames answered last, one after the other, that failed to be scored or decided.",
        ),
        counter("semd_frames_answered_total", health.answered, "Frames answered since the start."),
        counter("semd_frames_quarantined_total", health.quarantined, "Frames quarantined since the start."),
    ]
    free = tuple(({"directory": name}, mb * 1e6) for name, mb in health.disk_free_mb.items())
    metrics.append(Metric("semd_disk_free_bytes", "gauge", "Room left on the directory's disk.", free))
    if health.memory_mb is not None:
        metrics.append(gauge("semd_memory_peak_bytes", health.memory_mb * 1e6, "Largest resident memory so far."))
    return metrics


def write_metrics(directory: Path, health: DaemonHealth) -> None:
    """Replace semd.prom in one step, not synced to disk.

    Raises:
        StorageError: it cannot be written.
    """
    path = directory / DAEMON_METRICS_FILE
    write_atomically(path, render(daemon_metrics(health)), durable=False, points=HEALTH_POINTS)
