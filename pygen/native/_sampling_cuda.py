"""Launcher of the CUDA sampling engines: whichever kernel a program suits. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pygen import _backends
from pygen.models._program import DenseProgram, MultiScaleProgram, NadeProgram, Program, Unsupported
from pygen.native import _sampling_cluster, _sampling_dense_cuda, _sampling_scales, nade_nll
from pygen.native._arguments import DTYPE_NAMES
from pygen.native._sampling_draws import draws
from pygen.native._sampling_lower import lower

THREADS = 256
_MOST_IMAGES = 16  # a block


def target(t: Tensor) -> tuple[Any, int, int]:
    """The compiled module for t's device, the device and its stream."""
    index = t.get_device()
    return _backends.compiled("_cuda"), index, torch.cuda.current_stream(index).cuda_stream


def draw(
    program: Program | DenseProgram | NadeProgram,
    levels: Tensor,  # [n, C, H, W], of a dense program [n, D]; uint8 or int64, contiguous: written
    u: Tensor,  # float32 [n, H, W, C] or [n, D], contiguous
    known: Tensor | None,  # as levels
    known_mask: Tensor | None,  # bool, as levels
    temperature: float,
    *,
    threads: int | None = None,
    images_per_block: int | None = None,
) -> None:
    """Draws all images in one launch. The program's tables are copied before it, from memory that is not pinned: that waits
    for the stream, and a call cannot be captured in a graph."""
    if isinstance(program, NadeProgram):
        nade_nll.draw(program, levels, u, known, known_mask, temperature)
        return
    if isinstance(program, DenseProgram):
        _sampling_dense_cuda.draw(program, levels, u, known, known_mask, temperature)
        return
    if not levels.numel():
        return
    compiled, device, stream = target(levels)
    drawn = draws(program, levels, u, known, known_mask, temperature)
    if isinstance(program, MultiScaleProgram):
        if program.like.dtype is torch.float64:
            raise Unsupported("a network of several resolutions in float64")
        _sampling_scales.draw(compiled, device, stream, program, levels, drawn)
        return
    if program.like.dtype is not torch.float64:
        try:
            _sampling_cluster.draw(compiled, device, stream, program, levels, drawn)
            return
        except Unsupported:
            if program.like.dtype is not torch.float32:
                raise
            # The kernel below runs any program, slowly.
    processors, shared_bytes = compiled.sampling_limits(device)
    n, _, _, width = levels.shape
    if images_per_block is None:
        images_per_block = max(1, min(_MOST_IMAGES, -(-n // processors)))
    low = lower(compiled, program, width, images_per_block, shared_bytes)
    rings = torch.empty(n * low.ring_size, dtype=low.weights.dtype, device=levels.device)
    compiled.sampling_draw(
        DTYPE_NAMES[low.weights.dtype],
        tuple(levels.shape),
        program.groups,
        drawn,
        (low.stages.data_ptr(), low.streams.data_ptr(), low.taps.data_ptr(), len(low.stages)),
        low.weights.data_ptr(),
        low.shared_weights,
        rings.data_ptr(),
        low.ring_size,
        low.shared_ring_size,
        images_per_block,
        threads or THREADS,
        device,
        stream,
    )
