"""Grids of images as PNG files, with nothing but the standard library."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_FRAME = 128  # grey


def grid(images: Tensor, columns: int, scale: int = 1) -> Tensor:
    """Images [N, C, H, W], uint8, row by row in a grey frame of one pixel, each pixel of theirs a square: uint8 [H', W', C]."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    tile_height, tile_width = height * scale + 1, width * scale + 1
    picture = torch.full((rows * tile_height + 1, columns * tile_width + 1, channels), _FRAME, dtype=torch.uint8)
    large = images.cpu().repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1)
    for i, image in enumerate(large):
        y, x = i // columns * tile_height + 1, i % columns * tile_width + 1
        picture[y : y + image.shape[0], x : x + image.shape[1]] = image
    return picture


def write_png(path: Path, picture: Tensor) -> None:
    """uint8 [H, W, 1], grey, or [H, W, 3], RGB."""
    height, width, channels = picture.shape
    lines = torch.cat([picture.new_zeros(height, 1), picture.flatten(1)], 1)  # each begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    data = zlib.compress(lines.numpy().tobytes(), 9)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
