"""What the kernels of masked_linear know of degrees: the order of both sides, and how many inputs each output sees."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def kept(make: Callable[[], T]) -> T:
    """What `make` makes for a cache, on a thread of its own: no mode of the calling one sees it, nor the pool that takes what
    that thread allocates while torch.compile records CUDA graphs, and which refuses what outlives the recorded call."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(make).result()


@dataclass(frozen=True, eq=False)
class Plan:
    """Sources and targets by degree; the live sources of a target come first."""

    source_order: Tensor  # [sources] int64, on the CPU as the next two
    target_order: Tensor  # [targets]
    live: Tensor  # [targets], of the targets so ordered; rising
    sources_stay: bool  # as they are
    targets_stay: bool

    def addresses(self, device: torch.device, in_order: bool) -> tuple[int | None, ...]:
        """Of the three on that device; with in_order None for an order that changes nothing."""
        return tuple(
            None if in_order and stays else t.data_ptr()
            for t, stays in zip(on_device(self, device), (self.sources_stay, self.targets_stay, False), strict=True)
        )


@lru_cache(maxsize=256)
def _plan(source_degrees: tuple[int, ...], target_degrees: tuple[int, ...], strict: bool) -> Plan:
    sources = torch.tensor(source_degrees, dtype=torch.int64, device="cpu")
    targets, target_order = torch.tensor(target_degrees, dtype=torch.int64, device="cpu").sort(stable=True)
    sources, source_order = sources.sort(stable=True)
    live = torch.searchsorted(sources, targets, right=not strict)
    return Plan(source_order, target_order, live, _stays(source_order), _stays(target_order))


def _stays(order: Tensor) -> bool:
    return torch.equal(order, torch.arange(len(order), device="cpu"))


def on_device(plan: Plan, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Source order, target order and live, there."""
    if device.type == "cpu":
        return plan.source_order, plan.target_order, plan.live
    return _copied(plan, device)


@lru_cache(maxsize=256)
def _copied(plan: Plan, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return kept(lambda: (plan.source_order.to(device), plan.target_order.to(device), plan.live.to(device)))


def forward_plan(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool) -> Plan:
    return _plan(tuple(in_degrees), tuple(out_degrees), strict)


@lru_cache(maxsize=256)
def _turned(in_degrees: tuple[int, ...], out_degrees: tuple[int, ...], strict: bool) -> Plan:
    return _plan(tuple(-d for d in out_degrees), tuple(-d for d in in_degrees), strict)


def backward_plan(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool) -> Plan:
    """With inputs and outputs exchanged: -in_degree > or >= -out_degree."""
    return _turned(tuple(in_degrees), tuple(out_degrees), strict)


@lru_cache(maxsize=256)  # as many as copies: a plan made anew would be copied anew
def dense_plan(sources: int, targets: int) -> Plan:
    """Of a product in which everything is live, as of equal degrees."""
    here: dict = {"device": "cpu"}
    live = torch.full((targets,), sources, **here)
    return Plan(torch.arange(sources, **here), torch.arange(targets, **here), live, True, True)


def flat_rows(t: Tensor) -> Tensor:
    """[..., D] as [N, D]"""
    return t if t.dim() == 2 else t.reshape(t.shape[:-1].numel(), t.shape[-1])
