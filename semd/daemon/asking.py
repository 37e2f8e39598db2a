"""Asking the machines for an answer, so that a frame on which they fail does not end the process."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semd.decision.run import Run
from semd.domain.axes import Parameters
from semd.errors import AnswerFailedError, LedgerError, StorageError
from semd.inbox.frame import LoadedFrame
from semd.pipeline import Answer

_LONGEST_REASON = 500


class AnswerSource(Protocol):
    """Source of answers: the pipeline, or a calibration sweep."""

    @property
    def models_digest(self) -> str:
        """Enters every action's id."""

    def answer(self, run: Run | None, stem: str, parameters: Parameters, image: NDArray[np.uint8] | None) -> Answer:
        """Measure a frame and decide, given the run so far; `image` is None when it was unusable."""


def ask(source: AnswerSource, run: Run | None, frame: LoadedFrame) -> Answer | AnswerFailedError:
    """Answer a frame, or say why the machines could not, whatever they raised.

    Raises:
        StorageError, LedgerError: the source keeps something and cannot; the frame is not to blame.
    """
    try:
        return source.answer(run, frame.stem, frame.parameters, frame.image)
    except (StorageError, LedgerError):
        raise
    except Exception as error:  # noqa: BLE001 - the same frame would end the process after each restart
        failed = AnswerFailedError(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
        failed.__cause__ = error
        return failed
