"""What a user asks about the installation: backends(), show_config(), explain()."""

import dataclasses
import inspect
import platform
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from pygen import _backends, _dispatch
from pygen._version import __version__


def backends() -> dict[str, str | None]:
    """Which backends can run on this machine: each name -> None if it can, else the reason why not.

    Example:
        >>> pygen.backends()
        {'reference': None, 'cpu': ...}
    """
    return _backends.status()


def explain(op: str | Callable, *args: object, backend: str | None = None, **options: object) -> _dispatch.Choice:
    """Says which backend a call of `op` with these arguments would run on, and why not another.

    Args:
        op: a function of pygen.functional, or its name.
        args, options: its arguments, or the tensors alone; the first among them decides.
        backend: as in the call.

    Returns:
        A Choice: backend, reason, rejected (name -> why not); its str() has all of it.

    Example:
        >>> x = torch.randn(4, 8)
        >>> print(pygen.explain(pygen.functional.gaussian_kl, x, x, backend="reference"))
        reference: ...
          not cpu: ...
    """
    from pygen import functional

    known = [name for name in functional.__all__ if name.islower()]
    if callable(op):
        op = getattr(op, "__name__", repr(op))
    if op not in known:
        raise ValueError(f"explain: op: expected one of {', '.join(known)}, got {op!r}")
    unknown = options.keys() - inspect.signature(getattr(functional, op)).parameters.keys()
    if unknown:
        raise TypeError(f"explain: {op} has no argument {', '.join(sorted(unknown))}")
    flat = [
        a for value in (*args, *options.values()) for a in (value if isinstance(value, (list, tuple)) else (value,))
    ]
    tensors = [a for a in flat if isinstance(a, Tensor)]
    choice = _dispatch.choose(op, backend, tensors[0].device.type if tensors else "cpu")
    how = getattr(sys.modules[getattr(functional, op).__module__], "how", None)
    if how is None:
        return choice
    try:
        inspect.signature(how).bind(choice.backend, *args, **options)
    except TypeError:  # the tensors alone do not say
        return choice
    return dataclasses.replace(choice, how=how(choice.backend, *args, **options))


def show_config() -> str:
    """Versions, devices and backends as text, for a bug report.

    Example:
        >>> print(pygen.show_config())
        pygen ..., torch ..., Python ...
    """
    lines = [
        f"pygen {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}, {platform.machine()}",
        f"threads {torch.get_num_threads()}, CUDA of torch {torch.version.cuda or 'none'}",
    ]
    if _backends.why_not("cpu") is None:
        cpu = _backends.compiled("_cpu")
        own = ", with the processor's products of bfloat16" if cpu.isa() == "avx512" and cpu.bf16_products() else ""
        lines.append(f"instruction set {cpu.isa()} of {', '.join(cpu.isas())}{own}")
    lines += [f"{name}: {reason or 'ready'}" for name, reason in _backends.status().items()]
    return "\n".join(lines)
