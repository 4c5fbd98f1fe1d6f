"""Launcher of the C++ sampling engines, a whole drawing in one call, and of all engines' noise on CPUs and GPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen import _backends
from pygen.models._program import (
    Conv,
    DenseProgram,
    Gate,
    Lstm,
    MultiScaleProgram,
    NadeProgram,
    Program,
    Stage,
    Sum,
    Tap,
    Up,
    scaled_levels,
)

from . import nade_nll
from ._arguments import DTYPE_NAMES, on_gpu, target


def draw(
    program: Program | DenseProgram | NadeProgram,
    levels: Tensor,  # [n, C, H, W], of a dense program [n, D]; uint8 or int64, contiguous
    u: Tensor,  # [n, H, W, C] or [n, D], float32, contiguous
    known: Tensor | None,  # like levels
    known_mask: Tensor | None,  # like levels, bool
    temperature: float,
) -> None:
    """Fills `levels`. A program of bfloat16 or float16 is computed in float32, from the same weights and scaled levels."""
    if isinstance(program, NadeProgram):
        nade_nll.draw(program, levels, u, known, known_mask, temperature)
        return
    given, scaled = _Given(program.like.dtype), scaled_levels(program)
    draws = (
        DTYPE_NAMES[given.dtype],
        program.num_levels,
        levels.data_ptr(),
        levels.dtype == torch.int64,
        u.data_ptr(),
        None if known is None else known.data_ptr(),
        None if known_mask is None else known_mask.data_ptr(),
        temperature,
        given.address(scaled),
        torch.get_num_threads(),
    )
    compiled = _backends.compiled("_cpu")
    if isinstance(program, DenseProgram):
        layers = zip(program.weights, program.biases, strict=True)
        described = tuple((*given.matrix(weight), given.address(bias), None, 0) for weight, bias in layers)
        compiled.sampling_dense_draw(draws, described, program.degrees, len(levels))
        return
    stages = tuple(_stage(stage, given) for stage in program.stages)
    mixture = (program.num_mixtures, program.min_log_scale) if isinstance(program, MultiScaleProgram) else ()
    streams = program.channels, program.early, program.strides
    compiled.sampling_draw(draws, stages, *streams, program.groups, mixture, tuple(levels.shape))


class _Given:
    """Tensors as C++ reads them, in the dtype that it computes in; converted ones live as long as this does."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.converted: list[Tensor] = []

    def _in_dtype(self, t: Tensor) -> Tensor:
        if t.dtype is not self.dtype:
            t = t.to(self.dtype)
            self.converted.append(t)
        return t

    def matrix(self, t: Tensor) -> tuple[int, tuple[int, ...]]:
        """Its address and strides."""
        t = self._in_dtype(t)
        return t.data_ptr(), t.stride()

    def address(self, t: Tensor | None) -> int | None:
        """Of contiguous numbers."""
        if t is None:
            return None
        t = self._in_dtype(t)
        if not t.is_contiguous():
            t = t.contiguous()
            self.converted.append(t)
        return t.data_ptr()


def _stage(stage: Stage, given: _Given) -> tuple:
    def phase(taps: tuple[Tap, ...], weight: Tensor) -> tuple:
        return (taps, *given.matrix(weight))

    if isinstance(stage, Conv):
        phases = (phase(stage.taps, stage.weight),)
        return ("conv", stage.source, phases, given.address(stage.bias), stage.relu, stage.add, stage.strict)
    if isinstance(stage, Up):
        return ("up", stage.source, tuple(phase(*p) for p in stage.phases), given.address(stage.bias))
    if isinstance(stage, Gate):
        is_map = stage.cond is not None and stage.cond.shape[2:] != (1, 1)
        cond = given.address(stage.cond)
        return ("gate", stage.source, stage.groups, cond, is_map, stage.linear, stage.add)
    if isinstance(stage, Lstm):
        along = (((stage.before,), *given.matrix(stage.weight.unsqueeze(0))),) if stage.weight is not None else ()
        return ("lstm", stage.source, along, stage.groups, stage.before, stage.first_row)
    if isinstance(stage, Sum):
        return ("sum", stage.source, stage.add)
    return ("elu", stage.source, stage.concat)


def uniforms(n: int, draws: int, seed: Tensor) -> Tensor:  # seed: 0-dim int64
    """float32 in (0, 1], [n, draws], on the seed's device: the numbers of `pygen.models._sampling.uniforms`."""
    where = target(seed)
    compiled, there = where
    out = torch.empty(n, draws, dtype=torch.float32, device=seed.device)
    key = seed.data_ptr() if on_gpu(where) else seed.item()
    compiled.sampling_uniforms(key, n, draws, out.data_ptr(), *there)
    return out
