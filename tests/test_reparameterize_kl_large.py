"""reparameterize_kl and gaussian_kl of many blocks, and where an index or an offset needs more than 32 bits."""

import pytest
import torch
from registry import leaves
from rows.reparameterize_kl import ROWS, gaussians
from support import assert_same, fast_targets, mixed_weights, threads

from pygen.functional import gaussian_kl

op = ROWS[0]


@pytest.mark.parametrize("shape", ((300, 130), (3, 20000)), ids=str)
@pytest.mark.parametrize("reduction", ("sum", "none"))
def test_sums_over_many_blocks_do_not_depend_on_threads(shape, reduction):
    """float64: what is summed in another order is rounded otherwise."""
    tensors = gaussians(shape, seed=4)
    results = []
    for count in (1, 2, 3, 7):
        with threads(count):
            results.append(gaussian_kl(*(t.double() for t in tensors.values()), reduction=reduction, backend="cpu"))
    for other in results[1:]:
        assert_same(other, results[0])


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """Offsets beyond 32 bits, of a tensor that takes no memory."""
    n = 2**31 + 1029
    mu, logvar = torch.full((1,), 0.5).expand(n), torch.full((1,), -1.0).expand(n)
    each = gaussian_kl(mu[:1], logvar[:1], backend="cpu").double()
    assert gaussian_kl(mu, logvar, reduction="sum", backend="cpu").item() == pytest.approx(n * each.item(), rel=1e-6)


@pytest.mark.slow
@fast_targets
def test_strides_beyond_32_bits(target, tmp_path):
    """Rows 2^31 elements apart, in a file that is mostly hole."""
    if target.device != "cpu":
        pytest.skip("lives in a file")
    stride = 2**31 + 11
    tensors = {k: t.to(torch.bfloat16) for k, t in gaussians((2, 5), seed=3).items()}
    far = {}
    for name, t in tensors.items():
        (tmp_path / name).touch()
        whole = torch.from_file(str(tmp_path / name), shared=True, size=stride + 5, dtype=torch.bfloat16)
        far[name] = whole.as_strided((2, 5), (stride, 1)).copy_(t)
    marked, inputs = leaves(op, far)
    near, plain = leaves(op, tensors)
    outputs, expected = op.run(marked, {}, target.backend), op.run(near, {}, target.backend)
    for a, b in zip(outputs, expected, strict=True):
        assert_same(a, b)
    weights = [mixed_weights(o.shape, o.dtype) for o in outputs]
    for a, b in zip(
        torch.autograd.grad(outputs, inputs, weights), torch.autograd.grad(expected, plain, weights), strict=True
    ):
        assert_same(a, b)
