"""Swaps the masked convolutions of a model, as people write them, for `masked_conv2d`: patch and unpatch.

A layer qualifies if it is an nn.Conv2d subclass with a `mask` buffer that `masked_conv2d` can express, and if on a probe
batch in float64 it computes the same, output and gradients. Both idioms do: `weight * mask`, and `weight.data *= mask`.

The swap gives the layer, not its class, another `forward`: its class becomes a subclass of its own class, so hooks, isinstance,
state_dict, deepcopy and pickle work on; parameters and buffers stay the same objects. Weights are never written any more.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from pygen._checks import fail
from pygen._taps import MaskType, dense_mask
from pygen.functional import masked_conv2d

_Model = TypeVar("_Model", bound=nn.Module)

_TOLERANCE = 1e-9  # of float64 results, over the largest value


def patch(model: _Model, verify: bool = True) -> _Model:
    """Makes an existing model faster: swaps its masked convolutions for `masked_conv2d`, in place, and prints what changed.

    Args:
        model: its nn.Conv2d subclasses with a `mask` buffer are candidates. Other modules stay as they are.
        verify: compares each candidate with its replacement on a probe batch first, in float64, on copies; one that
            differs is left alone. False trusts that a layer with a mask is a masked convolution and nothing else.

    Returns:
        The same model. `unpatch` undoes it.

    Example:
        >>> from pygen.reference.models import PixelCNN  # plain PyTorch, with layers that multiply their weight by a `mask`
        >>> model = pygen.patch(PixelCNN(hidden_channels=4, num_blocks=1))
        pygen.patch:
          first            MaskedConv2d  patched: type A
          blocks.0.masked  MaskedConv2d  patched: type B
    """
    _check(model, "patch")
    rows = []
    for name, layer in _with_mask(model):
        reason = None
        if isinstance(layer, _Patched):
            reason = "already patched"
        else:
            options, reason = _recognise(layer)
            if reason is None and verify:
                reason = _difference(cast(nn.Conv2d, layer), options)
            if reason is None:
                layer.__class__ = _patched_class(cast(Hashable, type(layer)))
                vars(layer)["_pygen_options"] = options
        kind = type(layer)._original if isinstance(layer, _Patched) else type(layer)
        rows.append((name or "(the model)", kind.__name__, reason or f"patched: {_describe(options)}"))
    _print("patch", rows, "no module has a `mask` buffer: nothing to patch")
    return model


def unpatch(model: _Model) -> _Model:
    """Undoes `patch`: gives every patched layer its own forward back, in place, and prints which; returns the same model.

    Example:
        >>> from pygen.reference.models import PixelCNN
        >>> model = pygen.patch(PixelCNN(hidden_channels=4, num_blocks=1))
        pygen.patch:
        ...
        >>> model = pygen.unpatch(model)
        pygen.unpatch:
          first            MaskedConv2d  its own forward again
          blocks.0.masked  MaskedConv2d  its own forward again
    """
    _check(model, "unpatch")
    rows = []
    for name, layer in _with_mask(model):
        if isinstance(layer, _Patched):
            layer.__class__ = type(layer)._original  # type: ignore[assignment]
            del vars(layer)["_pygen_options"]
            rows.append((name or "(the model)", type(layer).__name__, "its own forward again"))
    _print("unpatch", rows, "no layer is patched")
    return model


class _Patched:
    """What the class of a patched layer has before its original class."""

    _original: type[nn.Conv2d]
    _pygen_options: dict[str, Any]

    def forward(self, input: Tensor) -> Tensor:
        return masked_conv2d(input, self.weight, self.bias, **self._pygen_options)  # type: ignore[attr-defined]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _new_patched, (self._original,), self.__getstate__()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        mask = state_dict.get(prefix + "mask")
        if mask is not None and not torch.equal(mask.to(self.mask), self.mask):  # type: ignore[attr-defined]
            *_, errors = args
            errors.append(
                f"{prefix}mask: expected the mask that was patched (pygen.unpatch first), got a different one"
            )
            return
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]


@cache
def _patched_class(original: type) -> type:
    return type(original.__name__, (_Patched, original), {"_original": original, "__module__": original.__module__})


def _new_patched(original: type) -> nn.Module:
    cls = _patched_class(original)
    return cls.__new__(cls)  # type: ignore[call-overload]


def _with_mask(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with a `mask` buffer, in order; each once."""
    for name, module in list(model.named_modules()):
        if module._buffers.get("mask") is not None:
            yield name, module


def _recognise(layer: nn.Module) -> tuple[dict[str, Any], str | None]:
    """The arguments of `masked_conv2d` that do what the layer does, or why there are none."""
    if not isinstance(layer, nn.Conv2d):
        return {}, "not patched: no nn.Conv2d subclass"
    mask = layer.get_buffer("mask")
    if type(layer) is nn.Conv2d:
        return {}, "not patched: plain nn.Conv2d does not use its mask"
    if layer.stride != (1, 1) or layer.groups != 1:
        return {}, f"not patched: stride {layer.stride}, groups {layer.groups}; only stride 1 without groups"
    if any(side % 2 == 0 for side in layer.kernel_size):
        return {}, f"not patched: kernel {layer.kernel_size} has an even side"
    if layer.dilation[0] != layer.dilation[1]:
        return {}, f"not patched: dilation {layer.dilation} differs between rows and columns"
    same = tuple(d * (k // 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    if layer.padding not in ("same", same) or layer.padding_mode != "zeros":
        return {}, f"not patched: padding {layer.padding} {layer.padding_mode!r}; only zeros to the same size"
    try:
        live = mask.detach().cpu().expand(layer.weight.shape)
    except RuntimeError:
        return {}, f"not patched: mask {list(mask.shape)} does not broadcast to the weight {list(layer.weight.shape)}"
    if not ((live == 0) | (live == 1)).all():
        return {}, "not patched: the mask has values other than 0 and 1"
    pattern, groups = _pattern(live != 0)
    if pattern is None:
        if groups := _alternating_groups(live != 0):
            return {}, (
                f"not patched: its {groups} colour groups alternate channel by channel, masked_conv2d's are contiguous "
                "blocks (docs/from_pytorch.md)"
            )
        return {}, "not patched: taps differ between channels, and not as colour groups do"
    return {"mask_type": pattern, "color_groups": groups, "dilation": layer.dilation[0]}, None


def _pattern(live: Tensor) -> tuple[MaskType | None, int]:
    """The mask type and colour groups of a bool mask [Cout, Cin, kH, kW]; (None, 1) if it has neither."""
    outs, ins, height, width = live.shape
    shape = (outs, ins, height, width)
    if (live == live[:1, :1]).all():
        for mask_type in ("A", "B"):
            if torch.equal(live, dense_mask(mask_type, 1, shape)):
                return mask_type, 1
        return tuple(tuple(bool(tap) for tap in row) for row in live[0, 0].tolist()), 1
    for groups in range(2, min(outs, ins) + 1):
        if outs % groups == 0 and ins % groups == 0:
            for mask_type in ("A", "B"):
                if torch.equal(live, dense_mask(mask_type, groups, shape)):
                    return mask_type, groups
    return None, 1


def _alternating_groups(live: Tensor) -> int:
    """How many colour groups a mask has whose group is the channel's index modulo their number; 0 if it has none such."""
    outs, ins = live.shape[:2]
    for groups in range(2, min(outs, ins) + 1):
        if outs % groups == 0 and ins % groups == 0:
            to, of = (torch.arange(channels, device="cpu").view(-1, groups).t().flatten() for channels in (outs, ins))
            if _pattern(live[to][:, of])[1] == groups:
                return groups
    return 0


def _difference(layer: nn.Conv2d, options: dict[str, Any]) -> str | None:
    """Why the layer is not what it seems, from a probe batch; None if both compute the same."""
    try:
        original = _probe_copy(layer)
        sides = tuple(4 * d * (k // 2) + 3 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        generator = torch.Generator().manual_seed(0)
        shape = (2, layer.in_channels, *sides)
        image = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(layer.weight.device)
        expected: list[Tensor] = []
        got: list[Tensor] = []
        with torch.enable_grad():
            for results, forward in (
                (got, lambda x: masked_conv2d(x, original.weight, original.bias, **options)),
                (expected, original.forward),
            ):
                x = image.clone().requires_grad_()
                out = forward(x)
                wanted = [x, *original.parameters()]
                weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype, device=out.device).view(out.shape)
                results += [out, *torch.autograd.grad(out, wanted, weights)]
    except Exception as error:  # whatever a layer that is something else may raise
        return f"not patched: the probe batch failed with {type(error).__name__}: {error}"
    names = ["output", "input gradient", *(f"gradient of {name}" for name, _ in original.named_parameters())]
    for what, a, b in zip(names, got, expected, strict=True):
        if what == "gradient of weight":
            b = b * original.get_buffer("mask")  # writing weight.data leaves gradients of dead weights
        if a.shape != b.shape:
            return f"not patched: it gives {list(b.shape)}, masked_conv2d {list(a.shape)}"
        if not (a - b).abs().max() <= _TOLERANCE * b.abs().max().clamp(min=1):
            return f"not patched: its {what} differs by {(a - b).abs().max().item():.1e} from masked_conv2d's"
    return None


def _probe_copy(layer: nn.Conv2d) -> nn.Conv2d:
    """In float64 with weights of its own, all of them finite and none of them dead by chance."""
    original = copy.deepcopy(layer).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64, device="cpu"))
            parameter.requires_grad_()
    return original


def _describe(options: dict[str, Any]) -> str:
    mask_type, groups, dilation = options["mask_type"], options["color_groups"], options["dilation"]
    text = f"type {mask_type}" if isinstance(mask_type, str) else f"{sum(map(sum, mask_type))} live taps"
    return text + f", {groups} colour groups" * (groups > 1) + f", dilation {dilation}" * (dilation > 1)


def _check(model: object, function: str) -> None:
    if not isinstance(model, nn.Module):
        raise fail(function, "model", "an nn.Module", type(model).__name__, kind=TypeError)


def _print(function: str, rows: list[tuple[str, str, str]], nothing: str) -> None:
    """The table, in columns."""
    if not rows:
        print(f"pygen.{function}: {nothing}")
        return
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    print(f"pygen.{function}:")
    for name, kind, what in rows:
        print(f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {what}")
