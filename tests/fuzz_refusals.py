"""Calls of fuzz.py spoilt at random: each must be refused with a ValueError or TypeError, or be right after all."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from fuzz import BY_ID, Case, tensors_of
from support import SEED
from torch import Tensor

NUMBERS = (-1, 0, 2, 7, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63) - 1, 2**70, 10**400, 2.5, -0.5)
NUMBERS += (float("nan"), float("inf"), -float("inf"), 1e308, True, False, 1j)
THINGS = (None, "", "nope", "A" * 3000, b"mean", (), int, ((True,),), (((),),))
JUNK: tuple[Callable[[], Any], ...] = (
    *((lambda x=x: x) for x in (*NUMBERS, *THINGS)),  # type: ignore[misc]
    list, dict, object, lambda: [1, 2, 3], lambda: torch.tensor(2.0), lambda: torch.tensor(1), lambda: torch.zeros(0),
    lambda: torch.zeros(3, dtype=torch.bool), lambda: torch.zeros((), device="meta"), lambda: np.float32(1),
    lambda: np.ones((3, 3), bool), torch.Generator,
)  # fmt: skip
LIMITS = (  # what torch itself says of more memory than there is, and of tensors that have none
    "allocate memory", "without memory", "cannot run: ", "Storage size calculation overflowed",
    "integer multiplication overflow", "out of bounds for storage", "invalid python storage",
)  # fmt: skip
SPOILS: dict[str, Callable[[Tensor, random.Random], Any]] = {
    "junk": lambda t, rng: rng.choice(JUNK)(),
    "dtype": lambda t, rng: t.to(
        rng.choice(
            (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float64, torch.float16, torch.bfloat16)
        )
    ),
    "0-dim": lambda t, rng: t.new_zeros(()),
    "more dims": lambda t, rng: t.reshape((1,) * rng.choice((1, 20, 50)) + tuple(t.shape)),
    "fewer dims": lambda t, rng: t.flatten(),
    "larger": lambda t, rng: t.new_zeros([n + rng.randint(0, 1) for n in t.shape]),
    "smaller": lambda t, rng: t[tuple(slice(0, max(0, n - rng.randint(0, 1))) for n in t.shape)],
    "emptied": lambda t, rng: t.new_zeros([n * (rng.random() < 0.7) for n in t.shape]),
    "turned": lambda t, rng: t.transpose(0, -1) if t.dim() else t,
    "huge": lambda t, rng: t.new_zeros(()).expand([2**55 if i == 0 else 1 for i in range(t.dim())] or [2**62]),
    "meta": lambda t, rng: t.to("meta"),
    "sparse": lambda t, rng: t.to_sparse(),
    "array": lambda t, rng: t.float().numpy(),
    "list": lambda t, rng: t.tolist(),
    "list of tensors": lambda t, rng: [t, t[:0] if t.dim() else t],
    "zero tensor": lambda t, rng: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "freed": lambda t, rng: _freed(t),
    "integers": lambda t, rng: torch.full(t.shape, rng.choice((-1, 2**31, -(2**63)))),
}


def _freed(t: Tensor) -> Tensor:
    """What FSDP leaves of a parameter that it has released: a shape without memory."""
    t = t.clone()
    t.untyped_storage().resize_(0)
    return t


def _is_freed(t: Any) -> bool:
    return (
        type(t) is Tensor
        and t.layout == torch.strided
        and t.is_cpu
        and t.numel() > 0
        and t.untyped_storage().size() == 0
    )


def spoil(case: Case, rng: random.Random) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The arguments of the call with one of them spoilt, and which."""
    op = BY_ID[case.op]
    tensors: dict[str, Any] = dict(tensors_of(case))
    options = dict(case.options)
    names = sorted({*options, *op.options, *(["seed", "generator"] if op.seeded else [])})
    if names and rng.random() < 0.45:
        name = rng.choice(names)
        options[name] = rng.choice(JUNK)()
        if name == "num_samples" and type(options[name]) is int and 2**20 < options[name] < 2**40:
            options[name] = 2**40  # what is between is valid, and takes the machine's memory
        return tensors, options, f"{name}={options[name]!r}"
    name, kind = rng.choice(list(tensors)), rng.choice(list(SPOILS))
    if kind == "freed" and case.backend in ("reference", "composite"):
        kind = "junk"  # torch's own operations read such memory, and die
    with torch.no_grad():
        tensors[name] = SPOILS[kind](tensors[name], rng)
    return tensors, options, f"{name}: {kind}"


def _results(op, tensors: Mapping[str, Any], options: Mapping[str, Any], backend: str | None) -> list[Tensor] | str:
    """What the call gives, gradients included, or the refusal; any other exception passes."""
    try:
        if op.seeded and "eps" not in tensors and options.get("seed") is None and options.get("generator") is None:
            options = {**options, "seed": SEED}
        given = {
            k: t.detach().requires_grad_()
            if isinstance(t, Tensor) and t.is_floating_point() and k in op.differentiable
            else t
            for k, t in tensors.items()
        }
        outputs = op.call(given, dict(options), backend)
        flat = torch.utils._pytree.tree_leaves(outputs)
        asked = [o for o in flat if isinstance(o, Tensor) and o.requires_grad]
        if asked and all(o.device.type == "cpu" for o in asked):
            inputs = [t for t in given.values() if isinstance(t, Tensor) and t.requires_grad]
            flat += torch.autograd.grad(asked, inputs, [torch.ones_like(o) for o in asked], allow_unused=True)
        return flat
    except (ValueError, TypeError) as error:
        return str(error)
    except MemoryError:
        return "cannot allocate memory"
    except RuntimeError as error:
        if any(text in str(error) for text in LIMITS):
            return str(error)
        raise


def check_refusal(case: Case, seed: int) -> str:
    """Raises AssertionError unless the spoilt call is refused ("refused") or all backends agree on it ("accepted")."""
    tensors, options, what = spoil(case, random.Random(seed))
    op = BY_ID[case.op]
    try:
        ours = _results(op, tensors, options, case.backend)
    except Exception as error:
        raise AssertionError(f"{op} with {what}: {type(error).__name__}: {error}") from error
    if isinstance(ours, str):
        known = ("expected", "argument", "cannot allocate", *LIMITS)
        assert any(word in ours for word in known), f"{op} with {what}: {ours}"
        return "refused"
    # Accepted where there is nothing to compute: torch's own operations read such memory all the same, and die.
    there = {k: torch.zeros(t.shape, dtype=t.dtype) if _is_freed(t) else t for k, t in tensors.items()}
    ref = _results(op, there, options, "reference")
    assert not isinstance(ref, str), f"{op} with {what}: {case.backend} gives a result, reference says {ref}"
    for a, b in zip(ours, ref, strict=True):
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            assert a.shape == b.shape and a.dtype == b.dtype and a.device == b.device, f"{op} with {what}: another form"
            if (
                a.device.type == "cpu"
                and a.numel() < 10_000
                and case.values != "special"
                and not any(w in what for w in ("generator", "e+308", str(2**70)))
            ):
                if op.judge and not a.is_floating_point():
                    continue  # a decision may lie within rounding of its number: fuzz.check judges those
                wide = torch.finfo(a.dtype).eps * 1000 if a.is_floating_point() else 0
                torch.testing.assert_close(
                    a, b, rtol=wide, atol=wide * 100, equal_nan=True, msg=lambda m: f"{op} {what}: {m}"
                )
    return "accepted"


def snippet(case: Case, seed: int) -> str:
    code = f"fuzz_refusals.check_refusal(fuzz.{case!r}, {seed})"
    return f'.venv/bin/python -c "import sys; sys.path.insert(0, {"tests"!r}); import conftest, fuzz, fuzz_refusals; {code}"'
