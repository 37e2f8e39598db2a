"""Silent emitters, growing queues, touched models: seen when they are there, and not when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semd.daemon.model_seal import ModelSeal
from semd.daemon.vitals import Hearing, QueueTrend, Surroundings, Vitals, free_mb
from semd.errors import ModelError
from semd.inbox.inbox import Fingerprint
from semd.model_store import MANIFEST, default_directory

BEGAN_NS = 1_000


def frame(stem: str, changed_ns: int = BEGAN_NS + 1) -> Fingerprint:
    return tuple((f"{stem}.{suffix}", 9, changed_ns, changed_ns) for suffix in ("jpg", "txt"))


@pytest.fixture
def hearing() -> Hearing:
    hearing = Hearing()
    hearing.began(BEGAN_NS)
    return hearing


def test_frames_without_any_event_are_counted_in_a_row(hearing: Hearing) -> None:
    for number in range(3):
        hearing.found(frame(f"f{number}"))
    assert hearing.unheard == 3
    hearing.events(["f3.txt"])
    hearing.found(frame("f3"))
    assert hearing.unheard == 0


def test_the_events_of_one_frame_do_not_speak_for_the_next_of_its_name(hearing: Hearing) -> None:
    hearing.events(["ResponseImage.jpg", "ResponseImage.txt"])
    hearing.found(frame("ResponseImage"))
    hearing.found(frame("ResponseImage"))
    assert hearing.unheard == 1


def test_a_late_event_clears_the_suspicion(hearing: Hearing) -> None:
    hearing.found(frame("a"))
    hearing.events([])
    assert hearing.unheard == 1
    hearing.events(["a.txt"])
    assert hearing.unheard == 0


def test_a_burst_that_was_announced_at_once_is_heard(hearing: Hearing) -> None:
    hearing.events([f"f{number}.jpg" for number in range(20)])
    for number in range(20):
        hearing.found(frame(f"f{number}"))
    assert hearing.unheard == 0


def test_what_lay_there_before_the_watch_and_what_came_before_it_was_put_back_is_not_counted(hearing: Hearing) -> None:
    hearing.found(frame("old", BEGAN_NS))
    assert hearing.unheard == 0
    hearing.found(frame("new"))
    hearing.began(BEGAN_NS + 1)
    hearing.found(frame("newer"))
    assert hearing.unheard == 0


def test_a_year_of_other_files_is_not_remembered(hearing: Hearing) -> None:
    for number in range(10_000):
        hearing.events([f"thumbs-{number}.db"])
    hearing.events(["f.jpg"])
    hearing.found(frame("f"))
    assert hearing.unheard == 0
    assert len(hearing._announced) <= 4096


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
    seal = ModelSeal((path,))
    assert seal.unbroken()
    path.write_bytes(b"WEIGHTS")
    assert not seal.unbroken()
    seal = ModelSeal((path,))
    other = tmp_path / "other"
    other.write_bytes(b"another")
    other.replace(path)
    assert not seal.unbroken()
    seal = ModelSeal((path,))
    path.unlink()
    assert not seal.unbroken()
    assert not ModelSeal((path,)).unbroken()


def test_the_seal_covers_manifest_and_weights(tmp_path: Path) -> None:
    for source in default_directory().iterdir():
        if source.suffix in {".json", ".safetensors"}:
            (tmp_path / source.name).write_bytes(source.read_bytes())
    for name in (MANIFEST, "actor.safetensors", "scorer.safetensors"):
        seal = ModelSeal.of(tmp_path, "torch")
        assert seal.unbroken()
        with (tmp_path / name).open("ab") as file:
            file.write(b" ")
        assert not seal.unbroken()
    with pytest.raises(ModelError):
        ModelSeal.of(tmp_path / "nowhere", "torch")


def test_surroundings_are_looked_at_as_often_as_they_are_worth(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x")
    vitals = Vitals(Surroundings(disks={"state": tmp_path}, models=ModelSeal((path,))))
    vitals.measure(0.0, 0)
    assert vitals.models_unchanged
    assert vitals.disk_free_mb["state"] > 0
    path.write_bytes(b"xy")
    vitals.measure(59.0, 0)
    assert vitals.models_unchanged
    vitals.measure(60.0, 0)
    assert not vitals.models_unchanged


def test_polling_observers_are_not_held_to_announce_frames(tmp_path: Path) -> None:
    vitals = Vitals(Surroundings(events_expected=False))
    vitals.watch_began()
    vitals.found(frame("f", 2**62))
    assert vitals.unheard_frames == 0


def test_the_room_of_a_directory_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert set(free_mb({"state": tmp_path, "actions": tmp_path / "gone"})) == {"state"}
