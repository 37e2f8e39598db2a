"""The feature-level twin against rendered frames; and that the comparison would notice a twin that is not like them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from typer.testing import CliRunner

from semd.cli import app
from semd.domain.expert_scale import lenient_blur_px
from semd.evaluation.twin import twin_likeness
from semd.evaluation.twin.twin_likeness import DEFOCUS_U, EXPOSURES, MEASURED, Likeness, TwinFindings, compare_twin
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.twin_fit import fit_scene
from semd.simulator.twin_scene import SceneRanges, Scenes, draw_scenes

FRAMES = len(DEFOCUS_U) * len(EXPOSURES)


@pytest.mark.parametrize("sample", ["tinball", "grid", "assorted"])
@pytest.mark.parametrize("magnification", [500, 2000, 10_000])
def test_the_twin_is_like_rendered_frames(sample: Sample, magnification: int) -> None:
    found = compare_twin([(sample, magnification)], 1, list)
    assert found.cells[0].frames == FRAMES
    assert found.is_like, found.as_text()


def softer(scenes: Scenes) -> None:
    scenes.blur_per_u *= 0.4


def flatter(scenes: Scenes) -> None:
    scenes.contrast_per_octave *= 3.0


def darker(scenes: Scenes) -> None:
    scenes.brightness_at += 8.0


def smoother(scenes: Scenes) -> None:
    scenes.gradient *= 0.1


def richer(scenes: Scenes) -> None:
    scenes.gain_grey *= 1.6


def noisier(scenes: Scenes) -> None:
    scenes.electrons *= 0.03


@pytest.mark.parametrize(
    ("spoil", "shows"),
    [(softer, "quality"), (flatter, "contrast"), (darker, "avg"), (smoother, "grd"), (richer, "var"), (noisier, "grd")],
)
def test_a_twin_that_is_not_like_them_is_noticed(
    spoil: Callable[[Scenes], None], shows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(microscope: VirtualMicroscope, count: int, rng: np.random.Generator) -> Scenes:
        scenes = fit_scene(microscope, count, rng)
        spoil(scenes)
        return scenes

    monkeypatch.setattr(twin_likeness, "fit_scene", spoilt)
    monkeypatch.setattr(twin_likeness, "DEFOCUS_U", (-5.0, 0.0, 5.0))
    found = compare_twin([("tinball", 2000)], 1, list)
    assert shows in found.cells[0].beyond
    assert not found.is_like


def test_the_fitted_scene_is_one_the_twin_can_draw() -> None:
    microscope = VirtualMicroscope("grid", 1000, 3, aperture_radius_um=45.0)
    scenes = fit_scene(microscope, 4, np.random.default_rng(1))
    drawn = draw_scenes(4000, SceneRanges(), np.random.default_rng(2))
    for name in ("least_blur", "shrink_at", "shrink_power", "shrink_floor", "gradient_at", "gradient_power"):
        fitted, range_ = getattr(scenes, name), getattr(drawn, name)
        assert range_.min() * 0.98 - 0.01 <= fitted[0] <= range_.max() * 1.02 + 0.01, name
        assert (fitted == fitted[0]).all()
    assert scenes.blur_per_u[0] == pytest.approx(45.0 / microscope.focus_wd_mm / 3.0)
    assert scenes.tolerated_px[0] == lenient_blur_px(1000)
    assert scenes.electrons[0] == microscope.detector.electrons
    for each in fields(Scenes):
        if each.name.startswith("score_"):
            assert (getattr(scenes, each.name) == 0.0).all()
    assert scenes.emission.shape == (4, 256)


LIKE = Likeness("grid", 500, 63, dict.fromkeys(MEASURED, 0.01), dict.fromkeys(MEASURED, 0.0), 1.0)


def test_the_verdict_follows_the_tolerances() -> None:
    assert TwinFindings((LIKE,)).is_like
    far = replace(LIKE, rms={**LIKE.rms, "grd": 0.2})
    apart = replace(LIKE, exposure_agrees=0.5)
    assert (far.beyond, apart.beyond) == (("grd",), ("exposure",))
    assert not TwinFindings((LIKE, far)).is_like
    text = TwinFindings((LIKE, far, apart)).as_text()
    assert "0.200*" in text
    assert "0.500*" in text
    assert text.count("*") == 3
    assert "189 frames" in text


def test_the_command_prints_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_likeness, "DEFOCUS_U", (0.0, 5.0))
    words = ["evaluate", "twin", "--samples", "tinball", "--magnifications", "2000", "--fields", "1"]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == (0 if found["is_like"] else 1)
    assert found["cells"][0]["frames"] == 2 * len(EXPOSURES)
    text = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert "tinball x2000" in text
    assert "tolerated" in text
