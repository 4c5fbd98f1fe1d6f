"""The engine "cached" of MADE, in plain PyTorch: each hidden unit is computed once, when the last input that it sees is drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen.reference.autoregressive_inverse import AppendOnly, DenseNetwork

from . import _sampling
from ._program import DenseProgram, scaled_levels
from ._sampling import Drawing
from ._task import Watch

_STEPS_PER_WATCH = 32


def draw(program: DenseProgram, drawing: Drawing, watch: Watch) -> None:
    """drawing: of flat levels [n, D]."""
    sampler = _Sampler(program, drawing)
    n, inputs = drawing.levels.shape
    for steps in torch.arange(inputs, device="cpu").split(_STEPS_PER_WATCH):
        for step in steps.tolist():
            sampler.decide(step)
            sampler.net.enable(step, lambda layer, made, units: units.relu_())
        drawing.levels[:, sampler.order[steps]] = sampler.levels[steps].T.to(drawing.levels.dtype)
        watch(n * len(steps))


class _Sampler:
    """net: gives the first layer the inputs, scaled; its outputs are levels."""

    def __init__(self, program: DenseProgram, drawing: Drawing) -> None:
        self.drawing, levels, weight = drawing, program.num_levels, program.weights[0]
        n, device, dtype = len(drawing.levels), weight.device, weight.dtype
        degrees = program.degrees
        network = DenseNetwork(program.weights, program.biases, degrees, degrees[0], levels, levels, 1)
        self.net = AppendOnly(network, n)
        self.order = torch.tensor(network.orders()[0], device=device)
        self.scaled = scaled_levels(program)
        self.binary = levels == 2 and dtype in (torch.float32, torch.float64)
        self.noise = self._by_step(drawing.u)
        if self.binary:
            self.noise = _sampling.binary_thresholds(self.noise, drawing.temperature).to(dtype)
        kind = torch.bool if self.binary else torch.int64
        self.levels = torch.empty(len(self.order), n, dtype=kind, device=device)
        self.known, self.known_mask = drawing.known, drawing.known_mask
        if self.known is not None and self.known_mask is not None:
            self.known, self.known_mask = self._by_step(self.known).to(kind), self._by_step(self.known_mask)

    def _by_step(self, t: Tensor) -> Tensor:
        """[n, D] as [D, n], in the order of drawing."""
        return t.T[self.order].contiguous()

    def decide(self, step: int) -> None:
        """Levels of this step's input from the hidden units enabled before it."""
        logits, (value,) = self.net.outputs(step), self.net.given(step)  # [L, n], [n]
        levels, noise = self.levels[step], self.noise[step]
        if self.binary:
            torch.lt(logits[0] - logits[1], noise, out=levels)
        else:
            levels.copy_(_sampling.decide(logits.T, noise, self.drawing.temperature))
        if self.known is not None and self.known_mask is not None:
            torch.where(self.known_mask[step], self.known[step], levels, out=levels)
        if self.binary:
            torch.where(levels, self.scaled[1], self.scaled[0], out=value)
        else:
            value.copy_(self.scaled[levels])
