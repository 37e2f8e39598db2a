"""One focus that explains all scores of a run: against scores made from the experts' scale, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semd.decision.focus_fit import FocusEstimate, fit_focus
from semd.decision.judged_frame import judge_frames
from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.expert_scale import focus_quality, lenient_blur_px
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation

FEATURES = Features(avg=120.0, grd=1000.0, var=900.0, pixels=100)
FINE = Exposure(0.0, 0.0, 120.0, 150.0)
DARK = Exposure(0.2, 0.0, 50.0, 60.0)
RULES = RunRules()
MAGNIFICATION = 1000.0
UNIT_MM = Optics().focus_unit_mm(MAGNIFICATION)
START_MM = 10.0


def scored(
    units: float, score: float, sigma: float = 0.21, exposure: Exposure = FINE, *flags: QualityFlag
) -> Observation:
    """A frame `units` above the start, with a score."""
    parameters = Parameters(MAGNIFICATION, START_MM + units * UNIT_MM, 50.0, 50.0)
    return Observation("frame", parameters, Measurement(score, FEATURES, exposure, sigma, flags))


def quality(units_off: float, rest: float = 0.15) -> float:
    """Quality by the experts' scale of a frame that is `units_off` focus units off."""
    return focus_quality(lenient_blur_px(MAGNIFICATION) * float(np.hypot(units_off, rest)), MAGNIFICATION)


def known(*frames: Observation, rules: RunRules = RULES) -> FocusEstimate:
    belief = fit_focus(judge_frames(frames, rules), rules)
    assert belief is not None
    return belief


def focus_units(belief: FocusEstimate) -> float:
    return (belief.wd_mm - START_MM) / UNIT_MM


@pytest.mark.parametrize("focus", [-7.3, 0.4, 11.0])
@pytest.mark.parametrize("factor", [0.75, 1.0, 1.4])
def test_a_few_exact_scores_tell_the_focus_whatever_the_aperture(focus: float, factor: float) -> None:
    places = (0.0, 5.0, -6.0, focus + 1.0, focus - 2.0)
    belief = known(*(scored(place, quality(factor * (place - focus)), 0.05) for place in places))
    assert focus_units(belief) == pytest.approx(focus, abs=0.35)
    assert belief.sigma_mm < 0.5 * UNIT_MM
    assert belief.depth_mm == pytest.approx(UNIT_MM / factor, rel=0.15)


def test_one_score_leaves_both_sides_open() -> None:
    belief = known(scored(0.0, quality(6.0)))
    assert focus_units(belief) == pytest.approx(0.0, abs=0.3)
    assert belief.sigma_mm > 5.0 * UNIT_MM


def test_what_lies_on_either_side_adds_up() -> None:
    belief = known(scored(0.0, quality(6.0)))
    (below, there_mm), (above, here_mm) = belief.beside(START_MM, -1.0), belief.beside(START_MM, 1.0)
    assert below + above == pytest.approx(1.0, abs=0.02)
    assert below == pytest.approx(above, abs=0.1)
    assert (START_MM - there_mm) / UNIT_MM == pytest.approx((here_mm - START_MM) / UNIT_MM, abs=0.5)
    assert 5.0 < (here_mm - START_MM) / UNIT_MM < 10.0
    assert belief.beside(START_MM + 1000.0 * UNIT_MM, 1.0) == (0.0, START_MM + 1000.0 * UNIT_MM)


def test_badly_exposed_frames_tell_the_focus_too() -> None:
    places = (0.0, 5.0, -6.0, 3.0)
    dark = known(*(scored(place, quality(place - 2.0), 0.17, DARK) for place in places))
    fine = known(*(scored(place, quality(place - 2.0), 0.17) for place in places))
    assert focus_units(dark) == pytest.approx(2.0, abs=0.5)
    assert fine.sigma_mm < dark.sigma_mm < 3.0 * fine.sigma_mm


def test_badly_exposed_frames_do_not_outvote_a_fair_one() -> None:
    belief = known(scored(0.0, 9.02, 0.17, DARK), scored(0.0, 9.09, 0.17, DARK), scored(0.0, 9.83, 0.17))
    assert belief.passing[-1] > 0.97


def test_a_sample_read_too_severely_still_tells_its_focus() -> None:
    places = (-9.0, 6.0, 1.5, -1.5, 0.0)
    severe = known(*(scored(place, 8.2 - 0.8 * (10.0 - quality(place))) for place in places))
    assert focus_units(severe) == pytest.approx(0.0, abs=0.3)
    assert severe.passing[-1] > 0.95
    assert severe.quality[-1] > 9.3
    assert severe.passing[2] < 0.2
    # One score alone is taken as an expert's.
    alone = known(scored(0.0, 8.2))
    assert alone.quality[0] == pytest.approx(8.2, abs=0.4)
    assert alone.passing[0] < 0.2


def test_what_is_taken_for_detail_far_from_focus_does_not_hide_a_flank() -> None:
    flank = [scored(place, quality(place), 0.18) for place in (3.5, -4.5, 7.4)]
    noise = [(24.5, 1.7, 0.31), (36.0, 1.4, 0.4), (24.4, 4.6, 0.3), (12.4, 4.4, 0.24), (15.0, 5.5, 0.33)]
    belief = known(*(scored(*each) for each in noise), *flank)
    assert focus_units(belief) == pytest.approx(0.0, abs=1.0)
    assert belief.sigma_mm < 3.0 * UNIT_MM
    # Scores of which the scoring machine is sure are not put down to noise.
    sure = known(*(scored(place, score, 0.14) for place, score, _ in noise), *flank)
    assert sure.sigma_mm > 3.0 * belief.sigma_mm


def test_a_score_with_an_unusual_error_counts_for_much_less_than_it_says() -> None:
    flanks = [scored(place, quality(place - 1.0), 0.17) for place in (-4.0, 6.0, 3.0)]
    alone, wide = known(*flanks).sigma_mm, known(*flanks, scored(0.0, quality(1.0), 0.36)).sigma_mm
    fine = known(*flanks, scored(0.0, quality(1.0), 0.17)).sigma_mm
    assert fine < 0.9 * wide
    assert wide <= 1.05 * alone


def test_another_look_from_the_same_place_tells_little_and_a_flank_tells_much() -> None:
    once = known(scored(0.0, 9.3))
    thrice = known(scored(0.0, 9.3), scored(0.0, 9.3), scored(0.0, 9.3))
    beside = known(scored(0.0, 9.3), scored(-2.0, quality(2.0)), scored(2.0, quality(2.0)))
    assert abs(thrice.passing[0] - once.passing[0]) < 0.1
    assert once.passing[0] < 0.9
    assert beside.passing[0] > 0.97


def test_a_field_scored_too_low_in_focus_is_told_by_its_flanks() -> None:
    frames = [scored(place, quality(place)) for place in (-8.0, -4.0, 4.0, 6.0)]
    belief = known(*frames, scored(1.3, quality(1.3) - 0.8), scored(-1.3, quality(1.3) - 0.8), scored(0.0, 8.8))
    assert belief.passing[-1] > 0.95
    assert belief.quality[-1] > 9.3


def test_a_lucky_score_off_focus_is_found_out() -> None:
    # As sure as the scoring machine is of what it knows.
    frames = [scored(place, quality(place), 0.17) for place in (-8.0, -4.0, 4.0, 0.3)]
    belief = known(*frames, scored(2.2, 9.3, 0.17))
    assert quality(2.2) < 8.4
    assert belief.passing[-1] < 0.1


def test_one_score_that_is_wide_of_the_mark_does_not_move_the_focus_much() -> None:
    frames = [scored(place, quality(place - 1.0)) for place in (-9.0, -4.0, 0.0, 2.0, 5.0)]
    belief = known(*frames, scored(12.0, 8.0))
    assert focus_units(belief) == pytest.approx(1.0, abs=0.4)


def test_a_badly_exposed_frame_counts_for_less() -> None:
    fine = known(scored(0.0, quality(4.0)), scored(7.0, quality(3.0)))
    dark = known(scored(0.0, quality(4.0), 0.3, DARK), scored(7.0, quality(3.0), 0.3, DARK))
    assert dark.sigma_mm > fine.sigma_mm


def test_what_cannot_be_trusted_takes_no_part() -> None:
    frames = (
        scored(0.0, quality(4.0)),
        scored(1.0, 9.9, 0.1, FINE, QualityFlag.UNFAMILIAR),
        scored(2.0, 0.2),
        scored(7.0, quality(3.0)),
    )
    belief = known(*frames)
    assert belief.members == (0, 3)
    assert len(belief.quality) == len(belief.sigma) == len(belief.passing) == 2
    assert focus_units(belief) == pytest.approx(focus_units(known(frames[0], frames[3])), abs=1e-9)


def test_nothing_is_fitted_without_optics_without_the_axis_or_where_it_is_not_wanted() -> None:
    frames = (scored(0.0, 5.0), scored(2.0, 7.0))
    for rules in (
        RunRules(optics=None),
        RunRules(axes=(Axis.BRIGHTNESS, Axis.CONTRAST)),
        RunRules(fits_focus=False),
    ):
        assert fit_focus(judge_frames(frames, rules), rules) is None
    assert fit_focus(judge_frames((scored(0.0, 0.1),), RULES), RULES) is None


def test_its_probabilities_hold_where_its_assumptions_do() -> None:
    """Runs drawn from the model itself: frames of which it says p pass in p of the cases."""
    rng = np.random.default_rng(5)
    said, came = [], []
    for _ in range(300):
        focus, factor = float(rng.uniform(-20.0, 20.0)), float(np.exp(0.3 * rng.standard_normal()))
        rest = float(rng.choice([0.15, 0.4, 0.7], p=[0.45, 0.4, 0.15]))
        places = [0.0, *(focus + rng.normal(0.0, scale) for scale in (6.0, 2.0, 1.0))]
        truth = [quality(factor * (place - focus), rest) for place in places]
        scores = np.array(truth) + 0.3 * rng.standard_normal(4)
        belief = known(*(scored(place, float(score)) for place, score in zip(places, scores, strict=True)))
        for position, place in enumerate(belief.members):
            said.append(belief.passing[position])
            came.append(truth[place] > 9.0)
    told, true = np.array(said), np.array(came, float)
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1.01)):
        among = (told >= low) & (told < high)
        assert among.sum() > 20
        # Independent errors are a little less alike than the model takes them for.
        assert true[among].mean() == pytest.approx(told[among].mean(), abs=0.13), (low, among.sum())


@given(
    st.lists(
        st.tuples(st.floats(-60, 60), st.floats(0, 10), st.floats(0, 3), st.sampled_from([FINE, DARK])),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_scores_are_the_answer_is_a_probability(run: list[tuple[float, float, float, Exposure]]) -> None:
    belief = fit_focus(judge_frames(tuple(scored(*each) for each in run), RULES), RULES)
    if belief is None:
        assert all(score < 0.7 for _, score, _, _ in run)
        return
    assert np.isfinite([belief.wd_mm, belief.sigma_mm]).all()
    assert ((belief.passing >= 0.0) & (belief.passing <= 1.0 + 1e-9)).all()
    assert ((belief.quality >= 1.0 - 1e-9) & (belief.quality <= 10.0 + 1e-9)).all()
    assert (belief.sigma >= 0.0).all()
