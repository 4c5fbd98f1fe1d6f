"""masked_linear: a linear layer whose connections obey degrees, as MADE needs; what is dead is skipped, no mask is stored.

Its gradients are products of the same kind: _bilinear.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops import _linear_common
from pygen.ops._bilinear import Bilinear, Composites, Fakes
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
    """A linear layer whose connections obey degrees, as in MADE: input i feeds output o only where their degrees allow it.

    With strict=False where out_degrees[o] >= in_degrees[i], with strict=True where out_degrees[o] > in_degrees[i]. The
    other weights are dead: one may hold NaN and reaches neither output nor gradient, and its own gradient is exactly 0.
    Nor does a NaN in an input reach outputs that it does not feed. Differentiable to any order (first order under
    torch.compile). Under autocast it casts like F.linear. Germain et al. 2015, "MADE: Masked Autoencoder for
    Distribution Estimation".

    Args:
        input: [..., in], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [out, in]; never written.
        bias: [out].
        in_degrees: one int for each input.
        out_degrees: one int for each output.
        strict: True for MADE's output layer, False for its hidden layers.
        backend: "reference", "composite" (a dense product with the dead weights replaced by 0), "cpu", "triton",
            "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [..., out], contiguous, input's dtype.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x, weight, bias = torch.randn(8, 3), torch.randn(4, 3), torch.zeros(4)
        >>> options = {"in_degrees": (0, 1, 2), "out_degrees": (0, 0, 1, 1), "strict": False}
        >>> pygen.functional.masked_linear(x, weight, bias, **options).shape
        torch.Size([8, 4])
    """
    common = _linear_common.product(_op, input, weight, bias, in_degrees, out_degrees, strict, backend)
    if common is not None:
        return common
    if _checks.autocast_enabled():
        input, weight, bias = _checks.cast_under_autocast(input, weight, bias)
    _check(input, weight, bias, in_degrees, out_degrees, strict)
    name = _dispatch.requested(_OP, backend)
    options = (tuple(in_degrees), tuple(out_degrees), strict, name)
    if _dispatch.is_plain(input, weight, bias):
        return _op.forward(_dispatch.launcher(_OP, _OP, name, input), input, weight, bias, options)
    if _dispatch.under_transform(_OP, name, input.device.type):
        return reference.forward(input, weight, bias, *options[:-1])
    return _op.forward(None, input, weight, bias, options)


def _all_int(degrees: Sequence[Any]) -> bool:
    if torch.compiler.is_compiling():
        return all(type(d) is int for d in degrees)
    return {*map(type, degrees)} <= {int}  # ten times as fast


def check_degrees(op: str, in_degrees: Any, out_degrees: Any, strict: Any) -> None:
    for name, degrees in (("in_degrees", in_degrees), ("out_degrees", out_degrees)):
        if not isinstance(degrees, (tuple, list)):
            hint = " (tuple(degrees.tolist()))" if hasattr(degrees, "tolist") else ""
            raise _checks.fail(op, name, f"a tuple of int{hint}", type(degrees).__name__, kind=TypeError)
        if not _all_int(degrees):
            other = next(d for d in degrees if type(d) is not int)
            raise _checks.fail(op, name, "a tuple of int", f"one of {type(other).__name__}", kind=TypeError)
    if not isinstance(strict, bool):
        raise _checks.fail(op, "strict", "a bool", type(strict).__name__, kind=TypeError)


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
    check_degrees(_OP, in_degrees, out_degrees, strict)
    for name, degrees, size in (
        ("in_degrees", in_degrees, weight.shape[1]),
        ("out_degrees", out_degrees, weight.shape[0]),
    ):
        if len(degrees) != size:
            raise _checks.fail(_OP, name, f"{size} degrees, as weight {list(weight.shape)} has", len(degrees))


_op = Bilinear(
    _OP,
    "int[] in_degrees, int[] out_degrees, bool strict",
    Composites(reference.forward, reference.grad_input, reference.grad_weight),
    Fakes(
        lambda input, weight: input.new_empty((*input.shape[:-1], weight.shape[0])),
        lambda grad, weight: grad.new_empty((*grad.shape[:-1], weight.shape[1])),
        lambda grad, input, *mask: grad.new_empty((grad.shape[-1], input.shape[-1])),
    ),
)
