"""Sums that no kernel makes: their bits do not depend on the number of threads, nor what is summed on the numbers' layout."""

import pytest
import torch
from support import assert_same, isas, threads

from pygen import _sums
from pygen.functional import bernoulli_nll, gaussian_kl, masked_conv2d, nade_nll, rbm_free_energy

pytestmark = pytest.mark.skipif(not isas(), reason="the C++ module did not load")
COUNTS = (2, 3, 5, 8)  # 37 columns are cut in the middle of a vector by some of them


def rbm():
    parameters = [t.requires_grad_() for t in (torch.randn(20, 37), torch.randn(37), torch.randn(20))]
    return torch.autograd.grad(rbm_free_energy(torch.randn(1000, 37) > 0, *parameters), parameters)


def nade():
    parameters = [
        t.requires_grad_() for t in (0.1 * torch.randn(37, 20), torch.randn(20), torch.randn(37, 20), torch.randn(37))
    ]
    return torch.autograd.grad(nade_nll(torch.randn(1000, 37) > 0, *parameters), parameters)


def prior(*like):
    def run():
        priors = [torch.zeros(like, requires_grad=True) for _ in range(2)]
        mu = torch.randn(6, 200, 37)
        return torch.autograd.grad(gaussian_kl(mu, torch.zeros_like(mu), *priors, reduction="sum"), priors)

    return run


def soft_targets():
    x = torch.rand(37, requires_grad=True)
    return torch.autograd.grad(bernoulli_nll(torch.randn(1000, 37), x, reduction="sum"), x)


def bias_of_channels_last():
    bias = torch.zeros(37, requires_grad=True)
    images = torch.randn(4, 37, 20, 20).to(memory_format=torch.channels_last)
    return torch.autograd.grad(masked_conv2d(images, torch.randn(37, 37, 3, 3), bias, mask_type="B"), bias, images)


CALLS = {
    "rbm_free_energy": rbm,
    "nade_nll": nade,
    "gaussian_kl, a prior for all": prior(37),
    "gaussian_kl, a prior in the middle": prior(6, 1, 37),
    "bernoulli_nll": soft_targets,
    "masked_conv2d": bias_of_channels_last,
}


@pytest.mark.parametrize("name", CALLS)
def test_sums_over_the_batch_repeat_at_any_thread_count(name):
    found = []
    for count in (1, *COUNTS):
        with threads(count):
            torch.manual_seed(3)
            found.append(CALLS[name]())
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
@pytest.mark.parametrize("like", ((37,), (1, 37), (6, 1, 37), (6, 200, 1), (200, 1), (1, 200, 1), (1,), ()), ids=str)
def test_gradients_of_broadcasting_are_sums(like, dtype):
    full = torch.randn(6, 200, 37).to(dtype)
    for given in (full, full.transpose(0, 1).contiguous().transpose(0, 1)):
        got = _sums.sum_to(given, torch.empty(like, dtype=dtype))
        expected = full.double().sum_to_size(like)
        assert got.shape == expected.shape and got.is_contiguous()
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(got.double(), expected, rtol=2 * eps, atol=60 * eps * full.shape[1] ** 0.5)
