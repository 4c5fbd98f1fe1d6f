"""Argument checks, one wording: `op: argument: expected ..., got ...`. They read metadata only: fake tensors too."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

LARGEST = sys.float_info.max  # an int may be larger, and has no float then
FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def fail(op: str, argument: str, expected: str, got: object, *, kind: type[Exception] = ValueError) -> Exception:
    """The exception to raise."""
    return kind(f"{op}: {argument}: expected {expected}, got {describe(got) if isinstance(got, Tensor) else got}")


def describe(t: Tensor) -> str:
    return f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)} on {t.device}"


def shown(value: object) -> str:
    """As an error shows it: of a tensor what it is, not all of its numbers."""
    return describe(value) if isinstance(value, Tensor) else repr(value)


def named_here(name: object, names: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    """What came in the place of one of our names, and which one that is where it is spelt or called differently.

    elsewhere: names of other code, in lower case and without hyphens and underscores.
    """
    if not isinstance(name, str):
        return shown(name)
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    ours = {own.replace("_", ""): own for own in names}.get(plain, elsewhere.get(plain))
    return repr(name) if ours is None else f"{name!r}, which is {ours!r} here"


def check_tensor(op: str, argument: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise fail(op, argument, "a torch.Tensor", type(value).__name__, kind=TypeError)
    if value.layout != torch.strided or value.is_nested:  # older nested tensors say that they are strided
        got = "a nested tensor" if value.is_nested else value.layout
        raise fail(op, argument, "a strided (dense) tensor", got, kind=TypeError)


def check_floating(op: str, argument: str, t: Tensor) -> None:
    if t.dtype not in FLOATING:
        raise fail(op, argument, "float64, float32, bfloat16 or float16", str(t.dtype), kind=TypeError)


def check_like(op: str, argument: str, t: Tensor, name: str, like: Tensor) -> None:
    """Same dtype and device as `like`, which was passed as `name`."""
    if t.dtype != like.dtype:
        raise fail(op, argument, f"{like.dtype}, the dtype of {name}", t.dtype, kind=TypeError)
    if t.device != like.device:
        raise fail(op, argument, f"a tensor on {like.device}, where {name} is", t.device)


def check_broadcasts(op: str, argument: str, t: Tensor, name: str, shape: Sequence[int]) -> None:
    """t's shape broadcasts to `shape`, the shape of `name`; never the reverse."""
    lead = len(shape) - t.dim()
    if lead < 0 or any(s != 1 and s != shape[lead + i] for i, s in enumerate(t.shape)):
        raise fail(op, argument, f"a shape that broadcasts to {list(shape)}, the shape of {name}", list(t.shape))


def check_bool(op: str, argument: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise fail(op, argument, "True or False", shown(value), kind=TypeError)
    return value


def check_size(module: str, argument: str, value: object) -> None:
    """Of a module's layers."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise fail(module, argument, "an int >= 1", repr(value))


def instead_of_levels(x: Tensor, num_levels: int | None) -> str:
    """What came in their place, and what makes levels of it."""
    if num_levels is None or not x.is_floating_point():
        return str(x.dtype)
    return f"{x.dtype} (of numbers in [0, 1]: (x * {num_levels - 1}).round().long())"


REDUCTIONS = ("batchmean", "none", "sum")


def check_reduction(op: str, reduction: object) -> None:
    """The reductions of likelihoods and KL."""
    if isinstance(reduction, str) and reduction in REDUCTIONS:  # an array has no one truth value
        return
    hint = ""
    if isinstance(reduction, str) and reduction == "mean":
        hint = (
            " (a mean over elements, which in an ELBO shrinks the KL by the latent size, is 'sum' over their number; "
            "'batchmean' is the mean over N)"
        )
    raise fail(op, "reduction", "'batchmean', 'none' or 'sum'", f"{reduction!r}{hint}")


def check_temperature(op: str, temperature: object) -> None:
    """Of a sampler: logits are divided by it."""
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise fail(op, "temperature", "a number", type(temperature).__name__, kind=TypeError)
    if not 0 < temperature <= LARGEST:
        raise fail(op, "temperature", "a finite number > 0", temperature)


def autocast_enabled() -> bool:
    """Whether any device's autocast is on: a cheap question before `promote_under_autocast`."""
    return torch._C._is_any_autocast_enabled()


def without_autocast(t: Tensor) -> AbstractContextManager:
    """What is in the dtype it shall be in, such as `t`, is not narrowed inside."""
    off = t.is_meta or not autocast_enabled()
    return nullcontext() if off else torch.autocast(t.device.type, enabled=False)


def promote_under_autocast(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Under their device's autocast losses promote mixed dtypes to the widest; else tensors come back as they are."""
    present = [t for t in tensors if isinstance(t, Tensor)]
    if not present or not torch.is_autocast_enabled(present[0].device.type):
        return tensors
    widest = present[0].dtype
    for t in present[1:]:
        widest = torch.promote_types(widest, t.dtype)
    return tuple(t.to(widest) if isinstance(t, Tensor) and t.dtype != widest else t for t in tensors)


def cast_under_autocast(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Under their device's autocast the tensors in its dtype, as torch casts those of F.conv2d (float64 stays)."""
    present = [t for t in tensors if isinstance(t, Tensor)]
    if not present or not torch.is_autocast_enabled(present[0].device.type):
        return tensors
    dtype = torch.get_autocast_dtype(present[0].device.type)
    return tuple(
        t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    )
