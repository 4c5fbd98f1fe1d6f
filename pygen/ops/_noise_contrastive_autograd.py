"""The op of the noise-contrastive losses: its schema, its fake and its autograd."""

from types import ModuleType

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.native._arguments import strided
from pygen.ops import _library
from pygen.ops._likelihood import check_level_values
from pygen.ops._noise_contrastive import Made, gradients, one_pass
from pygen.ops._reduction import over_samples, reduced, spread
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import noise_contrastive as reference
from pygen.reference._likelihood import compute_dtype

_STEM = "noise_contrastive"
OPS = {
    "negative_sampling": "negative_sampling_loss",
    "nce": "nce_loss",
    "sampled_softmax": "sampled_softmax_loss",
}  # by kind


def call(op, sparse, name, input, weight, bias, target, negatives, law, kind, hits, reduction):
    """Of arguments that have been checked."""
    given = (input, weight, bias, target, negatives, law)
    if not _dispatch.is_plain(*given):
        if sparse:
            raise NotImplementedError(
                f"{op}: sparse: not under torch.compile, torch.func or a mode that intercepts calls"
            )
        if _dispatch.under_transform(op, name, input.device.type):
            return reduced(reference.forward(*given, kind, hits), reduction)
        return torch.ops.pygen.noise_contrastive(*given, kind, hits, reduction, name)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given[:3]):
        name = _dispatch.resolve(op, name, input.device.type)  # backward's too, whatever is asked for by then
        return _fast_apply(False, sparse, *given, kind, hits, reduction, name)
    return _launch(*given, kind, hits, reduction, name)


def _kernels(kind: str, backend: str, *tensors: Tensor | None) -> ModuleType:
    launcher = _dispatch.launcher(OPS[kind], _STEM, backend, tensors[0])
    for t in tensors if launcher is not reference else ():
        if t is not None:
            strided(t)  # raises where there is no memory, before torch's own kernels read it
    return launcher


def _launch(input, weight, bias, target, negatives, noise, kind, hits, reduction, backend):
    return _forward(input, weight, bias, target, negatives, noise, kind, hits, reduction, backend, False)[0]


def _forward(input, weight, bias, target, negatives, noise, kind, hits, reduction, backend, grad):
    """The loss and, where there are kernels, what gradients() wants; `grad`: of input's too."""
    given = (input, weight, bias, target, negatives, noise)
    launcher = _kernels(kind, backend, *given)
    for name, t in (("target", target), ("negatives", negatives)):
        check_level_values(OPS[kind], t, weight.shape[0], name, "classes")
    with _checks.without_autocast(input):
        if launcher is reference:
            return reduced(reference.forward(*given, kind, hits), reduction), None
        return one_pass(launcher, *given, kind, hits, reduction, grad)


def _launch_backward(grad_nll, input, weight, bias, target, negatives, noise, kind, hits, reduction, needs, backend):
    given = (input, weight, bias, target, negatives, noise, kind, hits, reduction)
    return [g for g in _backward(grad_nll, *given, needs, backend, False, None) if g is not None]


def _backward(
    grad_nll, input, weight, bias, target, negatives, noise, kind, hits, reduction, needs, backend, sparse,
    made: Made | None,
):  # fmt: skip
    given = (input, weight, bias, target, negatives, noise)
    launcher = _kernels(kind, backend, input, grad_nll, *given[1:])
    with _checks.without_autocast(input):
        if launcher is reference:
            grads = list(reference.backward(spread(grad_nll, input, reduction), *given, kind, hits))
            if sparse and needs[1]:
                grads[1] = grads[1].to_sparse(1)
            return [g if n else None for g, n in zip(grads, needs, strict=True)]
        if made is None:
            made = one_pass(launcher, *given, kind, hits, "sum", needs[0])[1]
        each = over_samples(grad_nll, input) if reduction == "batchmean" else grad_nll
        return gradients(launcher, made, each, input, weight, bias, (target, negatives), needs, sparse)


class _NoiseContrastive(torch.autograd.Function):
    """Without `below`: the fast door."""

    @staticmethod
    def forward(ctx, below, sparse, input, weight, bias, target, negatives, noise, *options_and_backend):
        ctx.set_materialize_grads(False)
        given = (input, weight, bias, target, negatives, noise)
        save(ctx, *given)
        ctx.below, ctx.sparse = below, sparse
        *ctx.options, ctx.backend = options_and_backend
        ctx.made = None
        if below:
            return _below(*given, *options_and_backend)
        nll, made = _forward(*given, *options_and_backend, ctx.needs_input_grad[2])
        if not _dispatch.saved_tensor_hooks_active():  # else memory is dear
            ctx.made = made
        return nll

    @staticmethod
    def backward(ctx, grad_nll):
        if grad_nll is None:
            return (None,) * 12
        needs = list(ctx.needs_input_grad[2:5])
        given = saved(ctx)
        made, ctx.made = ctx.made, None
        args = _dispatch.readable(grad_nll), *given, *ctx.options
        if _dispatch.transformed(grad_nll):
            up = spread(args[0], given[0], ctx.options[-1])
            made_anew = reference.backward(up, *given, *ctx.options[:-1])  # type: ignore[arg-type]  # of what save() took
            grads = iter(g for g, n in zip(made_anew, needs, strict=True) if n)
        elif ctx.below:
            grads = iter(torch.ops.pygen.noise_contrastive_backward(*args, needs, ctx.backend))
        elif torch.is_grad_enabled():
            grads = iter(_NoiseContrastiveBackward.apply(False, *args, needs, ctx.backend))
        else:
            found = _backward(*args, needs, ctx.backend, ctx.sparse, made)
            grads = iter(g for g in found if g is not None)
        return None, None, *(next(grads) if n else None for n in needs), *(None,) * 7


class _NoiseContrastiveBackward(torch.autograd.Function):
    """The kernels forward, the composite of the formula backward."""

    @staticmethod
    def forward(ctx, below, grad_nll, input, weight, bias, target, negatives, noise, *options_needs_backend):
        ctx.set_materialize_grads(False)
        given = (grad_nll, input, weight, bias, target, negatives, noise)
        save(ctx, *given)
        *ctx.options, ctx.needs, _ = options_needs_backend
        call = _below_backward if below else _launch_backward
        return tuple(call(*given, *options_needs_backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        grad_nll, input, weight, bias, *rest = saved(ctx)
        *options, reduction = ctx.options

        def formula(grad_nll, input, weight, bias):
            up = spread(grad_nll, input, reduction)
            grads = reference.backward(up, input, weight, bias, *rest, *options)  # type: ignore[arg-type]
            return [g for g, n in zip(grads, ctx.needs, strict=True) if n]

        with _checks.without_autocast(input):
            given, wanted = (grad_nll, input, weight, bias), ctx.needs_input_grad[1:5]
            grads = composite_gradients(formula, given, wanted, grad_grads)
        return None, *grads, *(None,) * 8


_fast_apply = _library.fast_apply(_NoiseContrastive)

_TENSORS = "Tensor input, Tensor weight, Tensor? bias, Tensor target, Tensor negatives, Tensor? noise"
_ARGUMENTS = f"{_TENSORS}, str kind, bool hits, str reduction"
_below = _library.register(
    f"noise_contrastive({_ARGUMENTS}, str backend) -> Tensor",
    _launch,
    lambda input, weight, bias, target, negatives, noise, kind, hits, reduction, backend: torch.empty(
        input.shape[:1] if reduction == "none" else (), dtype=compute_dtype(input.dtype), device=input.device
    ),
    lambda *args: _NoiseContrastive.apply(True, False, *args),
)
_below_backward = _library.register(
    f"noise_contrastive_backward(Tensor grad_nll, {_ARGUMENTS}, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    lambda grad_nll, input, weight, bias, target, negatives, noise, kind, hits, reduction, needs, backend: [
        t.new_empty(t.shape) for t, n in zip((input, weight, bias), needs, strict=True) if n
    ],
    lambda *args: list(_NoiseContrastiveBackward.apply(True, *args)),
)
