"""A bar for each side of a training in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ._report import Setting


@contextmanager
def training_bars(
    setting: Setting, steps: int, unit: str = " nats", sides: Sequence[str] = ("plain PyTorch", "pygen")
) -> Iterator[Callable[[list[float]], None]]:
    """Shows progress and the losses in that unit within the block; gives what `train_in_turn` takes as on_step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn(f"loss {{task.fields[loss]:.2f}}{unit}"), console=setting.console) as progress:
        bars = [progress.add_task(name, total=steps, loss=float("nan")) for name in sides]

        def on_step(losses: list[float]) -> None:
            for bar, loss in zip(bars, losses, strict=True):
                progress.update(bar, advance=1, loss=loss)

        yield on_step
