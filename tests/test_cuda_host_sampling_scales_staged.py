"""Early steps of the CUDA sampler of several resolutions whose weights go by way of shared memory, executed on the host."""

import host_cuda
import pytest
import torch
from pixel_twins import twins
from scales_on_host import WIDE, Limited, of_cifar_size, run_with, sample, send_to_host

from pygen.native import _sampling_cluster, _sampling_cuda, _sampling_scales_plan
from pygen.native import _sampling_scales as native
from pygen.native import _sampling_scales_early as early

pytestmark = host_cuda.MARKS


@pytest.fixture
def cuda_on_host(monkeypatch):
    return send_to_host(monkeypatch)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 1), (1, 2, 3)], ids=str)
def test_cuda_host_scales_sampler_stages_tiles_of_any_shape(shape, cuda_on_host, monkeypatch):
    """Equal bits whatever a block's warps have of an early step: items that end within a row, warps and tiles left over."""
    monkeypatch.setattr(_sampling_cuda, "target", lambda t: (Limited(cuda_on_host), 0, 0))
    down, across, staged = shape
    asked: list[int] = []

    def forced(step, size, images, warps, positions, room):
        columns = min(images * step.count, 32 * across)
        assert (
            columns + early.around(step, columns) <= positions and early.staged_bytes(positions, down * staged) <= room
        )
        asked.append(step.beside)
        return {"down": down, "across": across, "staged": staged}

    _, model = twins(WIDE, torch.bfloat16)
    drawn = []
    for how, share in (
        ({"staged": False}, early.share),
        ({"staged": True, "threads": 32 * max(2, down * across)}, forced),
    ):
        monkeypatch.setattr(early, "share", share)
        monkeypatch.setattr(native, "_READY", {})
        run_with(monkeypatch, size=1, images=14, **how)
        drawn.append(sample(model, 14, (3, 3)))
    assert torch.equal(*drawn) and set(asked) == {1, 2, 3}


def test_cuda_host_scales_sampler_stages_what_has_room(cuda_on_host):
    """Of PixelCNN++ of CIFAR's size all early steps: their tiles and positions lie within a block's shared memory."""
    program = of_cifar_size().bfloat16()._program(None)
    for size, images in ((16, 32), (16, 17), (8, 9), (4, 1)):
        ready = native.make_ready(Limited(cuda_on_host), 0, program, 256, 32, (size, images, 256))
        layout, steps = ready.room.layout, ready.tables[1][: len(ready.plan.early)]
        assert (steps["staged"] > 0).all() and layout.bytes <= 227 << 10
        for step in steps:
            down, across, staged, width = (int(step[name]) for name in ("down", "across", "staged", "count"))
            assert down * across <= 8 and staged <= early.STAGED_TILES
            columns, pixels = across * early.STAGED_PIXELS, images * width
            for first in range(0, pixels, columns):
                last = min(first + columns, pixels) - 1
                beside = (last // width - first // width + 1) * (int(step["beside"]) - 1)
                assert last - first + 1 + beside <= ready.positions
            used = _sampling_cluster.early_bytes(ready.positions) + 4 * ready.positions + 4 * down * staged * 1024
            assert layout.early + used <= layout.bytes


def test_cuda_host_scales_sampler_fetches_pixels_once_for_neighbours_alone():
    beside = _sampling_scales_plan._beside
    assert [beside(((-1, dx), (0, dx))) for dx in (-1, 0, 2)] == [1, 1, 1]
    assert beside(tuple((dy, dx) for dy in (-1, 0) for dx in (-1, 0, 1))) == 3 and beside(((0, 0), (0, 1))) == 2
    assert [beside(taps) for taps in ((), ((0, 0), (0, 2)), ((-1, 0), (-1, 1), (0, 0)), ((0, 1), (0, 0)))] == [1] * 4
    assert beside(((-1, 0), (0, 0), (-1, 1), (0, 1))) == 1  # another order
    assert beside(((0, -3), (0, -2))) == 1 and beside(((0, 2), (0, 3))) == 1  # farther than there are places
