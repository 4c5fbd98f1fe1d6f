"""Launches csrc/cuda/sampling_dense.cu: samples of MADE. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pygen.models._program import DenseProgram
from pygen.native import _dense_cuda
from pygen.native._arguments import target
from pygen.native._sampling_draws import draws


def make_plan(compiled: Any, program: DenseProgram, itemsize: int) -> _dense_cuda.Plan:
    """Of two levels the difference of their logits is all that a draw needs."""
    outs = 1 if program.num_levels == 2 else program.num_levels
    outputs, step_bytes = (outs, program.num_levels, 1), compiled.sampling_dense_step_bytes
    return _dense_cuda.make_plan(compiled, program.degrees, program.degrees[0], outputs, itemsize, step_bytes)


def draw(
    program: DenseProgram,
    levels: Tensor,  # [n, D], uint8 or int64, contiguous: written
    u: Tensor,  # float32 [n, D], contiguous
    known: Tensor | None,  # as levels
    known_mask: Tensor | None,  # bool, as levels
    temperature: float,
    *,
    threads: int | None = None,
    images_per_block: int | None = None,
) -> None:
    """Draws all samples in one launch, after one a layer that sorts weights. Nothing here waits for the stream."""
    if not levels.numel():
        return
    where = target(levels)
    compiled, there = where
    plan = make_plan(compiled, program, program.like.element_size())
    network = _dense_cuda.Network(
        where,
        plan,
        plan.table_on(levels.device),
        program.weights,
        program.biases,
        len(levels),
        difference=program.num_levels == 2,
        threads=threads,
        images_per_block=images_per_block,
    )
    drawn = draws(program, levels, u, known, known_mask, temperature)
    compiled.sampling_dense_draw(network.arguments, drawn, *there)
