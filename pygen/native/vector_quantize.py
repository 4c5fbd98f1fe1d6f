"""Launcher of the C++ and the CUDA C++ kernels of vector_quantize. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen._layout import empty_output
from pygen._segments import by_code
from pygen.native._arguments import DTYPE_NAMES, contiguous, on_gpu, strided, target
from pygen.native._likelihood import flat


def _sizes(images: Tensor, num_codes: int) -> tuple[int, int, int, int]:
    return (*images.shape, num_codes)


def forward(
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
) -> tuple[Tensor, Tensor, Tensor]:
    """quantized like input, the indices [N, ...], the squared distances [N, positions]."""
    compiled, where = target(input)
    z, quantized = flat(input), empty_output(input)
    written, codes = flat(quantized), contiguous(codebook)
    indices = torch.empty(input.shape[:1] + input.shape[2:], dtype=torch.int64, device=input.device)
    wide = torch.promote_types(input.dtype, torch.float32)
    distances = torch.empty((z.shape[0], z.shape[2]), dtype=wide, device=input.device)
    if indices.numel():
        half = codes.detach().to(wide).square().sum(1) / 2 if on_gpu((compiled, where)) else None
        where = where if half is None else (half.data_ptr(), *where)
        compiled.vector_quantize_nearest(
            DTYPE_NAMES[input.dtype], _sizes(z, len(codes)), strided(z), codes.data_ptr(), indices.data_ptr(),
            strided(written), distances.data_ptr(), *where,
        )  # fmt: skip
    return quantized, indices, distances


def grad_input(
    grad_quantized: Tensor | None,  # [N, D, ...]
    factor: Tensor,  # [N], in the dtype computed in
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
    indices: Tensor,  # [N, ...]
) -> Tensor:
    """grad_quantized + factor (z - e), like input."""
    compiled, where = target(input)
    result = torch.empty_like(input)
    if not result.numel():
        return result
    z, codes, written = flat(input), contiguous(codebook), flat(result)
    above = None if grad_quantized is None else flat(grad_quantized)
    factor, indices = factor.contiguous(), indices.contiguous()
    compiled.vector_quantize_grad_input(
        DTYPE_NAMES[input.dtype], _sizes(z, len(codes)), strided(z), codes.data_ptr(), indices.data_ptr(),
        None if above is None else strided(above), factor.data_ptr(), strided(written), *where,
    )  # fmt: skip
    if written.data_ptr() != result.data_ptr():
        result.copy_(written.view(result.shape))
    return result


def sums(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
    codebook: Tensor | None = None,  # [K, D]
    factor: Tensor | None = None,  # [N], in the dtype computed in
) -> Tensor:
    """The sums of each code's vectors [K, D]; with a codebook and a factor those of factor (e - z)."""
    if on_gpu(target(input)):
        return _sums(input, by_code(indices, num_codes), num_codes, codebook, factor)
    return _sums(input, (indices.contiguous(),), num_codes, codebook, factor)


def _sums(
    input: Tensor,  # [N, D, ...]
    positions: tuple[Tensor, ...],  # their codes; on a GPU they by code, and where codes begin
    num_codes: int,
    codebook: Tensor | None,
    factor: Tensor | None,
) -> Tensor:
    """[K, D]"""
    compiled, where = target(input)
    wide = torch.promote_types(input.dtype, torch.float32)
    total = torch.empty((num_codes, input.shape[1]), dtype=wide, device=input.device)
    z, codes = flat(input), None if codebook is None else contiguous(codebook)
    factor = None if factor is None else factor.contiguous()
    compiled.vector_quantize_sums(
        DTYPE_NAMES[input.dtype], _sizes(z, num_codes), strided(z), None if codes is None else codes.data_ptr(),
        *(t.data_ptr() for t in positions), None if factor is None else factor.data_ptr(), total.data_ptr(), *where,
    )  # fmt: skip
    return total


def statistics(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
) -> tuple[Tensor, Tensor]:
    """How many positions each code has [K], int64, and the sums of their vectors [K, D]."""
    if on_gpu(target(input)):
        order, begins = by_code(indices, num_codes)
        return begins.diff(), _sums(input, (order, begins), num_codes, None, None)
    return torch.bincount(indices.reshape(-1), minlength=num_codes), sums(input, indices, num_codes)
