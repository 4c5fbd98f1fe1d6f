"""The engine "cached" of MADE, in plain PyTorch: each hidden unit is computed once, when the last input that it sees is drawn.

Every layer's units are sorted by degree, inputs by their turn: so what a unit sees is a prefix, and what a step enables is a
slice. Activations lie [units, n], a prefix of which is one contiguous matrix.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

import torch
from torch import Tensor

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
            sampler.enable(step)
        drawing.levels[:, sampler.order[steps]] = sampler.levels[steps].T.to(drawing.levels.dtype)
        watch(n * len(steps))


class _Sampler:
    """units: the inputs, scaled, and those of each hidden layer, [units, n], by degree; degrees: theirs."""

    def __init__(self, program: DenseProgram, drawing: Drawing) -> None:
        self.drawing, self.num_levels = drawing, program.num_levels
        weight = program.weights[0]
        n, device, dtype = len(drawing.levels), weight.device, weight.dtype
        self.degrees = [sorted(degrees) for degrees in program.degrees]
        orders = [
            torch.tensor(sorted(range(len(degrees)), key=degrees.__getitem__), device=device)
            for degrees in program.degrees
        ]
        self.order = orders[0]
        outputs = self.order.unsqueeze(1) * self.num_levels + torch.arange(self.num_levels, device=device)
        orders.append(outputs.flatten())  # step after step, the levels of one together
        self.weights = [
            w[rows][:, columns] for w, (columns, rows) in zip(program.weights, pairwise(orders), strict=True)
        ]
        self.biases = [b[rows].unsqueeze(1) for b, rows in zip(program.biases, orders[1:], strict=True)]
        self.units = [weight.new_empty(len(degrees), n) for degrees in self.degrees]
        self.scaled = scaled_levels(program)
        self.binary = self.num_levels == 2 and dtype in (torch.float32, torch.float64)
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

    def enable(self, step: int) -> None:
        """Computes the hidden units that see the input of this step, and none after it."""
        for layer, (weight, bias) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            degrees = self.degrees[layer + 1]
            start, stop = bisect_left(degrees, step), bisect_right(degrees, step)
            if start < stop:
                seen = bisect_right(self.degrees[layer], step)
                units, sources = self.units[layer + 1][start:stop], self.units[layer][:seen]
                torch.addmm(bias[start:stop], weight[start:stop, :seen], sources, out=units)
                units.relu_()

    def decide(self, step: int) -> None:
        """Levels of this step's input from the hidden units enabled before it."""
        outputs, seen = slice(step * self.num_levels, (step + 1) * self.num_levels), bisect_left(self.degrees[-1], step)
        weight, bias = self.weights[-1][outputs, :seen], self.biases[-1][outputs]
        logits = torch.addmm(bias, weight, self.units[-1][:seen])  # [L, n]
        levels, noise = self.levels[step], self.noise[step]
        if self.binary:
            torch.lt(logits[0] - logits[1], noise, out=levels)
        else:
            levels.copy_(_sampling.decide(logits.T, noise, self.drawing.temperature))
        if self.known is not None and self.known_mask is not None:
            torch.where(self.known_mask[step], self.known[step], levels, out=levels)
        if self.binary:
            torch.where(levels, self.scaled[1], self.scaled[0], out=self.units[0][step])
        else:
            self.units[0][step] = self.scaled[levels]
