"""gan_loss to torch: schema, implementation, fake and autograd."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from pygen import _dispatch
from pygen._gan_terms import empty_terms, term_likes, wide_dtype
from pygen.ops import _library
from pygen.ops._gan_checks import check_players
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import gan_loss as reference

_OP = "gan_loss"


def _launch(real, fake, kind, player, label_smoothing, scale, reduction, stats, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, (real or fake)[0])
    if real and player == "generator":  # else their gradient would stay unwritten
        check_players(_OP, kind, real)
    return launcher.forward(real, fake, kind, player, label_smoothing, scale, reduction, stats)


def _launch_backward(grad_losses, real, fake, reused, *options):
    *rest, backend = options
    launcher = _dispatch.launcher(_OP, _OP, backend, (real or fake)[0])
    return [g for g in launcher.backward(grad_losses, real, fake, reused, *rest) if g is not None]


def _fake(real, fake, kind, player, label_smoothing, scale, reduction, stats, backend):
    first = (real or fake)[0]
    dtype, device = wide_dtype(first.dtype), first.device
    if reduction == "none":
        outputs = [empty_terms(t) for t in term_likes(tuple(real), tuple(fake), kind)]
    else:
        outputs = [torch.empty((), dtype=dtype, device=device)]
    if stats:
        outputs.append(torch.empty(4, dtype=dtype, device=device))
    if kind == "relativistic_average":
        outputs.append(torch.empty((len(real), 4), dtype=dtype, device=device))
    return outputs


def _fake_backward(grad_losses, real, fake, reused, kind, player, label_smoothing, scale, reduction, needs, backend):
    return [torch.empty_like(t) for t, n in zip((*real, *fake), needs, strict=True) if n]


class _GanLoss(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, num_real, options, *logits):
        ctx.set_materialize_grads(False)
        real, fake = logits[:num_real], logits[num_real:]
        ready: list = []
        if launcher is None:
            outputs = _below(real, fake, *options)
        elif hasattr(launcher, "forward_with_gradients") and not _dispatch.saved_tensor_hooks_active():
            outputs, grads = launcher.forward_with_gradients(real, fake, *options[:6], ctx.needs_input_grad[3:])
            if grads is not None:
                ready.append(grads)
        else:
            outputs = launcher.forward(real, fake, *options[:6])
        reused = outputs[-1] if options[0] == "relativistic_average" else None
        losses = len(outputs) - options[5] - (reused is not None)
        if losses < len(outputs):
            ctx.mark_non_differentiable(*outputs[losses:])
        save(ctx, reused, *logits)
        ctx.call = launcher, num_real, losses, options, ready  # one attribute: each costs half a microsecond
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grad_outputs):
        launcher, num_real, num_losses, options, ready = ctx.call
        reused, *logits = saved(ctx)  # also where they go unused: logits that were changed must raise
        upstream, needs = grad_outputs[:num_losses], ctx.needs_input_grad[3:]
        made = None  # handed out once, as whoever gets it may change it
        if ready and upstream[0] is not None and not torch.is_grad_enabled():
            made = ready.pop()
        return None, None, None, *gradients(launcher, num_real, upstream, logits, reused, options, needs, made)


def gradients(
    launcher: ModuleType | None,
    num_real: int,
    upstream: Sequence[Tensor | None],  # of the loss, or of the terms
    logits: Sequence[Tensor],  # real, then fake
    reused: Tensor | None,
    options: tuple,  # gan_loss's from kind on, the backend last
    needs: Sequence[bool],
    made: Sequence[Tensor | None] | None = None,  # by forward, for an upstream gradient of 1; becomes the result
) -> Sequence[Tensor | None]:
    """Of the logits that need one, whatever autograd sent; recorded where a graph of the backward is asked for."""
    grad_losses = [_dispatch.readable(g) for g in upstream]
    if grad_losses[0] is None and all(g is None for g in grad_losses):
        return (None,) * len(needs)
    real, fake = logits[:num_real], logits[num_real:]
    rest = (*options[:5], needs)
    if _dispatch.transformed(*grad_losses):
        return reference.backward(grad_losses, real, fake, reused, *rest)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(grad_losses, real, fake, reused, *rest, *(() if made is None else (made,)))
    backend = options[6]
    if launcher is None:
        grads = torch.ops.pygen.gan_loss_backward(grad_losses, real, fake, reused, *rest, backend)
    else:
        sizes = (len(grad_losses), len(real))
        grads = _GanLossBackward.apply(_launch_backward, sizes, (*rest, backend), *grad_losses, reused, *logits)
    each = iter(grads)
    return [next(each) if n else None for n in needs]


apply = _library.fast_apply(_GanLoss)


class _GanLossBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, launch, sizes, options, *tensors):
        ctx.set_materialize_grads(False)
        save(ctx, *tensors)
        ctx.sizes, ctx.options = sizes, options
        return tuple(launch(*_split(tensors, sizes), *options))

    @staticmethod
    def backward(ctx, *grad_grads):
        *options, _ = ctx.options

        def formula(*tensors):
            return reference.backward(*_split(tensors, ctx.sizes), *options)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[3:], grad_grads)
        return None, None, None, *grads


def _split(tensors: Sequence, sizes: tuple[int, int]) -> tuple:
    """(grad_losses, real, fake, reused) of the flat list (*grad_losses, reused, *real, *fake)."""
    num_losses, num_real = sizes
    logits = tensors[num_losses + 1 :]
    return tensors[:num_losses], logits[:num_real], logits[num_real:], tensors[num_losses]


_OPTIONS = "str kind, str player, float label_smoothing, float scale, str reduction"

_below = _library.register(
    f"gan_loss(Tensor[] real, Tensor[] fake, {_OPTIONS}, bool stats, str backend) -> Tensor[]",
    _launch,
    _fake,
    lambda real, fake, *options: list(_GanLoss.apply(None, len(real), options, *real, *fake)),
)
_below_backward = _library.register(
    f"gan_loss_backward(Tensor?[] grad_losses, Tensor[] real, Tensor[] fake, Tensor? reused, {_OPTIONS}, bool[] needs,"
    " str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda grad_losses, real, fake, reused, *options: list(
        _GanLossBackward.apply(
            _below_backward, (len(grad_losses), len(real)), options, *grad_losses, reused, *real, *fake
        )
    ),
)
