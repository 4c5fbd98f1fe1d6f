"""How tensors reach the compiled modules: None, an address (contiguous) or (address, strides)."""

from types import ModuleType

import torch
from torch import Tensor

from pygen import _backends

DTYPE_NAMES = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float64: "float64",
}

Argument = int | tuple[int, tuple[int, ...]] | None


def without_memory(t: Tensor) -> Exception:
    return RuntimeError(f"a kernel cannot read {list(t.shape)}, a tensor without memory (torch._efficientzerotensor)")


def strided(t: Tensor) -> tuple[int, tuple[int, ...]]:
    """(address, strides), also of a contiguous tensor."""
    address = t.data_ptr()
    if not address and t.numel():
        raise without_memory(t)
    return address, t.stride()


def contiguous(t: Tensor) -> Tensor:
    """`t` or a copy; torch would read what has no memory."""
    strided(t)
    return t.contiguous()


def view(t: Tensor, shape: torch.Size) -> int | tuple[int, tuple[int, ...]]:
    """`t` as the kernel sees it: expanded to `shape` (a broadcast dim gets stride 0)."""
    if t.shape != shape:
        t = t.expand(shape)
    if t.is_contiguous():
        address = t.data_ptr()
        if address:
            return address
    pair = strided(t)
    return pair[0] if t.is_contiguous() else pair


Where = tuple[ModuleType, tuple[int, ...]]


def are_plain(*tensors: object) -> bool:
    """Whether they are plain contiguous CPU tensors with memory, of one floating dtype, and the C++ kernels are there."""
    compiled = _backends.compiled_or_none("_cpu")
    return compiled is not None and compiled.plain(*tensors)


def target(t: Tensor) -> Where:
    """The compiled module for t's device, and where it shall run: (threads,) or (device, stream)."""
    if t.is_cpu:
        return _backends.compiled("_cpu"), (torch.get_num_threads(),)
    index = t.get_device()
    return _backends.compiled("_cuda"), (index, torch.cuda.current_stream(index).cuda_stream)


def on_gpu(where: Where) -> bool:
    return len(where[1]) == 2


def launch(where: Where, device: torch.device, name: str, tf32: bool, *arguments: object) -> None:
    """Runs one of the products. CUDA's, asked without a workspace, say how large theirs must be."""
    compiled, there = where
    kernel = getattr(compiled, name)
    if not on_gpu(where):
        kernel(*arguments, *there)
        return
    size = kernel(*arguments, *there, tf32, None)
    workspace = torch.empty(size, dtype=torch.uint8, device=device)
    kernel(*arguments, *there, tf32, workspace.data_ptr())
