"""Launchers of csrc/cpu/autoregressive_inverse.cpp and csrc/cuda/autoregressive_inverse.cu, which has not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen.native import _dense_cuda
from pygen.native._arguments import DTYPE_NAMES, Where, on_gpu, target
from pygen.reference.autoregressive_inverse import DenseNetwork

_BEYOND = 16  # numbers that the widest register may read behind a row


def forward(
    y: Tensor,  # [n, D]
    network: DenseNetwork,
    scale: str,
    bound: float,
    **tuning: int | None,  # of a GPU: threads, images_per_block
) -> tuple[Tensor, Tensor]:
    """x [n, D], and log_det [n] in float64."""
    return _forward("autoregressive_inverse", y, network, ("none" if network.numbers == 1 else scale, bound), tuning)


def forward_spline(
    y: Tensor,  # [n, D]
    network: DenseNetwork,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    **tuning: int | None,
) -> tuple[Tensor, Tensor]:
    linear, numbers = tails == "linear", (low, high, min_bin_width, min_bin_height, min_derivative, beta)
    bins = (network.numbers + (1 if linear else -1)) // 3
    return _forward("autoregressive_spline_inverse", y, network, ((numbers, bins, linear),), tuning)


def _forward(
    kernel: str, y: Tensor, network: DenseNetwork, options: tuple[Any, ...], tuning: dict[str, int | None]
) -> tuple[Tensor, Tensor]:
    y, where = y.contiguous(), target(y)
    x = torch.empty_like(y)
    if not y.numel():
        return x, y.new_zeros(len(y), dtype=torch.float64)
    compiled, there = where
    run = getattr(compiled, kernel)
    if on_gpu(where):
        plan = _plan(compiled, network, y, compiled.autoregressive_inverse_step_bytes)
        table, log = plan.table_on(y.device), torch.empty_like(y)
        given = _on_gpu(where, plan, table, y, network, **tuning)
        run(given.arguments, network.activation, *options, (y.data_ptr(), x.data_ptr(), log.data_ptr()), *there)
        return x, log.sum(1, dtype=torch.float64)
    log_det, described = y.new_empty(len(y), dtype=torch.float64), _Given(network)
    tensors = y.data_ptr(), x.data_ptr(), log_det.data_ptr()
    run(DTYPE_NAMES[y.dtype], described.network, network.activation, *options, tensors, len(y), *there)
    return x, log_det


def _plan(compiled: Any, network: DenseNetwork, like: Tensor, step_bytes: int) -> _dense_cuda.Plan:
    outputs = network.numbers, network.input_stride, network.number_stride
    return _dense_cuda.make_plan(compiled, network.degrees, network.when, outputs, like.element_size(), step_bytes)


def _on_gpu(
    where: Where,
    plan: _dense_cuda.Plan,
    table: Tensor,
    y: Tensor,
    network: DenseNetwork,
    *,
    threads: int | None = None,
    images_per_block: int | None = None,
) -> _dense_cuda.Network:
    biases, added = network.biases, None
    if any(bias.dim() == 2 for bias in biases):  # then all of them are each sample's own
        added = torch.cat([b.expand(len(y), -1)[:, plan.rows(i, table)] for i, b in enumerate(biases)], 1)
        biases = tuple(bias.new_zeros(bias.shape[-1]) for bias in biases)
    return _dense_cuda.Network(
        where,
        plan,
        table,
        network.weights,
        biases,
        len(y),
        added=added,
        threads=threads,
        images_per_block=images_per_block,
    )


def solve(
    grad: Tensor,  # [n, D]
    network: DenseNetwork,
    root: Tensor | None,  # [n, D]
    slope: Tensor | None,  # [n, D, factors], as offset
    offset: Tensor | None,
    hidden: Sequence[Tensor],  # [n, units]
    **tuning: int | None,
) -> Tensor:
    grad, solved = grad.contiguous(), torch.empty_like(grad, memory_format=torch.contiguous_format)
    if not grad.numel():
        return solved
    where = compiled, there = target(grad)
    kept = [None if t is None else t.contiguous() for t in (root, slope, offset)]
    factors = *(None if t is None else t.data_ptr() for t in kept), 0 if slope is None else slope.shape[2]
    if on_gpu(where):
        step_bytes = compiled.autoregressive_inverse_step_bytes
        if factors[3] * len(network.when) < len(network.degrees[0]):
            step_bytes = compiled.autoregressive_inverse_solve_step_numbers * grad.element_size()
        plan = _plan(compiled, network, grad, step_bytes)
        table = plan.table_on(grad.device)
        on_device = _on_gpu(where, plan, table, grad, network, **tuning)
        gates = _gates(plan, table, hidden)
        compiled.autoregressive_inverse_solve(
            on_device.arguments,
            grad.data_ptr(),
            tuple(factor or 0 for factor in factors),
            gates.data_ptr(),
            solved.data_ptr(),
            *there,
        )
        return solved
    given = _Given(network)
    compiled.autoregressive_inverse_solve(
        DTYPE_NAMES[grad.dtype],
        given.network,
        grad.data_ptr(),
        factors,
        tuple(given.address(slopes) for slopes in hidden),
        solved.data_ptr(),
        len(grad),
        *there,
    )
    return solved


def _gates(plan: _dense_cuda.Plan, table: Tensor, hidden: Sequence[Tensor]) -> Tensor:
    """[n, act_size], the units' derivatives as the kernel keeps units, by degree; those of inputs are 0."""
    gates = hidden[0].new_zeros(len(hidden[0]), plan.act_size)
    at = plan.layers[0].pitch
    for i, slopes in enumerate(hidden):
        gates[:, at : at + slopes.shape[1]] = slopes[:, plan.rows(i, table)]
        at += plan.layers[i + 1].pitch
    return gates


class _Given:
    """The network as C++ for CPUs reads it; what had to be copied lives as long as this does."""

    def __init__(self, network: DenseNetwork) -> None:
        self.copies: list[Tensor] = []
        own = any(bias.dim() == 2 for bias in network.biases)
        orders = network.orders()[1:] if own else [[]] * len(network.weights)
        layers = tuple(map(self._layer, network.weights, network.biases, orders))
        outputs = network.numbers, network.input_stride, network.number_stride
        self.network: tuple[Any, ...] = (layers, network.degrees, network.when, outputs)

    def address(self, t: Tensor) -> int:
        self.copies.append(t.contiguous())
        return self.copies[-1].data_ptr()

    def _layer(self, weight: Tensor, bias: Tensor, order: list[int]) -> tuple:
        """Biases of each sample's own go by degree."""
        if bias.dim() == 1:
            return weight.data_ptr(), weight.stride(), self.address(bias), None, 0
        added = bias.new_zeros(len(bias), len(order) + _BEYOND)
        added[:, : len(order)] = bias[:, torch.tensor(order, dtype=torch.int64, device="cpu")]
        none = self.address(bias.new_zeros(len(order)))
        return weight.data_ptr(), weight.stride(), none, self.address(added), added.stride(0)
