"""What only a GPU can show of the CUDA sampler: the images that the noise selects at real sizes, streams, every block size."""

import pytest
import torch
from pixel_twins import CASES, twins
from sampling_check import check_samples

import pygen
from pygen import models
from pygen.models import _engines

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.skipif(pygen.backends()["cuda"] is not None, reason="needs the compiled CUDA module"),
]
each_case = pytest.mark.parametrize("name", CASES)


def on_gpu(name, dtype):
    plain, model = twins(name, dtype)
    return plain.cuda(), model.cuda()


@each_case
def test_gpu_sampler_equals_naive_in_float64(name):
    """Everything that an image can be given: a condition, known pixels, a temperature."""
    _, model = on_gpu(name, torch.float64)
    n, shape = 9, (7, 6)
    known = CASES[name].images(n, *shape, seed=9).cuda()
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)).cuda() < 0.4
    cond = CASES[name].conditions(n, *shape)
    cond = cond if cond is None else cond.cuda()
    for args in ({}, {"known": known, "known_mask": mask, "temperature": 0.7}):
        ours = model.sample(n, shape, cond=cond, seed=3, engine="cuda", **args)
        assert torch.equal(ours, model.sample(n, shape, cond=cond, seed=3, engine="naive", **args))


@each_case
def test_gpu_sampler_draws_what_the_noise_selects(name):
    plain, model = on_gpu(name, torch.float32)
    truth, _ = twins(name)
    n, shape = 64, (9, 8)
    cond = CASES[name].conditions(n, *shape)
    given = {} if cond is None else {"cond": cond.float() if cond.is_floating_point() else cond}
    images = model.sample(n, shape, seed=3, engine="cuda", **{k: c.cuda() for k, c in given.items()})
    verdict = check_samples(images.cpu(), truth, plain.cpu(), seed=3, **given)
    assert verdict.wrong == 0, verdict


@pytest.mark.slow
def test_gpu_sampler_at_real_sizes_repeats_and_follows_the_stream():
    """28x28, 64 channels, 7 blocks: weights beyond shared memory, several images a block; an image alone is the same."""
    torch.manual_seed(0)
    model = models.GatedPixelCNN(hidden_channels=64).cuda()
    first = model.sample(200, (28, 28), seed=5, engine="cuda")
    assert torch.equal(model.sample(3, (28, 28), seed=5, engine="cuda"), first[:3])
    assert torch.equal(model.sample(200, (28, 28), seed=5, engine="cuda"), first)
    side = torch.cuda.Stream()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    changed = model.sample(200, (28, 28), seed=5, engine="cuda")
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    torch.cuda.synchronize()
    with torch.cuda.stream(side), torch.no_grad():
        torch.cuda._sleep(50_000_000)
        for p in model.parameters():
            p.mul_(0.5)
        late = model.sample(200, (28, 28), seed=5, engine="cuda")
    torch.cuda.synchronize()
    assert torch.equal(late, changed) and not torch.equal(changed, first)


def test_gpu_sampler_is_the_default_where_it_can_run():
    _, model = on_gpu("gated", torch.float32)
    assert _engines.choose(model, None) == "cuda"
    assert _engines.choose(model.bfloat16(), None) == "cached"
