"""masked_linear: a linear layer whose connections obey degrees, as MADE needs. Compositions of torch ops; no kernel yet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.reference import masked_linear as reference

_OP = "masked_linear"


def masked_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
    backend: str | None = None,
) -> Tensor:
    """Linear over the live connections: input i feeds output o where out_degrees[o] > in_degrees[i] (strict) or >=.

    A dead weight may hold NaN: it reaches neither output nor gradient, and its own gradient is exactly 0. Nor does a NaN in
    an input reach outputs that it does not feed. Differentiable to any order. Under autocast casts as F.linear. Germain et
    al. 2015, "MADE: Masked Autoencoder for Distribution Estimation".

    Args:
        input: [..., in], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [out, in]; never written.
        bias: [out].
        in_degrees: one int for each input.
        out_degrees: one int for each output.
        strict: True for MADE's output layer, False for its hidden layers.
        backend: "reference" (one product per distinct degree) or "composite" (one product, dead weights replaced by 0, where
            the input is finite; CPU tensors); None chooses.

    Returns:
        [..., out], input's dtype.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
    """
    if _checks.autocast_enabled():
        input, weight, bias = _checks.cast_under_autocast(input, weight, bias)
    _check(input, weight, bias, in_degrees, out_degrees, strict)
    name = _dispatch.requested(_OP, backend)
    if not torch.compiler.is_compiling():  # where the context cannot be read, and the compiler chooses anyway
        name = _dispatch.resolve(_OP, name, input.device.type)
    compose = reference.where if name == "composite" and _finite(input) else reference.stairs
    with torch.autocast(input.device.type, enabled=False):
        return compose(input, weight, bias, in_degrees, out_degrees, strict)


def _finite(input: Tensor) -> bool:
    """Whether looking is possible without waiting for a device or breaking a graph, and finds every value finite."""
    if torch.compiler.is_compiling() or _dispatch.transformed(input) or not _dispatch.is_plain(input):
        return False
    return input.device.type == "cpu" and bool(input.detach().isfinite().all())


def _check(input: Any, weight: Any, bias: Any, in_degrees: Any, out_degrees: Any, strict: Any) -> None:
    _checks.check_tensor(_OP, "input", input)
    _checks.check_floating(_OP, "input", input)
    if input.dim() < 1:
        raise _checks.fail(_OP, "input", "at least one dim [..., in]", list(input.shape))
    _checks.check_tensor(_OP, "weight", weight)
    _checks.check_like(_OP, "weight", weight, "input", input)
    if weight.dim() != 2 or weight.shape[1] != input.shape[-1]:
        raise _checks.fail(_OP, "weight", f"the shape [out, {input.shape[-1]}]", list(weight.shape))
    if bias is not None:
        _checks.check_tensor(_OP, "bias", bias)
        _checks.check_like(_OP, "bias", bias, "input", input)
        if bias.shape != weight.shape[:1]:
            raise _checks.fail(_OP, "bias", f"the shape [{weight.shape[0]}] of the outputs", list(bias.shape))
    for name, degrees, size in (
        ("in_degrees", in_degrees, weight.shape[1]),
        ("out_degrees", out_degrees, weight.shape[0]),
    ):
        if not isinstance(degrees, (tuple, list)) or not all(type(d) is int for d in degrees):
            raise _checks.fail(_OP, name, "a tuple of int", type(degrees).__name__, kind=TypeError)
        if len(degrees) != size:
            raise _checks.fail(_OP, name, f"{size} degrees, as weight {list(weight.shape)} has", len(degrees))
    if not isinstance(strict, bool):
        raise _checks.fail(_OP, "strict", "a bool", type(strict).__name__, kind=TypeError)
