"""The demo's report: one self-contained HTML page with the frames and the curves of a run."""

from __future__ import annotations

import base64
import html
import io

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semd.demo.demo import DemoResult, DemoStep
from semd.domain.axes import Axis

_INK, _ACCENT, _TRUTH, _GOOD = "#1f2933", "#0b6e99", "#c2571a", "#dcefe3"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>semd: {title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #f6f7f9; margin: 0 }}
main {{ max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px }}
h1 {{ font-size: 26px; margin: 0 0 2px }} h2 {{ font-size: 17px; margin: 30px 0 10px }}
p.sub {{ color: #616e7c; margin: 0 0 18px }}
.verdict {{ display: inline-block; padding: 2px 12px; border-radius: 12px; color: #fff; background: {colour} }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px }}
.facts div {{ background: #fff; border: 1px solid #e4e7eb; border-radius: 8px; padding: 10px 14px }}
.facts b {{ display: block; font-size: 20px }} .facts span {{ color: #616e7c; font-size: 13px }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 14px }}
figure {{ margin: 0; background: #fff; border: 1px solid #e4e7eb; border-radius: 8px; overflow: hidden }}
figure img, figure svg {{ width: 100%; height: auto; display: block }}
figcaption {{ padding: 8px 12px; font-size: 13px; color: #52606d }}
.strip {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px }}
</style></head><body><main>
<h1>{title} <span class="verdict">{status}</span></h1>
<p class="sub">{subtitle}</p>
<div class="facts">{facts}</div>
<h2>Before and after</h2><div class="pair">{before}{after}</div>
<h2>Score and parameters over frames</h2><figure>{curves}</figure>
<h2>Every frame</h2><div class="strip">{strip}</div>
</main></body></html>
"""


def render_report(result: DemoResult) -> str:
    """Render the run as a self-contained HTML page."""
    spec, first, last = result.spec, result.steps[0], result.steps[-1]
    truth = result.final.truth
    sharp = truth.true_score >= 9.0
    facts = [
        (str(len(result.steps)), "frames"),
        (f"{last.action.score:.2f}", "score of the scoring machine"),
        (f"{truth.true_score:.2f}", "true score (simulator)"),
        (f"{truth.wd_error_mm * 1e3:+.1f} µm", "true error of the working distance"),
        (f"{truth.blur_px:.1f} px", "blur disc"),
        ("good" if truth.brightness_contrast_ok else "off", "brightness and contrast"),
        (f"{result.seconds:.1f} s", "from start to end, three processes"),
    ]
    return _PAGE.format(
        title=html.escape(f"{spec.sample} at x{spec.magnification:g}, seed {spec.seed}"),
        colour="#2f855a" if last.action.status == "DONE" and sharp else "#b7472a",
        status=html.escape(str(last.action.status)),
        subtitle=html.escape(
            f"Virtual tabletop SEM, {spec.layout} layout, {spec.dialect} link. The scoring machine judged, "
            "the control machine moved; the truth below is the simulator's and was never shown to either."
        ),
        facts="".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in facts),
        before=_figure(first.scan.image, f"Frame 0 as found: {_settings(first)}"),
        after=_figure(result.final.image, f"Frame {last.number} as left: {_settings(last)}"),
        curves=_curves(result),
        strip="".join(
            _figure(
                cv2.resize(step.scan.image, (240, 180), interpolation=cv2.INTER_AREA).astype(np.uint8),
                f"{step.number}: {step.action.score:.1f} {step.action.status}",
            )
            for step in result.steps
        ),
    )


def _settings(step: DemoStep) -> str:
    scan = step.scan
    return (
        f"score {step.action.score:.2f}, WD {scan.wd_mm:.4f} mm, "
        f"brightness {scan.brightness:.1f}, contrast {scan.contrast:.1f}"
    )


def _figure(image: NDArray[np.uint8], caption: str) -> str:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])
    data = base64.b64encode(encoded.tobytes()).decode()
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _curves(result: DemoResult) -> str:
    steps = result.steps
    frames = [step.number for step in steps]
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    score, wd, brightness, contrast = figure.subplots(2, 2, sharex=True).ravel()
    score.axhspan(9, 10, color=_GOOD, zorder=0)
    score.plot(frames, [step.scan.truth.true_score for step in steps], "--o", color=_TRUTH, label="truth", ms=4)
    score.plot(frames, [step.action.score for step in steps], "-o", color=_ACCENT, label="semd", ms=4)
    score.set_ylim(-0.3, 10.3)
    score.legend(frameon=False, loc="lower right")
    _title(score, "Score (green: above the threshold)")
    focus_mm = steps[-1].scan.wd_mm - steps[-1].scan.truth.wd_error_mm
    wd.axhline(focus_mm, color=_TRUTH, ls="--", lw=1.2, label="true focus")
    wd.plot(frames, [step.scan.wd_mm for step in steps], "-o", color=_ACCENT, ms=4)
    wd.legend(frameon=False)
    _title(wd, "Working distance (mm)")
    for axes, axis, values in (
        (brightness, Axis.BRIGHTNESS, [step.scan.brightness for step in steps]),
        (contrast, Axis.CONTRAST, [step.scan.contrast for step in steps]),
    ):
        good = [step.number for step in steps if step.scan.truth.brightness_contrast_ok]
        for number in good:
            axes.axvspan(number - 0.5, number + 0.5, color=_GOOD, zorder=0, lw=0)
        axes.plot(frames, values, "-o", color=_ACCENT, ms=4)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("frame")
        _title(axes, f"{axis.capitalize()} (green: both in their good range)")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, color=_INK)
    axes.grid(visible=True, color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
