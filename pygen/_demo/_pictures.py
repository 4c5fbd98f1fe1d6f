"""Pictures as PNG files, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Images [N, 1, H, W] laid out row by row in a frame of grey: [1 + rows (H+1), 1 + columns (W+1)]."""
    framed = torch.nn.functional.pad(images.float().cpu()[:, 0], (0, 1, 0, 1), value=0.5)  # [N, H+1, W+1]
    picture = framed.unflatten(0, (-1, columns)).transpose(1, 2).flatten(2).flatten(0, 1)
    return torch.nn.functional.pad(picture, (1, 0, 1, 0), value=0.5)


def save_grids(path: Path, grids: Mapping[str, Tensor], title: str, *, vertical: bool = False) -> None:
    """Pictures with values 0 .. 1 (white .. black), each under its name, side by side or one below the other."""
    n = len(grids)
    figure = Figure(figsize=(9, 0.9 * n + 0.5) if vertical else (3.6 * n, 4.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(*((n, 1) if vertical else (1, n)), squeeze=False).flat
    for axis, (name, grid) in zip(axes, grids.items(), strict=True):
        axis.imshow(grid.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def save_scatter(path: Path, points: Mapping[str, Tensor], labels: Tensor, title: str) -> None:
    """Points [N, 2] under each name, coloured by labels [N] 0 .. 9."""
    figure = Figure(figsize=(5.2 * len(points) + 0.8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(points), squeeze=False)
    for axis, (name, xy) in zip(axes.flat, points.items(), strict=True):
        xy = xy.cpu().double()
        dots = axis.scatter(xy[:, 0], xy[:, 1], c=labels.cpu().numpy(), cmap="tab10", vmin=-0.5, vmax=9.5, s=12)
        axis.set_title(name, fontsize=10)
    figure.colorbar(dots, ax=axes, ticks=range(10), label="digit")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def save_curves(path: Path, panels: Mapping[str, Mapping[str, Tensor]], title: str, *, columns: int = 2) -> None:
    """In each panel the named curves, values [steps]; panels of a row share their axis. Averaged over a 50th of the steps."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.8 * columns, 2.6 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
    for axis, (name, curves) in zip(axes.flat, panels.items(), strict=False):
        for label, values in curves.items():
            width = max(1, len(values) // 50)
            smooth = values.double().unfold(0, width, 1).mean(1)
            axis.plot(torch.arange(len(smooth)) + width // 2, smooth, label=label, linewidth=1)
        axis.set_title(name, fontsize=10)
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def principal_plane(points: Tensor) -> Tensor:
    """Points [N, D] in their two directions of largest variance, [N, 2]; signs fixed so that pictures repeat."""
    centred = points.double() - points.double().mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)  # [min(N, D), D]
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return centred @ (directions * largest.sign()).T
