"""sample_dot's C++ kernels by their two doors: plain tensors are read through torch's C table, others by their strides."""

import pytest
import torch
from support import DTYPES, assert_same, dtype_name, isas

from pygen.native import sample_dot as native
from pygen.ops.sample_dot import sample_dot

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not isas(), reason="needs the compiled module"),
]
SHAPE = (5, 3, 8)


def pair(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SHAPE).to(dtype), torch.randn(SHAPE).to(dtype)


def others(t: torch.Tensor) -> list[torch.Tensor]:
    """The same values, not plain."""
    return [torch._neg_view(-t), t.transpose(0, -1).contiguous().transpose(0, -1), torch.stack((t, t), -1)[..., 0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_sample_dot_of_what_is_not_plain_is_the_same(dtype):
    x, y = pair(dtype)
    expected = sample_dot(x, y, backend="cpu")
    for a, b in [(t, y) for t in others(x)] + [(x, t) for t in others(y)]:
        assert_same(sample_dot(a, b, backend="cpu"), expected)
    for dense in (x, *others(x)):
        assert_same(sample_dot(dense, backend="cpu"), sample_dot(x, x, backend="cpu"))


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_sample_dot_backward_of_what_is_not_plain_is_the_same(dtype):
    x, _ = pair(dtype)
    factor = torch.randn(5, dtype=torch.promote_types(dtype, torch.float32))
    for given in (factor, factor[:1].expand(5), torch.stack((factor, factor), -1)[:, 0]):
        expected = (x.to(given.dtype) * given.view(5, 1, 1)).to(dtype)
        for dense in (x, *others(x)[1:]):
            assert_same(native.backward(given, dense), expected)
        leaf = x.clone().requires_grad_()
        for upstream in (given, torch._neg_view(-given)):
            (found,) = torch.autograd.grad(sample_dot(leaf, x, backend="cpu"), leaf, upstream)
            assert_same(found, expected)
