"""1x1 convolutions of contiguous images on a CPU, one matrix product an image: for nn.PointwiseConv2d.

By masked_conv2d's C++ kernel where that is faster, in float32 with AVX-512 and no few channels: measured on two threads
of an AMD EPYC (Zen 5), torch 2.13.0+cpu, 2026-11-22, 32 images of 28x28, 64 to 32 channels, us: forward 475 by it, 640 by
torch.bmm and 461 as a convolution; gradient of the input 501 and 580, of the weight 381 and 637.

Under torch.compile an op of its own. Measured on one thread of an AVX2 core, torch 2.13.0+cpu, 2026-11-21: as a convolution,
for which Inductor turns the images to channels_last and back, it makes a compiled step of PixelCNN and of Gated PixelCNN take
1.4 times as long; as plain products, a step of PixelCNN 2.4 times.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen.native import masked_conv2d as native
from pygen.ops import _library
from pygen.ops._saved import save, saved

_TAP = ((0,), 1, False, 1)  # the one, between all channels
_LEAST_CHANNELS = 16


def _by_kernel(weight: Tensor, *others: Tensor) -> bool:
    """Whether C++ computes it, which records no graph."""
    if weight.dtype is not torch.float32 or min(weight.shape[:2]) < _LEAST_CHANNELS:
        return False
    compiled = _backends.compiled_or_none("_cpu")
    return compiled is not None and compiled.isa() == "avx512" and _dispatch.is_plain(weight, *others)


def _forward(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if _by_kernel(weight, input, bias):
        return native.forward(input, weight, bias, *_TAP)
    n, _, height, width = input.shape
    out = input.new_empty(n, weight.shape[0], height, width)
    torch.bmm(weight.flatten(1).expand(n, -1, -1), input.flatten(2), out=out.view(n, -1, height * width))
    return out.add_(bias.view(-1, 1, 1))


def _gradients(grad: Tensor, input: Tensor, weight: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Of input, weight and bias, as far as they are needed; made of differentiable operations where a graph is recorded."""
    to_input = to_weight = None
    if not (torch.is_grad_enabled() or _dispatch.is_batched(grad)) and _by_kernel(weight, grad, input):
        if needs[0]:
            to_input = native.grad_input(grad, weight, *_TAP)
        if not needs[1]:
            return to_input, None, grad.sum((0, 2, 3)) if needs[2] else None
        return to_input, *native.grad_weight(grad, input, (1, 1), *_TAP, needs[2])
    g = grad.reshape(*grad.shape[:2], input.shape[2] * input.shape[3])
    with _checks.without_autocast(grad):
        if needs[0]:
            to_input = torch.bmm(weight.flatten(1).t().expand(len(g), -1, -1), g).view(input.shape)
        if needs[1]:
            to_weight = torch.bmm(g, input.flatten(2).transpose(1, 2)).sum(0).view(weight.shape)
    return to_input, to_weight, grad.sum((0, 2, 3)) if needs[2] else None


class _Products(torch.autograd.Function):
    """Differentiable to any order. What it returns is no view: what changes a view in place costs autograd a copy."""

    @staticmethod
    def forward(ctx: Any, work: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        save(ctx, input, weight)
        ctx.set_materialize_grads(False)
        ctx.plain = work is _forward
        return work(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 4
        tensors: tuple[Any, ...] = saved(ctx)
        grad, needs = _dispatch.readable(grad), ctx.needs_input_grad[1:]
        if ctx.plain:
            return None, *_gradients(grad, *tensors, needs)
        grads = iter(torch.ops.pygen.pointwise_conv2d_backward(grad, *tensors, needs))
        return None, *(next(grads) if n else None for n in needs)


def _present(*args: Any) -> list[Tensor]:
    return [g for g in _gradients(*args) if g is not None]


_below = _library.register(
    "pointwise_conv2d(Tensor input, Tensor weight, Tensor bias) -> Tensor",
    _forward,
    lambda input, weight, bias: input.new_empty(input.shape[0], weight.shape[0], *input.shape[2:]),
    lambda *args: _Products.apply(_below, *args),
)
_below_backward = _library.register(
    "pointwise_conv2d_backward(Tensor grad, Tensor input, Tensor weight, bool[] needs) -> Tensor[]",
    _present,
    lambda grad, input, weight, needs: [
        t.new_empty(s)
        for t, s, n in zip((input, weight, grad), (input.shape, weight.shape, grad.shape[1:2]), needs, strict=True)
        if n
    ],
    lambda *args: _present(*args) if torch.is_grad_enabled() else _below_backward(*args),
)


def pointwise_conv2d(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """input [N, C, H, W], contiguous; weight [O, C, 1, 1], bias [O]."""
    if torch.compiler.is_compiling():
        return torch.ops.pygen.pointwise_conv2d(input, weight, bias)
    return _Products.apply(_forward, input, weight, bias)
