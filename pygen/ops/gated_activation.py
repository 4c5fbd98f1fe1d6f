"""gated_activation: tanh times sigmoid over the halves of the channels, one pass forward and one backward.

Backward computes both again from the inputs: nothing else is kept.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import empty_images
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import gated_activation as reference

_OP = "gated_activation"


def gated_activation(
    input: Tensor, cond: Tensor | None = None, *, color_groups: int = 1, backend: str | None = None
) -> Tensor:
    """The gate of Gated PixelCNN and WaveNet, tanh(a) * sigmoid(b), where a and b are the two halves of the channels.

    With color_groups the channels are that many contiguous blocks, and each of them is halved. Differentiable to any
    order (first order under torch.compile). Under autocast it casts like F.conv2d. Van den Oord et al. 2016,
    "Conditional Image Generation with PixelCNN Decoders", equation 2.

    Args:
        input: [N, C, ...], float64, float32, bfloat16 or float16; computed in float32 (float64).
        cond: [N, C] or input's shape, added first.
        color_groups: halving across R|G|B blocks would leak: each block is halved by itself.
        backend: "reference", "cpu", "triton", "cuda"; None chooses.

    Returns:
        [N, C / 2, ...] in the same blocks, input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> features, cond = torch.randn(2, 8, 5, 5), torch.randn(2, 8)
        >>> pygen.functional.gated_activation(features, cond).shape
        torch.Size([2, 4, 5, 5])
    """
    if _checks.autocast_enabled():
        input, cond = _checks.cast_under_autocast(input, cond)
    _check(input, cond, color_groups)
    name = _dispatch.requested(_OP, backend)
    if not _dispatch.is_plain(input, cond):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(input, cond, color_groups)
        return torch.ops.pygen.gated_activation(input, cond, color_groups, name)
    name = _dispatch.resolve(_OP, name, input.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, input)
    if torch.is_grad_enabled() and (input.requires_grad or (cond is not None and cond.requires_grad)):
        return _fast_apply(launcher, input, cond, color_groups, name)
    return launcher.forward(input, cond, color_groups)


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


def _launch(input, cond, color_groups, backend):
    return _dispatch.launcher(_OP, _OP, backend, input).forward(input, cond, color_groups)


def _launch_backward(grad, input, cond, color_groups, needs, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, input)
    return [g for g in launcher.backward(grad, input, cond, color_groups, needs) if g is not None]


def _fake(input, cond, color_groups, backend):
    return empty_images(input, input.shape[1] // 2)


def _fake_backward(grad, input, cond, color_groups, needs, backend):
    return [torch.empty_like(t) for t, n in zip((input, cond), needs, strict=True) if n]


class _GatedActivation(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, cond, color_groups, backend):
        ctx.set_materialize_grads(False)
        save(ctx, input, cond)
        ctx.launcher, ctx.color_groups, ctx.backend = launcher, color_groups, backend
        if launcher is None:
            return _below(input, cond, color_groups, backend)
        return launcher.forward(input, cond, color_groups)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 5
        options = (ctx.color_groups, ctx.needs_input_grad[1:3], ctx.backend)
        return None, *gradients(ctx.launcher, grad, *saved(ctx), *options), None, None


def gradients(launcher, grad, input, cond, color_groups, needs, backend, more=None):
    """Of input, `more` added, and of cond, as far as they are needed; differentiable to any order."""
    args = (_dispatch.readable(grad), input, cond, color_groups, needs)
    if _dispatch.transformed(grad, more):
        return reference.backward(*args, more)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args, more)
    if launcher is None:
        grads = iter(torch.ops.pygen.gated_activation_backward(*args, backend))
    else:
        grads = iter(_GatedActivationBackward.apply(_launch_backward, *args, backend))
    to_input, to_cond = (next(grads) if n else None for n in needs)
    return to_input if to_input is None or more is None else to_input + more, to_cond


class _GatedActivationBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad, input, cond, color_groups, needs, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad, input, cond)
        ctx.options = (color_groups, needs)
        return tuple(call(grad, input, cond, color_groups, needs, backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        def formula(*tensors):
            return reference.backward(*tensors, *ctx.options)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:4], grad_grads)
        return None, *grads, None, None, None


_fast_apply = _library.fast_apply(_GatedActivation)

_below = _library.register(
    "gated_activation(Tensor input, Tensor? cond, int color_groups, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _GatedActivation.apply(None, *args),
)
_below_backward = _library.register(
    "gated_activation_backward(Tensor grad, Tensor input, Tensor? cond, int color_groups, bool[] needs, str backend)"
    " -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_GatedActivationBackward.apply(_below_backward, *args)),
)
