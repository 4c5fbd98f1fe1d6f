"""Launchers of csrc/cpu/autoregressive_inverse.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _backends
from pygen.native._arguments import DTYPE_NAMES
from pygen.reference.autoregressive_inverse import DenseNetwork

_BEYOND = 16  # numbers that the widest register may read behind a row


def forward(y: Tensor, network: DenseNetwork, scale: str, bound: float) -> tuple[Tensor, Tensor]:
    """x, and log_det in float64."""
    y = y.contiguous()
    x, log_det = torch.empty_like(y), y.new_zeros(len(y), dtype=torch.float64)
    if y.numel():
        given = _Given(network)
        _backends.compiled("_cpu").autoregressive_inverse(
            DTYPE_NAMES[y.dtype],
            given.described,
            "none" if network.numbers == 1 else scale,
            bound,
            y.data_ptr(),
            x.data_ptr(),
            log_det.data_ptr(),
            len(y),
            torch.get_num_threads(),
        )
    return x, log_det


def solve(
    grad: Tensor,
    network: DenseNetwork,
    root: Tensor | None,
    slope: Tensor | None,
    offset: Tensor | None,
    hidden: Sequence[Tensor],
) -> Tensor:
    grad, solved = grad.contiguous(), torch.empty_like(grad, memory_format=torch.contiguous_format)
    if grad.numel():
        given = _Given(network)
        _backends.compiled("_cpu").autoregressive_inverse_solve(
            DTYPE_NAMES[grad.dtype],
            given.described,
            grad.data_ptr(),
            tuple(None if t is None else given.address(t) for t in (root, slope, offset)),
            tuple(given.address(values) for values in hidden),
            solved.data_ptr(),
            len(grad),
            torch.get_num_threads(),
        )
    return solved


class _Given:
    """The network as C++ reads it; what had to be copied lives as long as this does."""

    def __init__(self, network: DenseNetwork) -> None:
        self.copies: list[Tensor] = []
        orders = network.orders()[1:]
        layers = tuple(map(self._layer, network.weights, network.biases, orders))
        outputs = network.numbers, network.input_stride, network.number_stride
        self.described: tuple[Any, ...] = (layers, network.degrees, network.when, outputs)

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
