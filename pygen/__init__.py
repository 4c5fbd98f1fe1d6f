"""Fast layers and losses for generative models in PyTorch: Triton, CUDA C++ and C++ kernels behind one slim API."""

import importlib
from types import ModuleType

from pygen import functional, nn, presets
from pygen._config import backends, explain, show_config
from pygen._dispatch import use_backend
from pygen._patch import patch, unpatch
from pygen._version import __version__

__all__ = [
    "__version__",
    "backends",
    "explain",
    "functional",
    "nn",
    "patch",
    "presets",
    "show_config",
    "unpatch",
    "use_backend",
]


def __getattr__(name: str) -> ModuleType:
    """pygen.models and pygen.data, imported when they are asked for."""
    if name in ("data", "models"):
        return importlib.import_module(f"pygen.{name}")
    raise AttributeError(f"module 'pygen' has no attribute {name!r}")
