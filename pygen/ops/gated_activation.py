"""gated_activation: tanh times sigmoid over the halves of the channels. A composition of torch ops; no kernel yet."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import to_output_layout
from pygen.reference import gated_activation as reference

_OP = "gated_activation"


def gated_activation(
    input: Tensor, cond: Tensor | None = None, *, color_groups: int = 1, backend: str | None = None
) -> Tensor:
    """tanh(a) * sigmoid(b), where a and b are the halves of each of color_groups contiguous blocks of channels.

    Differentiable to any order. Under autocast casts as F.conv2d. Van den Oord et al. 2016, "Conditional Image Generation
    with PixelCNN Decoders", equation 2.

    Args:
        input: [N, C, ...], float64, float32, bfloat16 or float16; computed in float32 (float64).
        cond: [N, C] or input's shape, added first.
        color_groups: halving across R|G|B blocks would leak: each block is halved by itself.
        backend: "reference"; None chooses.

    Returns:
        [N, C / 2, ...] in the same blocks, input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
    """
    if _checks.autocast_enabled():
        input, cond = _checks.cast_under_autocast(input, cond)
    _check(input, cond, color_groups)
    name = _dispatch.requested(_OP, backend)
    if not torch.compiler.is_compiling():  # where the context cannot be read
        _dispatch.resolve(_OP, name, input.device.type)
    out = reference.compose(input, cond, color_groups)
    return out if _dispatch.transformed(input) else to_output_layout(out, input)


def _check(input: Any, cond: Any, color_groups: Any) -> None:
    _checks.check_tensor(_OP, "input", input)
    if input.dim() < 2:
        raise _checks.fail(_OP, "input", "at least two dims [N, C, ...]", list(input.shape))
    _checks.check_floating(_OP, "input", input)
    if cond is not None:
        _checks.check_tensor(_OP, "cond", cond)
        _checks.check_like(_OP, "cond", cond, "input", input)
        if cond.shape not in (input.shape, input.shape[:2]):
            expected = f"the shape {list(input.shape[:2])} or {list(input.shape)}"
            raise _checks.fail(_OP, "cond", expected, list(cond.shape))
    _taps.check_color_groups(_OP, color_groups)
    if input.shape[1] % (2 * color_groups):
        expected = f"a multiple of {2 * color_groups} channels (two halves in {color_groups} groups)"
        raise _checks.fail(_OP, "input", expected, f"{input.shape[1]} channels")
