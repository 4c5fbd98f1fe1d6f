"""masked_conv2d: convolution over the live taps of a mask; what is dead is skipped, never multiplied.

Its gradients are products of the same kind: _bilinear.py.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import empty_images
from pygen._sums import channel_sums
from pygen.ops import _library
from pygen.ops._bilinear import Bilinear, Composites, Fakes
from pygen.ops._saved import save, saved
from pygen.reference import masked_conv2d as reference

_OP = "masked_conv2d"


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: Any,
    color_groups: int = 1,
    dilation: int = 1,
    add: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """A convolution whose kernel sees only some of its taps, such as the pixels before a pixel's own in PixelCNN.

    Stride 1 and zero padding to the same size. The taps it sees are live, the others dead and skipped: a dead weight may hold
    NaN and reaches neither output nor gradient, and its own gradient is exactly 0. What depends on an infinite value is
    infinite or NaN: which of the two may differ between backends (docs/masked_conv2d.md). Differentiable to any order
    (first order under torch.compile). Under autocast it casts like F.conv2d. Van den Oord et al. 2016, "Pixel Recurrent
    Neural Networks".

    Args:
        input: [N, Cin, H, W], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [Cout, Cin, kH, kW], kH and kW odd; never written.
        bias: [Cout].
        mask_type: "A", the taps strictly before the centre in raster order; "B", those and the centre; or a pattern of live
            taps: nested tuples of bool (the form to use under torch.compile), a bool array or CPU tensor [kH, kW].
        color_groups: the channels are that many contiguous blocks, such as R|G|B, and the centre joins input group i to
            output group o where i < o ("A") or i <= o ("B"). Only for "A" and "B".
        dilation: spreads the taps.
        add: [N, Cout, H, W], such as a residual connection's input. "reference" and "cuda" add it before they round.
        backend: "reference", "composite", "cpu", "triton", "cuda"; None chooses.

    Returns:
        [N, Cout, H, W], input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x, weight, bias = torch.randn(2, 3, 8, 8), torch.randn(6, 3, 5, 5), torch.zeros(6)
        >>> pygen.functional.masked_conv2d(x, weight, bias, mask_type="A").shape
        torch.Size([2, 6, 8, 8])
        >>> above = ((True, True, True), (False, False, False), (False, False, False))  # a pattern of live taps
        >>> pygen.functional.masked_conv2d(x, weight[:, :, 1:4, 1:4], mask_type=above).shape
        torch.Size([2, 6, 8, 8])
    """
    if _checks.autocast_enabled():
        input, weight, bias, add = _checks.cast_under_autocast(input, weight, bias, add)
    mask_type = _taps.normalize_mask_type(_OP, mask_type)
    check(_OP, input, weight, bias, mask_type, color_groups, dilation)
    taps = _taps.live_taps(_OP, mask_type, color_groups, *weight.shape[2:])
    name = _dispatch.requested(_OP, backend)
    options = (taps, color_groups, mask_type == "A", dilation, name)
    if add is not None:
        return _with(add, input, weight, bias, options)
    if _dispatch.is_plain(input, weight, bias):
        return products.forward(_dispatch.launcher(_OP, _OP, name, input), input, weight, bias, options)
    if _dispatch.under_transform(_OP, name, input.device.type):
        return reference.compose(input, weight, bias, *options[:-1])
    return products.forward(None, input, weight, bias, options)


def _with(add: Any, input: Tensor, weight: Tensor, bias: Tensor | None, options: tuple) -> Tensor:
    _checks.check_tensor(_OP, "add", add)
    _checks.check_like(_OP, "add", add, "input", input)
    shape = [input.shape[0], weight.shape[0], *input.shape[2:]]
    if list(add.shape) != shape:
        raise _checks.fail(_OP, "add", f"the shape {shape}", list(add.shape))
    *mask, name = options
    if not _dispatch.is_plain(input, weight, bias, add):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(input, weight, bias, *mask, add)
        return torch.ops.pygen.masked_conv2d_add(input, weight, bias, add, *options)
    return _Added.apply(_dispatch.launcher(_OP, _OP, name, input), input, weight, bias, add, options)


def how(
    backend: str,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: Any,
    color_groups: int = 1,
    dilation: int = 1,
) -> str:
    """Which of a backend's kernels computes such a call's output, for pygen.explain."""
    if backend != "cpu":
        return ""
    mask_type = _taps.normalize_mask_type(_OP, mask_type)
    check(_OP, input, weight, bias, mask_type, color_groups, dilation)
    taps = _taps.live_taps(_OP, mask_type, color_groups, *weight.shape[2:])
    from pygen.native import masked_conv2d as native

    if native.filters(input, weight, taps, color_groups, mask_type == "A", dilation):
        return "filters along rows, with fewer multiplications than taps (Winograd)"
    return "adds up tap by tap"


def check(op: str, input: Any, weight: Any, bias: Any, mask_type: Any, color_groups: Any, dilation: Any) -> None:
    """Raises, in the words of `op`, where they do not fit each other."""
    for name, t, dims in (("input", input, "[N, Cin, H, W]"), ("weight", weight, "[Cout, Cin, kH, kW]")):
        _checks.check_tensor(op, name, t)
        if t.dim() != 4:
            raise _checks.fail(op, name, f"four dims {dims}", list(t.shape))
    _checks.check_floating(op, "input", input)
    _checks.check_like(op, "weight", weight, "input", input)
    if weight.shape[1] != input.shape[1]:
        raise _checks.fail(
            op, "weight", f"{input.shape[1]} input channels (dim 1), as the input has", list(weight.shape)
        )
    _taps.check_kernel_size(op, "weight", weight.shape[2:])
    if bias is not None:
        _checks.check_tensor(op, "bias", bias)
        _checks.check_like(op, "bias", bias, "input", input)
        if bias.shape != weight.shape[:1]:
            raise _checks.fail(op, "bias", f"the shape [{weight.shape[0]}] of the output channels", list(bias.shape))
    _taps.check_groups(op, mask_type, color_groups, input.shape[1], weight.shape[0])
    _taps.check_dilation(op, dilation)


products = Bilinear(
    _OP,
    "int[] taps, int color_groups, bool strict, int dilation",
    Composites(reference.compose, reference.compose_grad_input, reference.compose_grad_weight),
    Fakes(
        lambda input, weight: empty_images(input, weight.shape[0]),
        lambda grad, weight: empty_images(grad, weight.shape[1]),
        lambda grad, input, kernel_size, *mask: grad.new_empty((grad.shape[1], input.shape[1], *kernel_size)),
    ),
    shape=lambda weight: weight.shape[2:],
    shape_schema="SymInt[] kernel_size",
    trailing=2,
    bias_alone=channel_sums,
)


class _Added(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, weight, bias, add, options):
        ctx.set_materialize_grads(False)
        save(ctx, input, weight)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below_added(input, weight, bias, add, *options)
        return launcher.forward(input, weight, bias, *options[:-1], add)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 6
        grads = products.gradients(ctx.launcher, grad, *saved(ctx), ctx.options, ctx.needs_input_grad[1:4])
        return None, *grads, grad if ctx.needs_input_grad[4] else None, None


_below_added = _library.register(
    "masked_conv2d_add(Tensor input, Tensor weight, Tensor? bias, Tensor add, int[] taps, int color_groups, bool strict,"
    " int dilation, str backend) -> Tensor",
    lambda input, weight, bias, add, *options: _dispatch.launcher(_OP, _OP, options[-1], input).forward(
        input, weight, bias, *options[:-1], add
    ),
    lambda input, weight, *_: empty_images(input, weight.shape[0]),
    lambda *args: _Added.apply(None, *args[:4], args[4:]),
)
