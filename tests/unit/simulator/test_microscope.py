"""Virtual microscope: reproducibility, ground truth and knob limits."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from semd.errors import ConfigError
from semd.simulator.field import Sample, make_field
from semd.simulator.microscope import Imperfections, KnobLimits, VirtualMicroscope


def _focused(microscope: VirtualMicroscope) -> None:
    detector = microscope.detector
    microscope.apply(
        wd_mm=microscope.focus_wd_mm,
        brightness=detector.brightness_optimum,
        contrast=detector.contrast_optimum,
    )


def test_the_seed_decides_everything() -> None:
    first, again = (VirtualMicroscope("tinball", 2000, 7) for _ in range(2))
    other = VirtualMicroscope("tinball", 2000, 8)
    assert np.array_equal(first.scan().image, again.scan().image)
    assert (first.wd_mm, first.brightness, first.contrast) == (again.wd_mm, again.brightness, again.contrast)
    assert first.wd_mm != other.wd_mm
    assert not np.array_equal(first.field.emission, other.field.emission)


def test_noise_differs_from_scan_to_scan_but_the_field_stays() -> None:
    microscope = VirtualMicroscope("grid", 1000, 1)
    _focused(microscope)
    one, two = microscope.scan().image.astype(float), microscope.scan().image.astype(float)
    assert not np.array_equal(one, two)
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("sample", ["tinball", "grid"])
@pytest.mark.parametrize("magnification", [500, 5000, 10000])
def test_in_focus_and_well_exposed_is_a_ten(sample: Sample, magnification: float) -> None:
    microscope = VirtualMicroscope(sample, magnification, 3)
    _focused(microscope)
    scan = microscope.scan()
    assert scan.image.shape == (480, 640)
    assert scan.image.dtype == np.uint8
    assert scan.truth.true_score > 9.5
    assert scan.truth.label == 10
    assert scan.truth.brightness_contrast_ok
    assert scan.truth.wd_error_mm == pytest.approx(0.0)


def test_score_falls_with_distance_on_both_sides() -> None:
    microscope = VirtualMicroscope("tinball", 2000, 2)
    _focused(microscope)
    for side in (-1, 1):
        scores = []
        for units in (0.0, 1.0, 3.0, 8.0, 20.0):
            microscope.apply(wd_mm=microscope.focus_wd_mm + side * units * microscope.wd_unit_mm)
            scores.append(microscope.scan().truth.true_score)
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] < 4.0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("magnification", [500, 10000])
def test_starts_lie_within_the_promised_window(seed: int, magnification: float) -> None:
    microscope = VirtualMicroscope("tinball", magnification, seed)
    distance_u = abs(microscope.wd_mm - microscope.focus_wd_mm) / microscope.wd_unit_mm
    assert 3.0 <= distance_u <= 25.0
    assert 10.0 <= microscope.brightness <= 90.0
    assert 10.0 <= microscope.contrast <= 90.0
    assert 7.0 <= microscope.focus_wd_mm <= 13.0


def test_knobs_stop_at_their_limits() -> None:
    microscope = VirtualMicroscope("grid", 500, 1, limits=KnobLimits(wd_mm=(4.0, 18.0)))
    microscope.apply(wd_mm=99.0, brightness=-5.0, contrast=400.0)
    assert (microscope.wd_mm, microscope.brightness, microscope.contrast) == (18.0, 0.0, 100.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused_and_moves_nothing(value: float) -> None:
    microscope = VirtualMicroscope("grid", 500, 1)
    before = (microscope.wd_mm, microscope.brightness)
    with pytest.raises(ConfigError):
        microscope.apply(wd_mm=5.0, brightness=value)
    assert (microscope.wd_mm, microscope.brightness) == before


def test_backlash_lags_behind_the_direction_of_travel() -> None:
    microscope = VirtualMicroscope("tinball", 2000, 2, imperfections=Imperfections(backlash_u=0.5))
    unit, focus = microscope.wd_unit_mm, microscope.focus_wd_mm
    microscope.apply(wd_mm=focus - 5 * unit)
    microscope.apply(wd_mm=focus)
    assert microscope.scan().truth.wd_error_mm == pytest.approx(-0.5 * unit)
    microscope.apply(wd_mm=focus + 5 * unit)
    microscope.apply(wd_mm=focus)
    assert microscope.scan().truth.wd_error_mm == pytest.approx(0.5 * unit)


def test_a_hollow_shows_nothing_and_scores_next_to_nothing() -> None:
    microscope = VirtualMicroscope("grid", 10000, 4, hollow="force")
    _focused(microscope)
    assert microscope.scan().truth.recognisability < 0.5


@pytest.mark.parametrize("magnification", [500, 2000, 10000])
def test_avoiding_hollows_keeps_a_bar_in_view(magnification: float) -> None:
    for seed in range(6):
        microscope = VirtualMicroscope("grid", magnification, seed)
        _focused(microscope)
        assert microscope.scan().truth.recognisability == 1.0


def test_an_unknown_sample_is_refused() -> None:
    with pytest.raises(ConfigError, match="tinball"):
        make_field("moon dust", 1000, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="magnification"):
        make_field("grid", 0.0, 1)


@pytest.mark.parametrize("sample", ["tinball", "grid", "assorted", "gold", "beads"])
def test_emission_is_a_fraction(sample: Sample) -> None:
    field = make_field(sample, 2000, 5)
    assert field.emission.dtype == np.float32
    assert field.emission.shape == (608, 768)
    assert float(field.emission.min()) >= 0.0
    assert float(field.emission.max()) <= 1.0
    assert float(field.emission.std()) > 0.02


def test_assorted_surfaces_are_of_many_kinds_and_all_have_something_to_focus_on() -> None:
    looks = set()
    for seed in range(40):
        emission = make_field("assorted", 1000, seed).emission
        assert np.isfinite(emission).all()
        assert 0.0 <= float(emission.min()) < float(emission.max()) <= 1.0
        fine = emission - cv2.GaussianBlur(emission, (0, 0), 4.0)
        assert float(fine.std()) > 0.004, seed
        # Skew and tails of the fine detail tell the kinds apart: pores, edges, ridges, stripes.
        z = (fine - fine.mean()) / fine.std()
        looks.add((round(float((z**3).mean())), min(round(float((z**4).mean()) / 3.0), 4)))
    assert len(looks) >= 5


def test_a_wider_aperture_blurs_the_same_defocus_more_and_leaves_the_rest_to_the_seed() -> None:
    narrow, usual, wide = (VirtualMicroscope("tinball", 2000, 4, aperture_radius_um=radius) for radius in (15, 30, 60))
    default = VirtualMicroscope("tinball", 2000, 4)
    assert np.array_equal(usual.scan().image, default.scan().image)
    settings = {(each.wd_mm, each.brightness, each.contrast, each.focus_wd_mm) for each in (narrow, usual, wide)}
    assert len(settings) == 1
    assert {each.detector.electrons for each in (narrow, usual, wide)} == {default.detector.electrons}
    # Far from focus the disc is all there is: its diameter goes with the half angle.
    blurs = [each.scan().truth.blur_px for each in (narrow, usual, wide)]
    assert blurs[1] / blurs[0] == pytest.approx(2.0, rel=0.05)
    assert blurs[2] / blurs[1] == pytest.approx(2.0, rel=0.05)
    for radius in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="aperture"):
            VirtualMicroscope("tinball", 2000, 4, aperture_radius_um=radius)
