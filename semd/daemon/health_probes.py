"""Health probes of the running loop: missing events, a growing queue, a filling disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from semd.daemon.model_integrity import ModelIntegrity
from semd.inbox.inbox import Fingerprint

_TREND_WINDOW_S = 30.0
_DISK_PERIOD_S = 10.0
_MODELS_PERIOD_S = 60.0
_NAMES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class ProbeTargets:
    """Disks and models that the daemon depends on.

    Attributes:
        disks: directories whose disk must not fill, by the name they are shown under.
        models: integrity of the loaded files; None when the models came from elsewhere.
        events_expected: True where every file is announced by an event before the scan finds it at rest. Polling
            observers only promise to be about as fast as the scan.
    """

    disks: Mapping[str, Path] = field(default_factory=dict)
    models: ModelIntegrity | None = None
    events_expected: bool = True


class EventProbe:
    """Notices an emitter that lives and says nothing: frames turn up that no event announced.

    An event that comes late, when the scan has found its frame already, shows as well that the emitter is not stuck.
    """

    def __init__(self) -> None:
        self._announced: dict[str, None] = {}
        self._began_ns = 0
        self.unheard = 0

    def began(self, now_ns: int) -> None:
        """The watch was put in place; files older than this cannot have been announced."""
        self._began_ns = now_ns
        self.unheard = 0

    def events(self, names: Iterable[str]) -> None:
        """Events have named these files."""
        named = dict.fromkeys(names)
        if named:
            self.unheard = 0
        self._announced.update(named)
        while len(self._announced) > _NAMES_KEPT:  # files that never become frames
            del self._announced[next(iter(self._announced))]

    def found(self, fingerprint: Fingerprint) -> None:
        """A frame of these files is complete."""
        announced = [name for name, *_ in fingerprint if name in self._announced]
        for name in announced:
            del self._announced[name]
        if not announced and max(min(changed_ns) for _, _, *changed_ns in fingerprint) > self._began_ns:
            self.unheard += 1


class QueueTrend:
    """Notices a queue that grows: the least number waiting rises from window to window."""

    def __init__(self) -> None:
        self._window_ends_s = float("-inf")
        self._low: int | None = None
        self._last_low: int | None = None
        self.growing_s = 0.0

    def add(self, now_s: float, waiting: int) -> None:
        """So many frames wait at this moment (a monotonic clock)."""
        if now_s >= self._window_ends_s:
            if self._low is not None and self._last_low is not None:
                self.growing_s = self.growing_s + _TREND_WINDOW_S if self._low > self._last_low else 0.0
            self._last_low, self._low = self._low, None
            self._window_ends_s = now_s + _TREND_WINDOW_S
        self._low = waiting if self._low is None else min(self._low, waiting)


class HealthProbes:
    """Measures the probe_targets, each as often as it is worth.

    Args:
        probe_targets: disks, models and events to watch.
    """

    def __init__(self, probe_targets: ProbeTargets) -> None:
        self._targets = probe_targets
        self._event_probe = EventProbe()
        self._trend = QueueTrend()
        self._next_disks_s = self._next_models_s = float("-inf")
        self.started_at = time.time()
        self.models_unchanged = True
        self.disk_free_mb: dict[str, float] = {}

    @property
    def unheard_frames(self) -> int:
        """Frames in a row that no event announced."""
        return self._event_probe.unheard

    @property
    def queue_growing_s(self) -> float:
        """For how long the number of waiting frames has been rising."""
        return self._trend.growing_s

    def watch_began(self) -> None:
        """The watch was put in place."""
        self._event_probe.began(time.time_ns())

    def events(self, names: Iterable[str]) -> None:
        """Events have named these files."""
        self._event_probe.events(names)

    def found(self, fingerprint: Fingerprint) -> None:
        """A frame of these files is complete."""
        if self._targets.events_expected:
            self._event_probe.found(fingerprint)

    def measure(self, now_s: float, waiting: int) -> None:
        """Look at what is due (a monotonic clock)."""
        self._trend.add(now_s, waiting)
        if now_s >= self._next_disks_s:
            self._next_disks_s = now_s + _DISK_PERIOD_S
            self.disk_free_mb = free_mb(self._targets.disks)
        if now_s >= self._next_models_s and self._targets.models is not None:
            self._next_models_s = now_s + _MODELS_PERIOD_S
            self.models_unchanged = self._targets.models.is_unchanged()


def free_mb(directories: Mapping[str, Path]) -> dict[str, float]:
    """Room left for this account on each directory's disk, in MB; those that cannot be asked are left out."""
    found: dict[str, float] = {}
    for name, directory in directories.items():
        try:
            found[name] = round(shutil.disk_usage(directory).free / 1e6, 1)
        except OSError:
            continue
    return found
