"""How the pixel models are built and called: each refusal names model and argument, what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pygen.models import MADE, GatedPixelCNN, PixelCNN, PixelCNNPP, PixelRNN

_X = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
_CLASSES = torch.tensor([0, 2])


def _plain() -> PixelCNN:
    return PixelCNN(hidden_channels=4, num_blocks=1)


def _classes() -> GatedPixelCNN:
    return GatedPixelCNN(hidden_channels=4, num_blocks=1, num_classes=3)


def _features() -> GatedPixelCNN:
    return GatedPixelCNN(hidden_channels=4, num_blocks=1, cond_channels=2)


def _pp() -> PixelCNNPP:
    return PixelCNNPP(1, hidden_channels=4, num_resnets=1, num_scales=2, num_mixtures=2, num_levels=4, num_classes=3)


def _made() -> MADE:
    return MADE(16, 8, num_orders=2)


NOT_BUILT = {
    "odd-width": (
        ValueError,
        "PixelCNN: hidden_channels: .*nearest are 62 and 64\\), got 63",
        lambda: PixelCNN(hidden_channels=63),
    ),
    "rgb-width": (
        ValueError,
        "PixelCNN: hidden_channels: .*nearest are 60 and 66\\), got 64",
        lambda: PixelCNN(3, color_groups=3, hidden_channels=64),
    ),
    "gated-rgb-width": (
        ValueError,
        "GatedPixelCNN: hidden_channels: .*nearest are 63 and 66\\), got 64",
        lambda: GatedPixelCNN(3, color_groups=3, hidden_channels=64),
    ),
    "groups": (ValueError, "PixelCNN: color_groups: .*in_channels = 4, got 3", lambda: PixelCNN(4, color_groups=3)),
    "no-channels": (ValueError, "PixelCNN: in_channels: .*got 0", lambda: PixelCNN(0)),
    "one-level": (ValueError, "PixelCNN: num_levels: .*>= 2, got 1", lambda: PixelCNN(num_levels=1)),
    "float-levels": (TypeError, "PixelCNN: num_levels: .*got 2.0", lambda: PixelCNN(num_levels=2.0)),
    "even-kernel": (ValueError, "PixelCNN: kernel_size: .*odd.*3 and 5\\), got 4", lambda: PixelCNN(kernel_size=4)),
    "even-first": (ValueError, "first_kernel_size: .*got 6", lambda: GatedPixelCNN(first_kernel_size=6)),
    "range-of-one": (
        TypeError,
        "PixelCNN: input_range: .*\\(low, high\\).*got \\(0,\\)",
        lambda: PixelCNN(input_range=(0,)),
    ),
    "range-of-words": (TypeError, "PixelRNN: input_range: .*got '01' \\(str\\)", lambda: PixelRNN(input_range="01")),
    "range-of-bools": (TypeError, "MADE: input_range: .*got", lambda: MADE(4, 8, input_range=(False, True))),
    "range-falls": (
        ValueError,
        "GatedPixelCNN: input_range: .*low < high, got",
        lambda: GatedPixelCNN(input_range=(1, 0)),
    ),
    "range-of-a-point": (ValueError, "MADE: input_range: .*low < high, got", lambda: MADE(4, 8, input_range=(1, 1))),
    "range-without-end": (
        ValueError,
        "PixelCNN: input_range: .*finite, low < high, got",
        lambda: PixelCNN(input_range=(0, float("inf"))),
    ),
    "range-beyond-floats": (
        ValueError,
        "PixelCNN: input_range: .*finite, low < high, got",
        lambda: PixelCNN(input_range=(0, 10**400)),
    ),
    "negative-blocks": (ValueError, "num_blocks: .*got -1", lambda: PixelCNN(num_blocks=-1)),
    "two-conditions": (
        ValueError,
        "cond_channels: .*at most one.*got both",
        lambda: GatedPixelCNN(num_classes=2, cond_channels=2),
    ),
    "no-classes": (ValueError, "num_classes: .*got 0", lambda: GatedPixelCNN(num_classes=0)),
    "pp-channels": (ValueError, "PixelCNNPP: in_channels: .*1 or 3, got 2", lambda: PixelCNNPP(2)),
    "pp-scales": (ValueError, "PixelCNNPP: num_scales: .*got 0", lambda: PixelCNNPP(num_scales=0)),
    "pp-mixtures": (TypeError, "PixelCNNPP: num_mixtures: .*got 1.5", lambda: PixelCNNPP(num_mixtures=1.5)),
    "pp-resnets": (ValueError, "PixelCNNPP: num_resnets: .*got 0", lambda: PixelCNNPP(num_resnets=0)),
    "pp-dropout": (ValueError, "PixelCNNPP: dropout: .*0 <= dropout < 1, got 1", lambda: PixelCNNPP(dropout=1)),
    "pp-text-dropout": (TypeError, "PixelCNNPP: dropout: .*got str", lambda: PixelCNNPP(dropout="0.5")),
    "pp-weight-norm": (TypeError, "PixelCNNPP: weight_norm: .*got 1", lambda: PixelCNNPP(weight_norm=1)),
    "pp-two-conditions": (
        ValueError,
        "PixelCNNPP: cond_channels: .*at most one.*got both",
        lambda: PixelCNNPP(num_classes=2, cond_channels=2),
    ),
    "made-no-inputs": (ValueError, "MADE: num_inputs: .*got 0", lambda: MADE(0, 4)),
    "made-no-hidden": (ValueError, "MADE: hidden_sizes: .*got none", lambda: MADE(4, ())),
    "made-no-orders": (ValueError, "MADE: num_orders: .*got 0", lambda: MADE(4, 4, num_orders=0)),
    "made-bool": (TypeError, "MADE: num_inputs: .*got True", lambda: MADE(True, 4)),
}


@pytest.mark.parametrize("name", NOT_BUILT)
def test_pixel_model_is_not_built_from(name: str) -> None:
    kind, message, build = NOT_BUILT[name]
    with pytest.raises(kind, match=message):
        build()


NOT_CALLED = {
    "float-x": (TypeError, "PixelCNN: x: .*got torch.float32", _plain, lambda m: m.loss(_X.float())),
    "no-channel": (ValueError, "PixelCNN: x: .*\\[N, 1, H, W\\], got \\[2, 4, 4\\]", _plain, lambda m: m.log_prob(_X[:, 0])),
    "grey": (ValueError, "PixelCNN: x: .*0 .. 1, got 2 .. 2", _plain, lambda m: m.loss(_X + 2)),
    "negative": (ValueError, "PixelCNN: x: .*got -1 .. -1", _plain, lambda m: m.logits(_X.long() - 1)),
    "cond": (TypeError, "PixelCNN: cond: .*None.*got Tensor", _plain, lambda m: m.loss(_X, _CLASSES)),
    "no-cond": (TypeError, "GatedPixelCNN: cond: .*classes \\[2\\].*got None", _classes, lambda m: m.loss(_X)),
    "cond-dtype": (TypeError, "cond: .*0 .. 2 as torch.int64, got torch.int32", _classes, lambda m: m.loss(_X, _CLASSES.int())),
    "cond-shape": (ValueError, "cond: .*shape \\[2\\], got \\[1\\]", _classes, lambda m: m.log_prob(_X, _CLASSES[:1])),
    "cond-range": (ValueError, "cond: .*0 .. 2, got 1 .. 3", _classes, lambda m: m.log_prob(_X, _CLASSES + 1)),
    "no-features": (TypeError, "cond: .*features \\[2, 2\\].*got None", _features, lambda m: m.loss(_X)),
    "int-features": (TypeError, "cond: .*floating dtype, got torch.int64", _features, lambda m: m.loss(_X, _CLASSES)),
    "feature-shape": (
        ValueError,
        "cond: .*\\[2, 2\\] or \\[2, 2, 4, 4\\], got \\[2, 3\\]",
        _features,
        lambda m: m.loss(_X, torch.zeros(2, 3)),
    ),
    "sample-cond": (TypeError, "cond: .*classes \\[3\\]", _classes, lambda m: m.sample(3, (4, 4))),
    "untrained": (ValueError, "PixelCNN: shape: .*got None", _plain, lambda m: m.sample(1)),
    "three-sides": (ValueError, "PixelCNN: shape: .*got \\(1, 4, 4\\)", _plain, lambda m: m.sample(1, (1, 4, 4))),
    "zero-side": (ValueError, "PixelCNN: shape: .*got 0", _plain, lambda m: m.sample(1, (0, 4))),
    "negative-n": (ValueError, "PixelCNN: n: .*got -1", _plain, lambda m: m.sample(-1, (4, 4))),
    "float-n": (TypeError, "PixelCNN: n: .*got 2.0", _plain, lambda m: m.sample(2.0, (4, 4))),
    "engine": (ValueError, "engine: .*'naive', .*got 'fast'", _plain, lambda m: m.sample(1, (1, 4), engine="fast")),
    "cold": (ValueError, "temperature: .*> 0, got 0", _plain, lambda m: m.sample(1, (4, 4), temperature=0)),
    "nan-temperature": (ValueError, "temperature: .*got nan", _plain, lambda m: m.sample(1, (4, 4), temperature=float("nan"))),
    "text-temperature": (TypeError, "temperature: .*got str", _plain, lambda m: m.sample(1, (4, 4), temperature="1")),
    "two-noises": (
        ValueError,
        "generator: .*at most one",
        _plain,
        lambda m: m.sample(1, (4, 4), seed=1, generator=torch.Generator()),
    ),
    "float-seed": (TypeError, "PixelCNN: seed: .*got float", _plain, lambda m: m.sample(1, (4, 4), seed=1.0)),
    "known-alone": (TypeError, "known_mask: .*together with known, got None", _plain, lambda m: m.sample(2, (4, 4), known=_X)),
    "mask-alone": (
        TypeError,
        "known: .*together with known_mask, got None",
        _plain,
        lambda m: m.sample(2, (4, 4), known_mask=_X.bool()),
    ),
    "int-mask": (TypeError, "known_mask: .*got torch.uint8", _plain, lambda m: m.sample(2, (4, 4), known=_X, known_mask=_X)),
    "float-known": (
        TypeError,
        "known: .*got torch.float32 \\(of numbers in \\[0, 1\\]: \\(x \\* 1\\).round\\(\\).long\\(\\)\\)",
        _plain,
        lambda m: m.sample(2, (4, 4), known=_X.float(), known_mask=_X.bool()),
    ),
    "known-shape": (
        ValueError,
        "known: .*broadcasts to \\[3, 1, 4, 4\\], got \\[2, 1, 4, 4\\]",
        _plain,
        lambda m: m.sample(3, (4, 4), known=_X, known_mask=_X.bool()),
    ),
    "known-range": (
        ValueError,
        "known: .*0 .. 1, got 7 .. 7",
        _plain,
        lambda m: m.sample(2, (4, 4), known=_X + 7, known_mask=~_X.bool()),
    ),
    "pp-no-cond": (TypeError, "PixelCNNPP: cond: .*classes \\[2\\].*got None", _pp, lambda m: m.loss(_X)),
    "pp-class": (ValueError, "PixelCNNPP: cond: .*0 .. 2, got 0 .. 3", _pp, lambda m: m.loss(_X, torch.tensor([0, 3]))),
    "pp-levels": (ValueError, "PixelCNNPP: x: .*0 .. 3, got 4 .. 4", _pp, lambda m: m.log_prob(_X + 4, _CLASSES)),
    "pp-engine": (ValueError, "engine: .*got 'fast'", _pp, lambda m: m.sample(1, (2, 2), cond=_CLASSES[:1], engine="fast")),
    "made-x": (ValueError, "MADE: x: .*16 elements.*got \\[2, 15\\]", _made, lambda m: m.loss(_X.flatten(1)[:, 1:])),
    "made-list": (TypeError, "MADE: x: .*got list", _made, lambda m: m.loss([0] * 16)),
    "made-grey": (ValueError, "MADE: x: .*0 .. 1, got 2 .. 2", _made, lambda m: m.loss(_X + 2)),
    "made-cond": (TypeError, "MADE: cond: .*got Tensor", _made, lambda m: m.log_prob(_X, _CLASSES)),
    "made-order": (ValueError, "MADE: order: .*0 .. 1, got 2", _made, lambda m: m.logits(_X, 2)),
    "made-shape": (ValueError, "MADE: shape: .*16 elements, got \\(3, 5\\)", _made, lambda m: m.sample(1, (3, 5))),
    "made-engine": (ValueError, "MADE: engine: .*got 'fast'", _made, lambda m: m.sample(1, engine="fast")),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_CALLED)
def test_pixel_model_refuses(name: str) -> None:
    kind, message, build, call = NOT_CALLED[name]
    model = build()
    before = torch.get_rng_state()
    with pytest.raises(kind, match=message):
        call(model)
    assert torch.equal(before, torch.get_rng_state())
    assert not model.trained_shape and model.training
    shape = (4, 4) if isinstance(model, MADE) else (1, 1)
    assert model.sample(1, shape, cond=_condition(model)).shape[0] == 1


def _condition(model: torch.nn.Module) -> torch.Tensor | None:
    if getattr(model, "num_classes", None):
        return torch.zeros(1, dtype=torch.int64)
    return torch.zeros(1, 2) if getattr(model, "cond_channels", None) else None


def test_pixel_model_default_widths() -> None:
    assert PixelCNN(num_blocks=0).first.out_channels == 64
    assert PixelCNN(3, color_groups=3, num_blocks=0).first.out_channels == 66
    assert GatedPixelCNN(3, color_groups=3, num_blocks=0).head[1].out_channels == 66


def test_pixel_model_sees_levels_in_its_input_range() -> None:
    """The first convolution is given them as torchvision's ToTensor and Normalize make them of images of 256 levels."""
    seen: list[torch.Tensor] = []
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for mean, std in ((0.0, 1.0), (0.1307, 0.3081), (0.5, 0.5)):
        ends = (-mean / std, (1 - mean) / std)
        for model in (
            PixelCNN(hidden_channels=4, num_blocks=0, num_levels=256, input_range=ends),
            GatedPixelCNN(hidden_channels=4, num_blocks=0, num_levels=256, input_range=ends),
            PixelRNN(hidden_channels=4, num_blocks=0, num_levels=256, input_range=ends),
            MADE(256, 4, num_levels=256, input_range=ends),
        ):
            first = model.layers[0] if isinstance(model, MADE) else model.first
            first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            model.loss(x)
            assert model.input_range == ends
            torch.testing.assert_close(seen.pop().flatten(), (x.flatten() / 255 - mean) / std)


def test_pixel_model_takes_numpy_ints() -> None:
    model = PixelCNN(np.int64(1), hidden_channels=np.int32(4), num_blocks=np.int8(1))
    assert model.sample(np.int64(2), tuple(np.array([3, 2]))).shape == (2, 1, 3, 2)
