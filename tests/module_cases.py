"""The modules of pygen.nn as the rows make them, each with inputs, for tests that treat all of them alike."""

import pytest
import torch
from registry import OPS
from torch import Tensor, nn

MODULES = {name: make for op in OPS for name, make in op.modules.items()}
each_module = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in MODULES.items()])


def run(module: nn.Module, inputs: tuple) -> tuple[Tensor, ...]:
    """Of modules that draw noise always the same."""
    torch.manual_seed(4)
    outputs = module(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def cast(inputs: tuple, dtype: torch.dtype) -> tuple:
    return tuple(t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t for t in inputs)


def total(outputs: tuple[Tensor, ...]) -> Tensor:
    """Something to differentiate, in which every floating output has its part."""
    return sum(o.double().square().mean() for o in outputs if o.is_floating_point())
