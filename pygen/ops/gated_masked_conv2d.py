"""gated_masked_conv2d: a layer of Gated PixelCNN, its masked convolution and what follows it up to the gate.

Backward keeps the numbers before the gate, of which it takes gated_activation's gradient; from there on the gradients are
masked_conv2d's. So every order runs on the kernels of these two.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import empty_images
from pygen.ops import _library
from pygen.ops import gated_activation as gate
from pygen.ops import masked_conv2d as convolution
from pygen.ops._saved import save, saved
from pygen.reference import gated_masked_conv2d as reference

_OP = "gated_masked_conv2d"


def gated_masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: Any,
    add: Tensor | None = None,
    cond: Tensor | None = None,
    side: Tensor | None = None,
    side_weight: Tensor | None = None,
    color_groups: int = 1,
    dilation: int = 1,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """A masked convolution and its gate tanh(a) * sigmoid(b) in one call: one stack of a Gated PixelCNN layer.

    pre = masked_conv2d(input, weight, bias) + conv2d(side, side_weight) + add; a and b are the halves of pre + cond.
    `side` and `add` join the sums in float32 before pre is rounded, once (backends "cpu" and "composite" round before
    and after; in float32 and float64 there is no difference); the gate reads pre as it is returned. Van den Oord et al.
    2016, "Conditional Image Generation with PixelCNN Decoders", figure 2.

    Differentiable to any order (first order under torch.compile). Backward keeps input, weight, cond, side, side_weight
    and pre. Under autocast it casts like F.conv2d.

    Args:
        input: [N, Cin, H, W], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [2 C, Cin, kH, kW], kH and kW odd; never written.
        bias: [2 C].
        mask_type: as in masked_conv2d.
        add: [N, 2 C, H, W].
        side, side_weight: [N, K, H, W] and [2 C, K, 1, 1], both or neither: a 1x1 convolution without a mask, such as what the
            vertical stack gives the horizontal one. Its bias can be added to `bias`.
        cond: [N, 2 C] or [N, 2 C, H, W]; joins in the gate alone.
        color_groups: of the convolution, as in masked_conv2d, and of the gate: each block is halved by itself.
        dilation: spreads the taps.
        backend: "reference", "composite", "cpu", "triton", "cuda"; None chooses.

    Returns:
        pre [N, 2 C, H, W], which the vertical stack gives on, and out [N, C, H, W]; input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x, weight = torch.randn(2, 3, 8, 8), torch.randn(2 * 4, 3, 3, 3)
        >>> pre, out = pygen.functional.gated_masked_conv2d(x, weight, mask_type="A")
        >>> pre.shape, out.shape
        (torch.Size([2, 8, 8, 8]), torch.Size([2, 4, 8, 8]))
    """
    if _checks.autocast_enabled():
        input, weight, bias, add, cond, side, side_weight = _checks.cast_under_autocast(
            input, weight, bias, add, cond, side, side_weight
        )
    mask_type = _taps.normalize_mask_type(_OP, mask_type)
    convolution.check(_OP, input, weight, bias, mask_type, color_groups, dilation)
    _check(input, weight, add, cond, side, side_weight, color_groups)
    taps = _taps.live_taps(_OP, mask_type, color_groups, *weight.shape[2:])
    name = _dispatch.requested(_OP, backend)
    tensors, sides = (input, weight, bias, add, cond), (side, side_weight)
    mask = (taps, color_groups, mask_type == "A", dilation)
    if not _dispatch.is_plain(*tensors, *sides):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(*tensors, *mask, *sides)
        return torch.ops.pygen.gated_masked_conv2d(*tensors, *sides, *mask, name)
    name = _dispatch.resolve(_OP, name, input.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, input)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*tensors, *sides)):
        return _fast_apply(launcher, *tensors, *sides, mask, name)
    return launcher.forward(*tensors, *mask, *sides)


def how(backend: str, input: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any) -> str:
    """Which of a backend's kernels computes pre, for pygen.explain."""
    mask = {k: v for k, v in options.items() if k in ("mask_type", "color_groups", "dilation")}
    return convolution.how(backend, input, weight, bias, **mask)


def _check(input: Tensor, weight: Tensor, add: Any, cond: Any, side: Any, side_weight: Any, color_groups: int) -> None:
    channels = weight.shape[0]
    if channels % (2 * color_groups):
        expected = f"a multiple of {2 * color_groups} output channels (two halves in {color_groups} groups)"
        raise _checks.fail(_OP, "weight", expected, f"{channels} channels")
    image = [input.shape[0], channels, *input.shape[2:]]
    for name, t, shapes in (("add", add, [image]), ("cond", cond, [image[:2], image])):
        if t is None:
            continue
        _checks.check_tensor(_OP, name, t)
        _checks.check_like(_OP, name, t, "input", input)
        if list(t.shape) not in shapes:
            raise _checks.fail(_OP, name, f"the shape {' or '.join(map(str, shapes))}", list(t.shape))
    for name, t, other in (("side", side, side_weight), ("side_weight", side_weight, side)):
        if t is None and other is not None:
            raise _checks.fail(_OP, name, "a tensor, as side and side_weight belong together", "None", kind=TypeError)
        if t is not None:
            _checks.check_tensor(_OP, name, t)
            _checks.check_like(_OP, name, t, "input", input)
    if side is None:
        return
    if side.dim() != 4 or [side.shape[0], *side.shape[2:]] != [image[0], *image[2:]]:
        raise _checks.fail(_OP, "side", f"the shape [{image[0]}, K, {image[2]}, {image[3]}]", list(side.shape))
    if list(side_weight.shape) != [channels, side.shape[1], 1, 1]:
        expected = f"the shape [{channels}, {side.shape[1]}, 1, 1]"
        raise _checks.fail(_OP, "side_weight", expected, list(side_weight.shape))


def _launch(input, weight, bias, add, cond, side, side_weight, taps, color_groups, strict, dilation, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, input)
    return launcher.forward(input, weight, bias, add, cond, taps, color_groups, strict, dilation, side, side_weight)


def _fake(input, weight, *_):
    return empty_images(input, weight.shape[0]), empty_images(input, weight.shape[0] // 2)


class _GatedMaskedConv2d(torch.autograd.Function):
    """With a launcher: the fast door, and the backend by its own name. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, weight, bias, add, cond, side, side_weight, mask, backend):
        ctx.set_materialize_grads(False)
        if launcher is None:
            pre, out = _below(input, weight, bias, add, cond, side, side_weight, *mask, backend)
        else:
            pre, out = launcher.forward(input, weight, bias, add, cond, *mask, side, side_weight)
        save(ctx, input, weight, cond, side, side_weight, pre)
        ctx.fast, ctx.mask, ctx.backend = launcher is not None, mask, backend
        return pre, out

    @staticmethod
    def backward(ctx, grad_pre, grad_out):
        if grad_pre is None and grad_out is None:
            return (None,) * 10
        input, weight, cond, side, side_weight, pre = saved(ctx)
        _, *needs, need_add, need_cond, need_side, need_side_weight, _, _ = ctx.needs_input_grad
        grad, grad_cond = _dispatch.readable(grad_pre), None
        if grad_out is not None:
            need_pre = need_add or need_side or need_side_weight or any(needs)
            grad, grad_cond = _gate_gradients(ctx, grad_out, pre, cond, (need_pre, need_cond), grad)
        if grad is None:
            return (None,) * 5 + (grad_cond, None, None, None, None)
        launcher = _dispatch.launcher("masked_conv2d", "masked_conv2d", ctx.backend, input) if ctx.fast else None
        options, (need_input, need_weight, need_bias) = (*ctx.mask, ctx.backend), needs
        # The bias's gradient is the kernel's also where it alone is needed, so that its bits do not depend on that.
        with_bias = (need_input, need_weight or need_bias, need_bias)
        to_input, to_weight, to_bias = convolution.products.gradients(launcher, grad, input, weight, options, with_bias)
        to_weight = to_weight if need_weight else None
        to_sides: tuple[Tensor | None, ...] = (None, None)
        if need_side or need_side_weight:
            whole = ((0,), 1, False, 1, ctx.backend)
            needs = (need_side, need_side_weight, False)
            to_sides = convolution.products.gradients(launcher, grad, side, side_weight, whole, needs)[:2]
        return None, to_input, to_weight, to_bias, grad if need_add else None, grad_cond, *to_sides, None, None


def _gate_gradients(ctx, grad, pre, cond, needs, more):
    name = "reference" if ctx.backend == "composite" else ctx.backend  # the gate has no composite of its own
    launcher = _dispatch.launcher("gated_activation", "gated_activation", name, pre) if ctx.fast else None
    return gate.gradients(launcher, grad, pre, cond, ctx.mask[1], needs, name, more)


_fast_apply = _library.fast_apply(_GatedMaskedConv2d)

_below = _library.register(
    "gated_masked_conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor? add, Tensor? cond, Tensor? side, Tensor? side_weight,"
    " int[] taps, int color_groups, bool strict, int dilation, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda *args: _GatedMaskedConv2d.apply(None, *args[:7], args[7:11], args[11]),
)
