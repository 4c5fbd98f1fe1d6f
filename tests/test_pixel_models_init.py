"""PixelCNN++ set from a batch: what each convolution then gives, and what the images decide."""

from __future__ import annotations

import pytest
import torch
from pixel_twins import CASES, twins
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from pygen.models import PixelCNNPP
from pygen.models._shifted import normalised, weight_of

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["pp", "pp-rgb", "pp-one-scale-classes", "pp-map"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_initialize_gives_every_convolution_mean_0_and_its_deviation(name: str, dtype: torch.dtype) -> None:
    _, model = twins(name, dtype)
    x, cond = CASES[name].images(24, 6, 6), CASES[name].conditions(24, 6, 6)
    before = model.log_prob(x, cond)
    state = torch.get_rng_state()
    model.initialize(x, cond)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in model.modules())
    seen: dict[str, Tensor] = {}
    for key, layer in model.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            layer.register_forward_hook(lambda _, given, out, key=key: seen.update({key: out.detach()}))
    assert not torch.equal(model.log_prob(x, cond), before)
    assert len(seen) > 10
    for key, out in seen.items():
        deviation, mean = torch.std_mean(out, (0, 2, 3), correction=0)
        expected = 0.1 if key.endswith("conv_out") else 1.0
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
        torch.testing.assert_close(deviation, torch.full_like(mean, expected), rtol=1e-3, atol=0)
    model.loss(x, cond).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_initialize_leaves_what_the_batch_does_not_move() -> None:
    """An output that is the same everywhere has no deviation to divide by."""
    model = PixelCNNPP(
        1, hidden_channels=3, num_resnets=1, num_scales=1, num_mixtures=1, num_levels=4, weight_norm=False
    )
    with torch.no_grad():
        model.first_vertical.weight.zero_()
    model.initialize(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    assert (model.first_vertical.weight == 0).all()
    assert all(p.isfinite().all() for p in model.parameters())


def test_initialize_refuses_what_the_loss_refuses_and_changes_nothing() -> None:
    model = PixelCNNPP(1, hidden_channels=3, num_resnets=1, num_scales=1, num_mixtures=1, num_levels=4)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"PixelCNNPP: x: .*0 .. 3, got 4 .. 4"):
        model.initialize(torch.full((2, 1, 4, 4), 4, dtype=torch.uint8))
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_weight_of_is_the_layers_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of parametrizations that are not weight norm alone, and where somebody listens."""
    layers = [
        normalised(nn.Conv2d, 3, 4, 2, weight_norm=True),
        normalised(nn.ConvTranspose2d, 3, 4, 2, weight_norm=True),
        normalised(nn.Conv2d, 3, 4, 2, weight_norm=False),
        parametrizations.orthogonal(nn.Conv2d(3, 4, 2)),
        parametrizations.weight_norm(nn.Conv2d(3, 4, 2), "bias"),
        normalised(nn.Conv2d, 3, 4, 2, weight_norm=True),
        normalised(nn.Conv2d, 3, 4, 2, weight_norm=True),
    ]
    parametrize.register_parametrization(layers[-2], "weight", nn.Tanh())
    layers[-1].parametrizations.weight[0].register_forward_hook(lambda module, given, made: 2 * made)
    for layer in layers:
        expected = layer.weight
        assert torch.equal(weight_of(layer), expected) and weight_of(layer).requires_grad
    with torch.no_grad():
        layers[0].parametrizations.weight.original0.mul_(3)
        assert torch.equal(weight_of(layers[0]), layers[0].weight)

    def forward(steps: nn.Module) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(parametrize.ParametrizationList, "forward", forward)
    for layer in layers[:3]:  # without what makes it slow
        weight_of(layer)
    for layer in (layers[3], *layers[5:]):
        with pytest.raises(AssertionError):
            weight_of(layer)
