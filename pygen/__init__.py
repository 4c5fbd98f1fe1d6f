"""Fast layers and losses for generative models in PyTorch: Triton, CUDA C++ and C++ kernels behind one slim API."""

from pygen import functional, nn
from pygen._config import backends, explain, show_config
from pygen._dispatch import use_backend
from pygen._version import __version__

__all__ = ["__version__", "backends", "explain", "functional", "nn", "show_config", "use_backend"]
