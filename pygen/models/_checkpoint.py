"""Models as files: the class's name, what it was constructed with, its state_dict. Nothing in them is executed when loaded."""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pygen
from pygen._checks import fail

from ._layers import Layer, layers_of

_FORMAT = 1


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: Recorded, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.__dict__["_made_of"] = layers_of(self)

    return __init__


class Recorded(nn.Module):
    """Remembers the arguments of its construction, for `save`, and where a sampling program speaks for it the layers it was then
    made of."""

    _arguments: tuple[tuple, dict[str, Any]]
    _made_of: Layer | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_program" in vars(cls) and "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        self.__dict__["_arguments"] = (args, kwargs)
        return self

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, metadata: dict, strict: bool, missing: list, *args: Any
    ) -> None:
        """Weights of other code come without the extra state, which then stays as it is, under strict=True too."""
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *args)
        if prefix + "_extra_state" in missing:
            missing.remove(prefix + "_extra_state")


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Writes a model of `pygen.models` to a file, for `load` and `pygen sample`. An optimizer's state is not part of it.

    The file is a dictionary for torch.load(weights_only=True): format, version, class, options, state_dict. It appears
    whole or not at all.

    Args:
        model: of a class of `pygen.models`; subclasses are refused, as `load` could not construct them.
        path: replaced if it exists.

    Example:
        >>> pygen.models.save(pygen.models.MADE(16, 32), "made.pt")
        >>> pygen.models.load("made.pt").sample(4, (16,)).shape
        torch.Size([4, 16])
    """
    name = type(model).__name__
    if _classes().get(name) is not type(model):
        raise fail("save", "model", f"a {_or(_classes())} of pygen.models", type(model).__qualname__, kind=TypeError)
    assert isinstance(model, Recorded)
    args, kwargs = model._arguments
    bound = inspect.signature(type(model)).bind(*args, **kwargs)
    bound.apply_defaults()  # today's, whatever they will be
    options = {key: _plain(key, value) for key, value in bound.arguments.items()}
    checkpoint = {
        "format": _FORMAT,
        "version": pygen.__version__,
        "class": name,
        "options": options,
        "state_dict": model.state_dict(),
    }
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike, *, device: str | torch.device = "cpu") -> Any:
    """Reads the model that `save` wrote, in its dtypes, onto a device.

    Args:
        path: the file.
        device: where the model shall be.

    Raises:
        ValueError: the file is not such a checkpoint, or of a later version; the message says what it is.

    Example:
        >>> pygen.models.save(pygen.models.MADE(16, 32), "made.pt")
        >>> model = pygen.models.load("made.pt")
        >>> model.log_prob(torch.randint(2, (8, 16))).shape
        torch.Size([8])
    """
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what it raises depends on how far it came
        raise fail("load", "path", "a file written by pygen.models.save", f"{path}: {error}") from error
    keys = ("format", "version", "class", "options", "state_dict")
    if not isinstance(checkpoint, dict) or not all(key in checkpoint for key in keys):
        got = sorted(map(str, checkpoint))[:4] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise fail("load", "path", "a file written by pygen.models.save", f"one that holds {got}: {path}")
    if checkpoint["format"] != _FORMAT:
        raise fail("load", "path", f"format {_FORMAT}", f"{checkpoint['format']}, of pygen {checkpoint['version']}")
    cls = _classes().get(checkpoint["class"])
    if cls is None:
        raise fail(
            "load", "path", f"a {_or(_classes())}", f"a {checkpoint['class']!r} of pygen {checkpoint['version']}"
        )
    model = cls(**checkpoint["options"]).to(device)
    model.load_state_dict(checkpoint["state_dict"], assign=True)
    return model


def _classes() -> dict[str, type[nn.Module]]:
    from pygen import models

    found = {name: getattr(models, name) for name in models.__all__}
    return {name: cls for name, cls in found.items() if isinstance(cls, type)}


def _or(names: Any) -> str:
    return " or ".join(names)


def _plain(key: str, value: Any) -> Any:
    """An option as what torch.load(weights_only=True) gives back."""
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, Sequence):
        return tuple(_plain(key, item) for item in value)
    if hasattr(value, "item"):
        return value.item()
    raise fail("save", "model", "one constructed from numbers, strings and tuples", f"{key}={value!r}", kind=TypeError)
