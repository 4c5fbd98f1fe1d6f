"""What backward reads again: autograd notices tensors that were written to, but not those that became others.

`t.data = other` and `module.half()` between forward and backward, or a saved-tensor hook of the user's, hand backward another
size, dtype or device than the call was checked for: that must be an error, not a read beyond the end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen.ops import _library

Kind = tuple[torch.Size, torch.dtype, torch.device]


def kinds(*tensors: Tensor | None) -> list[Kind | None]:
    return [None if t is None else (t.shape, t.dtype, t.device) for t in tensors]


def check_kinds(tensors: Sequence[Tensor | None], expected: list[Kind | None]) -> None:
    """RuntimeError unless the tensors are still of these kinds."""
    found = kinds(*tensors)
    if found != expected:
        got, kind = next((g, k) for g, k in zip(found, expected, strict=True) if g != k)
        raise RuntimeError(
            "pygen: a tensor needed for the gradient was replaced after the forward pass: expected "
            f"{_words(kind)}, got {_words(got)}"
        )


def _words(kind: Kind | None) -> str:
    return "nothing" if kind is None else f"{list(kind[0])} of {kind[1]} on {kind[2]}"


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """save_for_backward, with what `saved` compares."""
    ctx.save_for_backward(*tensors)
    ctx.kinds = kinds(*tensors)


def saved(ctx: Any) -> tuple[Tensor | None, ...]:
    """The tensors of `save`; RuntimeError if one was written to or replaced since."""
    tensors = ctx.saved_tensors
    check_kinds(tensors, ctx.kinds)
    return tensors


_copied = _library.register(
    "snapshot(Tensor t) -> Tensor",
    torch.clone,
    torch.clone,
    lambda t: _copied(t),  # of what needs no gradient
)


def snapshot(t: Tensor) -> Tensor:
    """A copy of a buffer, for a backward that comes after the buffer was written to.

    Under torch.compile an op of its own: Inductor (torch 2.13) removes a clone as doing nothing, and then backward reads the
    buffer itself, without an error.
    """
    return torch.ops.pygen.snapshot(t) if torch.compiler.is_compiling() else t.clone()
