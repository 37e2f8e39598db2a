"""The scoring network, its input and its weights on disk."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save

from semd.errors import ImageSizeError, ModelError
from semd.scoring.network import ScoringNetwork, magnification_input
from semd.scoring.preprocess import centre_crop, standardise
from semd.scoring.scorer import Scorer
from semd.scoring.weights import load_weights, weights_to_bytes


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    torch.manual_seed(1)
    return ScoringNetwork().eval()


@pytest.fixture(scope="module")
def weights(network: ScoringNetwork) -> bytes:
    return weights_to_bytes(network.state_dict())


def test_the_network_is_the_papers(network: ScoringNetwork) -> None:
    linear = [layer for layer in network.head if isinstance(layer, torch.nn.Linear)]
    assert len(linear) == 3
    assert linear[0].in_features == 513
    assert linear[-1].out_features == 1
    assert network.backbone.conv1.weight.shape == (64, 1, 7, 7)
    # torchvision's ResNet18 has 11,689,512 parameters: less two input channels and the 1000 classes.
    backbone = sum(p.numel() for p in network.backbone.parameters())
    assert backbone == 11_689_512 - 2 * 64 * 49 - (512 * 1000 + 1000)


def test_features_enter_the_head_as_a_softmax(network: ScoringNetwork) -> None:
    seen: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        answer = network(torch.randn(2, 1, 240, 320), torch.tensor([0.05, 1.0]))
    hook.remove()
    assert answer.shape == (2,)
    assert seen[0].shape == (2, 513)
    assert torch.allclose(seen[0][:, :512].sum(dim=1) / 512, torch.ones(2), atol=1e-4)
    assert torch.allclose(seen[0][:, 512], torch.tensor([0.05, 1.0]))


def test_gradients_reach_the_first_layer() -> None:
    torch.manual_seed(2)
    fresh = ScoringNetwork()
    fresh(torch.randn(4, 1, 64, 64), torch.zeros(4)).sum().backward()
    gradient = fresh.backbone.conv1.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 1e-5


@pytest.mark.parametrize(("magnification", "expected"), [(500, 0.05), (10000, 1.0), (150000, 1.0), (-3, 0.0)])
def test_magnification_input(magnification: float, expected: float) -> None:
    assert magnification_input(magnification) == pytest.approx(expected)


def test_the_crop_is_the_centre() -> None:
    image = np.zeros((480, 640), np.uint8)
    image[120:360, 160:480] = 7
    crop = centre_crop(image)
    assert crop.shape == (240, 320)
    assert (crop == 7).all()


@pytest.mark.parametrize("shape", [(239, 640), (480, 319), (480, 640, 3), (480,)])
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageSizeError):
        centre_crop(np.zeros(shape, np.uint8))


def test_standardising_is_a_fixed_scale() -> None:
    values = standardise(np.array([[0, 255]], np.uint8))
    assert values.dtype == np.float32
    assert values.tolist()[0] == pytest.approx([-0.45 / 0.25, 0.55 / 0.25])


def test_half_precision_hardly_moves_the_score(network: ScoringNetwork, weights: bytes) -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640)).astype(np.uint8)
    scorer = Scorer.load(weights)
    with torch.inference_mode():
        pixels = torch.from_numpy(standardise(centre_crop(image)))[None, None]
        exact = float(network(pixels, torch.tensor([0.2])))
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
        state.pop("head.0.weight")
    elif spoil == "unknown":
        state["extra"] = torch.zeros(1)
    elif spoil == "shape":
        state["head.0.weight"] = torch.zeros(1, 1)
    elif spoil == "nan":
        state["head.0.bias"][3] = float("nan")
    data = b"not a model at all" if spoil == "text" else save(state)
    with pytest.raises(ModelError):
        load_weights(ScoringNetwork(), data)


def test_stored_weights_are_half_precision(weights: bytes, network: ScoringNetwork) -> None:
    values = sum(p.numel() for p in network.state_dict().values())
    assert len(weights) < 2.1 * values


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
