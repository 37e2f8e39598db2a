"""Plays recorded runs through the daemon's own parts: inbox, answerer, ledger and spool, in one process.

A recording holds what the instrument wrote (parameter texts, and a picture or a stand-in for one), what was measured on
every frame, the actor's steps, and what came of it: the ledger's rows, the action files, archive and quarantine.
The stand-in is a picture of 8 x 8 pixels that follows from the frame's name, so that an action's ID, a function of the
files' bytes, is the same everywhere. Measurements and steps are stored because networks in float32 differ in the last
digits between processors.

Renew the recordings only on purpose. Whoever changes a rule of the run, a dialect, or what is stored or written runs
`python tests/recorded/make_recordings.py`, reads the difference, and says in the commit why the answers changed. A
change of names or of structure never needs it. New weights are a purpose: the runs with images, and the test that the
shipped actor gives the stored steps, fail until the recordings are renewed with them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from semd.calibration.instrument_driver import CommandedAnswers
from semd.config import Config
from semd.daemon.answering import Answerer
from semd.daemon.daemon_process import reload_frame
from semd.daemon.frame_files import FrameFolders
from semd.daemon.records import observation_from_json, observation_to_json
from semd.decision.decide import decide
from semd.decision.run import Reason, Run
from semd.domain.axes import Parameters
from semd.domain.observation import Observation
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.model_store import default_directory, load_model
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Answer, load_pipeline
from semd.protocol.action import Status

Recording = dict[str, Any]
Steps = Callable[[np.ndarray], np.ndarray]

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODELS_DIGEST = "0" * 64
N_FRAMES, RHO = 5, 0.2
SIDE_PX = 8
EVERY_STATUS, EVERY_REASON = {str(each) for each in Status}, {str(each) for each in Reason}
_VOLATILE = ("ISSUED=", "EXPIRES=", "CRC32=")


class DiedError(BaseException):
    """The process has ended in the middle of a frame."""


class StoredSource:
    """Answers frames by the shipped rules from stored measurements and steps.

    Attributes:
        rules: of the run.
        frame: the frame in hand, as recorded.
        act: gives the actor's steps in place of the stored ones, while recording; else None.
        asked: the states that the actor was asked about, and the steps that were used.
        unanswered: stems for which steps were wanted but none are stored.
    """

    models_digest = MODELS_DIGEST

    def __init__(self, recording: Recording, act: Steps | None = None) -> None:
        self.rules = rules_of(recording)
        self.act = act
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []
        self.unanswered: list[str] = []
        self.frame: Recording = {}
        self._deaths_left = 0
        self._dictation = CommandedAnswers(self)

    def take(self, frame: Recording) -> None:
        self.frame = frame
        self._deaths_left = frame.get("dies", 0)
        if frame.get("dictated", {}).get("first"):
            self._dictation = CommandedAnswers(self)

    def answer(self, run: Run | None, stem: str, parameters: Parameters, image: np.ndarray | None) -> Answer:
        if self._deaths_left and image is not None:
            self._deaths_left -= 1
            raise DiedError
        if self.frame.get("fails") and image is not None:
            raise RuntimeError("the network failed")
        dictated = self.frame.get("dictated")
        # A dictation asks this source for the measurement alone, and replaces the decision.
        if dictated is not None and not self._is_dictating:
            return self._dictate(dictated, stem, parameters, image)
        observation = Observation(stem, parameters, None)
        if image is not None:
            unmeasured = json.loads(observation_to_json(observation))
            observation = observation_from_json(json.dumps(unmeasured | {"measurement": self.frame["measurement"]}))
        return Answer(observation, decide(run, observation, self.rules, self._steps), 0.0, 0.0, 0.0)

    _is_dictating = False

    def _dictate(self, dictated: Recording, stem: str, parameters: Parameters, image: np.ndarray | None) -> Answer:
        self._dictation.status = Status(dictated["status"])
        axes = {str(axis): axis for axis in self.rules.axes}
        targets = dictated.get("targets")
        self._dictation.targets = {axes[name]: value for name, value in targets.items()} if targets else None
        self._is_dictating = True
        try:
            return self._dictation.answer(None, stem, parameters, image)
        finally:
            self._is_dictating = False

    def _steps(self, state: np.ndarray) -> np.ndarray:
        if self._is_dictating:
            return np.zeros(3, np.float32)
        if self.act is not None:
            self.frame["steps"] = [round(float(step), 6) for step in self.act(state)]
        if self.frame.get("steps") is None:
            self.unanswered.append(self.frame["stem"])
            return np.zeros(3, np.float32)
        steps = np.array(self.frame["steps"], np.float32)
        self.asked.append((state.copy(), steps))
        return steps


class Daemon:
    """A daemon without its process, in a folder of its own, with a clock that stands still.

    Args:
        root: an empty folder.
        recording: layout, dialect and settings.
        source: answers the frames.
    """

    def __init__(self, root: Path, recording: Recording, source: Any) -> None:
        self.root, self.source = root, source
        self.watch = root / "watch"
        self.watch.mkdir(parents=True)
        self.single = recording["layout"] == "single"
        self.loader = FrameLoader.of(config_of(recording))
        if not recording.get("with_images"):
            self.loader = replace(self.loader, size=FrameSize(SIDE_PX, SIDE_PX))
        self.now_s = 0.0
        self._open: Any = None

    def start(self) -> None:
        self._open = self._process()
        self._open.__enter__()

    def end(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = None

    @contextmanager
    def _process(self) -> Iterator[None]:
        spool = Spool(self.root / "actions")
        archive = self.root / "archive" if self.single else None
        with Ledger(self.root / "ledger.sqlite", now=lambda: NOW, floor_seq=spool.highest_seq()) as ledger:
            self._answerer = Answerer(
                self.source,
                ledger,
                spool,
                FrameFolders(archive, self.root / "quarantine"),
                lifetime=timedelta(seconds=60),
                now=lambda: NOW,
                reload=lambda row: reload_frame(self.loader, self.watch, row),
            )
            self._inbox = Inbox(self.watch, self.loader, InboxTimeouts(), ledger.knows)
            yield

    def feed(self, frame: Recording, folder: Path | None = None) -> None:
        """Save a frame's files and let the daemon see them, with all that befalls it meanwhile."""
        if frame.get("restart"):
            self.end()
        if hasattr(self.source, "take"):
            self.source.take(frame)
        for name, data in files_of(frame, folder):
            (self.watch / name).write_bytes(data)
        for _ in range(10):
            try:
                if self._open is None:
                    self.start()
                    self._answerer.recover()
                self._look(0.0, 1.0, 11.0)  # as long as the inbox waits for the rest of a damaged frame
            except DiedError:
                self.end()
            else:
                return
        raise AssertionError(f"{frame['stem']}: the process ended ten times")

    def _look(self, *waits_s: float) -> None:
        for wait_s in waits_s:
            self.now_s += wait_s
            for item in self._inbox.poll(Hints(), self.now_s, force_rescan=True):
                if isinstance(item.content, LoadedFrame):
                    self._answerer.answer(item.content, item.fingerprint)
                else:
                    self._answerer.reject(item.content, item.fingerprint)
                self._inbox.settle(item)

    def last_action(self) -> Recording | None:
        """Keys and values of the newest action file; None without one."""
        paths = sorted((self.root / "actions").glob("action-*.txt"))
        return dict(line.split("=", 1) for line in paths[-1].read_text().splitlines() if "=" in line) if paths else None

    def outcome(self) -> Recording:
        """All that came of the frames so far, without times."""
        with closing(sqlite3.connect(self.root / "ledger.sqlite")) as ledger:
            query = "SELECT state, seq, id, stem, reason_code, observation_json, decision_json FROM frames ORDER BY row"
            rows = [_row(*row) for row in ledger.execute(query)]
        actions = [[path.name, steady_text(path)] for path in sorted((self.root / "actions").glob("action-*.txt"))]
        quarantine = sorted((self.root / "quarantine").glob("*"))
        codes = {path.name: path.read_text().split(":")[0] for path in quarantine if path.name.endswith(".reason.txt")}
        return {
            "rows": rows,
            "actions": actions,
            "archive": sorted(path.name for path in (self.root / "archive").glob("*")),
            "quarantine": [path.name for path in quarantine],
            "codes": codes,
        }


def play(recording: Recording, root: Path, source: Any, folder: Path | None = None) -> Recording:
    """Play a recording in an empty folder; returns what came of it."""
    daemon = Daemon(root, recording, source)
    try:
        for frame in recording["frames"]:
            daemon.feed(frame, folder)
    finally:
        daemon.end()
    return daemon.outcome()


def check_measurements(recording: Recording, outcome: Recording) -> None:
    """Check that the ledger holds the measurements as they were given, and take them out of the outcome."""
    given = [json.dumps(frame.get("measurement"), sort_keys=True) for frame in recording["frames"]]
    for row in outcome["rows"]:
        found = row.pop("measurement", None)
        if found is not None:
            assert json.dumps(found, sort_keys=True) in given, row["stem"]
            row["measured"] = True


def load_recordings(group: str) -> list[Recording]:
    """The runs of one group, one a line of `data/GROUP.jsonl`."""
    return [json.loads(line) for line in (DATA / f"{group}.jsonl").read_text(encoding="utf-8").splitlines()]


def config_of(recording: Recording) -> Config:
    """The settings of a recording, as a TOML file would say them."""
    raw: Recording = {name: {"directory": name} for name in ("watch", "actions", "state")}
    for section, values in recording.get("config", {}).items():
        raw[section] = raw.get(section, {}) | values
    raw["watch"] |= {"layout": recording["layout"], "dialect": recording["dialect"]}
    return Config.model_validate(raw)


def rules_of(recording: Recording) -> Any:
    """The rules of a recorded run; with `preset: paper` the control window is the limits, as in the paper."""
    rules = config_of(recording).rules(N_FRAMES, RHO)
    return replace(rules, optics=None) if recording.get("preset") == "paper" else rules


def shipped_actor() -> Steps:
    """The actor in `models/`."""
    # torch takes longer to import than all runs without images take to play.
    from semd.control.policy import ActorPolicy  # noqa: PLC0415

    policy = ActorPolicy.load(load_model(default_directory(), "actor").data)
    assert (policy.n_frames, policy.rho) == (N_FRAMES, RHO)
    return policy


def shipped_pipeline(recording: Recording) -> Any:
    """Scoring machine, actor and rules as the daemon loads them."""
    return load_pipeline(None, 1, config_of(recording).rules)


def files_of(frame: Recording, folder: Path | None = None) -> list[tuple[str, bytes]]:
    """Names and bytes of a frame's files, as the instrument saves them."""
    image = frame.get("image", "made")
    files = []
    if image == "made":
        files.append((f"{frame['stem']}.bmp", stand_in(frame.get("picture", frame["stem"]))))
    elif image == "cut":
        files.append((f"{frame['stem']}.bmp", stand_in(frame.get("picture", frame["stem"]))[:-40]))
    elif image == "garbage":
        files.append((f"{frame['stem']}.bmp", b"no picture at all" * 8))
    elif image == "file":
        assert folder is not None
        files.append((f"{frame['stem']}.jpg", (folder / f"{frame['stem']}.jpg").read_bytes()))
    elif image != "none":
        files.append((f"{frame['stem']}.tif", base64.b64decode(image)))
    if frame.get("text") is not None:
        suffix = frame.get("text_suffix", ".txt")
        files.append((f"{frame['stem']}{suffix}", frame["text"].encode(frame.get("encoding", "ascii"))))
    return files


def stand_in(name: str) -> bytes:
    """A BMP of 8 x 8 pixels that follow from the name."""
    row_bytes = 3 * SIDE_PX
    pixels = b"".join(hashlib.sha256(f"{name}:{row}".encode()).digest()[:row_bytes] for row in range(SIDE_PX))
    header = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return header + struct.pack("<IiiHHIIiiII", 40, SIDE_PX, SIDE_PX, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def steady_text(path: Path) -> str:
    """An action file's text byte for byte, without the lines that hold times or depend on them."""
    lines = path.read_bytes().decode("latin-1").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(_VOLATILE))


def _row(
    state: str,
    seq: int | None,
    identity: str | None,
    stem: str,
    code: str | None,
    seen: str | None,
    decided: str | None,
) -> Recording:
    row: Recording = {"state": state, "seq": seq, "id": identity, "stem": stem, "code": code}
    if seen is not None and decided is not None:
        observation = json.loads(seen)
        # Written and read again by the records' own code: the column holds what they write.
        assert observation_to_json(observation_from_json(seen)) == seen
        row |= {
            "frame": observation["frame"],
            "parameters": {key: value for key, value in observation["parameters"].items() if value is not None},
            "measurement": observation["measurement"],
            "decision": json.loads(decided),
        }
    return row
