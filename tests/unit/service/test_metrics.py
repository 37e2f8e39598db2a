"""Metrics as Prometheus' own parser reads them, over files and over the loopback endpoint."""

from __future__ import annotations

import http.client
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from structlog.testing import capture_logs

from semd.daemon.daemon_metrics import daemon_metrics, write_metrics
from semd.daemon.health import DaemonHealth
from semd.daemon.metrics_endpoint import metrics_endpoint
from semd.middle_client.client_metrics import client_metrics
from semd.service.metrics import Metric, counter, gauge, render

HEALTH = DaemonHealth(
    written_at=1_800_000_000.25,
    started_at=1_799_999_000.0,
    pid=7,
    watching=True,
    unheard_frames=2,
    directory_ok=False,
    scan_age_s=12.5,
    storage_ok=True,
    waiting=4,
    queue_growing_s=30.0,
    answered=17,
    quarantined=1,
    last_frame="f",
    last_status="DONE",
    memory_mb=486.1,
    models="ab" * 32,
    models_unchanged=True,
    disk_free_mb={"state": 1234.5, "actions": 20.0},
)


def samples(data: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(data.decode())
        for sample in family.samples
    }


def test_every_sample_kind_label_and_help_survive_the_reader() -> None:
    nasty = 'a"b\\c\nd{}=,µ'
    data = render(
        [
            gauge("semd_a", 0.1 + 0.2, "Back\\slash and\nnew line."),
            counter("semd_b_total", 2**40, "B."),
            Metric("semd_c", "gauge", "C.", (({"x": nasty, "y": ""}, -1.5e-9), ({"x": "2", "y": "z"}, math.inf))),
            Metric("semd_d", "gauge", "D.", (({}, math.nan),)),
        ]
    )
    families = {family.name: family for family in parse(data.decode())}
    assert families["semd_a"].documentation == "Back\\slash and\nnew line."
    assert families["semd_b"].type == "counter"
    found = samples(data)
    assert found["semd_a", ()] == 0.1 + 0.2
    assert found["semd_b_total", ()] == 2**40
    assert found["semd_c", (("x", nasty), ("y", ""))] == -1.5e-9
    assert found["semd_c", (("x", "2"), ("y", "z"))] == math.inf
    assert math.isnan(found["semd_d", ()])
    assert data.endswith(b"\n")


def test_the_daemons_numbers(tmp_path: Path) -> None:
    write_metrics(tmp_path, HEALTH)
    [path] = tmp_path.iterdir()
    assert path.name == "semd.prom"
    found = samples(path.read_bytes())
    assert found["semd_heartbeat_timestamp_seconds", ()] == 1_800_000_000.25
    assert found["semd_watching", ()] == 1.0
    assert found["semd_scan_ok", ()] == 0.0
    assert found["semd_frames_answered_total", ()] == 17.0
    assert found["semd_disk_free_bytes", (("directory", "actions"),)] == 20e6
    assert found["semd_memory_peak_bytes", ()] == pytest.approx(486.1e6)
    silent = render(daemon_metrics(replace(HEALTH, memory_mb=None)))
    assert b"semd_memory" not in silent


def test_names_follow_the_conventions_and_no_family_is_in_both_files() -> None:
    client = client_metrics(
        written_at=1.0, started_at=0.0, link_up=True, connections=2, pending=0, storage_ok=True,
        aborted=True, dry_run=False, outcomes={"sent": 3},
    )  # fmt: skip
    daemon = daemon_metrics(HEALTH)
    names = [metric.name for metric in [*daemon, *client]]
    assert len(names) == len(set(names))
    for metric in [*daemon, *client]:
        assert metric.name.startswith("semd_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
    found = samples(render(client))
    assert found["semd_actions_total", (("outcome", "sent"),)] == 3.0
    assert found["semd_actions_total", (("outcome", "uncertain"),)] == 0.0


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def test_the_endpoint_serves_both_processes_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("ledger")
    with metrics_endpoint(tmp_path, 0) as port:
        assert port is not None
        assert get(port, "/metrics")[2] == b""
        (tmp_path / "semd.prom").write_bytes(b"semd_a 1.0\n")
        (tmp_path / "semd-middle-client.prom").write_bytes(b"semd_b 2.0\n")
        status, kind, body = get(port, "/metrics?x=1")
        assert (status, body) == (200, b"semd_a 1.0\nsemd_b 2.0\n")
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        for path in ("/", "/secret", "/metrics/../secret", "/../secret"):
            status, _, body = get(port, path)
            assert status == 404
            assert b"ledger" not in body
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")


def test_it_listens_on_the_loopback_address_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[object] = []
    bind = socket.socket.bind

    def note(self: socket.socket, address: object) -> None:
        bound.append(address)
        bind(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "bind", note)
    with metrics_endpoint(tmp_path, 0):
        assert bound == [("127.0.0.1", 0)]


def test_a_client_that_says_half_a_word_does_not_end_it(tmp_path: Path) -> None:
    with metrics_endpoint(tmp_path, 0) as port:
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(b"GET /met")
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(b"\xff\x00\r\n\r\n")
        assert get(port, "/metrics")[0] == 200


def test_off_by_default_and_a_port_that_is_taken_stops_nothing(tmp_path: Path) -> None:
    with metrics_endpoint(tmp_path, None) as port:
        assert port is None
    with (
        capture_logs() as logs,
        socket.create_server(("127.0.0.1", 0)) as other,
        metrics_endpoint(tmp_path, other.getsockname()[1]) as port,
    ):
        assert port is None
    assert [line["event"] for line in logs] == ["metrics.unserved"]
