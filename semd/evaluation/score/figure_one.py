"""Fig. 1 of the paper: gradient and variance fail to rank frames by focus; an expert and the scoring machine succeed.

The same field is rendered four times. The sharpest frame has the least contrast, so variance ranks it last. The most
blurred frame has the most noise, so the gradient ranks it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from semd.evaluation.baselines.sharpness_metrics import gradient_metric, variance_metric
from semd.evaluation.score.score_figure import INK
from semd.scoring.scorer import Scorer
from semd.simulator.detector import Detector, Frame
from semd.simulator.field import crop_margin, make_field
from semd.simulator.optics import Blur
from semd.simulator.truth import ground_truth

_MAGNIFICATION = 2000.0
_FIELD_SEED = 3
# Title, blur-disc diameter in pixels, brightness and contrast less their optimum, electrons per pixel. Chosen so that
# variance and gradient both rank the frames wrongly.
_CASES = (
    ("sharp, dark and flat", 1.0, -12.0, -22.0, 3000.0),
    ("a little soft", 8.0, 0.0, -6.0, 1500.0),
    ("blurred, bright and rich in contrast", 20.0, 10.0, 16.0, 1500.0),
    ("far out of focus, noisy", 44.0, 0.0, 12.0, 40.0),
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One frame with its true score, its metrics and its predicted score.

    Attributes:
        title: description of the frame.
        image: uint8 (480, 640).
        truth: true score, 0..10.
        gradient: GRD of equation (2) per pixel.
        variance: VAR of equation (2).
        score: prediction of the scoring machine, 0..10; None before scoring.
    """

    title: str
    image: Frame
    truth: float
    gradient: float
    variance: float
    score: float | None = None


def make_panels() -> list[Panel]:
    """Render the four frames, sharpest first; the result is deterministic."""
    field = make_field("tinball", _MAGNIFICATION, _FIELD_SEED)
    focused = np.ascontiguousarray(crop_margin(field.emission))
    panels = []
    for number, (title, blur_px, brighter, richer, electrons) in enumerate(_CASES):
        blur = Blur(blur_px, blur_px, rim=0.3)
        signal = np.ascontiguousarray(crop_margin(blur.apply(field.emission)))
        detector = replace(Detector(electrons=electrons).tuned_to(focused), smear=0.0)
        brightness, contrast = detector.brightness_optimum + brighter, detector.contrast_optimum + richer
        image = detector.digitise(signal, brightness, contrast, np.random.default_rng([_FIELD_SEED, number]))
        truth = ground_truth(signal, focused, detector, _MAGNIFICATION, brightness, contrast, blur.effective_px, 0.0)
        panels.append(Panel(title, image, truth.true_score, gradient_metric(image), variance_metric(image)))
    return panels


def score_panels(panels: Sequence[Panel], scorer: Scorer) -> list[Panel]:
    """Return copies of the panels with the scoring machine's scores."""
    return [replace(panel, score=scorer.score(panel.image, _MAGNIFICATION)) for panel in panels]


def pairs_in_order(values: Sequence[float], truth: Sequence[float]) -> int:
    """Count the pairs of frames that `values` orders as `truth` does; ties do not count."""
    pairs = combinations(range(len(truth)), 2)
    return sum((values[one] - values[other]) * (truth[one] - truth[other]) > 0.0 for one, other in pairs)


def orders(panels: Sequence[Panel]) -> dict[str, int]:
    """Count the correctly ordered pairs for gradient, variance and score; `pairs` is the number of all pairs."""
    truth = [panel.truth for panel in panels]
    found = {
        "gradient": pairs_in_order([panel.gradient for panel in panels], truth),
        "variance": pairs_in_order([panel.variance for panel in panels], truth),
    }
    scores = [panel.score for panel in panels if panel.score is not None]
    if len(scores) == len(panels):
        found["score"] = pairs_in_order(scores, truth)
    return found | {"pairs": len(panels) * (len(panels) - 1) // 2}


def save_fig1(path: Path, panels: Sequence[Panel]) -> None:
    """Save a PNG of the frames with their figures below."""
    figure = Figure(figsize=(3.5 * len(panels), 3.9), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(panel.title, fontsize=10, color=INK)
        score = "-" if panel.score is None else f"{panel.score:.2f}"
        text = (
            f"true score {panel.truth:.2f}\nscore {score}\ngradient {panel.gradient:.2f}\nvariance {panel.variance:.0f}"
        )
        axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=10, color=INK)
    found = orders(panels)
    parts = [f"{name} {found[name]}" for name in ("gradient", "variance", "score") if name in found]
    figure.supxlabel(f"pairs in the right order, of {found['pairs']}: {', '.join(parts)}", fontsize=11, color=INK)
    figure.savefig(path)
