"""Renews the recorded runs: `python tests/recorded/make_recordings.py [GROUP ...]`; see `run_player` for when.

The virtual microscope is driven in a closed loop through the same parts that the test plays the runs through; its
frames are judged by the shipped scoring machine, and the steps are the shipped actor's. Rare reasons are reached by
measurements written by hand. Takes about a minute.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import tifffile
from run_player import (
    DATA,
    EVERY_REASON,
    EVERY_STATUS,
    Daemon,
    Recording,
    StoredSource,
    check_measurements,
    play,
    rules_of,
    shipped_actor,
    shipped_pipeline,
)

from semd.daemon.records import observation_to_json
from semd.datasets.faulty import faulty_frames
from semd.decision.decide import decide
from semd.decision.run import advance
from semd.domain.axes import Parameters
from semd.domain.observation import Observation
from semd.inbox.image import decode_image
from semd.protocol.parameter_text import format_parameters
from semd.simulator.frame_writer import ImageFormat, encode_image
from semd.simulator.microscope import Imperfections, VirtualMicroscope

SCORE_TOLERANCE = 0.01
_SHIFTS = 24
_WD_ONLY = {"control": {"axes": ["wd"]}}
_ALONE = {"control": {"fit_focus": False}}
Hook = Callable[["RecordedMicroscope"], None]


class RecordedMicroscope:
    """A virtual microscope before a daemon; hooks do what an operator or a fault would."""

    def __init__(self, recording: Recording, microscope: VirtualMicroscope, judge: Any) -> None:
        self.recording, self.microscope, self.judge = recording, microscope, judge
        self.sample: str | None = None
        self.stage_mm: tuple[float, float] | None = None
        self.magnification = microscope.magnification
        self.extra: Recording = {}
        self.override: Recording = {}
        self.picture: np.ndarray | None = None
        self.number = 0

    def frame(self) -> Recording:
        scan = self.microscope.scan()
        image = self.picture if self.picture is not None else scan.image
        parameters = Parameters(
            self.magnification,
            scan.wd_mm,
            scan.brightness,
            scan.contrast,
            sample=self.sample,
            stage_mm=self.stage_mm,
        )
        stem = "frame" if self.recording["layout"] == "single" else f"f-{self.number:06d}"
        made = {"stem": stem, **texts(self.recording["dialect"], parameters)}
        if stem == "frame":
            made["picture"] = f"frame-{self.number}"
        read = decode_image(encode_image(image, ImageFormat.JPG), ".jpg")
        seen = self.judge.answer(None, stem, parameters, read).observation
        measurement = rounded(json.loads(observation_to_json(seen))["measurement"])
        made["measurement"] = measurement | self.override
        return made | self.extra


def rounded(value: Any) -> Any:
    """Numbers with five decimals, which is all that a measurement is worth."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, list):
        return [round(each, 1) if isinstance(each, float) else each for each in value]
    return {key: rounded(each) for key, each in value.items()} if isinstance(value, dict) else value


def texts(dialect: str, now: Parameters) -> Recording:
    """A parameter text as the vendor's program writes it, or the picture that carries it."""
    b, c = now.brightness, now.contrast
    if dialect == "hitachi":
        text = (
            f"[SemImageFile]\r\nInstructName=TM4000\r\nMagnification={now.magnification:g}\r\n"
            f"WorkingDistance={now.wd_mm * 1e3:.2f} um\r\nBrightness={b:.3f}\r\nContrast={c:.3f}\r\n"
        )
        text += f"SampleName={now.sample}\r\n" if now.sample else ""
        return {"text": "\ufeff" + text, "encoding": "utf-16-le"}
    if dialect == "jeol":
        text = f"$CM_FORMAT BMP\r\n$CM_MAG {now.magnification:g}\r\n$CM_BRIGHTNESS {b:.3f}\r\n$CM_CONTRAST {c:.3f}\r\n"
        return {"text": text + f"$$SM_WD {now.wd_mm:.5f}\r\n"}
    if dialect == "tescan":
        text = f"[MAIN]\r\nMagnification={now.magnification:g}\r\n[SEM]\r\nHV=20000\r\nWD={now.wd_mm * 1e-3:.8f}\r\n"
        return {"text": text + f"Detector0Gain={c:.3f}\r\nDetector0Offset={b:.3f}\r\n", "text_suffix": ".hdr"}
    if dialect == "fei":
        text = (
            f"[Beam]\r\nHV=5000\r\nBeam=EBeam\r\n[EBeam]\r\nWD={now.wd_mm * 1e-3:.8f}\r\n[Image]\r\n"
            f"MagnificationReal={now.magnification:g}\r\n[Detectors]\r\nName=ETD\r\n[ETD]\r\nBrightness={b:.3f}\r\n"
            f"Contrast={c:.3f}\r\n"
        )
        return {"image": tiff_with(34682, text)}
    if dialect == "zeiss":
        text = (
            f"0\r\n0\r\nAP_MAG\r\nMag = {now.magnification:g} X\r\nAP_WD\r\nWD = {now.wd_mm:.5f} mm\r\n"
            f"AP_BRIGHTNESS\r\nBrightness = {b:.3f} %\r\nAP_CONTRAST\r\nContrast = {c:.3f} %\r\n"
        )
        return {"image": tiff_with(34118, text)}
    return {"text": format_parameters(now), "encoding": "utf-8"}


def tiff_with(tag: int, text: str) -> str:
    """A TIFF of 8 x 8 pixels that carries a text in a tag, in base64."""
    buffer, value = io.BytesIO(), text.encode() + b"\0"
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    extra = [(tag, 2, len(value), value, True)]
    tifffile.imwrite(buffer, picture, extratags=extra, metadata=None, software=False)
    return base64.b64encode(buffer.getvalue()).decode()


def record(
    name: str,
    judge: Any,
    actor: Any,
    *,
    sample: Any = "tinball",
    magnification: float = 1000.0,
    seed: int = 1,
    layout: str = "series",
    dialect: str = "coxem",
    config: Recording | None = None,
    preset: str | None = None,
    most: int = 12,
    after_end: int = 0,
    at: dict[int, Hook] | None = None,
    always: Hook | None = None,
    imperfections: Imperfections | None = None,
    near: float | None = None,
    exposed: bool = False,
) -> Recording:
    """Record one run; `at` names what happens before a frame, `near` starts so many units from the focus."""
    recording: Recording = {"name": name, "layout": layout, "dialect": dialect, "config": config or {}, "frames": []}
    if preset:
        recording["preset"] = preset
    microscope = VirtualMicroscope(sample, magnification, seed, imperfections=imperfections)
    wd_only = recording["config"].get("control", {}).get("axes") == ["wd"]
    if wd_only or exposed:
        optimum = microscope.detector
        microscope.apply(brightness=optimum.brightness_optimum, contrast=optimum.contrast_optimum)
    if near is not None:
        microscope.apply(wd_mm=microscope.focus_wd_mm + near * microscope.wd_unit_mm)
    instrument = RecordedMicroscope(recording, microscope, judge)
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), recording, StoredSource(recording, actor))
        ended = 0
        for number in range(most):
            (
                instrument.number,
                instrument.extra,
                instrument.override,
                instrument.picture,
            ) = number, {}, {}, None
            if always is not None:
                always(instrument)
            if at is not None and number in at:
                at[number](instrument)
            frame = instrument.frame()
            recording["frames"].append(frame)
            daemon.feed(frame)
            action = daemon.last_action()
            if action is None:
                continue
            follow(microscope, action)
            ended += action["STATUS"] in ("DONE", "GIVE-UP")
            if ended > after_end and (at is None or number >= max(at)):
                break
        daemon.end()
    return finish(recording)


def follow(microscope: VirtualMicroscope, action: dict[str, str]) -> None:
    """Do what an action says."""
    wanted = {"wd_mm": action.get("WD"), "brightness": action.get("BRIGHTNESS"), "contrast": action.get("CONTRAST")}
    values = {key: float(value) for key, value in wanted.items() if value is not None}
    if "wd_mm" in values:
        values["wd_mm"] *= 1e-3 if values["wd_mm"] > 100.0 else 1.0
    microscope.apply(**values)


def finish(recording: Recording) -> Recording:
    """Play a recording as the test does, and store what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = play(recording, Path(folder), StoredSource(recording))
    check_measurements(recording, outcome)
    return recording | {"outcome": outcome}


def extra(**values: Any) -> Hook:
    return lambda instrument: instrument.extra.update(values)


def override(**values: Any) -> Hook:
    return lambda instrument: instrument.override.update(values)


def scores(*values: float, sigma: float = 0.15) -> dict[int, Hook]:
    """Scores written by hand, frame by frame."""
    return {number: override(score=score, sigma=sigma, doubts=[]) for number, score in enumerate(values)}


def turn(**knobs: float) -> Hook:
    """The operator turns knobs by so much."""

    def do(instrument: RecordedMicroscope) -> None:
        now = {key: getattr(instrument.microscope, key) for key in knobs}
        instrument.microscope.apply(**{key: now[key] + by for key, by in knobs.items()})

    return do


def other(**values: Any) -> Hook:
    """Another sample, stage position or magnification."""

    def do(instrument: RecordedMicroscope) -> None:
        for key, value in values.items():
            setattr(instrument, key, value)

    return do


def shows(fault: Any, seed: int = 5) -> Hook:
    """Every frame shows a fault in place of the field."""
    pictures = [each.image for each in faulty_frames(fault, 24, seed)]

    def do(instrument: RecordedMicroscope) -> None:
        instrument.picture = pictures[instrument.number % len(pictures)]

    return do


def grey(instrument: RecordedMicroscope) -> None:
    instrument.picture = np.full((480, 640), 90, np.uint8)


def white(instrument: RecordedMicroscope) -> None:
    instrument.picture = np.full((480, 640), 255, np.uint8)


def both(*hooks: Hook) -> Hook:
    def do(instrument: RecordedMicroscope) -> None:
        for hook in hooks:
            hook(instrument)

    return do


def searches(judge: Any, actor: Any) -> list[Recording]:
    """Ordinary runs: samples, magnifications, layouts, dialects, axes, presets."""

    def run(name: str, **what: Any) -> Recording:
        return record(name, judge, actor, **what)

    control = {"control": {"fit_focus": False, "axes": ["wd"]}}
    runs = [
        run("tinball-x500", magnification=500.0, seed=3, most=14),
        run("tinball-x1000", seed=4, most=14),
        run("tinball-x2000-single", magnification=2000.0, seed=5, layout="single", most=14),
        run("tinball-x5000", magnification=5000.0, seed=6),
        run("grid-x1000", sample="grid", seed=7),
        run("grid-x2000-single", sample="grid", magnification=2000.0, seed=8, layout="single"),
        run("assorted-x1000", sample="assorted", seed=9),
        run("assorted-x10000", sample="assorted", magnification=10000.0, seed=10),
        run("gold-x2000", sample="gold", magnification=2000.0, seed=11),
        run("beads-x5000", sample="beads", magnification=5000.0, seed=12),
        run("well-exposed", seed=13, exposed=True),
        run("starts-in-focus", seed=14, exposed=True, near=0.0, after_end=1),
        run("starts-near-focus", seed=15, exposed=True, near=2.0),
        run("wd-only-x1000", seed=16, config=_WD_ONLY),
        run("wd-only-x500-single", magnification=500.0, seed=17, config=_WD_ONLY, layout="single"),
        run("wd-only-grid", sample="grid", seed=18, config=_WD_ONLY),
        run("wd-only-in-focus", seed=19, config=_WD_ONLY, near=0.3),
        run("wd-only-scores-alone", seed=20, config=control),
        run("scores-alone-x1000", seed=21, config=_ALONE),
        run("scores-alone-grid-single", sample="grid", seed=22, config=_ALONE, layout="single"),
        run("scores-alone-in-focus", seed=23, config=_ALONE, near=0.5, exposed=True),
        run("paper-x1000", seed=24, preset="paper", config=_ALONE),
        run("paper-wd-only", seed=25, preset="paper", config=control),
        run("paper-fit-asked", seed=26, preset="paper"),
        run("paper-single", seed=27, preset="paper", config=_ALONE, layout="single", magnification=500.0),
        run("narrow-limits", seed=28, config={"limits": {"wd_mm": [7.0, 13.0], "brightness": [20.0, 80.0]}}, most=8),
        run("strict-threshold", seed=29, config={"control": {"accept_score": 9.6}}, exposed=True, near=1.0),
        run("backlash", seed=30, imperfections=Imperfections(backlash_u=1.5), exposed=True),
        run("drift", seed=31, imperfections=Imperfections(focus_drift_u=0.4), exposed=True),
        run("hitachi-utf16", seed=32, dialect="hitachi"),
        run("hitachi-single", seed=33, dialect="hitachi", layout="single", most=8),
        run("hitachi-wd-only", seed=34, dialect="hitachi", config=_WD_ONLY, most=8),
        run("jeol", seed=35, dialect="jeol", most=8),
        run("jeol-wd-only", seed=36, dialect="jeol", config=_WD_ONLY, most=8),
        run("tescan", seed=37, dialect="tescan", most=8),
        run("tescan-single", seed=38, dialect="tescan", layout="single", most=6),
        run("zeiss-tags", seed=39, dialect="zeiss", most=6),
        run("fei-tags", seed=40, dialect="fei", most=6),
        run("coxem-utf16", seed=41, always=extra(encoding="utf-16"), most=6),
    ]
    korean = both(other(sample="주석 구슬"), extra(encoding="cp949"))
    runs.append(run("coxem-cp949-sample", seed=42, always=korean, most=6))
    return runs


def troubles(judge: Any, actor: Any) -> list[Recording]:
    """Damage, operators, restarts, fields that change, frames that nobody should score."""

    def run(name: str, **what: Any) -> Recording:
        return record(name, judge, actor, **what)

    cut, garbage, restart = extra(image="cut"), extra(image="garbage"), extra(restart=True)
    deaf = extra(text="MAG=1000\r\nBRIGHTNESS=40\r\n")
    lone = extra(text=None)
    blind = extra(image="none")
    far = extra(text="MAG=1000\r\nWD=900000\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n")
    unfamiliar = override(doubts=["unfamiliar"])
    striped = override(score=9.5, sigma=0.1, doubts=["striped"])
    impatient = {"control": {"patience_steps": 2, "fit_focus": False, "axes": ["wd"]}}
    short = {"control": {"max_steps": 5, "fit_focus": False, "axes": ["wd"]}}
    return [
        run("image-cut", seed=51, at={2: cut}, most=6),
        run("image-garbage-single", seed=52, at={1: garbage}, layout="single", most=5),
        run("image-cut-first", seed=53, at={0: cut}, most=5),
        run("holds-spent-by-damage", seed=54, at={2: cut, 3: garbage, 4: cut, 5: cut, 6: cut, 7: restart}, most=8),
        run("holds-spent-at-once", seed=55, at=dict.fromkeys(range(5), cut), most=6, after_end=9),
        run("text-without-wd", seed=56, at={1: deaf}, most=5),
        run("text-without-wd-single", seed=57, at={1: deaf}, layout="single", most=5),
        run("text-out-of-range", seed=58, at={2: far}, most=5),
        run("text-of-nul", seed=59, at={1: extra(text="\0" * 40)}, most=5),
        run("text-missing", seed=60, at={1: lone}, most=4),
        run("image-missing-single", seed=61, at={1: blind}, layout="single", most=4),
        run("operator-turns-wd", seed=62, at={2: turn(wd_mm=0.05)}, most=8),
        run("operator-turns-contrast-single", seed=63, at={3: turn(contrast=7.0)}, layout="single", most=8),
        run("operator-wins", seed=64, at={k: turn(wd_mm=0.03 * k) for k in range(1, 7)}, most=8),
        run("operator-wd-only", seed=65, at={2: turn(wd_mm=-0.05)}, config=_WD_ONLY, most=7),
        run("operator-moves-other-knob", seed=66, at={2: turn(contrast=9.0)}, config=_WD_ONLY, most=6),
        run("restarts", seed=67, at=dict.fromkeys((1, 3, 4, 6), restart), most=9),
        run("restarts-single", seed=68, at=dict.fromkeys((2, 3, 5), restart), layout="single", most=8),
        run("restart-after-operator", seed=69, at={2: turn(wd_mm=0.05), 3: restart, 4: restart}, most=7),
        run(
            "restart-between-holds", seed=70, at={1: cut, 2: both(cut, restart), 3: cut, 4: both(cut, restart)}, most=6
        ),
        run("restart-after-end", seed=71, near=0.0, exposed=True, at={5: restart, 6: restart}, most=7),
        run("dies-in-a-frame", seed=72, at={2: extra(dies=1), 4: extra(dies=2)}, most=7),
        run("dies-in-a-frame-single", seed=73, at={1: extra(dies=2)}, layout="single", most=5),
        run("dies-each-time", seed=74, at={2: extra(dies=4)}, most=5),
        run("scoring-fails", seed=75, at={2: extra(fails=True)}, most=6),
        run("scoring-fails-single", seed=76, at={1: extra(fails=True), 2: extra(fails=True)}, layout="single", most=5),
        run("sample-changes", seed=77, at={0: other(sample="A"), 3: other(sample="B")}, most=7),
        run("stage-moves", seed=78, at={0: other(stage_mm=(0.0, 0.0)), 3: other(stage_mm=(1.0, 0.5))}, most=7),
        run("stage-moves-a-little", seed=79, at={0: other(stage_mm=(0, 0)), 2: other(stage_mm=(0.001, 0))}, most=6),
        run("magnification-changes", seed=80, at={3: other(magnification=1200.0)}, most=6),
        run("falls-after-the-end", seed=81, near=0.0, exposed=True, at={6: override(score=5.0, sigma=0.2)}, most=9),
        run("stays-after-the-end", seed=82, near=0.0, exposed=True, after_end=3, most=9),
        run("operator-after-the-end", seed=83, near=0.0, exposed=True, at={6: turn(wd_mm=0.06)}, most=9),
        run("blank-grey", seed=84, at={1: grey, 2: grey}, most=5),
        run("blank-to-the-end", seed=85, always=grey, most=6),
        run("blank-white-wd-only", seed=86, always=white, config=_WD_ONLY, most=5),
        run("white-with-knobs", seed=87, always=white, most=6),
        run("striped", seed=88, always=shows("striped"), most=8),
        run("striped-but-passes", seed=89, always=striped, exposed=True, most=6),
        run("striped-once", seed=90, near=0.0, exposed=True, at={0: striped}, most=6),
        run("saturated", seed=91, always=shows("saturated"), most=8),
        run("unfamiliar", seed=92, always=both(shows("unknown sample"), unfamiliar), most=10),
        run("noise-to-the-end", seed=93, always=shows("noise"), most=18),
        run("noise-wd-only-single", seed=94, always=shows("noise"), config=_WD_ONLY, layout="single", most=18),
        run("steps-spent", seed=95, config={"control": {"max_steps": 5}}, most=7),
        run("steps-spent-alone", seed=96, config={"control": {"max_steps": 6, "fit_focus": False}}, most=7),
        run("steps-spent-below", seed=97, at=scores(8.0, 5.0, 5.0, 5.0, 8.0), config=short, most=5),
        run("steps-spent-at-once", seed=103, at=scores(6.0, 6.5), config={"control": {"max_steps": 2}}, most=2),
        run("nothing-better", seed=104, at=scores(8.0, 5.0, 5.2, 5.1, 7.9, 5.0, 5.0, 7.9), config=impatient, most=9),
        run("nothing-better-single", seed=105, at=scores(*[8.3, *[6.0] * 12]), layout="single", config=_ALONE, most=14),
        run("nothing-better-fitted", seed=106, at=scores(*[8.2] * 20), most=21),
        run("returns-to-confirm", seed=107, at=scores(8.0, 9.2, 8.0, 8.0, 9.3, sigma=0.2), config=_ALONE, most=7),
        run("returns-to-confirm-wd-only", seed=108, at=scores(7.5, 9.1, 8.0, 8.0, 8.7), config=impatient, most=7),
        run("noisy-scores", seed=109, at=scores(5.1, 6.8, 7.9, 9.3, 8.4, 8.8, 9.1, 9.5, 9.2), exposed=True, most=9),
        run("charging", seed=99, imperfections=Imperfections(charging_grey=25.0), exposed=True, most=10),
        sweep("calibration-sweep", judge, layout="series"),
        sweep("calibration-sweep-single", judge, layout="single"),
        repeats("same-pair-again", judge, actor, "series"),
        repeats("same-pair-again-single", judge, actor, "single"),
    ]


def sweep(name: str, judge: Any, layout: str) -> Recording:
    """A calibration's answers: two passes, a damaged frame, the end; then an ordinary frame."""
    recording: Recording = {"name": name, "layout": layout, "dialect": "coxem", "config": {}, "frames": []}
    microscope = VirtualMicroscope("tinball", 1000.0, 101)
    knobs = microscope.detector
    microscope.apply(brightness=knobs.brightness_optimum, contrast=knobs.contrast_optimum)
    instrument = RecordedMicroscope(recording, microscope, judge)
    middle_mm = microscope.focus_wd_mm
    places = [round(middle_mm + by * microscope.wd_unit_mm, 4) for by in (-12, -6, 0, 6, 12, -2, -1, 0, 1, 2, 0)]
    for number, place in enumerate([*places, places[-1]]):
        instrument.number, instrument.extra = number, {}
        if number == len(places):
            instrument.extra = {"steps": [0.0, 0.0, 0.0]}
        else:
            instrument.extra["dictated"] = {"status": "ADJUST", "first": number == 0}
            upcoming = {"wd": places[min(number + 1, len(places) - 1)]}
            upcoming |= {"brightness": microscope.brightness, "contrast": microscope.contrast}
            instrument.extra["dictated"]["targets"] = upcoming
        if number == 3:
            instrument.extra |= {"image": "cut", "dictated": {"status": "HOLD"}}
        if number == len(places) - 1:
            instrument.extra["dictated"] = {"status": "DONE"}
        recording["frames"].append(instrument.frame())
        microscope.apply(wd_mm=place if number == 3 else places[min(number + 1, len(places) - 1)])
    return finish(recording)


def repeats(name: str, judge: Any, actor: Any, layout: str) -> Recording:
    """The very same pair saved again, in the middle of a run and after a restart."""
    recording = record(name, judge, actor, seed=102, layout=layout, most=4)
    del recording["outcome"]
    first, second, third = recording["frames"][:3]
    recording["frames"] = [first, second, second, third, third | {"restart": True}]
    return finish(recording)


def with_images(judge: Any) -> list[Recording]:
    """Three runs with their pictures, through the scoring machine itself."""
    runs = []
    for name, sample, magnification, seed, layout in (
        ("tinball-x500-images", "tinball", 500.0, 201, "series"),
        ("grid-x1000-images", "grid", 1000.0, 202, "series"),
        ("tinball-x2000-images-wd-only", "tinball", 2000.0, 203, "series"),
    ):
        config = _WD_ONLY if name.endswith("wd-only") else {}
        recording: Recording = {"name": name, "layout": layout, "dialect": "coxem", "config": config, "frames": []}
        recording["with_images"] = True
        microscope = VirtualMicroscope(sample, magnification, seed, imperfections=Imperfections(backlash_u=1.5))
        if config:
            knobs = microscope.detector
            microscope.apply(brightness=knobs.brightness_optimum, contrast=knobs.contrast_optimum)
        folder = DATA / "images" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pipeline = shipped_pipeline(recording)
        with tempfile.TemporaryDirectory() as root:
            daemon = Daemon(Path(root), recording, pipeline)
            for number in range(7):
                scan = microscope.scan()
                frame = {"stem": f"f-{number:06d}", "image": "file"}
                now = Parameters(magnification, scan.wd_mm, scan.brightness, scan.contrast)
                frame |= texts("coxem", now)
                (folder / f"{frame['stem']}.jpg").write_bytes(small_jpeg(scan.image))
                recording["frames"].append(frame)
                daemon.feed(frame, folder)
                action = daemon.last_action() or {}
                follow(microscope, action)
                if action.get("STATUS") in ("DONE", "GIVE-UP"):
                    break
            daemon.end()
            outcome = daemon.outcome()
        recording["outcome"] = outcome
        recording["target_tolerances"] = target_tolerances(recording, pipeline)
        runs.append(recording)
    return runs


def small_jpeg(image: np.ndarray) -> bytes:
    import cv2  # noqa: PLC0415

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert done
    return data.tobytes()


def target_tolerances(recording: Recording, pipeline: Any) -> list[dict[str, float]]:
    """Twice the farthest that scores within the tolerance move each frame's targets, and 1 um or 0.01 at least.

    Raises:
        SystemExit: a status depends on the last digits of a score; take another seed.
    """
    from semd.daemon.records import observation_from_json  # noqa: PLC0415

    rules, rng = pipeline.rules, np.random.default_rng(7)
    rows = [row for row in recording["outcome"]["rows"] if "decision" in row]
    full = [Parameters(**row["parameters"]) for row in rows]
    farthest = [dict.fromkeys(row["decision"]["targets"], 0.0) for row in rows]
    for _ in range(_SHIFTS):
        run = None
        for row, parameters, most in zip(rows, full, farthest, strict=True):
            seen = json.loads(observation_to_json(Observation(row["frame"], parameters, None)))
            shifted = row["measurement"] | {
                "score": row["measurement"]["score"] + float(rng.uniform(-SCORE_TOLERANCE, SCORE_TOLERANCE))
            }
            observation = observation_from_json(json.dumps(seen | {"measurement": shifted}))
            decision = decide(run, observation, rules, pipeline.policy)
            if str(decision.status) != row["decision"]["status"] or str(decision.reason) != row["decision"]["reason"]:
                raise SystemExit(f"{recording['name']} {row['frame']}: the answer hangs on the score's last digits")
            for axis, target in decision.targets.items():
                most[str(axis)] = max(most[str(axis)], abs(target - row["decision"]["targets"][str(axis)]))
            # The recorded answer is what the microscope followed.
            kept = {axis: row["decision"]["targets"][str(axis)] for axis in decision.targets}
            run = advance(run, observation, replace(decision, targets=kept))
    return [
        {axis: round(max(2.0 * moved, 0.001 if axis == "wd" else 0.01), 6) for axis, moved in each.items()}
        for each in farthest
    ]


def write(group: str, runs: list[Recording]) -> None:
    lines = [json.dumps(run, ensure_ascii=False, separators=(",", ":")) + "\n" for run in runs]
    path = DATA / f"{group}.jsonl"
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    rows = [row for run in runs for row in run["outcome"]["rows"]]
    decisions = [row["decision"] for row in rows if "decision" in row]
    found = Counter(each["status"] for each in decisions), Counter(each["reason"] for each in decisions)
    print(f"{group}: {len(runs)} runs, {len(rows)} frames, {path.stat().st_size} bytes")
    print(f"  {dict(found[0])}\n  {dict(found[1])}")
    print(f"  missing: {sorted(EVERY_STATUS - set(found[0]))} {sorted(EVERY_REASON - set(found[1]))}")
    print(f"  codes: {dict(Counter(row['code'] for row in rows if row['code']))}")


def main() -> None:
    groups = sys.argv[1:] or ["searches", "troubles", "with_images"]
    # A line for every frame would hide the summary.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    blank: Recording = {"layout": "series", "dialect": "coxem", "config": {}}
    judge, actor = shipped_pipeline(blank), shipped_actor()
    assert rules_of(blank).n_frames == actor.n_frames
    if "searches" in groups:
        write("searches", searches(judge, actor))
    if "troubles" in groups:
        write("troubles", troubles(judge, actor))
    if "with_images" in groups:
        write("with_images", with_images(judge))


if __name__ == "__main__":
    main()
