"""The one place that chooses a backend, and can say why not another.

The name is resolved once, in forward: the argument, then `use_backend`, then the table. Backward gets the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch.autograd import forward_ad

from pygen import _backends

AUTO = "auto"
NAMES = ("reference", "composite", "cpu", "triton", "cuda")

_requested: ContextVar[str] = ContextVar("pygen_backend", default=AUTO)

# Order of preference where the user chose nothing, by device type. CUDA: not yet measured on a GPU.
_PREFERENCE = {"cpu": ("cpu", "composite", "reference"), "cuda": ("cuda", "triton", "composite", "reference")}

# What an op lacks beside that: "composite" where no composition of torch ops is an entry of its own, kernels not yet written.
_LACKS = {
    "autoregressive_inverse": ("composite", "triton"),
    "gated_masked_conv2d": (),
    "masked_conv2d": (),
    "masked_linear": (),
}
_LACKS_BY_DEFAULT = ("composite",)


@dataclass(frozen=True)
class Choice:
    """Which backend runs a call and, for each other one, why it does not."""

    backend: str
    reason: str
    rejected: dict[str, str]
    how: str = ""  # which of its kernels, where it has several

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.reason}", *([f"  {self.how}"] if self.how else [])]
        return "\n".join(lines + [f"  not {name}: {why}" for name, why in self.rejected.items()])


def check_name(op: str, name: object) -> None:
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"{op}: backend: expected one of {', '.join(NAMES)} or None, got {name!r}")


def checked(module: str, backend: str | None) -> str | None:
    """A module's `backend`, of which the name is checked alone: it may be made on another machine than it runs on."""
    if backend is not None:
        check_name(module, backend)
    return backend


def why_not(op: str, name: str, device_type: str) -> str | None:
    """Why `name` cannot run `op` on tensors of that device; None if it can."""
    if name in _LACKS.get(op, _LACKS_BY_DEFAULT):
        return f"{op} has none"
    if name in ("reference", "composite"):
        return None
    if name == "cpu" and device_type != "cpu":
        return f"it runs on CPU tensors, these are on {device_type}"
    if name == "cuda" and device_type != "cuda":
        return f"it runs on CUDA tensors, these are on {device_type}"
    if name == "triton" and device_type == "cpu" and not _backends.triton_interpreted():
        return "on CPU tensors it needs TRITON_INTERPRET=1 set before import"
    if name == "triton" and device_type not in ("cpu", "cuda"):
        return f"it runs on CUDA tensors, these are on {device_type}"
    return _backends.why_not(name)


def requested(op: str, argument: str | None) -> str:
    """The user's choice, by argument or context. AUTO if there is none, or while compiling: the op asks at run time."""
    if argument is None:
        return AUTO if torch.compiler.is_compiling() else _requested.get()
    check_name(op, argument)
    return argument


@cache
def _first_that_runs(op: str, device_type: str) -> str:
    for candidate in _PREFERENCE.get(device_type, ("composite",)):
        if why_not(op, candidate, device_type) is None:
            return candidate
    return "reference"


@cache
def _checked(op: str, name: str, device_type: str) -> str:
    reason = why_not(op, name, device_type)
    if reason is not None:
        raise RuntimeError(f"{op}: backend {name!r} cannot run: {reason}")
    return name


def resolve(op: str, name: str, device_type: str) -> str:
    """A backend that runs: the one asked for, or the first of the table. Raises if the one asked for cannot."""
    if name == AUTO:
        name = _requested.get()
    return _first_that_runs(op, device_type) if name == AUTO else _checked(op, name, device_type)


def choose(op: str, argument: str | None, device_type: str) -> Choice:
    """What resolve would do, with the reasons."""
    name = requested(op, argument)
    backend = resolve(op, name, device_type)
    preferred = "asked for" if name != AUTO else f"first that runs on {device_type} tensors"
    rejected = {}
    for other in NAMES:
        if other != backend:
            rejected[other] = why_not(op, other, device_type) or (
                f"{backend} was asked for" if name != AUTO else f"{backend} is preferred"
            )
    return Choice(backend, preferred, rejected)


def launcher(op: str, stem: str, backend: str, t: torch.Tensor) -> ModuleType:
    """The module with `forward` and `backward` that runs `op` on tensors like `t`."""
    return _backends.load_launcher(stem, resolve(op, backend, "cpu" if t.is_cpu else t.device.type))


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the block every pygen op runs on backend `name`; a call's own `backend=` takes precedence.

    Args:
        name: "reference", "cpu", "triton", "cuda", or "composite" (torch's own ops, for the ops that have one).

    Raises:
        ValueError: the name is unknown.
        RuntimeError: that backend cannot run on this machine; the message says why.

    Example:
        >>> x = torch.randn(4, 8)
        >>> with pygen.use_backend("reference"):
        ...     pygen.functional.gaussian_kl(x, x).shape
        torch.Size([])
    """
    check_name("use_backend", name)
    reason = None if name == "composite" else _backends.why_not(name)
    if reason is not None:
        raise RuntimeError(f"use_backend: backend {name!r} cannot run: {reason}")
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def is_batched(t: torch.Tensor) -> bool:
    """Whether it is a batch of gradients in the guise of one (is_grads_batched)."""
    return torch._C._functorch.is_legacy_batchedtensor(t)


def transformed(*grads: torch.Tensor | None) -> bool:
    """Whether torch.func (vmap, grad, jvp), forward mode or batched upstream gradients (is_grads_batched) are at work."""
    if torch.compiler.is_compiling():
        return False
    for grad in grads:
        if grad is not None and is_batched(grad):
            return True
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def ask(op: str, name: str, device_type: str) -> None:
    """Of a call that goes through torch's dispatcher: raises if `name` cannot run, before a seed is drawn. What has no gradient
    needs no rules for transforms: the dispatcher takes their guises off, and calls once for each entry of a vmap."""
    if not torch.compiler.is_compiling():
        resolve(op, name, device_type)


def under_transform(op: str, name: str, device_type: str) -> bool:
    """Of a call that is not plain: whether it must take the reference, which alone knows the rules of transforms.

    Raises if `name` cannot run, or not so. Ask before a seed is drawn.
    """
    if torch.compiler.is_compiling():
        if not torch._C._are_functorch_transforms_active():  # inside the compiled region
            return False
    else:
        resolve(op, name, device_type)
        if not transformed():
            return False
    if name not in (AUTO, "reference"):
        raise NotImplementedError(
            f"{op}: backend {name!r} has no rules for torch.func transforms or forward mode; use backend='reference'"
        )
    return True


TENSOR_TYPES = {torch.Tensor, torch.nn.Parameter}
_PLAIN_TYPES = TENSOR_TYPES | {type(None), int}


def is_plain(*arguments: Any) -> bool:
    """Whether a call may go straight to the launcher: plain tensors, nothing tracing, transforming or intercepting."""
    if torch.compiler.is_compiling():
        return False
    for argument in arguments:
        kind = type(argument)
        if kind not in _PLAIN_TYPES or (kind in TENSOR_TYPES and argument.is_neg()):
            return False
    return nothing_intercepts()


def nothing_intercepts() -> bool:
    """Whether nothing traces, transforms or listens to torch's ops. Not to be asked while compiling."""
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    )


def saved_tensor_hooks_active() -> bool:
    """Whether someone else keeps what backward needs (save_on_cpu, checkpointing), to spare memory."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def readable(grad: torch.Tensor | None) -> torch.Tensor | None:
    """An upstream gradient as launchers can read it: autograd may send sparse ones, negated views, zeros without memory."""
    if grad is None:
        return None
    if grad.layout is not torch.strided:
        grad = grad.to_dense()
    return grad.clone() if grad.is_neg() or grad._is_zerotensor() else grad
