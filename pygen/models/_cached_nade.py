"""The engine "cached" of NADE, in plain PyTorch: what the hidden units know is carried from input to input."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _sampling
from ._program import NadeProgram
from ._sampling import Drawing
from ._task import Watch

_STEPS_PER_WATCH = 32


def draw(program: NadeProgram, drawing: Drawing, watch: Watch) -> None:
    """drawing: of flat levels [n, D]. Computed in float32, of float64 in float64."""
    wide = torch.promote_types(program.weight.dtype, torch.float32)
    weight, bias, output, output_bias = (t.to(wide) for t in program.parameters)
    n, inputs = drawing.levels.shape
    known = mask = None
    if drawing.known is not None and drawing.known_mask is not None:
        known, mask = by_step(program, drawing.known).bool(), by_step(program, drawing.known_mask)
    thresholds = _sampling.binary_thresholds(by_step(program, drawing.u), drawing.temperature)
    levels = torch.empty(inputs, n, dtype=torch.bool, device=weight.device)
    a = bias.expand(n, -1).clone()
    for steps in torch.arange(inputs, device="cpu").split(_STEPS_PER_WATCH):
        for d in steps.tolist():
            logits = torch.addmv(output_bias[d], a.sigmoid(), output[d])
            torch.lt(-logits.double(), thresholds[d], out=levels[d])
            if known is not None and mask is not None:
                torch.where(mask[d], known[d], levels[d], out=levels[d])
            a += torch.where(levels[d].unsqueeze(1), weight[d], 0.0)
        watch(n * len(steps))
    drawing.levels[:, slice(None) if program.turns is None else program.turns] = levels.T.to(drawing.levels.dtype)


def by_step(program: NadeProgram, t: Tensor) -> Tensor:
    """[n, D] as [D, n], in the order of drawing."""
    return (t.T if program.turns is None else t.T[program.turns]).contiguous()
