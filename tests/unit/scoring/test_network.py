"""The scoring network, its input and its weights on disk."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save

from semd.domain.frame_score import QualityFlag
from semd.errors import ImageSizeError, ModelError
from semd.scoring.network import OURS, PAPER, Architecture, ScoringNetwork, with_spectrum
from semd.scoring.preprocess import centre_crop, standardise
from semd.scoring.scorer import Scorer
from semd.scoring.spectrum import SPECTRUM_VALUES
from semd.scoring.stored import network_from_bytes, network_to_bytes
from semd.scoring.weights import load_weights, weights_to_bytes

SMALL = Architecture(height_px=240, width_px=320, replicas=3)


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    torch.manual_seed(1)
    return ScoringNetwork(SMALL).eval()


@pytest.fixture(scope="module")
def weights(network: ScoringNetwork) -> bytes:
    return network_to_bytes(network)


def test_the_papers_network() -> None:
    paper = ScoringNetwork(PAPER)
    shapes = [tuple(layer.weight.shape) for layer in paper.layers]
    assert [shape[0] for shape in shapes] == [1, 1, 1]
    assert (shapes[0][1], shapes[-1][2]) == (513, 1)
    assert paper.backbone.conv1.weight.shape == (64, 1, 7, 7)
    # torchvision's ResNet18 has 11,689,512 parameters: less two input channels and the 1000 classes.
    backbone = sum(p.numel() for p in paper.backbone.parameters())
    assert backbone == 11_689_512 - 2 * 64 * 49 - (512 * 1000 + 1000)
    assert paper(torch.randn(2, 1, 240, 320), torch.tensor([500.0, 1e4])).scores.shape == (2, 1)


@pytest.mark.parametrize(
    ("form", "magnification", "told"),
    [
        (PAPER, 500.0, 0.05),
        (PAPER, 10000.0, 1.0),
        (PAPER, 150000.0, 1.0),
        # On the logarithmic scale from x100 to x100,000.
        (SMALL, 100.0, 0.0),
        (SMALL, 1000.0, 1 / 3),
        (SMALL, 10000.0, 2 / 3),
        (SMALL, 1e6, 1.0),
        (SMALL, -3.0, 0.0),
        (Architecture(magnification="none"), 2000.0, 0.0),
    ],
)
def test_features_enter_the_heads_as_a_softmax_beside_the_magnification(
    form: Architecture, magnification: float, told: float
) -> None:
    torch.manual_seed(4)
    network = ScoringNetwork(form)
    seen: list[torch.Tensor] = []
    network.layers[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network.score_features(torch.randn(1, 512), torch.tensor([magnification]))
    assert seen[0].shape == (1, form.replicas, 513)
    assert float(seen[0][0, 0, :512].sum()) == pytest.approx(512.0, rel=1e-5)
    assert float(seen[0][0, 0, 512]) == pytest.approx(8.0 * told, abs=1e-5)


def test_a_network_that_begins_to_read_spectra_says_what_it_said(network: ScoringNetwork) -> None:
    grown = with_spectrum(network).eval()
    images = torch.from_numpy(np.random.default_rng(5).normal(0.0, 1.0, (2, 1, 240, 320)).astype(np.float32))
    magnification = torch.tensor([500.0, 5000.0])
    with torch.inference_mode():
        before, after = network(images, magnification), grown(images, magnification)
    assert torch.allclose(before.scores, after.scores, atol=1e-5)
    assert torch.allclose(before.log_sigma, after.log_sigma, atol=1e-5)
    assert grown.architecture == dataclasses.replace(SMALL, spectrum=True)


def test_what_is_unfamiliar_is_told_by_the_convolutions_alone(network: ScoringNetwork) -> None:
    grown = with_spectrum(network).eval()
    rng = np.random.default_rng(6)
    features = torch.from_numpy(rng.gamma(2.0, 1.0, (64, 512)).astype(np.float32))
    grown.certainty.fit_distance(features, features)
    seen = torch.cat([features, torch.full((64, SPECTRUM_VALUES), 1e6)], dim=1)
    assert torch.equal(grown.is_out_of_distribution(seen), grown.certainty.is_out_of_distribution(features))
    assert bool(grown.is_out_of_distribution(torch.cat([50.0 * features, seen[:, 512:]], dim=1)).all())


def test_our_network_is_stored_with_its_reader() -> None:
    torch.manual_seed(2)
    network = ScoringNetwork(dataclasses.replace(OURS, replicas=2)).eval()
    assert network.spectrum is not None
    network.spectrum.fit(torch.randn(50, SPECTRUM_VALUES))
    again = network_from_bytes(network_to_bytes(network))
    image = np.random.default_rng(3).integers(0, 256, (480, 640)).astype(np.uint8)
    assert Scorer(again).score(image, 2000.0) == pytest.approx(Scorer(network).score(image, 2000.0), abs=0.02)


@pytest.mark.parametrize(("says", "score"), [(0.8, 0.0), (3.0, 3.0)])
def test_a_frame_mostly_clipped_and_below_the_worst_field_is_nothing(
    network: ScoringNetwork, says: float, score: float
) -> None:
    constant = copy.deepcopy(network)
    last = constant.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, says)
    image = np.full((240, 320), 255, np.uint8)
    image[80:160, :240] = 100
    judged = Scorer(constant).judge(image, 2000.0)
    assert QualityFlag.SATURATED in judged.flags
    assert judged.score == pytest.approx(score, abs=1e-5)
    image[:, :200] = 100
    assert Scorer(constant).score(image, 2000.0) == pytest.approx(says, abs=1e-5)


def test_folding_loses_no_pixel() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    folded = ScoringNetwork(SMALL).fold(image)
    assert folded.shape == (1, 4, 2, 2)
    # Channel 2 y + x holds the pixels at (y, x) of each 2x2 square.
    assert folded[0, 3].tolist() == [[5.0, 7.0], [13.0, 15.0]]


def test_replicas_are_independent(network: ScoringNetwork) -> None:
    features, magnification = torch.randn(2, 512), torch.tensor([500.0, 5000.0])
    with torch.no_grad():
        before = network.score_features(features, magnification).scores
        network.layers[0].weight[1] += 0.5
        after = network.score_features(features, magnification).scores
        network.layers[0].weight[1] -= 0.5
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_gradients_reach_the_first_layer_from_scores_alone() -> None:
    torch.manual_seed(2)
    fresh = ScoringNetwork(SMALL)
    answer = fresh(torch.randn(4, 1, 64, 64), torch.full((4,), 500.0))
    answer.log_sigma.sum().backward(retain_graph=True)
    first = fresh.backbone.conv1.weight
    assert first.grad is None
    answer.scores.sum().backward()
    assert first.grad is not None
    assert float(first.grad.abs().max()) > 1e-5


@pytest.mark.parametrize(
    ("shape", "crop"), [((480, 640), (240, 320)), ((241, 999), (240, 320)), ((960, 1280), (240, 320))]
)
def test_the_crop_is_the_centre(shape: tuple[int, int], crop: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    top, left = (shape[0] - crop[0]) // 2, (shape[1] - crop[1]) // 2
    image[top : top + crop[0], left : left + crop[1]] = 7
    found = centre_crop(image, *crop)
    assert found.shape == crop
    assert (found == 7).all()


def test_smaller_frames_are_taken_whole_with_even_sides() -> None:
    assert centre_crop(np.zeros((301, 401), np.uint8), 480, 640).shape == (300, 400)


@pytest.mark.parametrize("shape", [(239, 640), (480, 319), (480, 640, 3), (480,)])
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageSizeError):
        centre_crop(np.zeros(shape, np.uint8), 480, 640)


def test_standardising_is_a_fixed_scale() -> None:
    values = standardise(np.array([[0, 255]], np.uint8))
    assert values.dtype == np.float32
    assert values.tolist()[0] == pytest.approx([-0.45 / 0.25, 0.55 / 0.25])


def test_half_precision_hardly_moves_the_score(network: ScoringNetwork, weights: bytes) -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640)).astype(np.uint8)
    scorer = Scorer.load(weights)
    with torch.inference_mode():
        pixels = torch.from_numpy(standardise(centre_crop(image, 240, 320)))[None, None]
        exact = float(network(pixels, torch.tensor([2000.0])).scores.mean())
    assert scorer.score(image, 2000) == pytest.approx(min(max(exact, 0.0), 10.0), abs=0.01)


def test_scoring_has_no_memory(weights: bytes) -> None:
    scorer = Scorer.load(weights)
    scorer.warm_up()
    rng = np.random.default_rng(1)
    one, two = (rng.integers(0, 256, (480, 640)).astype(np.uint8) for _ in range(2))
    first = scorer.score(one, 500)
    scorer.score(two, 5000)
    assert scorer.score(one, 500) == first
    assert 0.0 <= first <= 10.0


def test_only_the_centre_counts(weights: bytes) -> None:
    scorer = Scorer.load(weights)
    image = np.random.default_rng(2).integers(0, 256, (480, 640)).astype(np.uint8)
    framed = image.copy()
    framed[:100] = 0
    assert scorer.score(framed, 500) == scorer.score(image, 500)


@pytest.mark.parametrize("spoil", ["text", "missing", "unknown", "shape", "nan"])
def test_foreign_weights_are_refused(network: ScoringNetwork, spoil: str) -> None:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if spoil == "missing":
        state.pop("layers.0.weight")
    elif spoil == "unknown":
        state["extra"] = torch.zeros(1)
    elif spoil == "shape":
        state["layers.0.weight"] = torch.zeros(1, 1)
    elif spoil == "nan":
        state["layers.0.bias"][0, 3] = float("nan")
    data = b"not a model at all" if spoil == "text" else save(state)
    with pytest.raises(ModelError):
        load_weights(ScoringNetwork(SMALL), data)


@pytest.mark.parametrize("header", [{}, {"architecture": "{"}, {"architecture": '{"backbone": "vgg"}'}])
def test_weights_of_an_unknown_form_are_refused(network: ScoringNetwork, header: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="scoring network"):
        network_from_bytes(weights_to_bytes(network.state_dict(), metadata=header))


def test_the_form_travels_with_the_weights(network: ScoringNetwork, weights: bytes) -> None:
    again = network_from_bytes(weights)
    assert again.architecture == SMALL
    assert not again.training


def test_stored_weights_are_half_precision(weights: bytes, network: ScoringNetwork) -> None:
    values = sum(p.numel() for name, p in network.state_dict().items() if not name.startswith("certainty."))
    assert len(weights) < 2.1 * values + 200_000


def test_a_scorer_needs_a_thread(weights: bytes) -> None:
    with pytest.raises(ModelError, match="threads"):
        Scorer.load(weights, threads=0)


def test_torchvision_imports_in_a_fresh_process_twice() -> None:
    program = (
        "from semd.scoring.torchvision_ops import import_torchvision_models as load\n"
        "assert load().resnet18 is load().resnet18\n"
        "import torchvision\n"
        "assert torchvision.models.resnet18 is load().resnet18\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
