"""Exported runtimes: the graph computes what torch computes, int8 stays near, and what does not is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import pytest
import torch
from harness.runtimes import SMALL, make_touchy, models_folder, random_network, some_frames

from semd.errors import ModelError
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.runtime.scorer_loading import load_scorer
from semd.scoring.runtime.session import OnnxEngine
from semd.scoring.scorer import Scorer
from semd.training.export.agreement import compare, extract_all
from semd.training.export.graph import build_graph
from semd.training.export.onnx_export import BOUNDS, export_runtime
from semd.training.export.quantise import RECIPES, Recipe, quantise

EVERYTHING = ("conv1", "maxpool", "layer", "avgpool", "flatten")


def untracked(steps: Sequence[int], doing: str) -> Iterable[int]:
    return steps


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    return random_network()


@pytest.mark.parametrize(
    "form",
    [
        SMALL,
        Architecture(height_px=240, width_px=320, fold=1, replicas=1),
        Architecture(backbone="resnet50", height_px=240, width_px=320, replicas=1),
    ],
    ids=["resnet18 folded", "resnet18 as published", "resnet50"],
)
@pytest.mark.parametrize("shape", [(1, 240, 320), (2, 242, 326)])
def test_the_graph_computes_what_torch_computes(form: Architecture, shape: tuple[int, int, int]) -> None:
    network = random_network(form)
    batch, height, width = shape
    images = torch.randn(batch, 1, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.extract(images)
    found = OnnxEngine(build_graph(network).SerializeToString()).extract(images)
    assert found.shape == (batch, network.features)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_scorer_says_the_same_with_either_engine(network: ScoringNetwork) -> None:
    frames = some_frames(3)
    exported = Scorer(network, OnnxEngine(build_graph(network).SerializeToString(), threads=2))
    exported.warm_up()
    plain = Scorer(network)
    for row in frames.rows:
        magnification = float(frames.magnification[row])
        one, other = (scorer.judge(frames.images[row], magnification) for scorer in (plain, exported))
        assert one.score == pytest.approx(other.score, abs=BOUNDS["fp32"])
        assert one.sigma == pytest.approx(other.sigma, abs=BOUNDS["fp32"])
        assert one.flags == other.flags


def test_int8_keeps_the_layers_it_is_told_to_and_rounds_the_others(network: ScoringNetwork) -> None:
    frames = some_frames(6)
    recipe = RECIPES[1]
    model = quantise(network, recipe, (frames.standardised(int(row), network) for row in frames.rows))
    # A quantised convolution takes its weights from a node that makes numbers of integers.
    graph = onnx.load_model_from_string(model).graph
    constants = {constant.name for constant in graph.initializer}
    plain = {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in constants}
    assert plain == {"conv1", "layer1.0.conv1", "layer1.0.conv2"}
    assert sum(node.op_type == "Conv" for node in graph.node) == 20
    eager = extract_all(network, network, frames, untracked, "")  # type: ignore[arg-type]
    int8 = extract_all(network, OnnxEngine(model), frames, untracked, "")
    error = float((int8 - eager).square().mean().sqrt() / eager.square().mean().sqrt())
    assert 1e-4 < error < 0.05, error


def test_fp32_export_reports_what_it_measured(network: ScoringNetwork) -> None:
    export = export_runtime(network, "fp32", some_frames(1), some_frames(4), untracked)
    (attempt,) = export.attempts
    assert attempt.agreement.frames == 4
    assert 0.0 <= attempt.agreement.rms <= attempt.agreement.largest < BOUNDS["fp32"]
    assert attempt.agreement.flags_changed == 0


def test_recipes_are_tried_in_turn_until_one_keeps_the_bound() -> None:
    network = make_touchy(random_network(), 300.0)
    recipes = (Recipe("all", ()), Recipe("none", EVERYTHING))
    export = export_runtime(network, "int8", some_frames(4), some_frames(4, seed=2), untracked, recipes)
    first, second = export.attempts
    assert (first.recipe, second.recipe) == ("all", "none")
    assert first.agreement.largest > BOUNDS["int8"] > second.agreement.largest


def test_an_export_that_misses_its_bound_is_refused_with_the_figure() -> None:
    network = make_touchy(random_network(), 300.0)
    with pytest.raises(ModelError, match=r"refused.*differ.*all: \d+\.\d{4}\).*4 frames, 0\.1 are allowed"):
        export_runtime(network, "int8", some_frames(4), some_frames(4, seed=2), untracked, (Recipe("all", ()),))


def test_a_difference_that_is_no_number_misses_the_bound() -> None:
    network = random_network()
    with torch.no_grad():
        network.layers[-1].bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match="nan"):
        export_runtime(network, "fp32", some_frames(1), some_frames(2), untracked)


def test_differences_are_those_of_the_mean_of_the_heads(network: ScoringNetwork) -> None:
    frames = some_frames(2)
    eager = extract_all(network, network, frames, untracked, "")  # type: ignore[arg-type]
    moved = eager.clone()
    moved[1, 0] += 3.0
    with torch.no_grad():
        scores = [
            network.score_features(f, torch.from_numpy(frames.magnification)).scores.mean(dim=1) for f in (eager, moved)
        ]
    difference = float((scores[0][1] - scores[1][1]).abs())
    agreement = compare(network, frames, eager, moved)
    assert difference > 0.0
    assert agreement.largest == pytest.approx(difference, rel=1e-4)
    assert agreement.rms == pytest.approx(difference / np.sqrt(2.0), rel=1e-4)


@pytest.mark.parametrize("model", [b"", b"no model", b"\x08\x08" * 40])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(ModelError, match="cannot run the exported model"):
        OnnxEngine(model)


def test_a_model_of_something_else_is_refused() -> None:
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", value[:1], value[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelError, match="export it again"):
        OnnxEngine(model.SerializeToString())


def test_threads_below_one_are_refused(network: ScoringNetwork) -> None:
    with pytest.raises(ModelError, match="threads"):
        OnnxEngine(build_graph(network).SerializeToString(), threads=0)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_the_way_to_get_it_is_named(
    monkeypatch: pytest.MonkeyPatch, network: ScoringNetwork, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=r"pip install 'semd\[onnx\]'"):
        export_runtime(network, "fp32", some_frames(1), some_frames(1), untracked)


def test_torch_needs_no_extra(monkeypatch: pytest.MonkeyPatch, tmp_path, network: ScoringNetwork) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    scorer = load_scorer(models_folder(tmp_path, network))
    assert 0.0 <= scorer.score(some_frames(1).images[0], 500.0) <= 10.0


@pytest.mark.parametrize(("set_before", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_of_torch_sleep_unless_the_user_says_otherwise(set_before: dict[str, str], found: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | set_before
    program = "import os, semd; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == found
