"""The CUDA sampler of any program, executed on the host: it draws the images of the naive engine."""

from __future__ import annotations

import dataclasses
import itertools

import host_cuda
import pytest
import torch
from pixel_twins import CASES, RECURRENT, SINGLE_SCALE, twins
from sampling_check import check_samples
from torch import Tensor, nn

from pygen.models import _engines, _sampling
from pygen.models._program import Unsupported
from pygen.native import _sampling_cluster
from pygen.native import _sampling_cuda as native
from pygen.native import sampling as noise

pytestmark = host_cuda.MARKS
SEED = 3


@pytest.fixture
def cuda_on_host(monkeypatch):
    """Sends the cuda engine to the host build."""
    module = host_cuda.module()
    monkeypatch.setattr(native, "target", lambda t: (module, 0, 0))
    monkeypatch.setattr(native, "THREADS", 32)
    monkeypatch.setattr(_sampling_cluster, "draw", leave_it)  # tests/test_cuda_host_sampling_cluster.py
    engine = dataclasses.replace(_engines.ENGINES["cuda"], why_not=lambda model: None)
    monkeypatch.setitem(_engines.ENGINES, "cuda", engine)
    return module


def leave_it(*args: object) -> None:
    raise Unsupported


def sample(model: nn.Module, n: int, shape: tuple[int, int], engine: str, **args: object) -> Tensor:
    return model.sample(n, shape, seed=SEED, engine=engine, **args)


@pytest.mark.parametrize("name", [*SINGLE_SCALE, *RECURRENT])
def test_cuda_host_sampler_equals_naive_in_float64(name):
    _, model = twins(name)
    n, shape = 3, (3, 4)
    known = CASES[name].images(n, *shape, seed=9)
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    cond = CASES[name].conditions(n, *shape)
    for args in ({}, {"known": known, "known_mask": mask, "temperature": 0.7}):
        ours = sample(model, n, shape, "cuda", cond=cond, **args)
        assert torch.equal(ours, sample(model, n, shape, "naive", cond=cond, **args))


@pytest.mark.parametrize("name", ["gated", "plain-rgb", "rnn"])
def test_cuda_host_sampler_in_float32_draws_what_the_noise_selects(name):
    plain, model = twins(name, torch.float32)
    truth, _ = twins(name)
    images = sample(model, 24, (4, 3), "cuda")
    verdict = check_samples(images, truth, plain, seed=SEED)
    assert verdict.fine, verdict


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1)], ids=str)
@pytest.mark.parametrize("name", ["gated-k5", "rnn", "rnn-row-grey"])
def test_cuda_host_sampler_of_thin_images(name, shape):
    _, model = twins(name)
    assert torch.equal(sample(model, 2, shape, "cuda"), sample(model, 2, shape, "naive"))


@pytest.mark.parametrize("num_levels", [37, 300])
def test_cuda_host_sampler_of_many_levels(num_levels):
    """Several a lane, and beyond uint8."""
    _, model = twins("plain-no-block", num_levels=num_levels) if num_levels == 37 else twins("plain-no-block")
    if num_levels == 300:
        from pygen import models

        torch.manual_seed(0)
        model = models.PixelCNN(hidden_channels=4, num_blocks=0, num_levels=300).double()
    ours = sample(model, 5, (3, 3), "cuda")
    assert ours.dtype == (torch.uint8 if num_levels <= 256 else torch.int64) and len(ours.unique()) > 5
    assert torch.equal(ours, sample(model, 5, (3, 3), "naive"))


@pytest.mark.parametrize(
    ("name", "images", "shared_bytes"),
    [*itertools.product(["gated-rgb"], [1, 3, 6], [0, 600, 3000, 1 << 16]), ("rnn", 1, 0), ("rnn", 3, 600)],
)
def test_cuda_host_sampler_does_not_depend_on_where_things_lie(name, images, shared_bytes, cuda_on_host, monkeypatch):
    """Images a block, and what of weights and rows fits into shared memory."""

    class Limited:
        def __getattr__(self, name):
            return getattr(cuda_on_host, name)

        def sampling_limits(self, device):
            return 4, shared_bytes

    _, model = twins(name, torch.float32)
    expected = sample(model, 6, (3, 3), "cuda")
    monkeypatch.setattr(native, "target", lambda t: (Limited(), 0, 0))
    low = native.lower(Limited(), model._program(None), 3, images, shared_bytes)
    assert (low.shared_ring_size > 0) == (shared_bytes > 0) and (low.ring_size > 0) == (shared_bytes < 1 << 16)
    draw = native.draw
    monkeypatch.setattr(native, "draw", lambda *args: draw(*args, images_per_block=images, threads=64))
    assert torch.equal(sample(model, 6, (3, 3), "cuda"), expected)


def test_cuda_host_sampler_leaves_recurrent_programs_to_its_simple_kernel(cuda_on_host):
    _, model = twins("rnn", torch.float32)
    with pytest.raises(Unsupported):
        _sampling_cluster.structure(model._program(None))


def test_cuda_host_sampler_refuses_a_block_that_is_no_whole_warps(monkeypatch):
    _, model = twins("plain")
    monkeypatch.setattr(native, "THREADS", 40)
    with pytest.raises(ValueError, match=r"threads: expected a multiple of 32, 32 .. 256, got 40"):
        sample(model, 1, (2, 2), "cuda")


def test_cuda_host_noise_is_that_of_tensors_bit_for_bit(cuda_on_host, monkeypatch):
    monkeypatch.setattr(noise, "target", lambda t: (cuda_on_host, (0, 0)))
    for seed in (0, -1, 2**63 - 1, -(2**63), 1 << 32):
        for n, draws in ((0, 3), (3, 0), (1, 1), (2, 5), (17, 785)):
            ours = noise.uniforms(n, draws, torch.tensor(seed))
            assert torch.equal(ours, _sampling.uniforms_of_tensors(n, draws, torch.tensor(seed))), (seed, n, draws)
