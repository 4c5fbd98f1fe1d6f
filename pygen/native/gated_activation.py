"""Launcher of the C++ and the CUDA C++ kernels of gated_activation. CUDA: not yet run on a GPU."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from pygen._layout import empty_images
from pygen.native._arguments import DTYPE_NAMES, strided, target


def _channels_inner(input: Tensor) -> bool:
    """Whether channels lie closer together than pixels."""
    return input.dim() > 2 and input.stride(1) == 1 and input.stride(-1) != 1


class _Flat:
    """A call's tensors as the CUDA kernels take them, [N, C, pixels] with one stride over the pixels."""

    def __init__(self, input: Tensor) -> None:
        self.shape = input.shape
        self.sizes = (1, input.shape[1], len(input)) if input.dim() == 2 else (*input.shape[:2], input[0, 0].numel())
        self.copies: list[tuple[Tensor, Tensor]] = []

    def __call__(self, t: Tensor | None) -> tuple[int, tuple[int, ...]] | None:
        if t is None:
            return None
        if len(self.shape) == 2:  # the batch takes the place of the pixels
            return strided(t.t().unsqueeze(0))
        if t.dim() == 2:  # a cond that all pixels share
            address, (image, channel) = strided(t)
            return address, (image, channel, 0)
        flat = t.flatten(2)  # a copy where no one stride serves
        if flat.data_ptr() != t.data_ptr():
            self.copies.append((t, flat))  # which also keeps it
        return strided(flat)

    def copy_back(self, *outputs: Tensor | None) -> None:
        for t, flat in self.copies:
            if any(t is out for out in outputs):
                t.copy_(flat.view(t.shape))


def forward(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """input [N, C, ...], cond [N, C] or like input -> [N, C / 2, ...]"""
    output = empty_images(input, input.shape[1] // 2)
    compiled, where = target(input)
    if len(where) == 2:
        _forward_cuda(compiled, where, input, cond, color_groups, output)
        return output
    compiled.gated_activation_forward(
        DTYPE_NAMES[input.dtype],
        input.shape,
        color_groups,
        _channels_inner(input),
        strided(input),
        None if cond is None else strided(cond),
        strided(output),
        *where,
    )
    return output


def backward(
    grad: Tensor,  # [N, C / 2, ...]
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    needs: Sequence[bool],
    more: Tensor | None = None,  # [N, C, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input, `more` added, and of cond; None where needs is False."""
    grad_input = torch.empty_like(input) if needs[0] else None
    grad_cond = torch.empty_like(cond) if cond is not None and needs[1] else None
    compiled, where = target(input)
    if len(where) == 2:
        _backward_cuda(compiled, where, grad, input, cond, color_groups, grad_input, grad_cond, more)
        return grad_input, grad_cond
    compiled.gated_activation_backward(
        DTYPE_NAMES[input.dtype],
        input.shape,
        color_groups,
        _channels_inner(input),
        strided(input),
        None if cond is None else strided(cond),
        strided(grad),
        None if grad_input is None else strided(grad_input),
        None if grad_cond is None else strided(grad_cond),
        cond is not None and cond.dim() < input.dim(),
        *where,
    )
    if grad_input is not None and more is not None:
        grad_input.add_(more)
    return grad_input, grad_cond


def _forward_cuda(
    compiled: ModuleType,
    where: tuple[int, ...],
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    output: Tensor,  # [N, C / 2, ...], written
) -> None:
    if output.numel() == 0:
        return
    flat = _Flat(input)
    compiled.gated_activation_forward(
        DTYPE_NAMES[input.dtype], flat.sizes, color_groups, flat(input), flat(cond), flat(output), *where
    )
    flat.copy_back(output)


def _backward_cuda(
    compiled: ModuleType,
    where: tuple[int, ...],
    grad: Tensor,  # [N, C / 2, ...]
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    grad_input: Tensor | None,  # written, as the next
    grad_cond: Tensor | None,
    more: Tensor | None,  # added to grad_input
) -> None:
    if input.numel() == 0:
        if grad_cond is not None:
            grad_cond.zero_()
        return
    flat = _Flat(input)
    options = (DTYPE_NAMES[input.dtype], flat.sizes, color_groups)
    written, partial = grad_cond, None
    if grad_cond is not None and grad_cond.dim() < input.dim():
        wide = torch.promote_types(input.dtype, torch.float32)
        parts = compiled.gated_activation_parts(*options, flat(input))
        written, partial = None, torch.empty((parts, *grad_cond.shape), dtype=wide, device=input.device)
    compiled.gated_activation_backward(
        *options,
        flat(input),
        flat(cond),
        flat(grad),
        flat(grad_input),
        flat(written),
        None if grad_input is None else flat(more),
        None if partial is None else partial.data_ptr(),
        *where,
    )
    flat.copy_back(grad_input, written)
    if grad_cond is not None and partial is not None:
        grad_cond.copy_(partial.sum(0))  # torch's sums repeat
