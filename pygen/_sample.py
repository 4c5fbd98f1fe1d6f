"""`pygen sample`: pictures of samples from a checkpoint of `pygen.models.save`."""

from __future__ import annotations

import argparse
import inspect
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygen._picture import grid, write_png

_SIDE = 96  # images smaller than half of it are enlarged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a file written by pygen.models.save")
    parser.add_argument("-n", type=int, default=64, help="how many images (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the noise; default: another one each time")
    parser.add_argument("--shape", type=_shape, metavar="HxW", help="of the images; default: as trained")
    parser.add_argument("--cond", type=_classes, metavar="CLASS[,CLASS...]", help="classes, dealt out in turn")
    parser.add_argument("--temperature", type=float, help="the logits are divided by it (1)")
    parser.add_argument("--engine", help="naive, cached, cpu, fixed_point; default: the fastest that can run")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument("--columns", type=int, help="of the grid; default: about as many as rows")
    parser.add_argument(
        "--scale", type=int, help="side of the square that a pixel becomes; default: by the image's size"
    )


def run(args: argparse.Namespace) -> None:
    """Raises OSError, ValueError, TypeError or RuntimeError with the reason."""
    from pygen import models

    for name in ("n", "columns", "scale"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{'-n' if name == 'n' else '--' + name}: expected a number >= 1, got {value}")
    model = models.load(args.checkpoint, device=args.device)
    if not hasattr(model, "sample"):
        raise ValueError(
            f"checkpoint: expected a model that draws samples, got a {type(model).__name__}: it decodes a prior's"
        )
    known = inspect.signature(model.sample).parameters
    options: dict[str, Any] = {}
    for name in ("seed", "shape", "cond", "temperature", "engine"):
        value = getattr(args, name)
        if value is None:
            continue
        if name not in known:
            raise ValueError(f"--{name}: {type(model).__name__} has no such option, got {value}")
        options[name] = value
    if "cond" in options:
        classes = torch.tensor(options["cond"], device=args.device)
        options["cond"] = classes[torch.arange(args.n, device=args.device) % len(classes)]
    if "progress" in known:
        options["progress"] = True
    start = time.perf_counter()
    images = model.sample(args.n, **options)
    images = as_pixels(images.cpu(), getattr(model, "num_levels", 2))
    seconds = time.perf_counter() - start
    scale = args.scale or max(1, _SIDE // max(images.shape[2:]))
    write_png(args.out, grid(images, args.columns or math.ceil(math.sqrt(args.n)), scale))
    print(f"{args.n} images {images.shape[3]}x{images.shape[2]} in {seconds:.2f} s: {args.out}")


def as_pixels(images: Tensor, num_levels: int) -> Tensor:
    """Samples as uint8 [N, C, H, W] with 0 .. 255, C 1 or 3: levels, or floating images in [-1, 1].

    MADE's and NADE's come in the shape that it was trained on: [N, D] is one row of pixels, [N, H, W] one channel.
    """
    signs = images.float() if images.is_floating_point() else images.float() * (2 / (num_levels - 1)) - 1
    pixels = (signs + 1) * 127.5
    pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    while pixels.dim() < 4:
        pixels = pixels.unsqueeze(1)
    if pixels.dim() > 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(f"expected images of 1 or 3 channels, got samples of shape {list(images.shape)}")
    return pixels


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.lower().split("x"))


def _classes(text: str) -> list[int]:
    return [int(label) for label in text.split(",")]
