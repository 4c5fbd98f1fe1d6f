"""Launchers of csrc/cpu/autoregressive_inverse.cpp and csrc/cuda/autoregressive_inverse.cu, which has not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen.native import _dense_cuda
from pygen.native._arguments import DTYPE_NAMES, Where, on_gpu, target
from pygen.reference import autoregressive_inverse as reference
from pygen.reference.autoregressive_inverse import DenseNetwork

_BEYOND = 16  # numbers that the widest register may read behind a row


def forward(
    y: Tensor,
    network: DenseNetwork,
    scale: str,
    bound: float,
    *,
    threads: int | None = None,
    images_per_block: int | None = None,
) -> tuple[Tensor, Tensor]:
    """x, and log_det in float64. The options are a GPU's."""
    y, where = y.contiguous(), target(y)
    x, scale = torch.empty_like(y), "none" if network.numbers == 1 else scale
    if not y.numel():
        return x, y.new_zeros(len(y), dtype=torch.float64)
    compiled, there = where
    if on_gpu(where):
        log, given = torch.empty_like(y), _on_gpu(where, y, network, threads, images_per_block)
        compiled.autoregressive_inverse(
            given.arguments, scale, bound, y.data_ptr(), x.data_ptr(), log.data_ptr(), *there
        )
        return x, -log.sum(1, dtype=torch.float64)
    log_det, described = y.new_empty(len(y), dtype=torch.float64), _Given(network)
    compiled.autoregressive_inverse(
        DTYPE_NAMES[y.dtype],
        described.network,
        scale,
        bound,
        y.data_ptr(),
        x.data_ptr(),
        log_det.data_ptr(),
        len(y),
        *there,
    )
    return x, log_det


def _on_gpu(
    where: Where, y: Tensor, network: DenseNetwork, threads: int | None, images_per_block: int | None
) -> _dense_cuda.Network:
    compiled, added = where[0], None
    outputs = network.numbers, network.input_stride, network.number_stride
    plan = _dense_cuda.make_plan(compiled, network.degrees, *outputs, y.element_size())
    biases = network.biases
    if any(bias.dim() == 2 for bias in biases):  # then all of them are each sample's own
        orders = network.orders()[1:]
        places = [torch.tensor(order, dtype=torch.int64, device="cpu").to(y.device) for order in orders]
        added = torch.cat([bias.expand(len(y), -1)[:, at] for bias, at in zip(biases, places, strict=True)], 1)
        biases = tuple(bias.new_zeros(bias.shape[-1]) for bias in biases)
    options = {"threads": threads, "images_per_block": images_per_block}
    return _dense_cuda.Network(where, plan, network.weights, biases, len(y), added=added, **options)


def solve(
    grad: Tensor,
    network: DenseNetwork,
    root: Tensor | None,
    slope: Tensor | None,
    offset: Tensor | None,
    hidden: Sequence[Tensor],
) -> Tensor:
    """On a GPU in plain PyTorch, of which each step is several launches."""
    where = target(grad)
    if on_gpu(where):
        return reference.solve(grad, network, root, slope, offset, hidden)
    grad, solved = grad.contiguous(), torch.empty_like(grad, memory_format=torch.contiguous_format)
    if grad.numel():
        given = _Given(network)
        where[0].autoregressive_inverse_solve(
            DTYPE_NAMES[grad.dtype],
            given.network,
            grad.data_ptr(),
            tuple(None if t is None else given.address(t) for t in (root, slope, offset)),
            tuple(given.address(values) for values in hidden),
            solved.data_ptr(),
            len(grad),
            *where[1],
        )
    return solved


class _Given:
    """The network as C++ for CPUs reads it; what had to be copied lives as long as this does."""

    def __init__(self, network: DenseNetwork) -> None:
        self.copies: list[Tensor] = []
        orders = network.orders()[1:]
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
        added[:, : len(order)] = bias[:, torch.tensor(order, dtype=torch.int64)]
        none = self.address(bias.new_zeros(len(order)))
        return weight.data_ptr(), weight.stride(), none, self.address(added), added.stride(0)
