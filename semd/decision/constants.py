"""Every number of the decision that was chosen, in one record, with the evidence for each.

`RunRules` holds what a configuration or a preset sets; this record holds the rest. Nothing else in the room
contains a threshold of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One way in which the scoring machine may read a sample.

    Attributes:
        top_score: score of a frame in perfect focus.
        counted_share: share of the points lost to blur that the score shows.
        strays_far_off: True where noise far from focus may be scored as if it were detail.
        probability: prior probability of this reading.
    """

    top_score: float
    counted_share: float
    strays_far_off: bool
    probability: float


@dataclass(frozen=True, slots=True)
class DecisionConstants:
    """Chosen constants; the comment above each gives its evidence, or says that there is none.

    The attributes carry their units: `_points` of the score, `_units` of the focus unit at the run's magnification
    (`Optics.focus_unit_mm`), `_depths` of the depth of focus as the run's own frames correct it, `_steps` frames of a
    run, `_sigmas` standard deviations of a score.
    """

    # --- Frames alone -------------------------------------------------------------------------------------------
    # Protocol, section 2: at most three HOLDs in a row.
    max_holds: int = 3
    # Chosen, not measured: a flagged frame is returned to only if it stands out this far.
    flag_points: float = 3.0
    # Chosen, not measured: one standard deviation of the score. With it no simulated run of 2,000 ended worse than it
    # began by more than 0.1 points.
    better_sigmas: float = 1.0
    # Error that the scoring machine expects on the samples it was trained on; at 0.24 it errs by 1.8 times as much as
    # it expects, at 0.3 by 2.8 times.
    usual_sigma_points: float = 0.18
    # A hollow of the grid scored 8.5 with an expected error of 0.33 was wrong by 6.5 points.
    promising_errors: float = 1.5
    # Noise and smooth gradients scored up to 5.7, barely visible detail up to 8.5 with an error to match; ordinary
    # fields exceed 7 before `barren_steps` are spent.
    barren_score: float = 7.0
    # Chosen: with it 200 of 200 hollows of the grid ended within 15 frames.
    barren_steps: int = 15
    # Profiles of two unrelated scans correlate by 0.00 with a standard deviation of 0.16.
    same_stripes_correlation: float = 0.9

    # --- Fit of the focus ---------------------------------------------------------------------------------------
    # Correlation of a score's error between two scans of one field: 0.9 at the same settings, 0.3 within a point of
    # score, 0.1 beyond two (fields never trained on).
    repeated_error_correlation: float = 0.9
    error_decay_points: float = 1.0
    # Two frames that happen to score alike, a flank here and noise there, lie far apart.
    error_decay_units: float = 15.0
    # Errors of scores have heavy tails; four degrees of freedom of Student's t were chosen, not fitted.
    error_freedom: float = 4.0
    # Chosen, not measured: no score is trusted to better than this.
    least_sigma_points: float = 0.1
    # A badly exposed frame errs to either side; this standard deviation, chosen, is reached at a defect of 1.
    exposure_sigma_points: float = 0.4
    # The scale's lowest mark for a recognised field is 1: a lower score recognised nothing, whatever the focus.
    least_fitted_score: float = 0.7
    # Chosen, not measured: standard deviation of the logarithm of what was assumed wrongly of the column (aperture,
    # pixel size).
    factor_log_sigma: float = 0.35
    # Grid of the factor, in its standard deviations.
    factor_reach_sigmas: float = 2.5
    factor_points: int = 9
    # Blur that no working distance removes, in units of the blur that experts tolerate, and its chosen prior: a column
    # in good order passes in focus.
    rest_blurs: tuple[float, ...] = (0.15, 0.4, 0.7)
    rest_probabilities: tuple[float, ...] = (0.45, 0.4, 0.15)
    # Chosen priors: as experts read it; too severely, which shows in focus (two grades); as experts near focus only.
    readings: tuple[Reading, ...] = (
        Reading(10.0, 1.0, False, 0.77),
        Reading(9.1, 0.9, False, 0.05),
        Reading(8.2, 0.8, False, 0.03),
        Reading(10.0, 1.0, True, 0.15),
    )
    # Scores of 3 to 6: below an expected error of 0.16 next to none was wrong, above 0.22 most were.
    surely_read_sigma_points: float = 0.16
    surely_stray_sigma_points: float = 0.22
    # A field that experts give a 6 is always recognised.
    recognised_quality: float = 6.0
    # Noise and smooth gradients far from focus were scored 1 to 6 where the truth is 1; chosen to cover that range.
    stray_points: float = 2.5
    stray_sigma_points: float = 2.0
    # Chosen: the focus lies within the run's window or slightly beyond.
    beyond_window: float = 1.3
    # Resolution of the coarse and the fine grid, chosen for speed: a frame's fit takes a few milliseconds.
    coarse_step_units: float = 0.5
    fine_points: int = 121
    fine_reach_sigmas: float = 4.0

    # --- What the fit allows ------------------------------------------------------------------------------------
    # Maximum correction of a frame's score by the fit: it is still this frame that is judged.
    max_correction_points: float = 0.1
    # Chosen: a focus known to this accuracy is approached directly; until then the actor searches.
    aim_depths: float = 1.5
    # Chosen: the focus is approached as well when it lies on one side of the frame with this probability.
    side_probability: float = 0.9
    # Chosen: a focus not even known to this accuracy is not known at all.
    lost_depths: float = 10.0
    # Chosen: frames after which a run without any focus explores unvisited working distances.
    lost_steps: int = 7
    # Chosen: distance from the focus within which a frame counts as taken in focus.
    at_focus_depths: float = 0.3
    # Chosen: distance of the frames that show the flanks of the focus, and the largest that still counts as a flank.
    flank_depths: float = 1.2
    near_depths: float = 4.0
    # Chosen: the run may have begun in focus when its start lies this close to the fitted focus.
    start_sigmas: float = 2.0
    start_depths: float = 1.0
    # How much less sharp than its start a run may end: by the fit, and by the scores themselves. Nearby frames are
    # misjudged alike, so their scores compare more finely than their errors suggest.
    tolerated_fit_points: float = 0.05
    tolerated_score_points: float = 0.1

    # --- Exploration --------------------------------------------------------------------------------------------
    # A focus shows at half of this distance: the middle of the scale lies 5 to 8 focus units from the focus.
    visited_units: float = 10.0
    # Chosen, a little above `visited_units`: a shorter unvisited stretch is overlooked from its ends.
    least_stretch_units: float = 12.0


CONSTANTS = DecisionConstants()
