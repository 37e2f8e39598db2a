"""The scoring machine's errors beside the twin's: the four numbers by hand, and that a misfit is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from semd.cli import app
from semd.domain.frame_score import FrameScore
from semd.evaluation.twin import twin_errors
from semd.evaluation.twin.twin_errors import ScoreErrors, TwinErrors, compare_errors
from semd.simulator.microscope import VirtualMicroscope


def test_the_four_numbers_by_hand() -> None:
    # Two fields, three places: in focus, between, far; each scanned twice, and once ill exposed.
    nan = np.nan
    quality = np.array(
        [
            [[9.0, 9.0, 9.0], [7.0, 7.0, 7.0], [4.0, 4.0, 4.0]],
            [[9.5, 9.5, 9.5], [7.0, 7.0, nan], [nan, 5.0, 5.0]],
        ]
    )
    error = np.array(
        [
            [[0.1, 0.3, 0.5], [2.0, 2.0, 2.9], [0.3, -0.3, 3.0]],
            [[-0.4, -0.4, 0.4], [2.0, 2.0, nan], [nan, 0.6, 9.0]],
        ]
    )
    # The third frame of the first field is fine after all; of the last two of the second, something is missing.
    defect = np.array([[0.5, 2.0, 0.4], [1.0, 1.0, 1.0]])
    found = twin_errors._summary(twin_errors._Sweeps(quality, error, defect))
    assert found.near == pytest.approx(np.sqrt((0.2**2 + 0.4**2) / 2.0))
    assert found.far == pytest.approx(np.sqrt((0.3**2 + 0.3**2 + 0.6**2) / 3.0))
    # Scans 0.2 apart lie 0.1 to either side of their mean; one degree of freedom makes that 0.2 / sqrt(2).
    assert found.repeated == pytest.approx(np.sqrt((0.2**2 + 0.0) / 2.0 / 2.0))
    assert found.exposure == pytest.approx(np.sqrt((0.3**2 + 0.9**2 + 0.8**2) / 3.0))


def test_what_was_never_seen_is_not_a_number_and_no_fit() -> None:
    nothing = twin_errors._Sweeps(np.full((1, 2, 3), np.nan), np.full((1, 2, 3), np.nan), np.zeros((1, 2)))
    missing = twin_errors._summary(nothing)
    assert np.isnan([missing.near, missing.far, missing.repeated, missing.exposure]).all()
    assert TwinErrors(1, ScoreErrors(0.1, 0.1, 0.1, 0.1), missing).beyond == ("near", "far", "repeated", "exposure")


def test_errors_of_a_known_size_are_found_on_rendered_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_errors, "DEFOCUS_U", (0.0, 8.0))
    truths: list[float] = []
    scan = VirtualMicroscope.scan

    def spied(microscope: VirtualMicroscope) -> object:
        seen = scan(microscope)
        truths.append(seen.truth.true_score)
        return seen

    monkeypatch.setattr(VirtualMicroscope, "scan", spied)
    found = compare_errors([("tinball", 1000)], 1, lambda _image, _magnification: FrameScore(truths[-1] + 0.3), list)
    assert found.rendered_fields == 1
    assert found.rendered.near == pytest.approx(0.3)
    assert found.rendered.far == pytest.approx(0.3)
    assert found.rendered.repeated == pytest.approx(0.0, abs=1e-9)


def test_what_is_much_smaller_or_larger_is_named() -> None:
    rendered = ScoreErrors(near=0.2, far=0.2, repeated=0.1, exposure=0.2)
    found = TwinErrors(7, rendered, ScoreErrors(near=0.1, far=0.3, repeated=0.21, exposure=0.2))
    assert found.beyond == ("near", "repeated")
    assert "7 fields" in found.as_text()
    assert found.as_text().count("*") == 3


def test_the_command_compares_them_with_the_shipped_scoring_machine() -> None:
    words = ["evaluate", "twin", "--samples", "tinball", "--magnifications", "1000", "--fields", "1", "--json"]
    plain = CliRunner().invoke(app, words)
    assert "errors" not in json.loads(plain.stdout.splitlines()[-1])
    told = json.loads(CliRunner().invoke(app, [*words, "--scored", "1"]).stdout.splitlines()[-1])["errors"]
    assert told["rendered_fields"] == 1
    assert 0.0 < told["rendered"]["far"] < 1.0
