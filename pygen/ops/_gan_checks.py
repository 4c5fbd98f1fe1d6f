"""The checks of discriminator_loss and generator_loss. They read metadata only."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks
from pygen._gan_terms import KINDS, RELATIVISTIC, SMOOTHABLE

Logits = Tensor | Sequence[Tensor]


# Names that other code has for our kinds, for who tries them.
_ELSEWHERE = {
    "lsgan": "least_squares",
    "mse": "least_squares",
    "vanilla": "nonsaturating",
    "bce": "nonsaturating",
    "logistic": "nonsaturating",
    "ns": "nonsaturating",
    "wgan": "wasserstein",
    "wgangp": "wasserstein",
    "ragan": "relativistic_average",
}


def check_options(op: str, kind: object, label_smoothing: Any, scale: Any, reduction: object) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise _checks.fail(op, "kind", f"one of {', '.join(KINDS)}", _checks.named_here(kind, KINDS, _ELSEWHERE))
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        raise _checks.fail(op, "reduction", "'mean', 'sum' or 'none'", repr(reduction))
    for name, value in (("label_smoothing", label_smoothing), ("scale", scale)):
        if value.__class__ is float:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _checks.fail(op, name, "a number", type(value).__name__, kind=TypeError)
    if not -_checks.LARGEST <= scale <= _checks.LARGEST:  # math.isfinite cannot be traced
        raise _checks.fail(op, "scale", "a finite number", scale)
    if label_smoothing == 0.0:
        return
    if not 0 <= label_smoothing < 0.5:
        raise _checks.fail(op, "label_smoothing", "0 <= label_smoothing < 0.5", label_smoothing)
    if kind not in SMOOTHABLE:
        raise _checks.fail(
            op, "label_smoothing", f"0 for kind {kind!r} (only {', '.join(SMOOTHABLE)} have targets)", label_smoothing
        )


def members(op: str, argument: str, logits: object) -> tuple[Tensor, ...]:
    """The logits of each scale; a lone tensor is one scale."""
    if isinstance(logits, Tensor):
        return (logits,)
    if not isinstance(logits, (list, tuple)):
        raise _checks.fail(op, argument, "a torch.Tensor or a list of them", type(logits).__name__, kind=TypeError)
    if not logits:
        raise _checks.fail(op, argument, "at least one tensor", "an empty list")
    for i, t in enumerate(logits):
        if not isinstance(t, Tensor):
            raise _checks.fail(op, f"{argument}[{i}]", "a torch.Tensor", type(t).__name__, kind=TypeError)
    return tuple(logits)


def check_players(op: str, kind: str, real: Logits | None) -> None:
    """generator_loss takes real= for the relativistic kinds alone."""
    if (real is not None) == (kind in RELATIVISTIC):
        return
    if real is None:
        raise _checks.fail(op, "real", f"the real logits, as kind {kind!r} compares with them", None)
    raise _checks.fail(op, "real", f"None, as kind {kind!r} does not use real logits", "logits")


def check_logits(
    op: str, real: Sequence[Tensor], fake: Sequence[Tensor], are_lists: tuple[bool, bool], kind: str, reduction: str
) -> None:
    """Raises unless the members fit each other, `kind` and `reduction`. Either side may be absent (empty)."""
    tensors = (*real, *fake)
    if len(tensors) <= 2 and kind not in RELATIVISTIC and not (real and fake and are_lists[0] != are_lists[1]):
        first, last = tensors[0], tensors[-1]
        if (
            first.dtype in _checks.FLOATING
            and last.dtype is first.dtype
            and ((first.is_cpu and last.is_cpu) or first.device == last.device)
            and first.layout is torch.strided
            and last.layout is torch.strided
            and not (first.is_nested or last.is_nested)
            and (reduction != "mean" or (first.numel() and last.numel()))
            and (len(real) == len(fake) or len(tensors) == 1)
        ):
            return  # the common case, without a call per question
    names = [
        f"{side}[{i}]" if is_list else side
        for side, each, is_list in (("real", real, are_lists[0]), ("fake", fake, are_lists[1]))
        for i in range(len(each))
    ]
    first = tensors[0]
    for argument, t in zip(names, tensors, strict=True):
        _checks.check_tensor(op, argument, t)
        _checks.check_floating(op, argument, t)
        _checks.check_like(op, argument, t, names[0], first)
    if real and fake:
        if are_lists[0] != are_lists[1] or len(real) != len(fake):
            expected = f"a list of {len(real)} tensors, as real is" if are_lists[0] else "one tensor, as real is"
            raise _checks.fail(op, "fake", expected, f"a list of {len(fake)}" if are_lists[1] else "one tensor")
        if kind in RELATIVISTIC:
            _check_relativistic(op, real, fake, names, kind)
    if reduction == "mean":
        for argument, t in zip(names, tensors, strict=True):
            if t.numel() == 0:
                expected = "at least one logit to take the mean of ('sum' of none is 0)"
                raise _checks.fail(op, argument, expected, list(t.shape))


def _check_relativistic(
    op: str, real: Sequence[Tensor], fake: Sequence[Tensor], names: Sequence[str], kind: str
) -> None:
    for i, (r, f) in enumerate(zip(real, fake, strict=True)):
        real_name, fake_name = names[i], names[len(real) + i]
        if kind == "relativistic":
            if r.shape != f.shape:
                expected = f"{list(r.shape)}, the shape of {real_name}, as kind 'relativistic' compares them in pairs"
                raise _checks.fail(op, fake_name, expected, list(f.shape))
        elif (r.numel() == 0) != (f.numel() == 0):
            empty, other = (real_name, fake_name) if r.numel() == 0 else (fake_name, real_name)
            raise _checks.fail(op, empty, f"at least one logit, as {other} is compared with their mean", "none")
