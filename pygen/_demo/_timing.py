"""Times taken in turn, so that a machine that speeds up or slows down does so for both sides alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """For layers so small that a second thread gains little, and costs much on a machine with other work to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare_ms(works: Sequence[Callable[[], object]], device: torch.device, budget_s: float) -> list[float]:
    """Median milliseconds a call of each, called in turn until `budget_s` is spent, at least 5 times each."""
    for work in works:  # warm up: allocators, lazily made tables
        for _ in range(3):
            work()
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + budget_s
    while len(times[0]) < 5 or time.perf_counter() < end:
        for work, taken in in_turn(list(zip(works, times, strict=True)), len(times[0])):
            taken.append(seconds(work, device))
    return [1e3 * statistics.median(taken) for taken in times]


def in_turn(sides: list, round_number: int) -> list:
    """The sides, every second round backwards: whoever goes second finds warmer or colder caches."""
    return sides if round_number % 2 == 0 else sides[::-1]


class Trainable(Protocol):
    """A model with a loss of one batch."""

    def loss(self, x: Tensor) -> Tensor: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


def train_in_turn(
    models: Sequence[Trainable],
    batches: Iterable[Tensor],
    num_steps: int,
    *,
    peak_lr: float,
    on_step: Callable[[list[float]], None] = lambda losses: None,
) -> list[list[float]]:
    """Trains all models on the same batches, a step of each in turn; returns each one's milliseconds a step.

    Adam under a warm-up of a tenth of the steps and a half cosine. A step is zero_grad, loss, backward, update.
    `on_step` is called after each round, outside the clock, with the models' last losses.
    """

    def train_step(model: Trainable, optimizer: torch.optim.Optimizer, batch: Tensor, step: int) -> Tensor:
        warm_up = min(1.0, 10 * (step + 1) / num_steps)
        optimizer.param_groups[0]["lr"] = peak_lr * warm_up * half_cosine(step, num_steps)
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    steps = [partial(train_step, model, torch.optim.Adam(model.parameters(), fused=True)) for model in models]
    return steps_in_turn(steps, batches, num_steps, on_step)


def steps_in_turn(
    steps: Sequence[Callable[[Tensor, int], Tensor]],
    batches: Iterable[Tensor],
    num_steps: int,
    on_step: Callable[[list[float]], None],
) -> list[list[float]]:
    """Calls every side's step(batch, number) in turn; returns each one's milliseconds a step.

    A step returns a loss; `on_step` is given them all after each round, outside the clock.
    """
    times: list[list[float]] = [[] for _ in steps]
    losses: list[Tensor] = [torch.empty(())] * len(steps)
    for number, batch in zip(range(num_steps), batches, strict=False):
        for i in in_turn(list(range(len(steps))), number):

            def work(i: int = i, batch: Tensor = batch, number: int = number) -> None:
                losses[i] = steps[i](batch, number)

            times[i].append(1e3 * seconds(work, batch.device))
        on_step([float(loss) for loss in losses])
    return times


def half_cosine(step: int, num_steps: int) -> float:
    """From 1 at the first step to 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


def shuffled_batches(x: Tensor, size: int, generator: torch.Generator) -> Iterable[Tensor]:
    """Endless batches [size, ...]: each epoch in a new order, its remainder dropped."""
    while True:
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for start in range(0, len(x) - size + 1, size):
            yield x[order[start : start + size]]
