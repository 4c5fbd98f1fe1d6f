"""The losses as nearly every GAN calls them: a short way through Python, as small batches are all overhead.

One plain tensor a side, "mean" or "sum", the C++ kernel. All else takes the long way, which also says what is wrong.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pygen import _backends, _dispatch
from pygen.native import gan_loss as native
from pygen.ops import _library
from pygen.ops._gan_autograd import gradients
from pygen.ops._gan_checks import check_options
from pygen.ops._saved import check_kinds, kinds


@lru_cache(maxsize=256, typed=True)  # typed: True is no factor, although it equals 1.0
def _plan(op: str, kind: str, label_smoothing: float, scale: float, reduction: str) -> native.Plan | None:
    check_options(op, kind, label_smoothing, scale, reduction)
    if kind == "relativistic" or reduction == "none" or _backends.why_not("cpu") is not None:
        return None
    return native.plan(kind, op.removesuffix("_loss"), float(label_smoothing), float(scale), reduction)


def loss(
    op: str,  # discriminator_loss or generator_loss
    real: Any,
    fake: Any,
    kind: Any,
    label_smoothing: Any,
    scale: Any,
    reduction: Any,
    backend: str | None,
) -> Tensor | None:
    """The loss; None where the call needs the long way."""
    if torch.compiler.is_compiling():
        return None
    try:
        plan = _plan(op, kind, label_smoothing, scale, reduction)
    except (TypeError, ValueError):  # the long way says why
        return None
    if (
        plan is None
        or (real is not None) != plan.num_real
        or (backend is not None and (backend.__class__ is not str or backend != "cpu"))
    ):
        return None
    logits = (fake,) if real is None else (real, fake)
    if (
        not plan.are_plain(*logits)
        or not _dispatch.nothing_intercepts()
        or (backend is None and _dispatch.resolve(op, _dispatch.AUTO, "cpu") != "cpu")
    ):
        return None
    if torch.is_grad_enabled() and (fake.requires_grad or (real is not None and real.requires_grad)):
        # relativistic_average leaves slopes in the gradients first, for which 16 bits are too few.
        if (plan.averages and fake.element_size() < 4) or _dispatch.saved_tensor_hooks_active():
            return None
        return _apply(plan, *logits)
    return native.forward_plain(plan, logits, None)[0]


class _CommonGanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, *logits):
        value, grads, reused = native.forward_plain(plan, logits, ctx.needs_input_grad[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*logits)
        ctx.call = plan, reused, [grads], kinds(*logits)  # one attribute: each costs half a microsecond
        return value

    @staticmethod
    def backward(ctx, upstream):
        logits = ctx.saved_tensors  # also where they go unused: logits that were changed must raise
        plan, reused, ready, expected = ctx.call
        check_kinds(logits, expected)
        if (
            ready
            and not torch.is_grad_enabled()
            and (factor := plan.number(upstream)) is not None
            and not torch._C._are_functorch_transforms_active()
            and forward_ad._current_level < 0
        ):
            grads = native.scaled(ready.pop(), factor, upstream.dtype)
            if grads is not None:
                return None, *grads
        needs = ctx.needs_input_grad[1:]
        options = (*plan.options, False, "cpu")
        return None, *gradients(native, plan.num_real, (upstream,), logits, reused, options, needs)


_apply = _library.fast_apply(_CommonGanLoss)
