"""What a sampling engine is given: images to draw, the model's own words on how, and the watch that it calls between steps."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ._mixture import Mixture
from ._sampling import Drawing

Where = tuple  # an index into levels [n, *shape]

_ALL = slice(None)

_evaluating: weakref.WeakKeyDictionary[nn.Module, list] = weakref.WeakKeyDictionary()
_evaluating_lock = threading.Lock()


@dataclass(frozen=True)
class Task:
    """Some of a call's images. Every position is in one step, and depends on the steps before its own."""

    model: nn.Module
    drawing: Drawing
    make_steps: Callable[[], Sequence[Where]]
    forward: Callable[[Tensor, slice | Tensor], Tensor]  # of everything: levels [rows, *shape] as drawn so far
    conditionals: Callable[[Tensor, Tensor], Tensor | Mixture]  # of a forward's outputs and the levels: of `logits`
    program: Callable[[], Any]  # the same, cut into what each step needs
    turns: int = 1  # so many steps in a row, of one pixel, need no more than one forward

    @cached_property
    def steps(self) -> Sequence[Where]:
        """Made when first asked for: engines that run the program do not ask."""
        return self.make_steps()

    def logits(self, levels: Tensor, rows: slice | Tensor = _ALL) -> Tensor | Mixture:
        """Of some of the images, levels [rows, *shape] as drawn so far: [rows, *shape, L], by a forward of everything."""
        return self.conditionals(self.forward(levels, rows), levels)

    def undecided(self) -> Iterator[tuple[Where, bool]]:
        """Each step, and whether any image has something to draw there."""
        undecided = self.drawing.open_positions()
        for where in self.steps:
            yield where, undecided is None or bool(undecided[where[1:]].any())


class Watch:
    """Called between steps: refuses weights that were changed meanwhile, and counts values on stderr."""

    def __init__(self, model: nn.Module, total: int, progress: bool) -> None:
        self.model, self.total, self.done, self.progress = model, total, 0, progress
        self.modules = modules_of(model)  # once a call: a walk takes as long as drawing a row
        self._tensors = [tensors for module in self.modules for tensors in (module._parameters, module._buffers)]
        self._children = [module._modules for module in self.modules]
        self._start = self._state()

    def __call__(self, values: int, note: str = "") -> None:
        """So many more are drawn."""
        if self._state() != self._start:
            raise RuntimeError(f"{type(self.model).__name__}.sample: the model was changed while it was sampled from")
        self.done += values
        if self.progress:
            line = f"\r{type(self.model).__name__}.sample: {self.done} of {self.total}{note}"
            print(line, end="\n" if self.done == self.total else "", file=sys.stderr, flush=True)

    def _state(self) -> list[tuple]:
        """Which modules and tensors the model has, and how often each tensor has been written."""
        return [
            (id(t), t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version)
            for tensors in self._tensors
            for t in tensors.values()
            if t is not None
        ] + [tuple(map(id, children.values())) for children in self._children]


def modules_of(model: nn.Module) -> list[nn.Module]:
    """As `model.modules()`, each once, in a tenth of its time."""
    found = {model: None}
    left = [model]
    while left:
        for child in left.pop()._modules.values():
            if child is not None and child not in found:
                found[child] = None
                left.append(child)
    return list(found)


def parameters_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """As `model.parameters()` of all its modules, each once."""
    found = {id(p): p for module in modules for p in module._parameters.values() if p is not None}
    return list(found.values())


@contextmanager
def evaluating(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """No gradients, no autocast, every module in eval mode; each one's own mode comes back, whatever ends the block.

    modules: the model's, where the caller has them.

    Several threads may be in it with one model: the last to leave brings the modes back.
    """
    device = next(model.parameters()).device.type
    with _evaluating_lock:
        if model not in _evaluating:
            modes = [(module, module.training) for module in modules or modules_of(model)]
            _evaluating[model] = [0, modes]
            if any(training for _, training in modes):
                model.eval()
        _evaluating[model][0] += 1
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        with _evaluating_lock:
            _evaluating[model][0] -= 1
            if _evaluating[model][0] == 0:
                for module, training in _evaluating.pop(model)[1]:
                    if module.training != training:
                        module.training = training
