"""Which memory layout results have: channels_last iff the input is (and is not plainly contiguous too)."""

import torch
from torch import Tensor


def is_channels_last(t: Tensor) -> bool:
    """Whether it is, and is not plainly contiguous too."""
    if t.dim() != 4 or t.is_contiguous() or _is_mapped(t):
        return False
    return t.is_contiguous(memory_format=torch.channels_last)


def _is_mapped(t: Tensor) -> bool:
    """Whether it stands for the entries of a vmap, which have no layout to follow: torch refuses to be asked of it."""
    if torch.compiler.is_compiling():
        return torch._C._are_functorch_transforms_active()
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(t):
        if functorch.is_batchedtensor(t):
            return True
        t = functorch.get_unwrapped(t)
    return functorch.is_legacy_batchedtensor(t)


def in_layout_of(out: Tensor, like: Tensor) -> Tensor:
    """channels_last iff `like` is and is not plainly contiguous too; else contiguous."""
    return out.contiguous(memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format)
