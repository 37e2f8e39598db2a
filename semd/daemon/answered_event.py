"""Log event of an answered frame."""

from __future__ import annotations

from dataclasses import asdict

from semd.inbox.frame import LoadedFrame
from semd.pipeline import Answer


def answered_event(frame: LoadedFrame, answer: Answer) -> dict[str, object]:
    """Everything worth grepping for about one frame."""
    observation, decision = answer.observation, answer.decision
    parameters, measured = observation.parameters, observation.measurement
    event: dict[str, object] = {
        "frame": frame.stem,
        "status": str(decision.status),
        "reason": str(decision.reason),
        "step": decision.step,
        "starts_run": decision.starts_run,
        "mag": parameters.magnification,
        "wd_mm": parameters.wd_mm,
        "brightness": parameters.brightness,
        "contrast": parameters.contrast,
        "reward": decision.reward,
        "targets": {str(axis): value for axis, value in decision.targets.items()},
        "deltas": {str(axis): value for axis, value in decision.deltas.items()},
        "scoring_ms": round(answer.scoring_ms, 3),
        "features_ms": round(answer.features_ms, 3),
        "control_ms": round(answer.control_ms, 3),
    }
    if decision.score is not None:
        event |= {"judged": round(decision.score, 4)}
    if measured is not None:
        event |= {
            "score": round(measured.score, 4),
            "sigma": round(measured.sigma, 4),
            "flags": [str(flag) for flag in measured.flags],
            "avg": round(measured.features.avg, 3),
            "grd": measured.features.grd,
            "var": round(measured.features.var, 3),
            "exposure": {key: round(value, 4) for key, value in asdict(measured.exposure).items()},
        }
    if frame.image_error is not None:
        event |= {"error": frame.image_error.code, "message": frame.image_error.message}
    return event
