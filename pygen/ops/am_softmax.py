"""am_softmax: additive margin softmax over many classes, without the matrix of logits."""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.native._arguments import strided
from pygen.ops import _library
from pygen.ops._am_softmax import finished, one_pass
from pygen.ops._likelihood import check_level_values
from pygen.ops._reduction import over_samples
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import am_softmax as reference
from pygen.reference._likelihood import compute_dtype, reduced

_OP = "am_softmax"
_MOST_CLASSES = 1 << 30
_MOST = 1e6  # of scale and margin: times 1 / 1e-12 twice it is a float32 still


def am_softmax(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    scale: float = 30.0,
    margin: float = 0.35,
    angular_margin: float = 0.0,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The margin softmax loss (CosFace, ArcFace), in nats: trains embeddings, as of faces, whose classes lie apart in angle.

    It is F.cross_entropy of scale * (F.normalize(input) @ F.normalize(weight).T - margin * one_hot(target)), summed or
    averaged over N. Wang et al. 2018, "Additive Margin Softmax for Face Verification"; CosFace (Wang et al. 2018) is
    the same loss. ArcFace (Deng et al. 2019) adds its margin to the target's angle instead: margin=0 and an
    angular_margin.

    Differentiable to any order in input and weight (first order under torch.compile), with N C memory from the second
    order on. 16 bits are multiplied and summed in float32, and cosines are not rounded. The logits [N, C] are computed
    some samples at a time and overwritten by their gradients, never stored whole. Where one gradient reaches all
    samples (a sum or a mean), the gradients of input and weight are made with the loss and held, in float32, until
    backward hands them out.

    Args:
        input: [N, D], float64, float32, bfloat16 or float16; normalised here (by at least 1e-12; a norm that overflows, as of
            numbers beyond 1e18 in float32, gives no cosine). Any strides.
        weight: [C, D], one row for each class, like input; normalised here.
        target: [N], int64, 0 .. C - 1. A wrong one raises on a CPU; on a GPU, where a check would have to synchronise, it
            makes the loss NaN.
        scale: what cosines are multiplied by, > 0; 30 in the paper, 64 in CosFace's.
        margin: what is taken from the target's cosine before scaling; 0 gives the softmax of cosines.
        angular_margin: what is added to the target's angle before that, in radians, 0 .. pi / 2; 0.5 in ArcFace's paper. Where
            the angle would pass pi, the cosine is less by angular_margin sin(angular_margin) instead, as in ArcFace's code.
        reduction: "none" gives [N]; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> embeddings, weight = torch.randn(8, 16), torch.randn(10, 16)
        >>> target = torch.randint(10, (8,))
        >>> pygen.functional.am_softmax(embeddings, weight, target).shape
        torch.Size([])
        >>> pygen.functional.am_softmax(embeddings, weight, target, reduction="none").shape
        torch.Size([8])
    """
    if _checks.autocast_enabled():
        input, weight = _checks.cast_under_autocast(input, weight)
    _check(input, weight, target)
    options = (*check_options(_OP, scale, margin, angular_margin), reduction)
    _checks.check_reduction(_OP, reduction)
    name = _dispatch.requested(_OP, backend)
    if not _dispatch.is_plain(input, weight, target):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.forward(input, weight, target, *options)
        return torch.ops.pygen.am_softmax(input, weight, target, *options, name)
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        name = _dispatch.resolve(_OP, name, input.device.type)  # backward's too, whatever is asked for by then
        return _fast_apply(False, input, weight, target, *options, name)
    return _launch(input, weight, target, *options, name)


def check_options(op: str, scale: Any, margin: Any, angular_margin: Any) -> tuple[float, float, float]:
    given = (("scale", scale, 0), ("margin", margin, -_MOST), ("angular_margin", angular_margin, None))
    for name, value, least in given:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _checks.fail(op, name, "a number", type(value).__name__, kind=TypeError)
        if least is None:
            if not 0 <= value <= math.pi / 2:
                raise _checks.fail(op, name, "radians, a number >= 0 and <= pi / 2", value)
        elif not least < value <= _MOST:
            raise _checks.fail(op, name, f"a number > {least:g} and <= {_MOST:g}", value)
    return float(scale), float(margin), float(angular_margin)


def _check(input: Any, weight: Any, target: Any) -> None:
    for name, t, dims in (("input", input, "[N, D]"), ("weight", weight, "[C, D]")):
        _checks.check_tensor(_OP, name, t)
        _checks.check_floating(_OP, name, t)
        if t.dim() != 2:
            raise _checks.fail(_OP, name, dims, list(t.shape))
    _checks.check_like(_OP, "weight", weight, "input", input)
    if weight.shape[1] != input.shape[1]:
        hint = " (one row for each class: weight.t())" if weight.shape[0] == input.shape[1] else ""
        expected = f"[C, {input.shape[1]}], of input {list(input.shape)}"
        raise _checks.fail(_OP, "weight", expected, f"{list(weight.shape)}{hint}")
    if not 1 <= weight.shape[0] <= _MOST_CLASSES:
        raise _checks.fail(_OP, "weight", f"1 .. {_MOST_CLASSES} classes", list(weight.shape))
    _checks.check_tensor(_OP, "target", target)
    if target.dtype != torch.int64:
        raise _checks.fail(_OP, "target", "classes as torch.int64", target.dtype, kind=TypeError)
    if target.device != input.device:
        raise _checks.fail(_OP, "target", f"a tensor on {input.device}, where input is", target.device)
    if target.shape != input.shape[:1]:
        raise _checks.fail(_OP, "target", f"[{input.shape[0]}], of input {list(input.shape)}", list(target.shape))


def _kernels(backend: str, *tensors: Tensor) -> ModuleType | None:
    """The launcher for tensors like these; None: the reference."""
    name = _dispatch.resolve(_OP, backend, tensors[0].device.type)
    if name == "reference":
        return None
    for t in tensors:
        strided(t)  # raises where there is no memory, before torch's own kernels read it
    return _dispatch.launcher(_OP, _OP, name, tensors[0])


def _launch(input, weight, target, scale, margin, angular_margin, reduction, backend):
    return _forward(input, weight, target, scale, margin, angular_margin, reduction, backend, (False, False))[0]


def _forward(input, weight, target, scale, margin, angular_margin, reduction, backend, wanted):
    """The loss and, where `wanted` for input and weight, their gradients for finished()."""
    launcher = _kernels(backend, input, weight, target)
    check_level_values(_OP, target, weight.shape[0], "target", "classes")
    with _checks.without_autocast(input):
        if launcher is None:
            return reference.forward(input, weight, target, scale, margin, angular_margin, reduction), ()
        upstream = (
            torch.ones(input.shape[0], dtype=compute_dtype(input.dtype), device=input.device) if any(wanted) else None
        )
        nll, *grads = one_pass(launcher, input, weight, target, scale, margin, angular_margin, upstream, wanted)
        return reduced(nll, reduction), grads


def _launch_backward(grad_nll, input, weight, target, scale, margin, angular_margin, reduction, backend):
    return _backward(grad_nll, input, weight, target, scale, margin, angular_margin, reduction, backend, (True, True))


def _backward(grad_nll, input, weight, target, scale, margin, angular_margin, reduction, backend, wanted):
    launcher = _kernels(backend, grad_nll, input, weight, target)
    with _checks.without_autocast(input):
        if launcher is None:
            return reference.backward(grad_nll, input, weight, target, scale, margin, angular_margin, reduction)
        each = reduction == "none"
        upstream = (
            grad_nll.contiguous() if each else torch.ones(input.shape[0], dtype=grad_nll.dtype, device=input.device)
        )
        _, *grads = one_pass(launcher, input, weight, target, scale, margin, angular_margin, upstream, wanted)
        return _finished(launcher, grads, None if each else grad_nll, input, weight, reduction)


def _finished(launcher, grads, grad_nll, input, weight, reduction):
    """Of sums the upstream gradient comes last: what forward made and what backward makes are equal to the last bit."""
    factor = grad_nll if reduction == "sum" or grad_nll is None else over_samples(grad_nll, input)
    pairs = zip(grads, (input, weight), strict=True)
    return tuple(None if g is None else finished(launcher, g, t, factor) for g, t in pairs)


_OPTIONS = "float scale, float margin, float angular_margin, str reduction"

_below = _library.register(
    f"am_softmax(Tensor input, Tensor weight, Tensor target, {_OPTIONS}, str backend) -> Tensor",
    _launch,
    lambda input, weight, target, scale, margin, angular_margin, reduction, backend: torch.empty(
        input.shape[:1] if reduction == "none" else (), dtype=compute_dtype(input.dtype), device=input.device
    ),
    lambda *args: _AmSoftmax.apply(True, *args),
)
_below_backward = _library.register(
    f"am_softmax_backward(Tensor grad_nll, Tensor input, Tensor weight, Tensor target, {_OPTIONS}, str backend) -> "
    "(Tensor, Tensor)",
    _launch_backward,
    lambda grad_nll, input, weight, *rest: (
        torch.empty_like(input, memory_format=torch.contiguous_format),
        torch.empty_like(weight, memory_format=torch.contiguous_format),
    ),
    lambda *args: _AmSoftmaxBackward.apply(True, *args),
)


class _AmSoftmax(torch.autograd.Function):
    """Without `below`: the fast door."""

    @staticmethod
    def forward(ctx, below, input, weight, target, *options_and_backend):
        ctx.set_materialize_grads(False)
        save(ctx, input, weight, target)
        ctx.below, ctx.options, ctx.backend = below, options_and_backend[:-1], options_and_backend[-1]
        ctx.ready = ()
        if below:
            return _below(input, weight, target, *options_and_backend)
        wanted = ctx.needs_input_grad[1:3]
        if (
            ctx.options[-1] == "none" or _dispatch.saved_tensor_hooks_active()
        ):  # whose gradients differ, or memory is dear
            wanted = (False, False)
        nll, grads = _forward(input, weight, target, *options_and_backend, wanted)
        ctx.ready = grads if any(wanted) else ()
        return nll

    @staticmethod
    def backward(ctx, grad_nll):
        if grad_nll is None:
            return (None,) * 9
        input, weight, target = saved(ctx)
        ready, ctx.ready = ctx.ready, ()
        grad_nll = _dispatch.readable(grad_nll)
        args = grad_nll, input, weight, target, *ctx.options
        if _dispatch.transformed(grad_nll):
            grads = reference.backward(*args)
        elif ctx.below:
            grads = torch.ops.pygen.am_softmax_backward(*args, ctx.backend)
        elif torch.is_grad_enabled():
            grads = _AmSoftmaxBackward.apply(False, *args, ctx.backend)
        elif ready:
            grads = _finished(_kernels(ctx.backend, input), ready, grad_nll, input, weight, ctx.options[-1])
        else:
            grads = _backward(*args, ctx.backend, ctx.needs_input_grad[1:3])
        return None, *(g if n else None for g, n in zip(grads, ctx.needs_input_grad[1:3], strict=True)), *(None,) * 6


class _AmSoftmaxBackward(torch.autograd.Function):
    """The kernels forward, the composite of the formula backward."""

    @staticmethod
    def forward(ctx, below, grad_nll, input, weight, target, *options_and_backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_nll, input, weight, target)
        ctx.options = options_and_backend[:-1]
        call = _below_backward if below else _launch_backward
        return call(grad_nll, input, weight, target, *options_and_backend)

    @staticmethod
    def backward(ctx, *grad_grads):
        grad_nll, input, weight, target = saved(ctx)

        def formula(grad_nll, input, weight):
            return reference.backward(grad_nll, input, weight, target, *ctx.options)

        with _checks.without_autocast(input):
            grads = composite_gradients(formula, (grad_nll, input, weight), ctx.needs_input_grad[1:4], grad_grads)
        return None, *grads, *(None,) * 6


_fast_apply = _library.fast_apply(_AmSoftmax)
