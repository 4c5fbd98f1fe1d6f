"""The CUDA sampler of MADE, executed on the host: it draws the samples of the naive engine."""

from __future__ import annotations

import dataclasses

import host_cuda
import pytest
import torch
from made_twins import CASES, twins
from pixel_twins import randomise
from sampling_check import check_made_samples
from test_sampling_made import kill_dead_weights, options, shuffle_degrees, wide

from pygen.models import MADE, _engines
from pygen.native import _dense_cuda as dense
from pygen.native import _sampling_dense_cuda as native

pytestmark = host_cuda.MARKS


@pytest.fixture
def cuda_on_host(monkeypatch):
    """Sends the cuda engine to the host build: two warps a block, which one image leaves one to help, four none."""
    module = host_cuda.module()
    dense.make_plan.cache_clear()
    monkeypatch.setattr(native, "target", lambda t: (module, (0, 0)))
    monkeypatch.setattr(dense, "THREADS", 64)
    engine = dataclasses.replace(_engines.ENGINES["cuda"], why_not=lambda model: None)
    monkeypatch.setitem(_engines.ENGINES, "cuda", engine)
    yield module
    dense.make_plan.cache_clear()


@pytest.fixture
def draw_with(monkeypatch):
    """Sets what `draw` chooses otherwise."""
    draw = native.draw
    return lambda **chosen: monkeypatch.setattr(native, "draw", lambda *args: draw(*args, **chosen))


@pytest.fixture
def small_buffers(monkeypatch):
    """Sets the room for two panels' triangles, and so the panels' steps; 0: none."""

    def set_room(size: int) -> None:
        dense.make_plan.cache_clear()
        monkeypatch.setattr(dense, "_BUFFERS_BYTES", size)

    return set_room


def panel(model) -> int:
    return native.make_plan(host_cuda.module(), model._program(0), 8).panel


@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("name", CASES)
def test_cuda_host_made_equals_naive_in_float64(name, shuffled):
    _, model = twins(name)
    if shuffled:
        shuffle_degrees(model)
    for n in (1, 7):
        for args in options(model, n):
            expected = model.sample(n, seed=3, engine="naive", **args)
            assert torch.equal(model.sample(n, seed=3, engine="cuda", **args), expected)


@pytest.mark.parametrize("name", CASES)
def test_cuda_host_made_in_float32_draws_what_the_noise_selects(name):
    truth, _ = twins(name)
    base, model = twins(name, torch.float32)
    for args in options(model, 24):
        verdict = check_made_samples(model.sample(24, seed=-2, engine="cuda", **args), truth, base, seed=-2, **args)
        assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 20, verdict


@pytest.mark.parametrize(
    ("name", "room", "steps"),
    [("panels", 48 << 10, 32), ("panels", 5000, 8), ("panels", 3000, 4), ("panels", 0, 0), ("levels", 48 << 10, 16),
     ("levels", 0, 0), ("int64", 48 << 10, 1), ("int64", 5000, 0), ("orders", 48 << 10, 32), ("few-units", 3000, 16)],
)  # fmt: skip
def test_cuda_host_made_equals_naive_in_panels_of_any_length(name, room, steps, small_buffers):
    """Several panels, one, and none: each layer by all warps. Units beyond a warp's lanes, levels beyond uint8."""
    small_buffers(room)
    for shuffled in (False, True):
        model = wide(name)
        if shuffled:
            shuffle_degrees(model)
        else:
            assert panel(model) == steps
        args = {"seed": 1, **options(model, 5)[1]}
        samples = model.sample(5, engine="cuda", **args)
        assert samples.dtype == (torch.uint8 if model.num_levels <= 256 else torch.int64)
        assert torch.equal(samples, model.sample(5, engine="naive", **args))


@pytest.mark.parametrize("num_levels", [3, 37, 256])
def test_cuda_host_made_of_many_levels(num_levels):
    model = randomise(MADE(6, (5, 9), num_levels=num_levels)).double()
    samples = model.sample(9, seed=1, engine="cuda")
    assert len(samples.unique()) > min(num_levels, 20) / 2
    assert torch.equal(samples, model.sample(9, seed=1, engine="naive"))


@pytest.mark.parametrize("room", [3000, 0])
def test_cuda_host_made_depends_on_neither_batch_nor_block_to_the_last_bit(
    room, small_buffers, draw_with, cuda_on_host
):
    """A large number common to all logits makes the last bits of sums decide: PyTorch's order of summation draws otherwise."""
    small_buffers(room)
    model = randomise(MADE(13, 40, num_levels=5))
    with torch.no_grad():
        model.layers[-1].weight.add_(1e6)
    whole = model.sample(17, seed=3, engine="cuda")
    assert (model.sample(17, seed=3, engine="naive") != whole).sum() > 10
    assert torch.equal(model.sample(2, seed=3, engine="cuda"), whole[:2])
    for images, threads in ((1, 32), (1, 160), (2, 96), (4, 128), (4, 160), (8, 32), (8, 384)):
        draw_with(images_per_block=images, threads=threads)
        assert torch.equal(model.sample(9, seed=3, engine="cuda"), whole[:9]), (images, threads)


@pytest.mark.parametrize("room", [48 << 10, 0])
def test_cuda_host_made_does_not_depend_on_where_images_lie(room, small_buffers, cuda_on_host, monkeypatch):
    """In shared memory, or in device memory where they do not fit."""

    class Limited:
        def __getattr__(self, name):
            return getattr(cuda_on_host, name)

        def sampling_limits(self, device):
            return 4, 0 if room == 0 else 34 << 10  # a little more than the buffers

    small_buffers(room)
    model = wide("orders")
    model.num_orders = 1
    expected = model.sample(5, seed=1, engine="cuda")
    monkeypatch.setattr(native, "target", lambda t: (Limited(), (0, 0)))
    assert torch.equal(model.sample(5, seed=1, engine="cuda"), expected)


def test_cuda_host_made_dead_weights_do_not_matter():
    for name in ("panels", "orders"):
        model = wide(name)
        model.num_orders = 1  # in raster order: of several orderings no weight is dead in all
        shuffle_degrees(model)
        expected = model.sample(5, seed=1, engine="naive")
        kill_dead_weights(model)
        assert torch.equal(model.sample(5, seed=1, engine="cuda"), expected)


@pytest.mark.parametrize("name", ["panels", "levels"])
def test_cuda_host_made_of_nan_draws_level_0(name):
    model = wide(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    assert (model.sample(3, seed=1, engine="cuda") == 0).all()


@pytest.mark.parametrize("room", [48 << 10, 5000, 0])
def test_cuda_host_made_of_infinite_weights_reads_none_before_its_source_is_known(room, small_buffers):
    """Infinity times a zero that stands for what is not yet known would be NaN; times a positive unit it makes a unit 0."""
    small_buffers(room)
    model = wide("panels")
    with torch.no_grad():
        model.layers[0].bias[::3] = 100
        model.layers[1].weight[::2, ::3] = -torch.inf
    expected = model.sample(5, seed=1, engine="naive")
    assert expected.any() and torch.equal(model.sample(5, seed=1, engine="cuda"), expected)


def test_cuda_host_made_reads_weights_anew_and_of_any_strides():
    model = wide("panels")
    before = model.sample(5, seed=1, engine="cuda")
    for layer in model.layers:
        layer.weight.data = layer.weight.data.T.contiguous().T
        layer.bias.data = torch.stack([layer.bias.data, layer.bias.data + 1], -1)[:, 0]
    assert torch.equal(model.sample(5, seed=1, engine="cuda"), before)
    for layer in model.layers:
        layer.weight.data.mul_(2)
    expected = model.sample(5, seed=1, engine="naive")
    assert torch.equal(model.sample(5, seed=1, engine="cuda"), expected) and not torch.equal(expected, before)


def test_cuda_host_made_chooses_images_by_processors_and_room(cuda_on_host):
    model = wide("panels", torch.float32)

    class Limited:
        room = 1 << 20

        def __getattr__(self, name):
            return getattr(cuda_on_host, name)

        def sampling_limits(self, device):
            return 4, self.room

    limited = Limited()

    def images(n: int, itemsize: int = 4) -> dense.Block:
        plan = native.make_plan(limited, model._program(0), itemsize)
        return dense.choose_block(limited, 0, plan, n)

    chosen = [images(n) for n in (1, 4, 5, 8, 9, 16, 17, 1000)]
    assert [block.images for block in chosen] == [1, 1, 2, 2, 4, 4, 8, 8] and all(block.in_shared for block in chosen)
    assert images(1000, 8).images == 4
    for most, block in ((8, chosen[-1]), (4, chosen[5]), (2, chosen[3]), (1, chosen[0])):
        limited.room = block.shared_bytes
        assert images(1000) == block and block.images == most
    limited.room -= 1
    assert not images(1000).in_shared and images(1000).images == cuda_on_host.dense_images_in_memory


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"threads": 40}, "threads: expected a multiple of 32, 32 .. 512, got 40"),
     ({"threads": 544}, "threads: expected a multiple of 32, 32 .. 512, got 544"),
     ({"threads": 32, "images_per_block": 3}, "images_per_block: expected 1, 2, 4 or, in float32, 8, got 3")],
    ids=["warps", "threads", "images"],
)  # fmt: skip
def test_cuda_host_made_refuses_blocks_that_it_has_not(chosen, message, draw_with):
    draw_with(**chosen)
    with pytest.raises(ValueError, match=message):
        wide("few-units", torch.float32).sample(1, engine="cuda")
