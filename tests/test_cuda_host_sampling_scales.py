"""The CUDA sampler of networks of several resolutions, PixelCNN++, executed on the host."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

import host_cuda
import pytest
import torch
from pixel_twins import CASES, Case, randomise, twins
from sampling_check import check_samples
from scales_on_host import SEED, WIDE, Limited, of_cifar_size, run_with, sample, send_to_host
from torch import Tensor

from pygen import models
from pygen.models import _engines
from pygen.models._program import Unsupported
from pygen.native import _sampling_cluster, _sampling_cuda, _sampling_scales_plan, _sampling_scales_streams
from pygen.native import _sampling_scales as native
from pygen.native import _sampling_scales_early as early

pytestmark = host_cuda.MARKS
N = 9
PP = [name for name, case in CASES.items() if case.name == "PixelCNNPP"]


@pytest.fixture
def cuda_on_host(monkeypatch):
    return send_to_host(monkeypatch)


@pytest.fixture
def run_as(monkeypatch):
    return partial(run_with, monkeypatch)


def conditions(name: str, shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """As they are, and in the model's dtype."""
    cond = CASES[name].conditions(N, *shape)
    return cond, cond.to(dtype) if cond is not None and cond.is_floating_point() else cond


@pytest.mark.parametrize("shape", [(5, 3), (1, 7)], ids=str)
@pytest.mark.parametrize("name", PP)
def test_cuda_host_scales_sampler_draws_what_the_noise_selects(name, shape, run_as):
    """By itself, and by two blocks with pixels that are known and a temperature; images of odd sizes."""
    plain, model = twins(name, torch.float32)
    truth, _ = twins(name)
    cond, own = conditions(name, shape, torch.float32)
    known = CASES[name].images(N, *shape, seed=9)
    mask = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    for size, args in ((1, {}), (2, {"known": known, "known_mask": mask, "temperature": 0.7})):
        run_as(size=size, images=5)
        drawn = sample(model, N, shape, cond=own, **args)
        verdict = check_samples(drawn, truth, plain, seed=SEED, cond=cond, **args)
        assert verdict.fine, verdict
        assert torch.equal(drawn, sample(model, N, shape, "cached", cond=own, **args))


@pytest.mark.parametrize("name, dtype", [("pp", torch.bfloat16), ("pp-map", torch.float16)], ids=str)
def test_cuda_host_scales_sampler_in_low_precision(name, dtype, run_as):
    plain, model = twins(name, dtype)
    truth = twins(name)[0].to(dtype).double()
    cond, own = conditions(name, (3, 4), dtype)
    run_as(size=2, images=9)
    verdict = check_samples(sample(model, N, (3, 4), cond=own), truth, plain, seed=SEED, cond=cond)
    assert verdict.wrong == 0 and verdict.undecided < 0.7 * verdict.positions, verdict


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cuda_host_scales_sampler_draws_the_same_in_any_cluster(dtype, run_as):
    """Equal bits however many blocks, images and threads draw together, by messages or at the barrier."""
    plain, model = twins(WIDE, dtype)
    shape = (2, 2)
    run_as(size=1)
    expected = sample(model, N, shape)
    if dtype is torch.float32:
        verdict = check_samples(expected, twins(WIDE)[0], plain, seed=SEED)
        assert verdict.wrong == 0, verdict
    for how in (
        {"size": 2, "images": 9, "messages": False, "staged": False},
        {"size": 8, "images": 5, "messages": True},  # blocks without images, blocks without tiles
        {"size": 1, "images": 4, "threads": 128},
    ):
        run_as(**how)
        assert torch.equal(sample(model, N, shape), expected), how
    assert torch.equal(sample(model, 2, shape), expected[:2])


@pytest.mark.parametrize("messages", [True, False], ids=["messages", "barrier"])
def test_cuda_host_scales_sampler_in_the_largest_cluster(messages, run_as):
    _, model = twins("pp", torch.float32)
    run_as(size=16, images=9, messages=messages)
    assert torch.equal(sample(model, N, (3, 2)), sample(model, N, (3, 2), "cached"))


def test_cuda_host_scales_sampler_of_more_channels_than_are_held(cuda_on_host, monkeypatch, run_as):
    """More runs of channels than a warp asks for at once, of more tiles than one, for more eights of images than it has."""
    case = Case(
        "PixelCNNPP",
        {"in_channels": 1, "hidden_channels": 100, "num_resnets": 1, "num_scales": 1, "num_mixtures": 2}
        | {"num_levels": 256, "dropout": 0, "weight_norm": False},
        gain=1.0,
    )
    plain, model = twins(case, torch.float32)
    monkeypatch.setattr(_sampling_cuda, "target", lambda t: (Limited(cuda_on_host), 0, 0))
    run_as(size=1, images=17)
    verdict = check_samples(sample(model, 17, (1, 2)), twins(case)[0], plain, seed=SEED)
    assert verdict.wrong == 0, verdict


def test_cuda_host_scales_sampler_of_clusters_beyond_eight_images(run_as):
    """Two clusters, of which the last one has fewer images; more eights than are pushed for at once; several to decide."""
    name = "pp-one-scale-classes"
    plain, model = twins(name, torch.float32)
    cond = CASES[name].conditions(50)
    run_as(size=2, images=40)
    verdict = check_samples(sample(model, 50, (2, 3), cond=cond), twins(name)[0], plain, seed=SEED, cond=cond)
    assert verdict.wrong == 0, verdict


@pytest.mark.parametrize("shape", [(1, 1), (2, 9)], ids=str)
def test_cuda_host_scales_sampler_of_images_narrower_than_their_scales(shape):
    plain, model = twins("pp-rgb", torch.float32)
    verdict = check_samples(sample(model, 2, shape), twins("pp-rgb")[0], plain, seed=SEED)
    assert verdict.wrong == 0, verdict


def test_cuda_host_scales_sampler_reads_what_has_no_room_from_memory(cuda_on_host, monkeypatch, run_as):
    """Weights in shared memory as far as they fit: all, some, none."""
    _, model = twins(WIDE, torch.bfloat16)
    expected = sample(model, 3, (2, 3))
    plan = native.make_plan(model._program(None), 3)
    found = native.lay_out(cuda_on_host, plan, 1, 3, 400 << 10)
    assert found is not None
    least, resident = found[0].layout.bytes - found[0].resident_bytes, []
    for room in (400 << 10, least + (40 << 10), least):
        found = native.lay_out(cuda_on_host, plan, 1, 3, room)
        assert found is not None and found[0].layout.bytes <= room
        resident.append(found[0].resident_bytes)
        monkeypatch.setattr(_sampling_cuda, "target", lambda t, room=room: (Limited(cuda_on_host, room), 0, 0))
        run_as(size=1, images=3)
        assert torch.equal(sample(model, 3, (2, 3)), expected)
    late = sum(row["tiles"] * row["blocks"] for row in plan.late) * 1024
    late += sum(plan.late[push["target"]]["tiles"] * push["blocks"] for push in plan.pushes) * 1024
    assert resident == [late, 40 << 10, 0]
    assert native.lay_out(cuda_on_host, plan, 1, 3, least - 16) is None


@pytest.mark.parametrize("name", ["pp", "pp-rgb"])
def test_cuda_host_scales_sampler_shares_out_buffers_without_overlaps(name):
    """A stream's place is not written while another one's is read there, whichever steps a pixel has."""
    _, model = twins(name, torch.float32)
    plan = native.make_plan(model._program(None), 8)
    assert plan.buffer_bytes < sum(pitch for _, pitch in plan.buffers.values())
    content: dict[int, int] = {}  # byte -> the stream that was written there last

    def span(s: int) -> range:
        at, pitch = plan.buffers[s]
        return range(at, at + pitch)

    def level(at: int) -> int:
        return min(len(plan.order) - 1, (at & -at).bit_length() - 1 if at else 99)

    content |= dict.fromkeys(span(0), 0)
    for y in (0, 2, 1):
        for x in range(8):
            here = plan.order[level(y)][level(x)]
            for i, t in enumerate(here):
                row = plan.late[t]
                if row["out"] >= 0:  # while others may still push what the step before the last one made
                    content |= dict.fromkeys(span(row["out"]), row["out"])
                reads = [row["source"], row["add"]]
                reads += [plan.late[m]["out"] for m in here[max(0, i - 2) : i] if plan.late[m]["num_pushes"]]
                for s in reads:
                    assert s < 0 or all(content.get(b) == s for b in span(s)), (y, x, t, s)


def test_cuda_host_scales_sampler_takes_clusters_of_blocks_for_large_models(cuda_on_host):
    """PixelCNN++ of CIFAR's size on an H200: weights that no block could read alone."""
    program = of_cifar_size().bfloat16()._program(None)
    ready = native.make_ready(Limited(cuda_on_host), 0, program, 256, 32, (None, None, 256))
    assert (ready.size, ready.images) == (16, 32) and ready.room.layout.bytes <= 227 << 10


def test_cuda_host_scales_sampler_is_given_a_gpus_images_at_once():
    """256 images of CIFAR's size in one call; not in float64, which another engine draws."""
    model = of_cifar_size()
    sizes = []
    for dtype in (torch.bfloat16, torch.float64):
        parameters = [p.to(dtype) for p in model.parameters()]
        on_gpu = [SimpleNamespace(dim=p.dim, numel=p.numel, dtype=p.dtype, is_cuda=True) for p in parameters]
        sizes.append(_engines.ENGINES["cuda"].at_once(model, on_gpu, 32, 32))
    assert sizes[0] >= 256 and sizes[0] == 4 * sizes[1]


def test_cuda_host_scales_sampler_keeps_plans_between_calls_and_nothing_of_weights(monkeypatch):
    (_, first), (_, second) = (twins("pp-map", torch.float32) for _ in range(2))
    randomise(second, gain=1.0, seed=1)
    cond = CASES["pp-map"].conditions(3, 2, 3).float()
    monkeypatch.setattr(native, "_READY", {})
    made, make = [], native.make_ready
    monkeypatch.setattr(native, "make_ready", lambda *args: made.append(args) or make(*args))
    drawn = [sample(model, 3, (2, 3), cond=cond) for model in (first, second)]
    with torch.no_grad():
        first.out.bias.add_(0.5)
    drawn += [sample(first, 3, (2, 3), cond=cond), sample(first, 3, (2, 3), cond=2 * cond)]
    assert len(made) == 1
    for model, c, images in ((second, cond, drawn[1]), (first, cond, drawn[2]), (first, 2 * cond, drawn[3])):
        native._READY.clear()
        assert torch.equal(sample(model, 3, (2, 3), cond=c), images)
    assert not torch.equal(drawn[0], drawn[2])


def test_cuda_host_scales_sampler_leaves_what_it_cannot_to_cached():
    _, model = twins("pp", torch.float64)
    expected = sample(model, 3, (2, 2), "cached")
    with pytest.warns(RuntimeWarning, match="by the engine 'cached' instead: .* in float64"):
        assert torch.equal(sample(model, 3, (2, 2)), expected)
    with pytest.raises(Unsupported, match="32767"):
        native.make_plan(model._program(None), 32768)
    many = models.PixelCNNPP(1, hidden_channels=4, num_resnets=1, num_scales=1, num_mixtures=33)
    with pytest.raises(Unsupported, match="32 mixtures"):
        native.make_plan(many._program(None), 4)


def test_cuda_host_scales_sampler_of_many_levels_and_mixtures():
    """Levels beyond a byte, and as many components as lanes."""
    case = Case(
        "PixelCNNPP",
        {"in_channels": 1, "hidden_channels": 4, "num_resnets": 1, "num_scales": 1, "num_mixtures": 32}
        | {"num_levels": 600, "dropout": 0, "weight_norm": False},
        gain=1.0,
    )
    plain, model = twins(case, torch.float32)
    ours = sample(model, 5, (3, 3))
    assert ours.dtype == torch.int64 and len(ours.unique()) > 5
    verdict = check_samples(ours, twins(case)[0], plain, seed=SEED)
    assert verdict.wrong == 0, verdict


def test_cuda_host_scales_sampler_tables_have_the_layout_of_their_structs(cuda_on_host):
    sizes = [_sampling_cluster._dtype(fields).itemsize for fields in cuda_on_host.scales_fields]
    assert tuple(sizes) == cuda_on_host.scales_struct_bytes


def test_cuda_host_scales_sampler_plans_with_the_numbers_of_its_kernel():
    sources = (host_cuda.ROOT / "csrc" / "cuda").glob("sampling_*.*h")
    stated = dict(re.findall(r"\b(k[A-Z]\w+) = (\d+)[,;]", "".join(source.read_text() for source in sources)))
    streams = _sampling_scales_streams
    pairs = {"kPlus": streams.PLUS, "kMinus": streams.MINUS, "kRaw": streams.RAW}
    pairs |= {"kMostMixtures": _sampling_scales_plan._MOST_MIXTURES, "kStagedTiles": early.STAGED_TILES}
    pairs |= {"kStagedEights": early.STAGED_PIXELS // 8}
    assert {name: int(stated[name]) for name in pairs} == pairs
