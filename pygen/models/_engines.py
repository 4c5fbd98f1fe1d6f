"""The table of sampling engines: which can run, which one runs, and the loop over a call's images."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pygen import _backends
from pygen._checks import fail

from . import _cached, _fixed_point, _naive
from ._checkpoint import Recorded
from ._layers import changed
from ._program import FLAT, DenseProgram, MultiScaleProgram, RecurrentProgram, Unsupported
from ._task import Task, Watch, modules_of, parameters_of

_PIXELS_AT_ONCE = 1 << 18  # what a forward of whole images works on
_ROWS_AT_ONCE = 1 << 24  # elements in a row of all streams together
_ROWS_AT_ONCE_CUDA = 1 << 27  # as few would leave a GPU half empty: half a GiB of float32 for each row that is kept
_MULTIPLY_ADDS_AT_ONCE = 1 << 35  # of one call of C++, which Ctrl-C has to wait for: about half a second
_LEAST_AT_ONCE = 32  # images that fill two cores' vectors
_LEAST_LARGE_AT_ONCE = 12  # the same where two of them take a call's time: they fill the tiles at least


AtOnce = Callable[[nn.Module, Sequence[Tensor], int, int], int]


@dataclass(frozen=True)
class Engine:
    """How to ask whether it can sample from a model, how to run it, and how many images it takes at once.

    why_not: None if it can, else the reason.  draw: fills `task.drawing.levels`, and calls the watch between steps.
    at_once: of a model, its parameters, its images' height and width.
    """

    why_not: Callable[[nn.Module], str | None]
    draw: Callable[[Task, Watch], None]
    at_once: AtOnce


def _always(model: nn.Module) -> str | None:
    return None


def _no_program(model: nn.Module) -> str | None:
    """A program speaks for the class whose `_logits` it stands beside and the layers that class makes, not for what hooks add."""
    for cls in type(model).__mro__:
        if "_program" in vars(cls):
            break
        if "_logits" in vars(cls):
            return f"{cls.__name__} defines _logits without a sampling program"
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules_of(model)):
        return "the model has forward hooks, which it would not call"
    assert isinstance(model, Recorded)
    other = None if model._made_of is None else changed(model, model._made_of)
    return None if other is None else f"{other}, which its program does not know"


def _native_why_not(model: nn.Module, backend: str, launcher: str) -> str | None:
    """Of an engine whose loop over pixels is compiled."""
    reason = _no_program(model)
    if reason is not None:
        return reason
    weight = next(model.parameters())
    if weight.device.type != backend:
        return f"it runs on {'CUDA devices' if backend == 'cuda' else 'the CPU'}, the model is on {weight.device}"
    in_16_bits = backend == "cuda" and model.program_type not in (DenseProgram, RecurrentProgram)
    if weight.dtype not in (torch.float32, torch.float64) and not in_16_bits:
        return f"it runs in float32 and float64, the model is in {weight.dtype}"
    if (lacks := _backends.why_not(backend)) is not None:
        return lacks
    try:
        importlib.import_module(launcher)
    except ImportError as error:
        return f"its launcher did not load: {error}"
    return None


def _native_draw(task: Task, watch: Watch, launcher: str) -> None:
    """<launcher>.draw(program, levels, u, known, known_mask, temperature): levels [n, C, H, W], u [n, H, W, C]; or [n, D]."""
    drawing = task.drawing
    known, mask = (None if t is None else t.contiguous() for t in (drawing.known, drawing.known_mask))
    u = drawing.u.movedim(1, -1).contiguous()
    native, program = importlib.import_module(launcher), task.program()
    try:
        native.draw(program, drawing.levels, u, known, mask, drawing.temperature)
    except Unsupported as error:  # known only with the program and the images at hand
        warnings.warn(f"sampling by the engine 'cached' instead: {error}", RuntimeWarning, stacklevel=2)
        _cached.draw(task, watch)
        return
    watch(drawing.levels.numel())


def _whole_at_once(model: nn.Module, parameters: Sequence[Tensor], height: int, width: int) -> int:
    return _PIXELS_AT_ONCE // (height * width)


def _rows_at_once(model: nn.Module, parameters: Sequence[Tensor], height: int, width: int) -> int:
    channels = sum(p.numel() for p in parameters if p.dim() == 1)  # a bias for each
    elements = _ROWS_AT_ONCE_CUDA if any(p.is_cuda for p in parameters) else _ROWS_AT_ONCE
    return elements // (channels * width)


def _cuda_at_once(model: nn.Module, parameters: Sequence[Tensor], height: int, width: int) -> int:
    """Of PixelCNN++ more: its clusters draw 32 images each, and a GPU has room for eight of them at once. In float64 "cached"
    draws it."""
    more = 4 if model.program_type is MultiScaleProgram and parameters[0].dtype is not torch.float64 else 1
    return more * _rows_at_once(model, parameters, height, width)


def _cpu_at_once(model: nn.Module, parameters: Sequence[Tensor], height: int, width: int) -> int:
    weights = sum(p.numel() for p in parameters)
    places = 1.0 if model.program_type in FLAT else height * width * cast("float", model._share_of_pixels)
    images = int(_MULTIPLY_ADDS_AT_ONCE / max(1.0, weights * places))
    least = _LEAST_AT_ONCE if images > 1 else min(_LEAST_AT_ONCE, _LEAST_LARGE_AT_ONCE)
    return max(least, images - images % _LEAST_AT_ONCE)


def _native(backend: str, launcher: str, at_once: AtOnce) -> Engine:
    return Engine(
        lambda model: _native_why_not(model, backend, launcher),
        lambda task, watch: _native_draw(task, watch, launcher),
        at_once,
    )


ENGINES = {
    "naive": Engine(_always, _naive.draw, _whole_at_once),
    "cached": Engine(_no_program, _cached.draw, _rows_at_once),
    "cpu": _native("cpu", "pygen.native.sampling", _cpu_at_once),
    "cuda": _native("cuda", "pygen.native._sampling_cuda", _cuda_at_once),  # not yet run on a GPU
    "fixed_point": Engine(_always, _fixed_point.draw, _whole_at_once),
}
_PREFERENCE = ("cpu", "cuda", "cached", "naive")  # where the user chose nothing


def why_not(model: nn.Module, engine: str) -> str | None:
    """Why that engine cannot sample from the model; None if it can."""
    return ENGINES[engine].why_not(model)


def choose(model: nn.Module, engine: str | None) -> str:
    """The engine asked for, or the first of the preference that can. Raises if the one asked for cannot."""
    name = type(model).__name__
    if engine is None:
        return next(candidate for candidate in _PREFERENCE if why_not(model, candidate) is None)
    if engine not in ENGINES:
        raise fail(name, "engine", f"{', '.join(map(repr, ENGINES))} or None", repr(engine))
    reason = why_not(model, engine)
    if reason is not None:
        raise RuntimeError(f"{name}: engine {engine!r} cannot run: {reason}")
    return engine


def images_at_once(watch: Watch, engine: str, height: int, width: int) -> int:
    """Of the model that is watched."""
    return max(1, ENGINES[engine].at_once(watch.model, parameters_of(watch.modules), height, width))


def run(engine: str, tasks: Iterable[Task], watch: Watch) -> None:
    """Draws one task after another: between them, at the latest, Ctrl-C is heard."""
    for task in tasks:
        ENGINES[engine].draw(task, watch)
