"""How tensors reach the compiled modules: None, an address (contiguous) or (address, strides)."""

import torch
from torch import Tensor

DTYPE_NAMES = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float64: "float64",
}

Argument = int | tuple[int, tuple[int, ...]] | None


def view(t: Tensor, shape: torch.Size) -> int | tuple[int, tuple[int, ...]]:
    """`t` as the kernel sees it: expanded to `shape` (a broadcast dim gets stride 0)."""
    if t.shape != shape:
        t = t.expand(shape)
    return t.data_ptr() if t.is_contiguous() else (t.data_ptr(), t.stride())
