"""vector_quantize below its public functions: how it runs, is registered and differentiates."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen._layout import empty_output
from pygen._sums import total
from pygen.native._arguments import strided
from pygen.ops import _library
from pygen.ops._likelihood import check_level_values
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import vector_quantize as reference
from pygen.reference._likelihood import compute_dtype

OP = "vector_quantize"


def launcher_of(backend: str, *tensors: Tensor | None) -> ModuleType:
    first = next(t for t in tensors if t is not None)
    backend = _dispatch.resolve(OP, backend, first.device.type)
    for t in tensors:
        if t is not None and backend != "reference":
            strided(t)  # raises where there is no memory, before torch's own kernels read it
    return _dispatch.launcher(OP, OP, backend, first)


def _loss(each: Tensor, elements: int, weight: float, reduction: str) -> Tensor:
    """Of squared distances [N, positions]."""
    if reduction == "none":
        return (total(each).view(1) if len(each) == 1 else each.sum(1)) * weight
    return total(each) / elements * weight if reduction == "mean" else total(each) * weight


def launch(input, codebook, beta, codebook_weight, reduction, backend):
    launcher = launcher_of(backend, input, codebook)
    with _checks.without_autocast(input):
        quantized, indices, each = launcher.forward(input, codebook)
        return quantized, indices, _loss(each, input.numel(), beta + codebook_weight, reduction)


def launch_backward(
    grad_quantized, grad_loss, input, codebook, indices, beta, codebook_weight, reduction, needs, backend
) -> tuple[Tensor | None, Tensor | None]:
    launcher = launcher_of(backend, grad_quantized, grad_loss, input, codebook, indices)
    factor = reference.factors(grad_loss, input, reduction)
    grad_input = grad_codebook = None
    if needs[0]:
        grad_input = launcher.grad_input(grad_quantized, (2 * beta) * factor, input, codebook, indices)
    if needs[1]:
        sums = launcher.sums(input, indices, len(codebook), codebook, (2 * codebook_weight) * factor)
        grad_codebook = sums.to(codebook.dtype)
    return grad_input, grad_codebook


def launch_statistics(input, indices, num_codes, backend):
    launcher = launcher_of(backend, input, indices)
    check_level_values("code_statistics", indices, num_codes, "indices", "codes")
    return launcher.statistics(input.detach(), indices, num_codes)


def _fake(input, codebook, beta, codebook_weight, reduction, backend):
    shape = input.shape[:1] if reduction == "none" else ()
    indices = input.new_empty(input.shape[:1] + input.shape[2:], dtype=torch.int64)
    return empty_output(input), indices, input.new_empty(shape, dtype=compute_dtype(input.dtype))


def _fake_backward(
    grad_quantized, grad_loss, input, codebook, indices, beta, codebook_weight, reduction, needs, backend
):
    grads = torch.empty_like(input), torch.empty_like(codebook, memory_format=torch.contiguous_format)
    return [g for g, n in zip(grads, needs, strict=True) if n]


def _fake_statistics(input, indices, num_codes, backend):
    sums = input.new_empty((num_codes, input.shape[1]), dtype=compute_dtype(input.dtype))
    return indices.new_empty((num_codes,)), sums


class VectorQuantize(torch.autograd.Function):
    """Without `below`: the fast door."""

    @staticmethod
    def forward(ctx, below, input, codebook, *options_and_backend):
        ctx.set_materialize_grads(False)
        ctx.below, ctx.options, ctx.backend = below, options_and_backend[:-1], options_and_backend[-1]
        call = _below if below else launch
        quantized, indices, loss = call(input, codebook, *options_and_backend)
        save(ctx, input, codebook, indices)
        ctx.mark_non_differentiable(*((indices,) if ctx.needs_input_grad[1] else (indices, quantized)))
        return quantized, indices, loss

    @staticmethod
    def backward(ctx, grad_quantized, grad_indices, grad_loss):
        tensors = saved(ctx)  # also where they go unused: what was changed must raise
        grad_quantized, grad_loss = _dispatch.readable(grad_quantized), _dispatch.readable(grad_loss)
        if grad_loss is None:
            return None, grad_quantized, None, *(None,) * 4
        needs = ctx.needs_input_grad[1:3]
        grads = _gradients(ctx.below, grad_quantized, grad_loss, tensors, ctx.options, needs, ctx.backend)
        return None, *grads, *(None,) * 4


def _gradients(
    below, grad_quantized, grad_loss, tensors, options, needs: Sequence[bool], backend
) -> tuple[Tensor | None, ...]:
    """Of input and codebook; recorded where a graph of the backward is asked for."""
    args = (grad_quantized, grad_loss, *tensors, *options, needs)
    if _dispatch.transformed(grad_quantized, grad_loss):
        return reference.backward(*args)
    if not below and not torch.is_grad_enabled():
        return launch_backward(*args, backend)
    if below:
        grads = iter(torch.ops.pygen.vector_quantize_backward(*args, backend))
    else:
        grads = iter(_VectorQuantizeBackward.apply(False, *args, backend))
    return tuple(next(grads) if n else None for n in needs)


class _VectorQuantizeBackward(torch.autograd.Function):
    """The kernels forward, the composite of their formula backward."""

    @staticmethod
    def forward(ctx, below, grad_quantized, grad_loss, input, codebook, indices, *options):
        ctx.set_materialize_grads(False)
        save(ctx, grad_quantized, grad_loss, input, codebook, indices)
        ctx.options = options[:-1]
        args = (grad_quantized, grad_loss, input, codebook, indices, *options)
        if below:
            return tuple(_below_backward(*args))
        return tuple(g for g in launch_backward(*args) if g is not None)

    @staticmethod
    def backward(ctx, *grad_grads):
        *floating, indices = saved(ctx)

        def formula(grad_quantized, grad_loss, input, codebook):
            grads = reference.backward(grad_quantized, grad_loss, input, codebook, indices, *ctx.options)
            return [g for g in grads if g is not None]

        with _checks.without_autocast(indices):
            grads = composite_gradients(formula, floating, ctx.needs_input_grad[1:5], grad_grads)
        return None, *grads, None, *(None for _ in ctx.options), None


fast_apply = _library.fast_apply(VectorQuantize)

_OPTIONS = "float beta, float codebook_weight, str reduction"

_below = _library.register(
    f"vector_quantize(Tensor input, Tensor codebook, {_OPTIONS}, str backend) -> (Tensor, Tensor, Tensor)",
    launch,
    _fake,
    lambda *args: VectorQuantize.apply(True, *args),
)
_below_backward = _library.register(
    "vector_quantize_backward(Tensor? grad_quantized, Tensor grad_loss, Tensor input, Tensor codebook, Tensor indices, "
    f"{_OPTIONS}, bool[] needs, str backend) -> Tensor[]",
    lambda *args: [g for g in launch_backward(*args) if g is not None],
    _fake_backward,
    lambda *args: list(_VectorQuantizeBackward.apply(True, *args)),
)
_below_statistics = _library.register(
    "code_statistics(Tensor input, Tensor indices, SymInt num_codes, str backend) -> (Tensor, Tensor)",
    launch_statistics,
    _fake_statistics,
    lambda *args: _below_statistics(*args),
)
