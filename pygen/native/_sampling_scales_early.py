"""How the blocks of csrc/cuda/sampling_scales.cuh share out early steps. Not yet measured on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pygen.native._sampling_cluster import FETCHED, PIXELS
from pygen.native._sampling_cluster_plan import TILE

STAGED_TILES, STAGED_PIXELS = 5, 32  # kStagedTiles, kStagedPixels: what a warp has at most
_RUN = 64  # bytes
_L2, _SHARED = 24, 128  # bytes a cycle and processor: of L2 while all read, of shared memory
_ITEM = 1000  # cycles until products begin, and until sums have gone where they belong


class Step(NamedTuple):
    tiles: int
    blocks: int
    count: int  # pixels of a row
    beside: int
    products: int  # that one tile's run and eight pixels take: 2, in float32 6


def of_row(row: dict[str, int], element_size: int) -> Step:
    return Step(row["tiles"], row["blocks"], row["count"], row["beside"], 6 if element_size == 4 else 2)


def staged_bytes(positions: int, tiles: int) -> int:
    """Of shared memory, what a block's positions and the weights of so many tiles take, but for the pixels themselves."""
    return positions * 4 + FETCHED * tiles * TILE


@cache
def share(step: Step, size: int, images: int, warps: int, positions: int, room: int) -> dict[str, int]:
    """down, across, staged of ScalesStep: what is predicted to take least cycles. room: in shared memory behind the pixels."""
    shapes = list(_staged(step, size, images, warps, positions, room))
    if shapes:
        _, down, across, tiles = min(shapes)
        return {"down": down, "across": across, "staged": tiles}
    _, down, across = min(_plain(step, size, images, warps, positions))
    return {"down": down, "across": across, "staged": 0}


def _plain(step: Step, size: int, images: int, warps: int, positions: int) -> Iterator[tuple[float, int, int]]:
    """By the products, by what is read from L2 or by its latency, of all of the cluster's blocks."""
    pairs, columns = -(-step.tiles // 2), -(-images * step.count // PIXELS)
    for down in range(1, min(warps, pairs) + 1):
        for across in range(1, min(warps // down, positions // PIXELS, max(1, columns)) + 1):
            items = -(-pairs // down) * -(-columns // across)
            read = down * 2 * TILE + across * PIXELS * _RUN
            yield -(-items // size) * max(350, 70 * down * across, read / _L2), down, across


def _staged(
    step: Step, size: int, images: int, warps: int, positions: int, room: int
) -> Iterator[tuple[tuple[float, float], int, int, int]]:
    """By L2, shared memory, tensor cores (3.2 cycles a product) or what a run takes at least, barrier and all."""
    pixels = images * step.count
    for tiles in range(1, min(STAGED_TILES, step.tiles) + 1):
        for down in range(1, min(warps, -(-step.tiles // tiles)) + 1):
            for across in range(1, min(warps // down, -(-pixels // STAGED_PIXELS)) + 1):
                columns = min(pixels, across * STAGED_PIXELS)
                if columns + around(step, columns) > positions or staged_bytes(positions, down * tiles) > room:
                    continue
                items = -(-step.tiles // (down * tiles)) * -(-pixels // (across * STAGED_PIXELS))
                written = min(step.tiles, down * tiles) * TILE + columns * _RUN / step.beside
                read = down * across * (tiles * TILE + STAGED_PIXELS * _RUN)
                products = -(-down * across // 4) * tiles * (STAGED_PIXELS // 8) * step.products * 3.2
                run = max(200, written / _L2, (written + read) / _SHARED, products)
                yield (-(-items // size) * (step.blocks * run + _ITEM), written), down, across, tiles


def around(step: Step, pixels: int) -> int:
    """Positions beside so many pixels of a row's that taps read too, at most: `beside` neighbours, the pixel itself one of
    them or the next one."""
    return ((pixels - 2) // max(1, step.count) + 2) * step.beside if step.beside > 1 else 0
