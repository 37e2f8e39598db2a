"""Parts of a calibration: the consensus focus, labels from it, and whether learning helped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from semd.calibration.consensus import METRICS, coarse_peak, find_consensus, measure
from semd.calibration.focus_sweep import SweepPlan
from semd.calibration.labels import defocus_blur_px, defocus_score, is_recognisable, least_blur_px
from semd.calibration.learning import LearningPlan, learn_from_sweeps
from semd.datasets.dataset import LabelledFrames
from semd.domain.limits import Optics
from semd.errors import CalibrationError, ConfigError, TrainingError
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.stored import network_from_bytes
from semd.simulator.microscope import VirtualMicroscope
from semd.training.score.finetune import FineTuning
from semd.training.score.validation import predict

# --- consensus ---------------------------------------------------------------------------------------------------


def curves(wd_mm: np.ndarray, *peaks_mm: float, width_mm: float = 0.1) -> list[dict[str, float]]:
    """Lorentzian curves of the three metrics with peaks of our choice."""
    return [
        {
            name: 3.0 / (1.0 + ((wd - peak) / width_mm) ** 2)
            for name, peak in zip(METRICS, peaks_mm, strict=True)
        }
        for wd in wd_mm
    ]  # fmt: skip


def test_peaks_between_the_frames_are_found_exactly() -> None:
    wd_mm = 9.0 + 0.05 * np.arange(-6, 7)
    found = find_consensus(wd_mm, curves(wd_mm, 9.012, 9.017, 9.02), tolerance_mm=0.01)
    assert found.wd_mm == pytest.approx(9.017, abs=1e-6)
    assert found.disagreement_mm == pytest.approx(0.008, abs=1e-6)
    assert {name: peak.wd_mm for name, peak in found.peaks.items()} == pytest.approx(
        dict(zip(METRICS, (9.012, 9.017, 9.02), strict=True)), abs=1e-6
    )
    order = np.random.default_rng(0).permutation(len(wd_mm))
    mixed = curves(wd_mm, 9.012, 9.017, 9.02)
    assert find_consensus(wd_mm[order], [mixed[k] for k in order], 0.01).wd_mm == pytest.approx(found.wd_mm)


def test_metrics_that_disagree_are_no_consensus() -> None:
    wd_mm = 9.0 + 0.05 * np.arange(-6, 7)
    with pytest.raises(CalibrationError, match="no consensus"):
        find_consensus(wd_mm, curves(wd_mm, 9.0, 9.05, 9.1), tolerance_mm=0.05)


def test_scattered_values_are_no_consensus() -> None:
    wd_mm = 9.0 + 0.05 * np.arange(-6, 7)
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = [dict.fromkeys(METRICS, 0.0) | {name: float(rng.normal(1.0, 0.02)) for name in METRICS} for _ in wd_mm]
        try:
            find_consensus(wd_mm, noise, tolerance_mm=0.025)
        except CalibrationError:
            refused += 1
    assert refused >= 19


def test_a_focus_beyond_the_sweep_is_refused() -> None:
    wd_mm = 9.0 + 0.05 * np.arange(-6, 7)
    with pytest.raises(CalibrationError, match="end of the sweep"):
        coarse_peak(wd_mm, curves(wd_mm, 9.9, 9.9, 9.9))
    assert coarse_peak(wd_mm, curves(wd_mm, 9.1, 9.1, 9.2)) == pytest.approx(9.1)
    with pytest.raises(CalibrationError, match="too few"):
        find_consensus(wd_mm[:4], curves(wd_mm[:4], 9.0, 9.0, 9.0), 0.1)
    with pytest.raises(CalibrationError, match="flat"):
        find_consensus(wd_mm, [dict.fromkeys(METRICS, 0.0)] * len(wd_mm), 0.1)


@pytest.mark.parametrize(
    ("sample", "magnification", "seed"), [("tinball", 500, 3), ("grid", 5000, 1), ("grid", 10000, 2)]
)
def test_the_simulators_focus_is_found(sample: str, magnification: float, seed: int) -> None:
    microscope = VirtualMicroscope(sample, magnification, seed)  # type: ignore[arg-type]
    detector, unit_mm = microscope.detector, microscope.wd_unit_mm
    microscope.apply(brightness=detector.brightness_optimum, contrast=detector.contrast_optimum)
    wd_mm = microscope.focus_wd_mm + unit_mm * (0.31 + np.arange(-4.0, 4.1, 0.8))
    measured = []
    for wd in wd_mm:
        microscope.apply(wd_mm=float(wd))
        measured.append(measure(microscope.scan().image))
    found = find_consensus(wd_mm, measured, unit_mm)
    assert abs(found.wd_mm - microscope.focus_wd_mm) < 0.3 * unit_mm


def test_a_flat_frame_is_sharp_nowhere() -> None:
    assert measure(np.full((480, 640), 90, np.uint8)) == dict.fromkeys(METRICS, 0.0)


# --- labels ------------------------------------------------------------------------------------------------------


def test_labels_by_hand() -> None:
    # x500, 127 mm / 500 / 640 = 396.875 nm a pixel; 3 mrad: 2 * 0.003 * d / pixel.
    pixel_mm = 127.0 / 500.0 / 640.0
    assert defocus_blur_px(0.2, Optics(), pixel_mm, 0.0) == pytest.approx(3.02362, abs=1e-5)
    assert defocus_blur_px(-0.2, Optics(), pixel_mm, 4.0) == pytest.approx(5.01421, abs=1e-5)
    assert defocus_blur_px(0.2, Optics(aperture_half_angle_mrad=6.0), pixel_mm, 0.0) == pytest.approx(6.04724, abs=1e-5)
    assert defocus_score(0.0, 500.0, Optics(), pixel_mm, 0.0) == 10.0
    # A disc of b0 = 2 px costs 9 / log2(1 + 31**2) = 0.90818 points.
    assert defocus_score(pixel_mm / 0.003, 500.0, Optics(), pixel_mm, 0.0) == pytest.approx(10.0 - 0.90818, abs=1e-5)
    # sigma = 25 nm / 2.35482, four of them over 19.84375 nm.
    assert least_blur_px(25.0, 19.84375e-6) == pytest.approx(2.14002, abs=1e-4)


def test_what_is_left_of_a_frame_decides_whether_it_is_labelled() -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(120.0, 10.0, (480, 640)), 0, 255).astype(np.uint8)
    assert not is_recognisable(noise)
    stripes = 3.0 * np.sin(np.arange(640) / 20.0)
    assert is_recognisable(np.clip(rng.normal(120.0, 10.0, (480, 640)) + stripes, 0, 255).astype(np.uint8))


def test_a_plan_that_is_no_sweep_is_refused() -> None:
    assert SweepPlan().frames == 2 * 6 + 1 + 2 * 8 + 1
    for wrong in (
        {"coarse_step": 0.0},
        {"coarse_step": 8.0},
        {"fine_step": 3.0},
        {"fine_reach": 1.5, "fine_step": 0.2},
    ):
        with pytest.raises(ConfigError):
            SweepPlan(**wrong)  # type: ignore[arg-type]


# --- learning ----------------------------------------------------------------------------------------------------

PLAN = LearningPlan(FineTuning(steps=100, learning_rate=2e-3), replay=6, tested=6)


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = ScoringNetwork(Architecture(height_px=240, width_px=320, replicas=2)).eval()
    # What is stored is in half precision: begin with numbers that have it.
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not name.startswith("certainty."):
            value.copy_(value.half().float())
    return network


@pytest.fixture(scope="module")
def frames(network: ScoringNetwork) -> LabelledFrames:
    """Twelve frames whose labels are what the network says of them."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (12, 240, 320), dtype=np.uint8)
    for k in range(12):
        images[k] //= 1 + k % 4
    words = np.full(12, "train")
    empty = LabelledFrames(
        images=images,
        field_id=np.arange(12),
        split=words,
        image_split=words,
        sample=np.full(12, "grid"),
        magnification=np.full(12, 2000.0, np.float32),
        label=np.zeros(12, np.int64),
        score=np.zeros(12, np.float32),
        variant=np.full(12, "real"),
        blur_px=np.zeros(12, np.float32),
        spec={},
    )
    said = predict(network, empty, np.arange(12))
    return replace(empty, score=said.astype(np.float32), label=np.round(said).astype(np.int64))


def hold_out_split(frames: LabelledFrames) -> np.ndarray:
    return np.where(np.arange(12) % 3 == 0, "test", "train")


def test_learning_from_an_instrument_that_scores_lower_helps(network: ScoringNetwork, frames: LabelledFrames) -> None:
    sweeps = replace(frames, score=frames.score - 2.0, image_split=hold_out_split(frames))
    fine_tuning = learn_from_sweeps(network, sweeps, None, PLAN, progress=False)
    assert (fine_tuning.learned, fine_tuning.held_out) == (8, 4)
    assert fine_tuning.sweep_before == pytest.approx(2.0, abs=0.01)
    assert fine_tuning.sweep_after < 1.0
    assert fine_tuning.data_before is fine_tuning.data_after is None
    assert fine_tuning.helped
    # The errors are those of the stored network.
    rows = sweeps.rows("image_test")
    again = predict(network_from_bytes(fine_tuning.weights), sweeps, rows) - sweeps.score[rows]
    assert float(np.sqrt((again**2).mean())) == pytest.approx(fine_tuning.sweep_after, abs=1e-3)


def test_learning_from_wrong_labels_does_not_help(network: ScoringNetwork, frames: LabelledFrames) -> None:
    held_out = hold_out_split(frames)
    wrong = np.where(held_out == "test", frames.score, frames.score - 3.0).astype(np.float32)
    fine_tuning = learn_from_sweeps(
        network, replace(frames, score=wrong, image_split=held_out), None, PLAN, progress=False
    )
    assert fine_tuning.sweep_after > fine_tuning.sweep_before
    assert not fine_tuning.helped


def test_forgetting_the_dataset_does_not_help(network: ScoringNetwork, frames: LabelledFrames) -> None:
    sweeps = replace(frames, score=frames.score - 2.0, image_split=hold_out_split(frames))
    # Its training side agrees with the sweep, its test side with the old network.
    data = replace(frames, score=frames.score - 2.0, split=hold_out_split(frames))
    fine_tuning = learn_from_sweeps(network, sweeps, data, PLAN, progress=False)
    assert fine_tuning.sweep_after < fine_tuning.sweep_before
    assert fine_tuning.data_before is not None
    assert fine_tuning.data_after is not None
    assert fine_tuning.data_after > fine_tuning.data_before + 0.05
    assert not fine_tuning.helped


def test_a_dataset_that_agrees_with_the_sweep_is_no_hindrance(network: ScoringNetwork, frames: LabelledFrames) -> None:
    lower = frames.score - 2.0
    sweeps = replace(frames, score=lower, image_split=hold_out_split(frames))
    data = replace(frames, score=lower, label=np.round(lower).astype(np.int64), split=hold_out_split(frames))
    assert learn_from_sweeps(network, sweeps, data, PLAN, progress=False).helped


def test_without_frames_on_both_sides_there_is_no_lesson(network: ScoringNetwork, frames: LabelledFrames) -> None:
    with pytest.raises(TrainingError, match="hold-out"):
        learn_from_sweeps(network, frames, None, PLAN, progress=False)
