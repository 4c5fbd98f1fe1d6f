"""What only a GPU can show of the CUDA sampler: the images that the noise selects at real sizes, streams, every block size."""

from functools import partial

import pytest
import torch
from pixel_twins import CASES, RECURRENT, SINGLE_SCALE, twins
from sampling_check import check_samples

import pygen
from pygen import models
from pygen.models import _engines
from pygen.native import _sampling_cluster, _sampling_scales

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.skipif(pygen.backends()["cuda"] is not None, reason="needs the compiled CUDA module"),
]
each_case = pytest.mark.parametrize("name", [*SINGLE_SCALE, *RECURRENT])


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_case
def test_gpu_sampler_draws_what_the_noise_selects(name, dtype):
    if name in RECURRENT and dtype is not torch.float32:
        pytest.skip("the cuda engine draws PixelRNN in float32 and float64")
    plain, model = on_gpu(name, dtype)
    truth = twins(name)[0].to(dtype).double()
    n, shape = 64, (9, 8)
    cond = CASES[name].conditions(n, *shape)
    given = {} if cond is None else {"cond": cond.to(dtype) if cond.is_floating_point() else cond}
    images = model.sample(n, shape, seed=3, engine="cuda", **{k: c.cuda() for k, c in given.items()})
    verdict = check_samples(images.cpu(), truth, plain.cpu(), seed=3, **given)
    assert verdict.wrong == 0, verdict


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.name == "PixelCNNPP"])
def test_gpu_sampler_of_several_scales_draws_what_the_noise_selects(name, dtype):
    """PixelCNN++; by itself, and with pixels that are known and a temperature. In float64 it is left to 'cached'."""
    plain, model = on_gpu(name, dtype)
    truth, plain = twins(name)[0].to(dtype).double(), plain.cpu()
    n, shape = 64, (9, 8)
    cond = CASES[name].conditions(n, *shape)
    given = {} if cond is None else {"cond": cond.to(dtype) if cond.is_floating_point() else cond}
    known = CASES[name].images(n, *shape, seed=9)
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    for args in ({}, {"known": known, "known_mask": mask, "temperature": 0.7}):
        on_device = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in {**given, **args}.items()}
        images = model.sample(n, shape, seed=3, engine="cuda", **on_device)
        verdict = check_samples(images.cpu(), truth, plain, seed=3, **given, **args)
        assert verdict.wrong == 0, verdict


@pytest.mark.slow
@pytest.mark.parametrize("messages", [True, False], ids=["messages", "barrier"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gpu_sampler_of_several_scales_draws_the_same_in_every_cluster(dtype, messages, monkeypatch):
    """Weights that do not all fit; clusters whose last one is smaller; early steps by tiles of their own and without."""
    torch.manual_seed(0)
    model = models.PixelCNNPP(hidden_channels=80, num_resnets=2, weight_norm=False).to("cuda", dtype)
    draw, drawn = _sampling_scales.draw, []
    for size in sizes(pygen._backends.compiled("_cuda")):
        how = {"size": size, "images": 12 if size % 4 else 17, "messages": messages, "staged": size != 4}
        monkeypatch.setattr(_sampling_scales, "draw", partial(draw, **how))
        drawn.append(model.sample(40, (8, 8), seed=5, engine="cuda"))
        assert torch.equal(drawn[0], drawn[-1]), size
    if torch.cuda.get_device_capability() == (9, 0):
        assert len(drawn) == 5


def sizes(compiled):
    """Of clusters, those that this device runs."""
    return [size for size in _sampling_cluster.SIZES if compiled.sampling_clusters(0, "bfloat16", size, 256, 100 << 10)]


@pytest.mark.slow
@pytest.mark.parametrize("messages", [True, False], ids=["messages", "barrier"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gpu_sampler_draws_the_same_in_every_cluster(dtype, messages, monkeypatch):
    """As many blocks as the device's clusters may have; colour groups; at a size where weights do not all fit."""
    torch.manual_seed(0)
    model = models.GatedPixelCNN(3, color_groups=3, hidden_channels=66, num_blocks=4, num_levels=256).to("cuda", dtype)
    draw, drawn = _sampling_cluster.draw, []
    for size in sizes(pygen._backends.compiled("_cuda")):
        how = {"size": size, "images": 12 if size % 4 else 17, "messages": messages}
        monkeypatch.setattr(_sampling_cluster, "draw", partial(draw, **how))
        drawn.append(model.sample(40, (8, 8), seed=5, engine="cuda"))
        assert torch.equal(drawn[0], drawn[-1]), size
    if torch.cuda.get_device_capability() == (9, 0):
        assert len(drawn) == 5


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
    assert _engines.choose(model.bfloat16(), None) == "cuda"
