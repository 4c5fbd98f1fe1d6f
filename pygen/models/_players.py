"""What training one player of a game against another takes: a frozen opponent, and an average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_HALVES = (torch.float16, torch.bfloat16)


def couples_samples(network: nn.Module) -> bool:
    """Whether a sample's output depends on its batch: then two batches must not become one."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within the block no parameter takes a gradient, and batch norms use their batch but keep their statistics."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within the block the network is in evaluation mode, whichever of its modules were not."""
    training = [module for module in network.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


class Average(nn.Sequential):
    """The exponential moving average of a network, its buffers included.

    It stays in float32 where the network is in half precision: there a step of 1 - decay of the way would round to none.
    """

    @classmethod
    def of(cls, network: nn.Sequential) -> Average:
        """One that starts at the network's present values."""
        average = cls(*copy.deepcopy(network))
        average.eval().requires_grad_(False)
        return average

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """average <- decay average + (1 - decay) network; what is counted in integers is taken over."""
        averages, values = [], []
        pairs = zip((*self.parameters(), *self.buffers()), (*network.parameters(), *network.buffers()), strict=True)
        for average, value in pairs:
            if average.is_floating_point():
                averages.append(average)
                values.append(value.detach().to(average.dtype))
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        return super()._apply(lambda t: t.float() if t.dtype in _HALVES else t, recurse)
