"""The faults that tools/mutants.py plants, one at a time: what others got wrong, and what numerics can get wrong.

One table per family, tools/planted_faults/<family>.py, each with a tuple FAULTS; what a fault is: fault.py.
"""

import importlib
import itertools
from pathlib import Path

from .fault import Fault

__all__ = ["FAULTS", "Fault"]

_families = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "fault")
FAULTS: tuple[Fault, ...] = tuple(
    itertools.chain.from_iterable(importlib.import_module(f"{__name__}.{family}").FAULTS for family in _families)
)
