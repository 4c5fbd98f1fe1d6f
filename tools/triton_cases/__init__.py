"""Calls of the Triton launchers that together compile every kernel in every configuration. cuda_check.py makes them.

One file per op, tools/triton_cases/<op>.py, each with a function `cases` of pairs of a name and a call.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

OPS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def cases() -> Iterator[tuple[str, str, Callable[[], None]]]:
    """The op, the case's name, the call."""
    for op in OPS:
        for name, call in importlib.import_module(f"{__name__}.{op}").cases():
            yield op, name, call
