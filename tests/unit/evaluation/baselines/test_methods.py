"""Compared methods on the same harness: limits and budget, outcomes, and focus on an easy field."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from semd.domain.frame_score import FrameScore
from semd.errors import BaselineError, ConfigError
from semd.evaluation.baselines.baseline_harness import FRAME_BUDGET, BaselineHarness
from semd.evaluation.baselines.brent import Brent, bounded_maximum, gradient_energy
from semd.evaluation.baselines.conventional import Conventional
from semd.evaluation.baselines.fibsem import Fibsem
from semd.evaluation.baselines.mapfost import Mapfost, calibrate_radius_mm, estimate_defocus_mm
from semd.evaluation.baselines.methods import make_methods
from semd.evaluation.baselines.outcome import GAVE_UP, OVERRUN, run_method
from semd.evaluation.baselines.scenario import SCENARIOS
from semd.evaluation.baselines.semd_method import SemdMethod
from semd.evaluation.baselines.sharpness_metrics import gradient_metric, variance_metric
from semd.evaluation.baselines.third_party import load_package
from semd.evaluation.control.table_one import simulator_rules
from semd.pipeline import Pipeline
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.truth import focus_quality

LOW_NOISE, HIGH_NOISE, DRIFT, EXPOSURE_OFF = SCENARIOS


def easy(*, focus_only: bool = True) -> VirtualMicroscope:
    setting = LOW_NOISE if focus_only else EXPOSURE_OFF
    return setting.microscope("tinball", 1000, 3, focus_only=focus_only)


class AutofocusMethod:
    """A method made of a function."""

    def __init__(self, act) -> None:
        self.focus = act


# the harness


def test_the_harness_counts_frames_and_electrons_and_hides_the_truth() -> None:
    microscope = easy()
    harness = BaselineHarness(microscope)
    view = harness.scan_at(harness.wd_mm + 0.1)
    harness.scan()
    assert (harness.frames, harness.dose) == (2, 1600.0)
    assert view.image.shape == (480, 640)
    assert view.wd_mm == harness.wd_mm == microscope.wd_mm
    assert not hasattr(view, "truth")
    assert harness.pixel_um == pytest.approx(127e3 / (640 * 1000))


def test_the_range_ends_where_the_knob_does_and_holds_the_focus() -> None:
    for seed in range(20):
        microscope = VirtualMicroscope("tinball", 500, seed)
        low_mm, high_mm = BaselineHarness(microscope).range_mm
        assert low_mm == pytest.approx(max(3.0, microscope.wd_mm - 30 * microscope.wd_unit_mm))
        assert high_mm == pytest.approx(min(20.0, microscope.wd_mm + 30 * microscope.wd_unit_mm))
        assert low_mm < microscope.focus_wd_mm < high_mm


def test_the_end_is_judged_where_the_knobs_were_left() -> None:
    microscope = easy()
    harness = BaselineHarness(microscope)
    harness.scan()
    harness.apply(wd_mm=microscope.focus_wd_mm)
    assert harness.end_truth().wd_error_mm == pytest.approx(0.0)
    assert harness.frames == 1


# how a run ends


def test_a_budget_overrun_is_a_failure_even_when_the_method_swallows_it() -> None:
    def greedy(harness: BaselineHarness) -> bool:
        for _ in range(FRAME_BUDGET + 3):
            try:
                harness.scan()
            except BaselineError:
                break
        harness.apply(wd_mm=microscope.focus_wd_mm)
        return True

    microscope = easy()
    outcome = run_method(AutofocusMethod(greedy), microscope)
    assert (outcome.frames, outcome.failure) == (FRAME_BUDGET, OVERRUN)
    assert outcome.true_score >= 9.0
    assert not outcome.sharp


def test_a_method_that_raises_has_failed_and_is_named() -> None:
    def broken(harness: BaselineHarness) -> bool:
        harness.scan()
        raise ZeroDivisionError("inside a package")

    outcome = run_method(AutofocusMethod(broken), easy())
    assert (outcome.failure, outcome.frames, outcome.sharp) == ("ZeroDivisionError", 1, False)

    def lost(harness: BaselineHarness) -> bool:
        harness.apply(wd_mm=float("nan"))
        return True

    assert run_method(AutofocusMethod(lost), easy()).failure == "ConfigError"


def test_success_is_the_truths_word_and_the_methods_own() -> None:
    def at_focus(*, reports_success: bool):
        microscope = easy()

        def act(harness: BaselineHarness) -> bool:
            harness.scan_at(microscope.focus_wd_mm)
            return reports_success

        return run_method(AutofocusMethod(act), microscope)

    assert at_focus(reports_success=True).sharp_and_exposed
    given_up = at_focus(reports_success=False)
    assert (given_up.failure, given_up.sharp) == (GAVE_UP, False)

    liar = run_method(AutofocusMethod(lambda harness: True), easy())
    assert liar.failure is None
    assert not liar.sharp
    assert not liar.worse
    assert liar.wd_error_u > 3.0

    def away(harness: BaselineHarness) -> bool:
        harness.apply(wd_mm=harness.range_mm[0] if harness.wd_mm < start.focus_wd_mm else harness.range_mm[1])
        return True

    start = easy()
    assert run_method(AutofocusMethod(away), start).worse


# the noise settings


@pytest.mark.parametrize("setting", SCENARIOS, ids=lambda setting: setting.key)
def test_all_methods_start_at_the_same_place_and_focus_alone_with_good_exposure(setting) -> None:
    one = setting.microscope("grid", 2000, 5, focus_only=True)
    other = setting.microscope("grid", 2000, 5, focus_only=False)
    assert (one.wd_mm, one.focus_wd_mm, one.detector) == (other.wd_mm, other.focus_wd_mm, other.detector)
    assert one.brightness == one.detector.brightness_optimum
    assert one.contrast == one.detector.contrast_optimum
    assert (other.brightness != one.brightness) == (setting is EXPOSURE_OFF)


def test_the_settings_differ_in_electrons_and_drift() -> None:
    assert LOW_NOISE.microscope("grid", 2000, 5, focus_only=True).detector.electrons == 800.0
    assert HIGH_NOISE.microscope("grid", 2000, 5, focus_only=True).detector.electrons == 80.0
    drifting = DRIFT.microscope("grid", 2000, 5, focus_only=True)
    before_mm = drifting.focus_wd_mm
    drifting.scan()
    assert 0.0 < abs(drifting.focus_wd_mm - before_mm) < 1.0 * drifting.wd_unit_mm


# the methods


@pytest.mark.parametrize("peak", [-3.9, -1.0, 0.2, 2.718, 3.99])
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_brents_search_finds_a_lone_maximum(peak: float, power: float) -> None:
    asked: list[float] = []

    def value(x: float) -> float:
        asked.append(x)
        return -(abs(x - peak) ** power)

    assert bounded_maximum(value, -4.0, 4.0, 0.01) == pytest.approx(peak, abs=0.03)
    assert len(asked) == len(set(asked)) <= 25
    assert all(-4.0 < x < 4.0 for x in asked)


def test_brents_search_agrees_with_scipys() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="extra `peers` is not installed")

    def value(x: float) -> float:
        return float(np.exp(-((x - 1.3) ** 2)) + 0.1 * np.cos(x))

    theirs = optimize.minimize_scalar(lambda x: -value(x), bounds=(-4.0, 4.0), method="bounded").x
    assert bounded_maximum(value, -4.0, 4.0, 1e-4) == pytest.approx(theirs, abs=1e-3)


def test_brents_search_stops_at_the_most_values() -> None:
    asked: list[float] = []
    bounded_maximum(lambda x: asked.append(x) or -abs(x), -1.0, 1.0, 1e-12, most=7)
    assert len(asked) == 7


def test_gradient_energy_by_hand() -> None:
    # Down: 3 and 6, across: 10 and 13; squares, averaged each way.
    image = np.array([[0, 10], [3, 16]], np.uint8)
    assert gradient_energy(image) == pytest.approx((9 + 36) / 2 + (100 + 169) / 2)


@pytest.mark.parametrize(
    ("autofocus", "frames"), [(Conventional(gradient_metric), 22), (Conventional(variance_metric), 22), (Brent(), None)]
)
def test_plain_searches_find_an_easy_fields_focus(autofocus, frames: int | None) -> None:
    outcome = run_method(autofocus, easy())
    assert outcome.sharp_and_exposed
    assert outcome.wd_error_u < 1.0
    assert outcome.frames == frames or (frames is None and 5 <= outcome.frames <= 16)


def test_the_conventional_scheme_sets_brightness_and_contrast_too() -> None:
    microscope = easy(focus_only=False)
    assert not microscope.scan().truth.brightness_contrast_ok
    outcome = run_method(Conventional(variance_metric, exposure=True), microscope)
    assert outcome.frames == 42
    assert outcome.sharp_and_exposed


def test_the_conventional_scheme_prefers_what_clips_little() -> None:
    # Variance alone would drive the contrast up to a frame of black and white.
    microscope = easy()
    run_method(Conventional(variance_metric, exposure=True), microscope)
    assert microscope.contrast < microscope.detector.contrast_optimum + 16.0


class Knowing:
    """Scoring machine and actor that know the ground truth."""

    def __init__(self, microscope: VirtualMicroscope) -> None:
        self.microscope = microscope
        self.frames = 0

    def judge(self, image: np.ndarray, magnification: float) -> FrameScore:
        assert image.shape == (480, 640)
        self.frames += 1
        m = self.microscope
        blur = m.optics.blur(m.wd_mm, m.focus_wd_mm, m.field.pixel_size_nm)
        return FrameScore(focus_quality(blur.effective_px, magnification))

    def act(self, state: np.ndarray) -> np.ndarray:
        m = self.microscope
        return np.array(
            [
                (m.focus_wd_mm - m.wd_mm) / (30.0 * m.wd_unit_mm),
                (m.detector.brightness_optimum - m.brightness) / 50.0,
                (m.detector.contrast_optimum - m.contrast) / 50.0,
            ],
            np.float32,
        )

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self, self.act, simulator_rules(5, 0.2), "0" * 64)


def test_semd_runs_the_whole_pipeline_in_the_harness() -> None:
    microscope = easy(focus_only=False)
    knowing = Knowing(microscope)
    outcome = run_method(SemdMethod(knowing.pipeline), microscope)
    assert outcome.sharp_and_exposed
    assert outcome.frames == knowing.frames <= 8


def test_ours_giving_up_is_a_failure_but_no_worse_than_the_start() -> None:
    microscope = easy()
    knowing = Knowing(microscope)
    hopeless = Pipeline(
        SimpleNamespace(judge=lambda *_: FrameScore(5.0)), knowing.act, simulator_rules(5, 0.2), "0" * 64
    )
    outcome = run_method(SemdMethod(hopeless), microscope)
    assert (outcome.failure, outcome.sharp) == (GAVE_UP, False)
    assert outcome.frames <= FRAME_BUDGET


# third parties' packages


def fake_mapfost(answer):
    return SimpleNamespace(est_aberr=answer)


def test_mapfosts_aperture_is_calibrated_on_a_known_defocus() -> None:
    # A package whose estimate falls with the square of what it is told of the aperture.
    right_aperture, asked = 0.0007, []
    true_um = 4e3 * VirtualMicroscope("tinball", 2000, 0).wd_unit_mm

    def est_aberr(images, perturbations_um, *, num_aperture, **settings):
        asked.append((len(images), perturbations_um, settings))
        return True, None, SimpleNamespace(x=[true_um * (num_aperture / right_aperture) ** -2])

    def inverse(images, perturbations_um, *, num_aperture, **settings):
        asked.append((len(images), perturbations_um, settings))
        return True, None, SimpleNamespace(x=[true_um * (num_aperture / right_aperture) ** 2])

    microscope = VirtualMicroscope("tinball", 2000, 7)
    at_mm = microscope.focus_wd_mm + true_um * 1e-3
    # num_aperture *= sqrt(estimated / true) settles where the estimate is right.
    assert calibrate_radius_mm(fake_mapfost(est_aberr), 2000, 7) == pytest.approx(right_aperture * at_mm)
    count, perturbations_um, settings = asked[0]
    assert count == 2
    assert perturbations_um[0] == -perturbations_um[1] < 0.0
    assert settings["test_ims_aligned"] == 1
    assert settings["pix_size_um"] == pytest.approx(127e3 / (640 * 2000))
    # Were it the other way round, the aperture must stay a finite, positive number all the same.
    assert 0.0 < calibrate_radius_mm(fake_mapfost(inverse), 2000, 7) < np.inf


def test_mapfosts_refusal_is_an_error_in_words_and_the_knob_goes_back() -> None:
    harness = BaselineHarness(easy())
    start_mm = harness.wd_mm
    refusing = fake_mapfost(lambda *_, **__: ("Traceback ...\nValueError: no such crop\n", None, None))
    with pytest.raises(BaselineError, match="ValueError: no such crop"):
        estimate_defocus_mm(refusing, harness, 0.001)
    assert harness.wd_mm == start_mm
    assert harness.frames == 2


def test_mapfost_focuses_once_it_is_calibrated_and_not_before() -> None:
    pytest.importorskip("mapfost.mapfost", reason="extra `peers` is not installed")
    calibrated = run_method(Mapfost(calibrated=True), easy())
    assert calibrated.sharp
    assert calibrated.frames <= 10
    assert not run_method(Mapfost(calibrated=False), easy()).sharp


def test_fibsem_focuses_with_a_range_that_covers_the_start_and_not_by_default() -> None:
    load_package_or_skip("fibsem.autofunctions.autofocus")
    wide = run_method(Fibsem(wide=True), easy())
    assert wide.sharp
    assert wide.frames == 34
    microscope = easy()
    start_mm = microscope.wd_mm
    default = run_method(Fibsem(wide=False), microscope)
    assert default.frames == 22
    assert default.failure is None
    assert not default.sharp
    assert abs(microscope.wd_mm - start_mm) <= 0.0301


def load_package_or_skip(name: str) -> None:
    try:
        load_package(name)
    except BaselineError as error:
        pytest.skip(error.message)


def test_a_missing_package_enters_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mapfost", None)
    monkeypatch.setitem(sys.modules, "mapfost.mapfost", None)
    pipeline = Knowing(easy()).pipeline
    methods = {method.name: method for method in make_methods(pipeline)}
    assert methods["mapfost"].autofocus is None
    assert "pip install 'semd[peers]'" in (methods["mapfost"].absent or "")
    assert methods["brent"].autofocus is not None
    assert [method.name for method in make_methods(pipeline, ["semd", "brent"])] == ["brent", "semd"]
    with pytest.raises(ConfigError, match="'gauss'"):
        make_methods(pipeline, ["gauss"])


def test_a_package_that_breaks_on_import_is_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "broken_peer.py").write_text("print('hello')\nraise OSError('no display')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BaselineError, match="OSError: no display"):
        load_package("broken_peer")
