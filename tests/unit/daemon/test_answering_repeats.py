"""Late halves, and pairs that come again byte for byte: each ends once."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.answering import MODELS, TEXT, DaemonWithoutProcess, DiedError, png
from structlog.testing import capture_logs

from semd.protocol.action import Status
from semd.protocol.identity import action_id, digest


@pytest.fixture(params=["series", "single"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> DaemonWithoutProcess:
    return DaemonWithoutProcess(tmp_path, request.param)


@pytest.mark.parametrize("first", ["image", "text"])
def test_a_late_half_joins_the_record_of_the_first(daemon: DaemonWithoutProcess, first: str) -> None:
    with daemon.process(), capture_logs() as logs:
        daemon.save("R", *((png(1), None) if first == "image" else (None, TEXT)))
        daemon.look()
        daemon.save("R", *((None, TEXT) if first == "image" else (png(1), None)))
        daemon.look()
    assert list(daemon.watch.iterdir()) == []
    assert daemon.reasons() == ["SEMD-F07"]
    assert daemon.quarantined() == ["R.png", "R.txt"]
    assert [line["event"] for line in logs if line["event"] in ("frame.quarantined", "frame.late-half")] == [
        "frame.quarantined",
        "frame.late-half",
    ]
    assert daemon.actions() == []


@pytest.mark.parametrize("why", ["bad text", "damaged image"])
def test_a_half_after_a_whole_pair_in_quarantine(daemon: DaemonWithoutProcess, why: str) -> None:
    """In `series` it is that frame's; in `single` it may be the next one's, which must have its own record."""
    with daemon.process():
        daemon.save("R", png(1)[:-30] if why == "damaged image" else png(1), TEXT[4:] if why == "bad text" else TEXT)
        daemon.look()
        daemon.save("R", None, TEXT + b"HV=15000\r\n")
        daemon.look()
    code = "SEMD-F02" if why == "bad text" else "SEMD-F04"
    assert daemon.reasons() == ([code] if daemon.layout == "series" else [code, "SEMD-F07"])
    assert list(daemon.watch.iterdir()) == []


def test_only_one_half_is_ever_the_late_one_where_all_frames_share_a_stem(tmp_path: Path) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "single")
    with daemon.process():
        for image, text in ((png(1), None), (None, TEXT), (None, TEXT + b"HV=1000\r\n"), (png(2), None)):
            daemon.save("R", image, text)
            daemon.look()
    assert daemon.reasons() == ["SEMD-F07"] * 2  # two frames, each in two pieces
    assert daemon.quarantined() == ["R.png"] * 2 + ["R.txt"] * 2


def test_a_pair_saved_again_byte_for_byte_is_a_frame_of_its_own_in_single(tmp_path: Path) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "single")
    ids = []
    for count in range(1, 4):
        with daemon.process(), capture_logs() as logs:
            daemon.save("R", png(1))
            daemon.look()
        assert list(daemon.watch.iterdir()) == []
        assert [action.seq for action in daemon.actions()] == list(range(1, count + 1))
        ids = [action.id for action in daemon.actions()]
        assert ("frame.identical" in [line["event"] for line in logs]) == (count > 1)
    first = action_id("R", digest(png(1)), digest(TEXT), MODELS)
    again = [action_id(f"0000000{seq}~R", digest(png(1)), digest(TEXT), MODELS) for seq in (2, 3)]
    assert ids == [first, *again]
    assert {action.frame for action in daemon.actions()} == {"R"}
    assert len(list((tmp_path / "archive").glob("*.png"))) == 3


def test_a_damaged_pair_saved_again_is_held_again_in_single(tmp_path: Path) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "single")
    with daemon.process():
        for _ in range(2):
            daemon.save("R", png(1)[:-30])
            daemon.look()
    assert [action.status for action in daemon.actions()] == [Status.HOLD] * 2
    assert daemon.reasons() == ["SEMD-F04"] * 2


def test_the_same_pair_saved_again_in_series_is_the_same_frame(tmp_path: Path) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "series")
    with daemon.process():
        for _ in range(3):
            daemon.save("R", png(1))
            daemon.look()
    assert len(daemon.actions()) == 1


def test_dying_over_a_repeated_pair_answers_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "single")
    with daemon.process():
        daemon.save("R", png(1))
        daemon.look()
        daemon.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(daemon.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                daemon.look()
    for _ in range(2):
        with daemon.process():
            daemon.look()
    assert [action.seq for action in daemon.actions()] == [1, 2]
