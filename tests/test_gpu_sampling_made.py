"""What only a GPU can show of MADE's CUDA sampler: real sizes, every block size, streams, weights that change."""

import pytest
import torch
from made_twins import CASES, twins
from pixel_twins import randomise
from sampling_check import check_made_samples
from test_sampling_made import kill_dead_weights, options, shuffle_degrees

import pygen
from pygen.models import MADE, _engines, _sampling
from pygen.native import _dense_cuda as dense
from pygen.native import _sampling_dense_cuda as native

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.skipif(pygen.backends()["cuda"] is not None, reason="needs the compiled CUDA module"),
]
each_case = pytest.mark.parametrize("name", CASES)
LARGE = {
    "binary": (784, (500, 500), 2),
    "levels": (64, (300, 70), 37),
    "bytes": (96, 128, 256),
    "int64": (5, (40, 9), 300),
}


def large(name, dtype):
    inputs, hidden, num_levels = LARGE[name]
    torch.manual_seed(0)
    return randomise(MADE(inputs, hidden, num_levels=num_levels)).to(dtype)


def on_gpu(args):
    return {key: t.cuda() if isinstance(t, torch.Tensor) else t for key, t in args.items()}


@each_case
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
def test_gpu_made_equals_naive_in_float64(name, shuffled):
    _, model = twins(name)
    if shuffled:
        shuffle_degrees(model)
    for n in (1, 17, 1000):
        for args in map(on_gpu, options(model, n)):
            drawn = [model.cuda().sample(n, seed=3, engine=engine, **args) for engine in ("naive", "cuda")]
            assert torch.equal(*drawn)


@pytest.mark.parametrize("name", LARGE)
def test_gpu_made_draws_what_the_noise_selects_at_real_sizes(name):
    truth, base = large(name, torch.float64), large(name, torch.float32)
    model = large(name, torch.float32).cuda()
    for args in options(model, 64):
        samples = model.sample(64, seed=3, engine="cuda", **on_gpu(args))
        verdict = check_made_samples(samples.cpu(), truth, base, seed=3, **args)
        assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 20, verdict


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("room", [48 << 10, 6000, 0])
def test_gpu_made_depends_on_neither_batch_nor_block_to_the_last_bit(name, dtype, room, monkeypatch):
    """Panels of several lengths and none; blocks of every size; weights so large that last bits decide."""
    monkeypatch.setattr(dense, "_BUFFERS_BYTES", room)
    dense.make_plan.cache_clear()
    model = large(name, dtype).cuda()
    if model.num_levels > 2:
        with torch.no_grad():
            model.layers[-1].weight.add_(1e6 if dtype == torch.float32 else 1e14)
    draw = native.draw
    whole = model.sample(1100, seed=3, engine="cuda")
    assert torch.equal(model.sample(1100, seed=3, engine="cuda"), whole)
    for images in (1, 2, 4) if dtype == torch.float64 else (1, 2, 4, 8):
        for threads in (32, 64, 256):
            chosen = {"images_per_block": images, "threads": threads}
            monkeypatch.setattr(native, "draw", lambda *args, chosen=chosen: draw(*args, **chosen))
            assert torch.equal(model.sample(33, seed=3, engine="cuda"), whole[:33]), chosen
    dense.make_plan.cache_clear()


@pytest.mark.parametrize("name", ["binary", "bytes"])
def test_gpu_made_in_device_memory_draws_the_same(name, monkeypatch):
    """As where not even one image fits into shared memory."""
    model = large(name, torch.float32).cuda()
    expected = model.sample(9, seed=3, engine="cuda")
    compiled, _ = native.target(expected)
    plan = native.make_plan(compiled, model._program(0), 4)

    class Limited:
        def __getattr__(self, attribute):
            return getattr(compiled, attribute)

        def sampling_limits(self, device):
            return 132, 2 * plan.steps_at  # of a buffer, without its steps

    target = native.target
    monkeypatch.setattr(native, "target", lambda t: (Limited(), target(t)[1]))
    assert torch.equal(model.sample(9, seed=3, engine="cuda"), expected)


def test_gpu_made_dead_weights_do_not_matter():
    model = large("binary", torch.float32).cuda()
    expected = model.sample(9, seed=1, engine="cuda")
    kill_dead_weights(model.cpu())
    assert torch.equal(model.cuda().sample(9, seed=1, engine="cuda"), expected)


def test_gpu_made_follows_the_stream_and_reads_weights_anew():
    model = large("binary", torch.float32).cuda()
    first = model.sample(64, seed=5, engine="cuda")
    for p in model.parameters():
        p.data.mul_(0.5)
    changed = model.sample(64, seed=5, engine="cuda")
    for p in model.parameters():
        p.data.mul_(2)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        for p in model.parameters():
            p.data.mul_(0.5)
        late = model.sample(64, seed=5, engine="cuda")
    torch.cuda.synchronize()
    assert torch.equal(late, changed) and not torch.equal(changed, first)


def test_gpu_noise_is_that_of_tensors_bit_for_bit():
    for seed in (0, -1, 2**63 - 1, -(2**63)):
        for n, draws in ((0, 3), (3, 0), (1, 1), (17, 785), (3, 1_000_001)):
            where = torch.tensor(seed, device="cuda")
            expected = _sampling.uniforms_of_tensors(n, draws, torch.tensor(seed))
            assert torch.equal(_sampling.uniforms(n, draws, where).cpu(), expected), (seed, n, draws)


def test_gpu_made_takes_cuda_where_it_can():
    model = MADE(9, 12).cuda()
    assert _engines.choose(model, None) == "cuda"
    assert _engines.choose(model.bfloat16(), None) == "cached"
