"""The one comparator with the one tolerance rule, the weights of gradients, poisoned memory, and what runs here.

The rule: `ref` is the float64 composite of the same rounded inputs, `base` plain PyTorch on them, `ours` the op;

    max|ours - ref| <= 2 max|base - ref| + 4 eps max|ref|        for every output and every gradient.

`base` computes as the ops promise to (float32 inside, float64 for float64) and rounds once, so the rule is stricter than
eager PyTorch in bfloat16 would make it; eps is that of the result's dtype.
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils._device import _device_constructors

import pygen
from pygen import _backends, _dispatch

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
OTHERS_ERROR = 2.0  # how many times the error of plain PyTorch is allowed
OWN_EPS = 4.0  # and how many eps of the largest value beside it
SEED = -0x123456789ABCDEF  # of every seeded call that does not say otherwise; negative and with a high word


def dtype_name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the ops compute in."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Target:
    """A backend and a device it runs on."""

    backend: str
    device: str

    def __str__(self) -> str:
        return self.backend if self.backend == "cpu" or self.device == "cpu" else f"{self.backend}-{self.device}"

    @property
    def slow(self) -> bool:
        """Under Triton's interpreter a launch takes 0.1 s, and large shapes seconds."""
        return self.backend == "triton" and self.device == "cpu"


def _targets() -> list[Target]:
    ready = [name for name, reason in pygen.backends().items() if reason is None]
    on_cpu = [n for n in ready if n in ("reference", "cpu") or (n == "triton" and _backends.triton_interpreted())]
    on_cuda = [n for n in ready if n != "cpu"] if torch.cuda.is_available() else []
    return [Target(n, "cpu") for n in on_cpu] + [Target(n, "cuda") for n in on_cuda]


TARGETS = _targets()
FAST_TARGETS = [t for t in TARGETS if not t.slow]
CPU_TARGETS = [t for t in TARGETS if t.device == "cpu"]

fast_targets = pytest.mark.parametrize("target", FAST_TARGETS, ids=str)


def has_kernel(op: str, target: Target) -> bool:
    """Whether the op has been written for that backend."""
    return _dispatch.why_not(op, target.backend, target.device) is None


def isas() -> list[str]:
    """The instruction sets of the C++ kernels that this processor has."""
    return _backends.compiled("_cpu").isas() if pygen.backends()["cpu"] is None else []


@contextlib.contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """The C++ kernels run on this instruction set within the block."""
    cpu = _backends.compiled("_cpu")
    before = cpu.isa()
    cpu.set_isa(name)
    try:
        yield
    finally:
        cpu.set_isa(before)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _round(ref: Tensor, dtype: torch.dtype) -> Tensor:
    return ref.to(dtype).double()


def _positions(mask: Tensor) -> str:
    where = mask.nonzero()
    some = ", ".join(str(p.tolist()) for p in where[:4])
    return f"{len(where)} of {mask.numel()} elements, at {some}{', ...' if len(where) > 4 else ''}"


def check_form(
    ours: Tensor, like: Tensor, dtype: torch.dtype, *, strides: Sequence[int] | None = None, what: str
) -> None:
    """Shape, dtype and, on request, strides (of the dims longer than 1: a stride of a unit dim means nothing)."""
    assert isinstance(ours, Tensor), f"{what}: expected a tensor, got {type(ours).__name__}"
    assert ours.shape == like.shape, f"{what}: shape {list(ours.shape)}, expected {list(like.shape)}"
    assert ours.dtype == dtype, f"{what}: {ours.dtype}, expected {dtype}"
    if strides is not None and ours.numel() > 0:
        got = [s for s, n in zip(ours.stride(), ours.shape, strict=True) if n > 1]
        expected = [s for s, n in zip(strides, ours.shape, strict=True) if n > 1]
        assert got == expected, f"{what}: strides {ours.stride()}, expected {tuple(strides)}"


def assert_accurate(
    ours: Tensor,
    ref: Tensor,
    base: Tensor,
    *,
    dtype: torch.dtype | None = None,
    strides: Sequence[int] | None = None,
    what: str = "result",
    own_eps: float = OWN_EPS,
) -> float:
    """Fails unless `ours` obeys the rule of this file, with NaN and infinities exactly where `ref` has them.

    Args:
        ours: what the op gave.
        ref: float64, the truth.
        base: what plain PyTorch gave, any floating dtype; where it is not finite and ref is, it excuses nothing.
        dtype: what ours must be; by default base's.
        strides: what ours must have; by default any.
        own_eps: the rule's 4, see Op.double_eps.

    Returns:
        max|ours - ref| / (max|base - ref| + 2 eps max|ref|), 0 where both are exact.
    """
    dtype = dtype or base.dtype
    assert ref.dtype == torch.float64, f"{what}: the truth must be float64, got {ref.dtype}"
    check_form(ours, ref, dtype, strides=strides, what=what)
    assert base.shape == ref.shape, f"{what}: plain PyTorch gives {list(base.shape)}, the truth {list(ref.shape)}"
    got, ref, base = ours.detach().double().cpu(), ref.detach().cpu(), base.detach().double().cpu()
    rounded = _round(ref, dtype)
    finite = rounded.isfinite()
    wrong = torch.where(finite, ~got.isfinite(), (got != rounded) & ~(got.isnan() & rounded.isnan()))
    assert not wrong.any(), (
        f"{what}: NaN or infinity in {_positions(wrong)}: got {got[wrong][:4].tolist()}, "
        f"expected {rounded[wrong][:4].tolist()}"
    )
    if not finite.any():
        return 0.0
    largest = ref[finite].abs().max().item()
    excused = finite & base.isfinite()
    base_error = (base - ref)[excused].abs().max().item() if excused.any() else 0.0
    # Half a step of the narrow dtype's subnormals, below which eps means nothing.
    least = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    eps = torch.finfo(dtype).eps
    error = torch.where(finite, (got - ref).abs(), torch.zeros_like(got))
    bound = OTHERS_ERROR * base_error + own_eps * eps * largest + least
    wrong = error > bound
    assert not wrong.any(), (
        f"{what}: error {error.max().item():.3g} > {bound:.3g} (plain PyTorch {base_error:.3g}, "
        f"largest value {largest:.3g}) in {_positions(wrong)}: got {got[wrong][:4].tolist()}, expected {ref[wrong][:4].tolist()}"
    )
    scale = base_error + 2 * eps * largest
    return error.max().item() / scale if scale > 0 else 0.0


def assert_same(a: Tensor | None, b: Tensor | None, *, what: str = "result") -> None:
    """Equal bit for bit (any NaN equals any NaN), in shape and dtype too; None equals None."""
    if a is None or b is None:
        assert a is b, f"{what}: {'None' if a is None else 'a tensor'} against {'None' if b is None else 'a tensor'}"
        return
    check_form(a, b, b.dtype, what=what)
    different = ~((a == b) | (a.isnan() & b.isnan())) if a.is_floating_point() else a != b
    assert not different.any(), (
        f"{what}: differs in {_positions(different)}: {a[different][:4].tolist()} against {b[different][:4].tolist()}"
    )


def ulps(x: Tensor, ref: Tensor) -> Tensor:
    """|x - ref| in units of the last place of float32 x's exact value ref (float64)."""
    _, exponent = torch.frexp(ref.abs().clamp(min=torch.finfo(torch.float32).tiny))
    return (x.double() - ref).abs() / torch.exp2((exponent - 24).double())


def mixed_weights(shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Upstream gradients: multiples of 1/8 in [-3/2, 3/2] without 0, of both signs, exact in every dtype."""
    n = int(torch.Size(shape).numel())
    i = torch.arange(n, dtype=torch.int64)
    eighths = (i * 7 + i // 5 * 11 + i // 64 * 3) % 24 - 12
    eighths = torch.where(eighths >= 0, eighths + 1, eighths)
    return (eighths.double() / 8).reshape(shape).to(dtype=dtype, device=device)


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """torch.empty and its kin hand out NaN (integers: their largest value) instead of what lies there by chance."""

    def poison(make):
        def empty(*args, **kwargs):
            t = make(*args, **kwargs)
            with torch.no_grad():
                if t.device.type == "meta" or type(t) is not Tensor:
                    return t
                if t.is_floating_point():
                    return t.fill_(float("nan"))
                return t if t.dtype == torch.bool else t.fill_(torch.iinfo(t.dtype).max)

        return empty

    # At its first use a default device lists the functions that make tensors, for good: torch's own, not these.
    _device_constructors()
    names = ("empty", "empty_like", "empty_strided")
    saved = {name: getattr(torch, name) for name in names}
    try:
        for name, make in saved.items():
            setattr(torch, name, poison(make))
        yield
    finally:
        for name, make in saved.items():
            setattr(torch, name, make)


@contextlib.contextmanager
def no_leak() -> Iterator[None]:
    """The block leaves no tensor behind: neither a reference cycle nor something kept by a context or a cache."""
    gc.collect()
    gc.freeze()  # what is there already need not be walked through again, here and in later tests
    before = live_tensors()
    yield
    gc.collect()
    after = live_tensors()
    assert after <= before, f"{after - before} tensors outlive the block"


def live_tensors() -> int:
    """How many tensors Python's collector sees."""
    return sum(issubclass(type(o), Tensor) for o in gc.get_objects())
