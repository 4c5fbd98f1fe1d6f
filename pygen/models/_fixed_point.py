"""The engine "fixed_point": all positions are drawn at once from the image before, again and again, until nothing changes.

Jacobi's iteration on x = draw(logits(x), noise) (Song, Meng, Liao, Ermon, "Accelerating Feedforward Computation via Parallel
Nonlinear Equation Solving", 2021). A position that was drawn from final ones is final, and so the first position that changed
too: an image takes as many forwards as it has steps at most, mostly far fewer, and its fixed point is what "naive" draws. It
needs nothing but the model's forward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._sampling import decide
from ._task import Task, Watch


def draw(task: Task, watch: Watch) -> None:
    drawing = task.drawing
    if drawing.known is not None and drawing.known_mask is not None:
        drawing.levels.copy_(torch.where(drawing.known_mask, drawing.known, drawing.levels))
    turns = _turns(task)  # [*shape]
    last = len(task.steps)
    counts = torch.bincount(turns.flatten(), minlength=last).cumsum(0)  # values in steps 0 .. i
    rows = torch.arange(len(drawing.levels), device=turns.device)  # of the images that are not finished
    final = torch.zeros_like(rows)  # how many steps of theirs are
    iteration = 0
    while len(rows):
        iteration += 1
        open_turns = turns >= final.min()
        first_change = _iterate(task, rows, open_turns, turns[open_turns], last)
        now_final = torch.clamp_max(first_change + 1, last)
        finished = counts[now_final - 1] - torch.where(final > 0, counts[final - 1], 0)
        watch(int(finished.sum()), f", forward {iteration}")
        left = now_final < last
        rows, final = rows[left], now_final[left]


def _turns(task: Task) -> Tensor:
    """int64 [*shape]: the step of each position."""
    turns = torch.empty(task.drawing.levels.shape[1:], dtype=torch.int64, device="cpu")
    for i, where in enumerate(task.steps):
        turns[where[1:]] = i
    return turns.to(task.drawing.levels.device)


def _iterate(task: Task, rows: Tensor, where: Tensor, turns: Tensor, last: int) -> Tensor:
    """Draws the positions `where` [*shape] of some images anew; the first turn [rows] in which each one changed, or `last`."""
    some = task.drawing.rows(rows)
    before, u = some.levels[:, where], some.u[:, where]  # [rows, positions]
    drawn = decide(task.logits(some.levels, rows)[:, where], u, some.temperature).to(before.dtype)
    if some.known is not None and some.known_mask is not None:
        drawn = torch.where(some.known_mask[:, where], some.known[:, where], drawn)
    some.levels[:, where] = drawn
    task.drawing.levels[rows] = some.levels
    return torch.where(drawn != before, turns, last).amin(1)
