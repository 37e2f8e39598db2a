"""`run_auto_focus` of OpenFIBSEM (package `fibsem`), adapted to the harness."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from semd.evaluation.baselines.baseline_harness import BaselineHarness
from semd.evaluation.baselines.third_party import load_package, silenced

# The package sweeps symmetrically about the start; 60 depths of field cover the range of the harness.
_COARSE_RANGE_U, _COARSE_STEP_U, _FINE_RANGE_U, _FINE_STEP_U = 60.0, 3.0, 6.0, 0.5


class Fibsem:
    """Coarse and fine sweep of the package."""

    def __init__(self, *, wide: bool) -> None:
        """Load the package.

        Args:
            wide: True to sweep the whole range in steps scaled by the depth of field, 34 frames; False for the
                default of the package, 50 µm in steps of 5 µm and then 10 µm in steps of 1 µm, 22 frames.

        Raises:
            BaselineError: the package is not installed or cannot be imported.
        """
        self._autofocus = load_package("fibsem.autofunctions.autofocus")
        self._structures = load_package("fibsem.structures")
        self._wide = wide

    def focus(self, harness: BaselineHarness) -> bool:
        """Sweep and move to the best working distance; return True if the package found one."""
        settings = self._autofocus.AutoFocusSettings(use_autocontrast=False)
        if self._wide:
            unit_m = harness.unit_mm * 1e-3
            settings = self._autofocus.AutoFocusSettings.from_coarse_fine(
                coarse_range=_COARSE_RANGE_U * unit_m,
                coarse_step=_COARSE_STEP_U * unit_m,
                fine_range=_FINE_RANGE_U * unit_m,
                fine_step=_FINE_STEP_U * unit_m,
                use_autocontrast=False,
            )
        with silenced("fibsem"):
            found = self._autofocus.run_auto_focus(_Column(harness, self._structures), settings=settings)
        return found is not None


class _Column:
    """The part of `fibsem.microscope.FibsemMicroscope` that `run_auto_focus` uses; lengths in metres."""

    def __init__(self, harness: BaselineHarness, structures: ModuleType) -> None:
        self._harness = harness
        self._structures = structures

    def is_working_distance_settable(self, beam_type: object) -> bool:  # noqa: ARG002 - there is one beam
        """Return True: the working distance can be set."""
        return True

    def get_working_distance(self, beam_type: object) -> float:  # noqa: ARG002 - there is one beam
        """Return the working distance in metres."""
        return self._harness.wd_mm * 1e-3

    def set_working_distance(self, wd_m: float, beam_type: object) -> None:  # noqa: ARG002 - there is one beam
        """Set the working distance in metres."""
        self._harness.apply(wd_mm=float(wd_m) * 1e3)

    def acquire_image(self, image_settings: object) -> Any:  # noqa: ARG002 - there is one frame size and dwell time
        """Scan a frame and return it as a `FibsemImage`."""
        return self._structures.FibsemImage(self._harness.scan().image)
