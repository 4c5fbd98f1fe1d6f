"""pygen.patch and unpatch on masked convolutions as people write them."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from pixel_twins import randomise
from torch import Tensor, nn

import pygen
from pygen.reference.models import DataPixelCNN, PixelCNN


class Multiplying(nn.Conv2d):
    """weight * mask, as in many tutorials."""

    def __init__(self, mask_type: str, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        height, width = self.kernel_size
        mask = torch.ones(height, width)
        mask[height // 2, width // 2 + (mask_type == "B") :] = 0
        mask[height // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Writing(Multiplying):
    """The other idiom."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return nn.Conv2d.forward(self, x)


class Residual(Multiplying):
    """Looks like a masked convolution and does more."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Forgetting(Multiplying):
    """Has a mask and does not use it."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.Conv2d.forward(self, x)


class MaskedLinear(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_buffer("mask", torch.ones(4, 4).tril())


def _net(layer: type[Multiplying]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        layer("A", 1, 6, 7, padding=3), nn.ReLU(), layer("B", 6, 6, 3, padding="same", dilation=2), nn.Conv2d(6, 2, 1)
    )


@pytest.mark.parametrize("layer", [Multiplying, Writing])
def test_patch_swaps_both_idioms_and_computes_the_same(layer: type, capsys: pytest.CaptureFixture[str]) -> None:
    before, patched = _net(layer).double(), _net(layer).double()
    keys, parameters = list(patched.state_dict()), list(patched.parameters())
    assert pygen.patch(patched) is patched
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed] == [
        ["pygen.patch:"],
        ["0", layer.__name__, "patched:", "type", "A"],
        ["2", layer.__name__, "patched:", "type", "B,", "dilation", "2"],
    ]
    assert list(patched.state_dict()) == keys
    assert all(a is b for a, b in zip(parameters, patched.parameters(), strict=True))
    assert isinstance(patched[0], layer) and type(patched[3]) is nn.Conv2d
    x = torch.randn(3, 1, 8, 9, dtype=torch.float64)
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (before, patched)]
    for _ in range(5):
        losses = [model(x).square().mean() for model in (before, patched)]
        torch.testing.assert_close(losses[1], losses[0])
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    patched[0].weight.data[:, :, 3, 3] = float("nan")  # dead, and now skipped
    torch.testing.assert_close(patched(x), before(x))
    assert patched[0].weight[0, 0, 3, 3].isnan()  # never written
    patched[0].weight.data[:, :, 3, 3] = 1.0
    pygen.unpatch(patched)
    assert capsys.readouterr().out.count("its own forward again") == 2
    assert type(patched[0]) is layer and "_pygen_options" not in vars(patched[0])
    torch.testing.assert_close(patched(x), before(x))


def test_patch_leaves_alone_what_is_no_masked_convolution(capsys: pytest.CaptureFixture[str]) -> None:
    odd_mask = Multiplying("B", 2, 4, 3, padding=1)
    odd_mask.mask[0, 0] = 0.5
    per_channel = Multiplying("B", 2, 4, 3, padding=1)
    per_channel.mask = per_channel.mask.repeat(4, 2, 1, 1)
    per_channel.mask[0, 0, 0, 0] = 0
    alternating = Multiplying("B", 6, 9, 3, padding=1)
    alternating.mask = alternating.mask.repeat(9, 6, 1, 1)
    alternating.mask[:, :, 1, 1] = (torch.arange(9)[:, None] % 3 >= torch.arange(6) % 3).float()
    narrow = Multiplying("B", 2, 4, 3, padding=1)
    narrow.mask = torch.ones(5, 5)
    cases = {
        "residual": (Residual("B", 2, 2, 3, padding=1), "output differs by"),
        "forgetting": (Forgetting("B", 2, 4, 3, padding=1), "output differs by"),
        "strided": (Multiplying("B", 2, 4, 3, padding=1, stride=2), "stride (2, 2)"),
        "grouped": (Multiplying("B", 2, 4, 3, padding=1, groups=2), "groups 2"),
        "valid": (Multiplying("B", 2, 4, 3), "padding (0, 0) 'zeros'"),
        "circular": (Multiplying("B", 2, 4, 3, padding=1, padding_mode="circular"), "'circular'"),
        "even": (Multiplying("B", 2, 4, 4), "even side"),
        "uneven": (Multiplying("B", 2, 4, 3, padding=(1, 2), dilation=(1, 2)), "differs between rows and columns"),
        "odd_mask": (odd_mask, "other than 0 and 1"),
        "per_channel": (per_channel, "differ between channels"),
        "alternating": (alternating, "its 3 colour groups alternate"),
        "narrow": (narrow, "does not broadcast"),
        "linear": (MaskedLinear(), "no nn.Conv2d subclass"),
    }
    model = nn.ModuleDict({name: layer for name, (layer, _) in cases.items()})
    before = {name: (type(m), {k: v.clone() for k, v in m.state_dict().items()}) for name, m in model.items()}
    pygen.patch(model)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    for name, (_, reason) in cases.items():
        assert "not patched: " in lines[name] and reason in lines[name]
        kind, state = before[name]
        assert type(model[name]) is kind
        assert all(torch.equal(state[k], v) for k, v in model[name].state_dict().items())


def test_patch_without_verify_trusts_the_mask(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(Forgetting("B", 2, 4, 3, padding=1))
    pygen.patch(model, verify=False)
    assert "patched: type B" in capsys.readouterr().out and type(model[0]) is not Forgetting


def test_patch_says_when_there_is_nothing_and_refuses_what_is_no_module(capsys: pytest.CaptureFixture[str]) -> None:
    pygen.patch(nn.Sequential(nn.Conv2d(1, 1, 3)))
    pygen.unpatch(nn.Conv2d(1, 1, 3))
    assert capsys.readouterr().out.splitlines() == [
        "pygen.patch: no module has a `mask` buffer: nothing to patch",
        "pygen.unpatch: no layer is patched",
    ]
    for function in (pygen.patch, pygen.unpatch):
        with pytest.raises(TypeError, match=r"patch: model: expected an nn\.Module, got int"):
            function(3)


def test_patch_twice_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = pygen.patch(pygen.patch(_net(Multiplying)))
    assert capsys.readouterr().out.count("already patched") == 2
    pygen.unpatch(model)
    assert type(model[0]) is Multiplying


@pytest.mark.parametrize("twin", [PixelCNN, DataPixelCNN])
def test_patch_swaps_a_whole_pixel_cnn_with_colour_groups(twin: type, capsys: pytest.CaptureFixture[str]) -> None:
    model = twin(3, color_groups=3, hidden_channels=12, num_blocks=1, num_levels=4).double()
    randomise(model)
    x = torch.randint(0, 4, (3, 3, 5, 5), dtype=torch.uint8)
    expected = model.log_prob(x)
    pygen.patch(model)
    assert capsys.readouterr().out.count("3 colour groups") == 6
    torch.testing.assert_close(model.log_prob(x), expected)


def test_patched_model_copies_pickles_and_compiles(capsys: pytest.CaptureFixture[str]) -> None:
    model = pygen.patch(_net(Multiplying))
    x = torch.randn(2, 1, 6, 6)
    expected = model(x)
    calls = []
    model[0].register_forward_hook(lambda *args: calls.append(1))
    model(x)
    assert calls == [1]
    model[0]._forward_hooks.clear()
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)]
    for other in copies:
        assert torch.equal(other(x), expected) and type(other[0]) is type(model[0])
        assert other[0].weight is not model[0].weight
        pygen.unpatch(other)
        assert type(other[0]) is Multiplying and type(model[0]) is not Multiplying
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)


def test_patched_layer_refuses_another_mask_in_a_checkpoint() -> None:
    model = pygen.patch(_net(Multiplying))
    state = model.state_dict()
    model.load_state_dict(state)
    other = {**state, "0.mask": 1 - state["0.mask"]}
    with pytest.raises(RuntimeError, match=r"0.mask: expected the mask that was patched .*, got a different one"):
        model.load_state_dict(other)
    pygen.unpatch(model)
    model.load_state_dict(other)


def test_patch_works_on_weight_norm_and_frozen_layers(capsys: pytest.CaptureFixture[str]) -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(Multiplying("B", 2, 4, 3, padding=1).double())
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    expected = layer(x)
    pygen.patch(layer)
    assert "(the model)" in capsys.readouterr().out
    torch.testing.assert_close(layer(x), expected)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
