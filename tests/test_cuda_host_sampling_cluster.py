"""The CUDA sampler on tensor cores, executed on the host: clusters of blocks that run together."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import host_cuda
import numpy as np
import pytest
import torch
from pixel_twins import CASES, SINGLE_SCALE, randomise, twins
from sampling_check import check_samples
from torch import Tensor, nn

from pygen import models
from pygen.models import _engines
from pygen.models._builder import Builder
from pygen.models._program import Unsupported
from pygen.native import _sampling_cluster as native
from pygen.native import _sampling_cluster_plan, _sampling_cuda
from pygen.reference import models as plain_models

pytestmark = host_cuda.MARKS
SEED = 3
N = 9


@pytest.fixture
def cuda_on_host(monkeypatch):
    """Sends the cuda engine to the host build, of a GPU that has clusters."""
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")
    module = host_cuda.module()
    monkeypatch.setattr(_sampling_cuda, "target", lambda t: (module, 0, 0))
    monkeypatch.setattr(native, "THREADS", 32)
    engine = dataclasses.replace(_engines.ENGINES["cuda"], why_not=lambda model: None)
    monkeypatch.setitem(_engines.ENGINES, "cuda", engine)
    return module


@pytest.fixture
def run_as(monkeypatch):
    """Chooses blocks a cluster, images a cluster, threads a block."""
    draw = native.draw
    return lambda **how: monkeypatch.setattr(native, "draw", partial(draw, **how))


class Limited:
    """The module on a device whose blocks have so much shared memory."""

    def __init__(self, module: object, shared_bytes: int) -> None:
        self._module, self._shared_bytes = module, shared_bytes

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)

    def sampling_limits(self, device: int) -> tuple[int, int]:
        return 4, self._shared_bytes


def sample(model: nn.Module, n: int, shape: tuple[int, int], engine: str = "cuda", **args: object) -> Tensor:
    return model.sample(n, shape, seed=SEED, engine=engine, **args)


def conditions(name: str, shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """As they are, and in the model's dtype."""
    cond = CASES[name].conditions(N, *shape)
    return cond, cond.to(dtype) if cond is not None and cond.is_floating_point() else cond


@pytest.mark.parametrize("name", SINGLE_SCALE)
def test_cuda_host_cluster_sampler_draws_what_the_noise_selects(name, run_as):
    """By itself, and by two blocks with pixels that are known and a temperature."""
    plain, model = twins(name, torch.float32)
    truth, _ = twins(name)
    shape = (3, 5)
    cond, own = conditions(name, shape, torch.float32)
    known = CASES[name].images(N, *shape, seed=9)
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    for size, args in ((1, {}), (2, {"known": known, "known_mask": mask, "temperature": 0.7})):
        run_as(size=size, images=5)
        verdict = check_samples(sample(model, N, shape, cond=own, **args), truth, plain, seed=SEED, cond=cond, **args)
        assert verdict.fine, verdict


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["plain-rgb", "gated", "gated-map"])
def test_cuda_host_cluster_sampler_in_low_precision(name, dtype, run_as):
    plain, model = twins(name, dtype)
    truth = twins(name)[0].to(dtype).double()
    cond, own = conditions(name, (3, 4), dtype)
    run_as(size=2, images=9)
    verdict = check_samples(sample(model, N, (3, 4), cond=own), truth, plain, seed=SEED, cond=cond)
    assert verdict.wrong == 0 and verdict.undecided < 0.7 * verdict.positions, verdict


WIDE = {
    # Several runs of channels, more than kSums of them; tiles that the blocks share out unevenly.
    "gated": ("GatedPixelCNN", {"hidden_channels": 70, "num_blocks": 2, "first_kernel_size": 5, "num_levels": 3}),
    "rgb": (
        "GatedPixelCNN",
        {"in_channels": 3, "color_groups": 3, "hidden_channels": 66, "num_blocks": 1, "num_levels": 4},
    ),
    "plain": ("PixelCNN", {"hidden_channels": 48, "num_blocks": 1, "kernel_size": 5, "num_levels": 20}),
}


def wide(name: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    kind, options = WIDE[name]
    plain, ours = getattr(plain_models, kind)(**options), getattr(models, kind)(**options)
    randomise(plain)
    ours.load_state_dict(plain.state_dict())
    return plain.to(dtype), ours.to(dtype)


@pytest.mark.parametrize("name", WIDE)
def test_cuda_host_cluster_sampler_of_wide_models_in_any_cluster(name, run_as):
    """Equal bits however many blocks, images and threads draw together, and what the noise selects."""
    plain, model = wide(name, torch.float32)
    truth, _ = wide(name, torch.float64)
    shape = (2, 3) if name == "plain" else (2, 2)
    run_as(size=1)
    expected = sample(model, 9, shape)
    verdict = check_samples(expected, truth, plain, seed=SEED)
    assert verdict.wrong == 0, verdict
    for how in (
        {"size": 2, "images": 9, "messages": False},
        {"size": 16 if name == "plain" else 4, "images": 9},  # blocks without tiles, or tiles dealt out unevenly
        {"size": 1, "images": 4, "threads": 128},
    ):
        run_as(**how)
        assert torch.equal(sample(model, 9, shape), expected), how
    assert torch.equal(sample(model, 2, shape), expected[:2])


@pytest.mark.parametrize("dtype, messages", [(torch.bfloat16, True), (torch.float16, False)], ids=str)
def test_cuda_host_cluster_sampler_does_not_depend_on_the_cluster_in_low_precision(dtype, messages, run_as):
    _, model = wide("rgb", dtype)
    run_as(size=1)
    expected = sample(model, 9, (2, 2))
    run_as(size=8, images=9, messages=messages)
    assert torch.equal(sample(model, 9, (2, 2)), expected)


def test_cuda_host_cluster_sampler_of_rows_beyond_a_tile(run_as):
    """More pixels in a row of all images than a block works on at once."""
    plain, model = twins("gated", torch.float32)
    truth, _ = twins("gated")
    for threads, size in ((32, 1), (128, 2)):
        run_as(size=size, images=2, threads=threads)
        verdict = check_samples(sample(model, 2, (2, 40)), truth, plain, seed=SEED)
        assert verdict.wrong == 0, verdict


def test_cuda_host_cluster_sampler_of_clusters_beyond_eight_images(run_as):
    """Two clusters, of which the last one has fewer images, and fewer eights of them; blocks that decide several."""
    plain, model = twins("gated-k5", torch.float32)
    truth, _ = twins("gated-k5")
    run_as(size=2, images=12)
    verdict = check_samples(sample(model, 20, (2, 4)), truth, plain, seed=SEED)
    assert verdict.wrong == 0, verdict


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1)], ids=str)
def test_cuda_host_cluster_sampler_of_thin_images(shape):
    plain, model = twins("gated-k5", torch.float32)
    truth, _ = twins("gated-k5")
    verdict = check_samples(sample(model, 20, shape), truth, plain, seed=SEED)
    assert verdict.wrong == 0, verdict


def test_cuda_host_cluster_sampler_of_many_levels():
    torch.manual_seed(0)
    model = models.PixelCNN(hidden_channels=4, num_blocks=0, num_levels=300)
    plain = plain_models.PixelCNN(hidden_channels=4, num_blocks=0, num_levels=300)
    plain.load_state_dict(model.state_dict())
    ours = sample(model, 5, (3, 3))
    truth = plain_models.PixelCNN(hidden_channels=4, num_blocks=0, num_levels=300)
    truth.load_state_dict(model.state_dict())
    assert ours.dtype == torch.int64 and len(ours.unique()) > 5
    verdict = check_samples(ours, truth.double(), plain, seed=SEED)
    assert verdict.wrong == 0, verdict


def test_cuda_host_cluster_sampler_reads_what_has_no_room_from_memory(cuda_on_host, monkeypatch, run_as):
    """Weights in shared memory as far as they fit: all, some, none."""
    _, model = wide("gated", torch.bfloat16)
    expected = sample(model, 3, (2, 4))
    plan = native.make_plan(model._program(None), 4)
    found = native.lay_out(cuda_on_host, plan, 1, 3, 227 << 10)
    assert found is not None
    least, resident = found[0].bytes - found[0].resident_bytes, []
    for room in (227 << 10, least + (40 << 10), least):
        found = native.lay_out(cuda_on_host, plan, 1, 3, room)
        assert found is not None and found[0].bytes <= room
        resident.append(found[0].resident_bytes)
        monkeypatch.setattr(_sampling_cuda, "target", lambda t, room=room: (Limited(cuda_on_host, room), 0, 0))
        run_as(size=1, images=3)
        assert torch.equal(sample(model, 3, (2, 4)), expected)
    late = sum(row["tiles"] * row["blocks"] for row in plan.late) * 1024
    assert resident == [min(late, (227 << 10) - least), 40 << 10, 0] and resident[0] > 40 << 10
    assert native.lay_out(cuda_on_host, plan, 1, 3, least - 16) is None


@pytest.mark.parametrize("name", ["gated", "plain"])  # what is pushed is read once more, to be added, or not
def test_cuda_host_cluster_sampler_shares_out_buffers_without_overlaps(name):
    """A stream's place is not written while another one's is read there."""
    _, model = wide(name, torch.float32)
    program = model._program(None)
    plan = native.make_plan(program, 4)
    late = [s for s in _sampling_cluster_plan._joined(program) if not program.early[s.out]]
    size = sum(pitch for _, pitch in plan.buffers.values())
    assert plan.buffer_bytes < size and len(late) == len(plan.late)
    content: dict[int, int] = {}  # byte -> the stream that was written there last
    for x in range(2):
        for t, step in enumerate(late):
            behind = late[t - 1] if t > 0 and any(tap != (0, 0) for tap in late[t - 1].conv.taps) else None
            if step is not late[-1]:
                at, pitch = plan.buffers[step.out]
                content |= dict.fromkeys(range(at, at + pitch), step.out)
            for reader in (step, behind):
                for s in () if reader is None else (reader.conv.source, reader.conv.add):
                    if s in plan.buffers and (s != 0 or x > 0):
                        at, pitch = plan.buffers[s]
                        assert all(content[b] == s for b in range(at, at + pitch)), (t, s)
        at, pitch = plan.buffers[0]
        content |= dict.fromkeys(range(at, at + pitch), 0)


@pytest.mark.parametrize("size", [4, 16])
def test_cuda_host_cluster_sampler_deals_out_tiles_into_the_memory_they_have(size, cuda_on_host, monkeypatch):
    """The largest block's share, as share_out of sampling_cluster.cuh makes it, is just what there is."""
    tables, calls, table = [], [], native._table

    class Recorder(Limited):
        def sampling_cluster_draw(self, *call: object) -> None:
            calls.append(call)

    monkeypatch.setattr(native, "_table", lambda fields, rows: tables.append(rows) or table(fields, rows))
    _, model = wide("plain", torch.float32)
    levels = torch.zeros(9, 1, 2, 3, dtype=torch.uint8)
    compiled = Recorder(cuda_on_host, 227 << 10)
    native.draw(compiled, 0, 0, model._program(None), levels, (), size=size, images=9)
    late, layout = [row for row in tables[0] if "turn" in row], native.Layout(*calls[0][-3])
    shares = [[len(range((rank + row["turn"]) % size, row["tiles"], size)) for row in late] for rank in range(size)]
    tile = 16 * (16 + 4) * 4  # bytes of sums of 9 images, filled up, and of what keeps banks apart

    def most(of_tile: list[int]) -> int:
        return max(sum(count * each for count, each in zip(own, of_tile, strict=True)) for own in shares)

    assert most([row["blocks"] * 1024 for row in late]) == layout.resident_bytes
    assert most([row["depth"] * tile for row in late]) == layout.sums - layout.rings
    assert max(map(max, shares)) * 4 * tile == layout.logits - layout.sums


def test_cuda_host_cluster_sampler_refuses_rows_that_its_places_cannot_count():
    program = twins("plain", torch.float32)[1]._program(None)
    native.make_plan(program, 32767)
    with pytest.raises(Unsupported, match="32767"):
        native.make_plan(program, 32768)


def test_cuda_host_cluster_sampler_keeps_plans_between_calls_and_nothing_of_weights(monkeypatch):
    """Two models of one form, other conditions, weights that change in place: as if nothing were kept."""
    (_, first), (_, second) = (twins("gated-features", torch.float32) for _ in range(2))
    randomise(second, seed=1)
    cond = CASES["gated-features"].conditions(3, 2, 3).float()
    monkeypatch.setattr(native, "_READY", {})
    made, make = [], native.make_ready
    monkeypatch.setattr(native, "make_ready", lambda *args: made.append(args) or make(*args))
    drawn = [sample(model, 3, (2, 3), cond=cond) for model in (first, second)]
    with torch.no_grad():
        first.head[3].bias.add_(torch.tensor([3.0, -3.0]))
    drawn.append(sample(first, 3, (2, 3), cond=cond))
    assert len(made) == 1
    drawn.append(sample(first, 3, (2, 3), cond=2 * cond))
    for model, c, images in ((second, cond, drawn[1]), (first, cond, drawn[2]), (first, 2 * cond, drawn[3])):
        native._READY.clear()
        assert torch.equal(sample(model, 3, (2, 3), cond=c), images)
    assert not torch.equal(drawn[0], drawn[2])


def test_cuda_host_cluster_sampler_tables_have_the_layout_of_their_structs(cuda_on_host):
    sizes = [
        native._dtype(f).itemsize for f in (cuda_on_host.sampling_step_fields, cuda_on_host.sampling_segment_fields)
    ]
    assert tuple(sizes) == cuda_on_host.sampling_struct_bytes
    table = native._table("a:4 b:8", [{"b": 7}, {"a": 3}])
    assert np.array_equal(table.view(np.int64), [0, 7, 3, 0])


def test_cuda_host_cluster_sampler_plans_with_the_numbers_of_its_kernel():
    sources = (host_cuda.ROOT / "csrc" / "cuda").glob("sampling_*.*h")
    stated = dict(re.findall(r"\b(k[A-Z]\w+) = (\d+)[,;]", "".join(source.read_text() for source in sources)))
    plan = _sampling_cluster_plan
    pairs = {"kSums": native.SUMS, "kFetched": native.FETCHED, "kWarpPixels": native.PIXELS, "kTileBytes": plan.TILE}
    pairs |= {"kBlockBytes": native._RUN, "kChannelsSent": plan.SENT, "kPushAfter": plan._PUSH_AFTER}
    pairs |= {"kPushNext": plan._PUSH_NEXT, "kEmptyMessage": native.MESSAGE_BYTES - 16}
    assert {name: int(stated[name]) for name in pairs} == pairs and plan._RUN == native._RUN


def test_cuda_host_cluster_sampler_prefers_clusters_for_weights_that_one_block_cannot_keep(cuda_on_host):
    small, large = (models.GatedPixelCNN(hidden_channels=c).bfloat16() for c in (32, 128))
    sizes = []
    for model in (small, large):
        plan = native.make_plan(model._program(None), 28)
        module = LikeH200(cuda_on_host)
        sizes.append(native.choose(module, 0, plan, 256, None, None, 256)[0])
    assert sizes[0] == 1 and sizes[1] > 1


class LikeH200(Limited):
    def __init__(self, module: object) -> None:
        super().__init__(module, 227 << 10)

    def sampling_clusters(self, device: int, dtype: str, size: int, threads: int, shared_bytes: int) -> int:
        return 132 // size


def test_cuda_host_cluster_sampler_is_of_one_block_where_there_are_no_clusters(cuda_on_host, monkeypatch):
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "8")
    _, model = twins("plain-no-block", torch.bfloat16)
    plan, room = native.make_plan(model._program(None), 3), 64 << 10
    at_once = [cuda_on_host.sampling_clusters(0, "bfloat16", size, 32, room) for size in native.SIZES]
    assert at_once == [4, 0, 0, 0, 0] and native.choose(cuda_on_host, 0, plan, 9, None, None, 32)[0] == 1
    assert sample(model, 3, (2, 3)).shape == (3, 1, 2, 3)
    with pytest.raises(Unsupported):
        native.choose(cuda_on_host, 0, plan, 9, 2, None, 32)


def test_cuda_host_cluster_sampler_leaves_other_programs_to_the_other_kernel(monkeypatch):
    """A gate of its own, over the pixels; in 16 bits nobody is left."""

    class Odd(models.PixelCNN):
        def _program(self, cond):
            b = Builder(2, 2, 1)
            b.gate(0)
            b.conv(self.first, 1)
            return b.program()

    program = Odd(2, hidden_channels=4, num_blocks=0)._program(None)
    with pytest.raises(Unsupported, match="a gate of its own"):
        native.make_plan(program, 4)
    _, model = twins("plain-rgb", torch.float32)
    expected = sample(model, 3, (2, 2))

    def refuse(*args: object, **how: object) -> None:
        raise Unsupported("nothing")

    monkeypatch.setattr(native, "draw", refuse)
    assert torch.equal(sample(model, 3, (2, 2)), expected)
    model.bfloat16()
    cached = sample(model, 3, (2, 2), "cached")
    with pytest.warns(RuntimeWarning, match="by the engine 'cached' instead: nothing"):
        assert torch.equal(sample(model, 3, (2, 2)), cached)


def test_cuda_host_cluster_sampler_refuses_threads_that_are_no_power_of_two(run_as):
    _, model = twins("plain", torch.float32)
    run_as(threads=96)
    with pytest.raises(ValueError, match=r"threads: expected a power of 2, 32 .. 256, got 96"):
        sample(model, 1, (2, 2))
    run_as(size=3)
    with pytest.raises(ValueError, match=r"size: expected a power of 2, 1 .. 16, got 3"):
        sample(model, 1, (2, 2))
