"""masked_conv2d: convolution over the live taps of a mask; what is dead is skipped, never multiplied.

Three ops, each bilinear, whose gradients are each other: forward (with bias), gradient of the input, gradient of the weight
(with that of the bias). So every order of derivative runs on the kernels.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import empty_images
from pygen.ops import _library
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
    backend: str | None = None,
) -> Tensor:
    """Convolution with stride 1 and zero padding to the same size, over the live taps alone.

    A dead weight may hold NaN: it reaches neither output nor gradient, and its own gradient is exactly 0. What depends on
    an infinite value is infinite or NaN: which of the two may differ between backends (docs/masked_conv2d.md). Differentiable
    to any order (first order under torch.compile). Under autocast casts as F.conv2d. Van den Oord et al. 2016, "Pixel
    Recurrent Neural Networks".

    Args:
        input: [N, Cin, H, W], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [Cout, Cin, kH, kW], kH and kW odd; never written.
        bias: [Cout].
        mask_type: "A", the taps strictly before the centre in raster order; "B", those and the centre; or a pattern of live
            taps: nested tuples of bool (the form to use under torch.compile), a bool array or CPU tensor [kH, kW].
        color_groups: the channels are that many contiguous blocks, such as R|G|B, and the centre joins input group i to
            output group o where i < o ("A") or i <= o ("B"). Only for "A" and "B".
        dilation: spreads the taps.
        backend: "reference", "composite", "cpu", "triton", "cuda"; None chooses.

    Returns:
        [N, Cout, H, W], input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    if _checks.autocast_enabled():
        input, weight, bias = _checks.cast_under_autocast(input, weight, bias)
    mask_type = _taps.normalize_mask_type(_OP, mask_type)
    _check(input, weight, bias, mask_type, color_groups, dilation)
    taps = _taps.live_taps(_OP, mask_type, color_groups, *weight.shape[2:])
    name = _dispatch.requested(_OP, backend)
    options = (taps, color_groups, mask_type == "A", dilation, name)
    if _dispatch.is_plain(input, weight, bias):
        return _forward(_dispatch.launcher(_OP, _OP, name, input), input, weight, bias, options)
    if _dispatch.under_transform(_OP, name, input.device.type):
        return reference.compose(input, weight, bias, *options[:-1])
    return _forward(None, input, weight, bias, options)


def _check(input: Any, weight: Any, bias: Any, mask_type: Any, color_groups: Any, dilation: Any) -> None:
    for name, t, dims in (("input", input, "[N, Cin, H, W]"), ("weight", weight, "[Cout, Cin, kH, kW]")):
        _checks.check_tensor(_OP, name, t)
        if t.dim() != 4:
            raise _checks.fail(_OP, name, f"four dims {dims}", list(t.shape))
    _checks.check_floating(_OP, "input", input)
    _checks.check_like(_OP, "weight", weight, "input", input)
    if weight.shape[1] != input.shape[1]:
        raise _checks.fail(
            _OP, "weight", f"{input.shape[1]} input channels (dim 1), as the input has", list(weight.shape)
        )
    _taps.check_kernel_size(_OP, "weight", weight.shape[2:])
    if bias is not None:
        _checks.check_tensor(_OP, "bias", bias)
        _checks.check_like(_OP, "bias", bias, "input", input)
        if bias.shape != weight.shape[:1]:
            raise _checks.fail(_OP, "bias", f"the shape [{weight.shape[0]}] of the output channels", list(bias.shape))
    _taps.check_groups(_OP, mask_type, color_groups, input.shape[1], weight.shape[0])
    _taps.check_dilation(_OP, dilation)


# With a launcher: the fast door. Without: the op, as under torch.compile.
def _forward(launcher, input, weight, bias, options):
    if _dispatch.transformed(input, weight):
        return reference.compose(input, weight, bias, *options[:-1])
    if launcher is None:
        return torch.ops.pygen.masked_conv2d(input, weight, bias, *options)
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _MaskedConv2d.apply(launcher, input, weight, bias, options)
    return launcher.forward(input, weight, bias, *options[:-1])


def _grad_input(launcher, grad, weight, options):
    if _dispatch.transformed(grad, weight):
        return reference.compose_grad_input(grad, weight, *options[:-1])
    if launcher is None:
        return torch.ops.pygen.masked_conv2d_grad_input(grad, weight, *options)
    if torch.is_grad_enabled() and (grad.requires_grad or weight.requires_grad):
        return _MaskedConv2dGradInput.apply(launcher, grad, weight, options)
    return launcher.grad_input(grad, weight, *options[:-1])


def _grad_weight(launcher, grad, input, kernel_size, need_bias, options):
    *mask, name = options
    if _dispatch.transformed(grad, input):
        return reference.compose_grad_weight(grad, input, kernel_size, *mask, need_bias)
    if launcher is None:
        grads = torch.ops.pygen.masked_conv2d_grad_weight(grad, input, kernel_size, *mask, need_bias, name)
    elif torch.is_grad_enabled() and (grad.requires_grad or input.requires_grad):
        grads = _MaskedConv2dGradWeight.apply(launcher, grad, input, kernel_size, need_bias, options)
    else:
        grads = launcher.grad_weight(grad, input, kernel_size, *mask, need_bias)
    return grads[0], grads[1] if need_bias else None


class _MaskedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, input, weight, bias, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below(input, weight, bias, *options)
        return launcher.forward(input, weight, bias, *options[:-1])

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 5
        input, weight = ctx.saved_tensors
        grad = _dispatch.readable(grad)
        _, need_input, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_input = _grad_input(ctx.launcher, grad, weight, ctx.options) if need_input else None
        grad_weight = grad_bias = None
        if need_weight:
            kernel_size = weight.shape[2:]
            grad_weight, grad_bias = _grad_weight(ctx.launcher, grad, input, kernel_size, need_bias, ctx.options)
        elif need_bias:
            grad_bias = grad.sum((0, 2, 3))
        return None, grad_input, grad_weight, grad_bias, None


class _MaskedConv2dGradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, grad, weight, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, weight)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below_grad_input(grad, weight, *options)
        return launcher.grad_input(grad, weight, *options[:-1])

    @staticmethod
    def backward(ctx, upstream):  # [N, Cin, H, W]
        if upstream is None:
            return (None,) * 4
        grad, weight = ctx.saved_tensors
        upstream = _dispatch.readable(upstream)
        _, need_grad, need_weight, _ = ctx.needs_input_grad
        to_grad = _forward(ctx.launcher, upstream, weight, None, ctx.options) if need_grad else None
        to_weight = None
        if need_weight:
            to_weight, _ = _grad_weight(ctx.launcher, grad, upstream, weight.shape[2:], False, ctx.options)
        return None, to_grad, to_weight, None


class _MaskedConv2dGradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, grad, input, kernel_size, need_bias, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, input)
        ctx.launcher, ctx.options = launcher, options
        *mask, name = options
        if launcher is None:
            return tuple(_below_grad_weight(grad, input, kernel_size, *mask, need_bias, name))
        grads = launcher.grad_weight(grad, input, kernel_size, *mask, need_bias)
        return grads if need_bias else grads[:1]

    @staticmethod
    def backward(ctx, to_weight, to_bias=None):  # [Cout, Cin, kH, kW], [Cout]
        grad, input = ctx.saved_tensors
        to_weight, to_bias = _dispatch.readable(to_weight), _dispatch.readable(to_bias)
        _, need_grad, need_input, *_ = ctx.needs_input_grad
        to_grad = to_input = None
        if need_grad and to_weight is not None:
            to_grad = _forward(ctx.launcher, input, to_weight, to_bias, ctx.options)
        elif need_grad and to_bias is not None:
            to_grad = to_bias.view(1, -1, 1, 1).expand(grad.shape)
        if need_input and to_weight is not None:
            to_input = _grad_input(ctx.launcher, grad, to_weight, ctx.options)
        return None, to_grad, to_input, None, None, None


def _launch(input, weight, bias, *options):
    return _dispatch.launcher(_OP, _OP, options[-1], input).forward(input, weight, bias, *options[:-1])


def _launch_grad_input(grad, weight, *options):
    return _dispatch.launcher(_OP, _OP, options[-1], grad).grad_input(grad, weight, *options[:-1])


def _launch_grad_weight(grad, input, kernel_size, *options):
    grads = _dispatch.launcher(_OP, _OP, options[-1], grad).grad_weight(grad, input, kernel_size, *options[:-1])
    return [g for g in grads if g is not None]


def _fake(input, weight, bias, *options):
    return empty_images(input, weight.shape[0])


def _fake_grad_input(grad, weight, *options):
    return empty_images(grad, weight.shape[1])


def _fake_grad_weight(grad, input, kernel_size, taps, color_groups, strict, dilation, need_bias, backend):
    weight = grad.new_empty((grad.shape[1], input.shape[1], *kernel_size))
    return [weight, grad.new_empty(grad.shape[1])] if need_bias else [weight]


_MASK = "int[] taps, int color_groups, bool strict, int dilation"

_below = _library.register(
    f"masked_conv2d(Tensor input, Tensor weight, Tensor? bias, {_MASK}, str backend) -> Tensor",
    _launch,
    _fake,
    lambda input, weight, bias, *options: _MaskedConv2d.apply(None, input, weight, bias, options),
)
_below_grad_input = _library.register(
    f"masked_conv2d_grad_input(Tensor grad, Tensor weight, {_MASK}, str backend) -> Tensor",
    _launch_grad_input,
    _fake_grad_input,
    lambda grad, weight, *options: _MaskedConv2dGradInput.apply(None, grad, weight, options),
)
_below_grad_weight = _library.register(
    f"masked_conv2d_grad_weight(Tensor grad, Tensor input, SymInt[] kernel_size, {_MASK}, bool need_bias, str backend)"
    " -> Tensor[]",
    _launch_grad_weight,
    _fake_grad_weight,
    lambda grad, input, kernel_size, *options: list(
        _MaskedConv2dGradWeight.apply(None, grad, input, kernel_size, options[-2], (*options[:-2], options[-1]))
    ),
)
