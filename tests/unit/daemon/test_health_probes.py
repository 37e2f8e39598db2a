"""Silent emitters, growing queues, touched models: seen when they are there, and not when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semd.daemon.health_probes import EventProbe, HealthProbes, ProbeTargets, QueueTrend, free_mb
from semd.daemon.model_integrity import ModelIntegrity
from semd.errors import ModelError
from semd.inbox.inbox import Fingerprint
from semd.model_store import MANIFEST, default_directory

BEGAN_NS = 1_000


def frame(stem: str, changed_ns: int = BEGAN_NS + 1) -> Fingerprint:
    return tuple((f"{stem}.{suffix}", 9, changed_ns, changed_ns) for suffix in ("jpg", "txt"))


@pytest.fixture
def event_probe() -> EventProbe:
    event_probe = EventProbe()
    event_probe.began(BEGAN_NS)
    return event_probe


def test_frames_without_any_event_are_counted_in_a_row(event_probe: EventProbe) -> None:
    for number in range(3):
        event_probe.found(frame(f"f{number}"))
    assert event_probe.unheard == 3
    event_probe.events(["f3.txt"])
    event_probe.found(frame("f3"))
    assert event_probe.unheard == 0


def test_the_events_of_one_frame_do_not_speak_for_the_next_of_its_name(event_probe: EventProbe) -> None:
    event_probe.events(["ResponseImage.jpg", "ResponseImage.txt"])
    event_probe.found(frame("ResponseImage"))
    event_probe.found(frame("ResponseImage"))
    assert event_probe.unheard == 1


def test_a_late_event_clears_the_suspicion(event_probe: EventProbe) -> None:
    event_probe.found(frame("a"))
    event_probe.events([])
    assert event_probe.unheard == 1
    event_probe.events(["a.txt"])
    assert event_probe.unheard == 0


def test_a_burst_that_was_announced_at_once_is_heard(event_probe: EventProbe) -> None:
    event_probe.events([f"f{number}.jpg" for number in range(20)])
    for number in range(20):
        event_probe.found(frame(f"f{number}"))
    assert event_probe.unheard == 0


def test_what_lay_there_before_the_watch_and_what_came_before_it_was_put_back_is_not_counted(
    event_probe: EventProbe,
) -> None:
    event_probe.found(frame("old", BEGAN_NS))
    assert event_probe.unheard == 0
    event_probe.found(frame("new"))
    event_probe.began(BEGAN_NS + 1)
    event_probe.found(frame("newer"))
    assert event_probe.unheard == 0


def test_a_year_of_other_files_is_not_remembered(event_probe: EventProbe) -> None:
    for number in range(10_000):
        event_probe.events([f"thumbs-{number}.db"])
    event_probe.events(["f.jpg"])
    event_probe.found(frame("f"))
    assert event_probe.unheard == 0
    assert len(event_probe._announced) <= 4096


def grown(counts: list[int]) -> float:
    """The trend after one count each ten seconds."""
    trend = QueueTrend()
    for index, count in enumerate(counts):
        trend.add(10.0 * index, count)
    return trend.growing_s


def test_a_queue_that_rises_grows_and_one_that_swings_or_stands_does_not() -> None:
    # Windows of 30 s: each least number is compared with the one before.
    assert grown([0] * 40) == 0.0
    assert grown([50] * 40) == 0.0
    assert grown([0, 5, 30] * 13) == 0.0
    assert grown(list(range(3 * 8 + 1))) == 7 * 30.0
    assert grown([*range(24), 0, 0, 0, 0, 0, 0, 0]) == 0.0
    assert grown(list(range(900, 0, -20))) == 0.0


def test_a_seal_breaks_when_a_file_is_written_replaced_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "actor.safetensors"
    path.write_bytes(b"weights")
    os.utime(path, ns=(1, 1))
    integrity = ModelIntegrity((path,))
    assert integrity.is_unchanged()
    path.write_bytes(b"WEIGHTS")
    assert not integrity.is_unchanged()
    integrity = ModelIntegrity((path,))
    other = tmp_path / "other"
    other.write_bytes(b"another")
    other.replace(path)
    assert not integrity.is_unchanged()
    integrity = ModelIntegrity((path,))
    path.unlink()
    assert not integrity.is_unchanged()
    assert not ModelIntegrity((path,)).is_unchanged()


def test_the_seal_covers_manifest_and_weights(tmp_path: Path) -> None:
    for source in default_directory().iterdir():
        if source.suffix in {".json", ".safetensors"}:
            (tmp_path / source.name).write_bytes(source.read_bytes())
    for name in (MANIFEST, "actor.safetensors", "scorer.safetensors"):
        integrity = ModelIntegrity.of(tmp_path, "torch")
        assert integrity.is_unchanged()
        with (tmp_path / name).open("ab") as file:
            file.write(b" ")
        assert not integrity.is_unchanged()
    with pytest.raises(ModelError):
        ModelIntegrity.of(tmp_path / "nowhere", "torch")


def test_surroundings_are_looked_at_as_often_as_they_are_worth(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x")
    probes = HealthProbes(ProbeTargets(disks={"state": tmp_path}, models=ModelIntegrity((path,))))
    probes.measure(0.0, 0)
    assert probes.models_unchanged
    assert probes.disk_free_mb["state"] > 0
    path.write_bytes(b"xy")
    probes.measure(59.0, 0)
    assert probes.models_unchanged
    probes.measure(60.0, 0)
    assert not probes.models_unchanged


def test_polling_observers_are_not_held_to_announce_frames(tmp_path: Path) -> None:
    probes = HealthProbes(ProbeTargets(events_expected=False))
    probes.watch_began()
    probes.found(frame("f", 2**62))
    assert probes.unheard_frames == 0


def test_the_room_of_a_directory_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert set(free_mb({"state": tmp_path, "actions": tmp_path / "gone"})) == {"state"}
