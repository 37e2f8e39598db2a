"""Metrics of the Middle Client, written to `semd-middle-client.prom` in the state directory."""

from __future__ import annotations

from collections.abc import Mapping

from semd.middle_client.action_folder import Outcome
from semd.service.metrics import Metric, counter, gauge


def client_metrics(
    *,
    written_at: float,
    started_at: float,
    link_up: bool,
    connections: int,
    pending: int,
    storage_ok: bool,
    aborted: bool,
    dry_run: bool,
    outcomes: Mapping[str, int],
) -> list[Metric]:
    """Return the metrics of the heartbeat; times are in seconds since the epoch."""
    ended = tuple(({"outcome": str(outcome)}, float(outcomes.get(outcome, 0))) for outcome in Outcome)
    return [
        gauge("semd_middle_client_heartbeat_timestamp_seconds", written_at, "When it last said how it fares."),
        gauge("semd_middle_client_start_timestamp_seconds", started_at, "When the Middle Client started."),
        gauge("semd_middle_client_storage_ok", storage_ok, "Whether its files could be read, written and moved."),
        gauge("semd_link_up", link_up, "Whether there is a connection to the microscope."),
        gauge("semd_aborted", aborted, "Whether the abort file is there, so that nothing is sent."),
        gauge("semd_dry_run", dry_run, "Whether actions are filed away and no link is opened."),
        counter("semd_link_connections_total", connections, "Connections made since the start."),
        gauge("semd_actions_pending", pending, "Action files that wait for the microscope."),
        Metric("semd_actions_total", "counter", "Actions dealt with since the start, by how they ended.", ended),
    ]
