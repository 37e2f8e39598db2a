"""Invariants of every run, whatever the actor says and the frames show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from semd.decision.constants import CONSTANTS
from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Reason, Run, advance, run_state, run_window
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.exposure import Exposure, ExposureRange
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import Status

RULES = RunRules(max_steps=15)
MAGNIFICATION = 2000.0
SPAN_MM = 60.0 * Optics().focus_unit_mm(MAGNIFICATION)

share = st.floats(0.0, 1.0)
exposures = st.builds(
    lambda black, white, level, contrast: Exposure(black * (1 - white), white, level, contrast),
    share, share, st.floats(0, 255), st.floats(0, 255),
)  # fmt: skip
measurements = st.one_of(
    st.none(),
    st.builds(
        lambda score, exposure, flags: Measurement(score, Features(100.0, 900.0, 400.0, 100), exposure, 0.3, flags),
        st.floats(0, 10), exposures, st.sampled_from([(), (), (), (QualityFlag.STRIPED,)]),
    ),
)  # fmt: skip
steps = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=3, max_size=3)
frames = st.lists(st.tuples(measurements, steps, st.booleans()), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(frames, st.floats(3.0, 39.0), share, share)
def test_every_answer_keeps_the_rules(
    seen: list[tuple[Measurement | None, list[float], bool]], wd_mm: float, brightness: float, contrast: float
) -> None:
    now = Parameters(MAGNIFICATION, round(wd_mm, 4), round(100 * brightness, 3), round(100 * contrast, 3))
    run: Run | None = None
    for measurement, wanted, meddles in seen:
        if meddles:
            now = Parameters(MAGNIFICATION, now.wd_mm, 100.0 - (now.brightness or 0.0), now.contrast)
        frame = Observation("f", now, measurement)
        decision = decide(run, frame, RULES, lambda _, w=wanted: np.array(w, np.float32))

        spans = {Axis.WD: SPAN_MM, Axis.BRIGHTNESS: 100.0, Axis.CONTRAST: 100.0}
        for axis in AXES:
            limits = RULES.limits[axis]
            assert limits.low - 1e-3 <= decision.targets[axis] <= limits.high + 1e-3
            # What has been visited may be gone back to at once.
            if decision.status is Status.ADJUST and decision.reason is not Reason.RETURNING:
                assert abs(decision.deltas[axis]) <= RULES.rho * spans[axis] + 1e-3
            if decision.status in (Status.HOLD, Status.DONE):
                assert decision.deltas[axis] == 0.0
        run = advance(run, frame, decision)
        assert run.holds <= RULES.constants.max_holds
        assert run.steps <= RULES.max_steps or run.status.is_terminal or run.status is Status.HOLD
        if decision.status is Status.DONE:
            assert measurement is not None
            assert measurement.score > RULES.accept_score - RULES.restart_margin
            assert not measurement.flags or decision.reason is Reason.ALREADY_ENDED
        if run.frames:
            state = run_state(run.frames, run_window(run.start, RULES), RULES)
            assert state.shape == (10 * RULES.n_frames,)
            assert np.isfinite(state).all()
        values = decision.targets
        now = Parameters(MAGNIFICATION, values[Axis.WD], values[Axis.BRIGHTNESS], values[Axis.CONTRAST])


@given(exposures)
def test_a_defect_is_between_none_and_all_and_none_means_accepted(exposure: Exposure) -> None:
    good = ExposureRange()
    assert 0.0 <= good.defect(exposure) <= 3.0
    inside = (
        exposure.black + exposure.white <= good.max_clipped
        and good.min_level <= exposure.level <= good.max_level
        and exposure.contrast >= good.min_contrast
    )
    assert good.accepts(exposure) is inside


@given(st.lists(st.floats(0, 8.9), min_size=2, max_size=14))
def test_giving_up_never_ends_worse_than_the_start(scores: list[float]) -> None:
    # Scores that have nothing to do with the working distance: no focus explains them.
    constants = replace(CONSTANTS, barren_steps=99)
    rules = RunRules(max_steps=len(scores), axes=(Axis.WD,), constants=constants, fits_focus=False)
    run: Run | None = None
    taken: dict[float, list[float]] = {}
    now = Parameters(MAGNIFICATION, 10.0)
    for score in scores:
        fine = Exposure(0.0, 0.0, 120.0, 150.0)
        frame = Observation("f", now, Measurement(score, Features(100.0, 900.0, 400.0, 100), fine))
        taken.setdefault(now.wd_mm, []).append(score)
        decision = decide(run, frame, rules, lambda _: np.array([0.05, 0.0, 0.0], np.float32))
        run = advance(run, frame, decision)
        now = Parameters(MAGNIFICATION, decision.targets[Axis.WD])
        if decision.status is Status.GIVE_UP:
            break
    assert decision.status is Status.GIVE_UP
    seen = [score for scores_there in taken.values() for score in scores_there]
    assert max(taken[decision.targets[Axis.WD]]) == max(seen)
