"""Random calls of every op against plain PyTorch, and random wrong ones that must be refused: `make fuzz N=1000 SEED=1`.

Case i of run SEED is a function of (SEED, i) alone. An op joins with its row; a recipe in the row (Op.fuzz) draws shapes and
options freely, without one its samples are varied. A failure is shrunk and printed as lines that can be pasted into a shell.
"""

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import layouts
import support
import torch
from fuzz_moves import move_rounded, nudged, simpler
from registry import OPS, SAMPLERS, Op, gradients, leaves, on_floating
from support import Target, assert_accurate, assert_same, compute_dtype, has_kernel
from torch import Tensor

from pygen import _dispatch

BY_ID = {f"{op.name}/{','.join(op.outputs)}": op for op in (*OPS, *SAMPLERS)}  # two rows may share a function
DTYPES = {support.dtype_name(d): d for d in support.DTYPES}
MAKERS: dict[str, Callable[[Tensor], Tensor]] = {"plain": torch.clone} | {m.__name__: m for m in layouts.MAKERS}
UPSTREAM = ("plain", "stride 0", "misaligned", "strided", "row_gaps", "transposed", "channels_last", "absent")
VALUES = ("normal", "normal", "normal", "small", "large", "zero", "grid", "special")
ULPS = (
    12.0  # see `explained`; a convolution by equal weights, whose sums of equal terms round all the same way, needs 9
)


@dataclass(frozen=True)
class Case:
    """One call, small enough to be printed and read."""

    op: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, object] = field(default_factory=dict)
    dtype: str = "float32"
    backend: str | None = "cpu"
    values: str = "normal"
    seed: int = 0  # of the values
    layouts: Mapping[str, str] = field(default_factory=dict)  # argument -> maker; plain without
    upstream: tuple[str, ...] = ()  # of each output; plain without
    wanted: tuple[str, ...] | None = None  # gradients; None: all
    threads: int = 2
    isa: str | None = None

    def snippet(self) -> str:
        default = {name: f.default for name, f in self.__dataclass_fields__.items()}
        given = {name: value for name in default if (value := getattr(self, name)) != default[name] and value != {}}
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        code = f"import sys; sys.path.insert(0, 'tests'); import conftest, fuzz; fuzz.check(fuzz.Case({arguments}))"
        return f'.venv/bin/python -c "{code}"' if '"' not in code else code


def fill(name: str, shape: tuple[int, ...], values: str, g: torch.Generator) -> Tensor:
    """float64 values; `grid` holds multiples of 1/2, where hinges and ties lie."""
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    if "logvar" in name:
        x = x - 0.5
    if values == "special":
        odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0])
        chosen = torch.rand(shape, generator=g) < 0.05
        return torch.where(chosen, odd[torch.randint(5, shape, generator=g)].double(), x)
    if values == "grid":
        return (x * 2).round() / 2
    return x * {"normal": 1.3, "small": 1e-3, "large": 6.0, "zero": 0.0}[values]


def levels(name: str, shape: tuple[int, ...], case: Case, g: torch.Generator) -> Tensor:
    """Integers of all levels, the outer two as often as the others; in bytes where they fit, for half of the seeds."""
    op = BY_ID[case.op]
    known = op.integers[name]
    count = known(case.shapes) if callable(known) else case.options.get(known, known)
    drawn = torch.randint(-count // 2, count + count // 2, shape, generator=g).clamp(0, count - 1)
    return drawn.byte() if op.bytes and count <= 256 and case.seed % 2 else drawn


def tensors_of(case: Case) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(case.seed)
    op = BY_ID[case.op]
    tame = {"special": op.finite, "large": op.gentle}.get(case.values, ())
    made = {
        k: levels(k, tuple(s), case, g)
        if k in op.integers
        else fill(k, tuple(s), "normal" if k in tame else case.values, g)
        for k, s in case.shapes.items()
    }
    made = {k: t * op.gentle[k](t.shape) if k in op.gentle else t for k, t in made.items()}
    wanted = {k: case.layouts.get(k, "plain") if t.dim() else "plain" for k, t in made.items()}
    makers = {k: MAKERS["plain" if k in op.distinct and v == "expanded" else v] for k, v in wanted.items()}
    made = on_floating(lambda t: t.to(DTYPES[case.dtype]), made)
    return {k: makers[k](t) for k, t in made.items()}


def relay_of(kind: str) -> Callable[[Tensor], Tensor]:
    if kind == "stride 0":
        return lambda w: torch.full((), 0.75, dtype=w.dtype).expand(w.shape)
    return lambda w: MAKERS[kind](w) if w.dim() else w


def answers(
    case: Case, run: Callable, tensors: Mapping[str, Tensor], nudge: Callable = lambda w: w
) -> tuple[list, list]:
    """Outputs, and the gradients wanted of those outputs that are not absent."""
    op = BY_ID[case.op]
    names = [k for k in tensors if k in op.differentiable and (case.wanted is None or k in case.wanted)]
    marked, inputs = leaves(op, tensors, names)
    outputs = run(marked)
    kinds = case.upstream or ("plain",) * len(outputs)  # more than outputs where an option joins two
    only = [i for i, (o, kind) in enumerate(zip(outputs, kinds, strict=False)) if o.requires_grad and kind != "absent"]
    if not (inputs and only):
        return [o.detach() for o in outputs], [None] * len(names)
    relays = iter([relay_of(kinds[i]) for i in only])
    grads = gradients(outputs, inputs, only=only, relay=lambda w: nudge(next(relays)(w)))
    return [o.detach() for o in outputs], grads


def truth(
    case: Case,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    *,
    exact: bool = False,
    nudge: Callable = lambda w: w,
    rounded: Callable | None = None,
) -> tuple[list, list]:
    """By the composite; by the reference of NaN and infinities (which it may multiply by a mask's 0), where it has no rule
    for nothing, and for float64, of which the naive formula's last digits are no truth."""
    op = BY_ID[case.op]
    wide = {k: t.contiguous() for k, t in on_floating(lambda t: t.to(dtype), tensors).items()}
    finite = case.values != "special" or op.finite >= set(case.shapes)
    between = {"rounded": rounded} if rounded and op.rounds_between else {}
    if between or (finite and not (exact and case.dtype == "float64")):
        options = {"seed": support.SEED, **case.options} if op.seeded else case.options
        with contextlib.suppress(RuntimeError):
            return answers(case, lambda t: op.composite(t, options, **between), wide, nudge)
    return answers(case, lambda t: op.run(t, case.options, "reference"), wide, nudge)


def explained(case: Case, tensors: Mapping[str, Tensor], number: int, got: Tensor, ref: Tensor) -> bool:
    """Whether a result outside the rule lies, element by element, within what the last bits of the inputs decide.

    A mean of terms that cancel, or a slope beside a kink, has no digits that any arithmetic could keep: here the inputs, the
    upstream gradients, the noise and the numbers among the options are moved by one ulp of the dtype computed in, each
    number that is stored once the same way wherever it is read, and the result may be off by a few times what that changes.
    What is rounded in between (Op.rounds_between) is off by half an eps of its dtype: it is moved by so much that those few
    times are two such halves, as in a sum over many the luck of 16 draws of signs is what the luck of one call is held against.
    """
    op, eps = BY_ID[case.op], torch.finfo(compute_dtype(got.dtype)).eps
    handed = torch.finfo(op.rounds_between(got.dtype) if op.rounds_between else got.dtype).eps / ULPS
    handed = max(handed, 4 * torch.finfo(torch.float64).eps)  # less is lost in float64's own rounding
    if op.noise and "eps" not in tensors:  # its last bits are no input's: backends promise 6 ulp of it, not equality
        tensors = {**tensors, "eps": op.noise(tensors, {"seed": support.SEED, **case.options})}
        case = replace(case, options={k: v for k, v in case.options.items() if k != "seed"})
    moved = torch.zeros_like(ref)
    for i in range(16):  # so many that one of them moves both factors of a product the same way
        g = torch.Generator().manual_seed(i)
        nudge = partial(nudged, eps=eps, g=g)
        near = on_floating(nudge, tensors)
        turned = {k: v * (1 + eps * (-1) ** i) if isinstance(v, float) else v for k, v in case.options.items()}
        # NaN that a composite spreads moves nothing: every other draw is the reference's.
        rounded = partial(move_rounded, eps=handed, g=g) if case.values != "special" or i % 2 else None
        moves = {"nudge": nudge, "rounded": rounded}
        outputs, grads = truth(replace(case, options=turned), near, torch.float64, exact=True, **moves)
        other = [*outputs, *grads][number]
        moved = torch.maximum(moved, (other.double() - ref).abs().nan_to_num(nan=0.0, posinf=0.0))
    error = (got.double() - ref).abs()
    # No wider truth than float64 is to be had: two sums in different orders are as good as each other.
    largest = ref.abs().nan_to_num(0.0, 0.0, 0.0).amax() if ref.numel() else 0.0
    many, size = (64.0, largest) if got.dtype == torch.float64 else (support.OWN_EPS, ref.abs())
    own = many * torch.finfo(got.dtype).eps * size
    return bool(((error <= ULPS * moved + own) | (got.double() == ref) | (got.isnan() & ref.isnan())).all())


def check(case: Case) -> str:
    """Raises AssertionError unless the call is right; else "plain", or "explained" (see there)."""
    op, dtype = BY_ID[case.op], DTYPES[case.dtype]
    tensors = tensors_of(case)
    before = {k: t.clone() for k, t in tensors.items()}
    isa = support.instruction_set(case.isa) if case.isa else contextlib.nullcontext()
    with support.threads(case.threads), isa, support.poisoned_memory():
        outputs, grads = answers(case, lambda t: op.run(t, case.options, case.backend), tensors)
        if case.seed % 8 == 0:
            for a, b in zip(outputs, op.run(tensors, case.options, case.backend), strict=True):
                assert_same(a, b, what="a second call")
    for k, t in tensors.items():
        assert_same(t, before[k], what=f"{k}, which is an input,")
    if op.judge:
        op.judge(tensors, {"seed": support.SEED, **case.options}, *outputs)
        return "plain"
    ref, ref_grads = truth(case, tensors, torch.float64, exact=True)
    base, base_grads = truth(case, tensors, compute_dtype(dtype))
    names = [k for k in tensors if k in op.differentiable and (case.wanted is None or k in case.wanted)]
    dtypes = [op.output_dtype(name, dtype) for name in op.outputs[: len(outputs)]]
    what = [*op.outputs[: len(outputs)], *(f"grad_{k}" for k in names)]
    rows = zip(what, [*outputs, *grads], [*ref, *ref_grads], [*base, *base_grads], strict=True)
    verdict = "plain"
    for i, (name, got, r, b) in enumerate(rows):
        if r is None or got is None or b is None:
            assert (r is None or not r.any()) and (got is None or not got.any()), f"{name}: got {got}, expected {r}"
            continue
        out = dtypes[i] if i < len(dtypes) else dtype
        try:
            assert_accurate(got, r.double(), b.to(out), what=f"{op} {name}", dtype=out)
        except AssertionError:
            if got.shape != r.shape or not explained(case, tensors, i, got, r.double()):
                raise
            verdict = "explained"
    return verdict


def _varied(op: Op, rng: random.Random) -> tuple[dict, dict]:
    """For rows without a recipe: a sample with another batch."""
    sample = rng.choice([s for s in op.samples() if s.small])
    batched = op.batched if op.batched is not None else set(sample.tensors)
    sizes = {t.shape[0] for k, t in sample.tensors.items() if k in batched and t.dim()}
    n = layouts.fuzz_size(rng, 40)
    cut = {k: tuple(t.shape) for k, t in sample.tensors.items()}
    if len(sizes) == 1:
        cut = {k: (n, *s[1:]) if k in batched and s else s for k, s in cut.items()}
    return cut, dict(sample.options)


def backends_of(op: Op) -> list[str]:
    here = [t.backend for t in support.CPU_TARGETS if has_kernel(op.name, t)]
    return here + (["composite"] if has_kernel(op.name, Target("composite", "cpu")) else [])


def draw(seed: int, number: int, only: tuple[str, ...] = ()) -> Case:
    """Case `number` of a run; only: names of ops and backends it may take."""
    rng = random.Random(f"{seed}/{number}")
    ids = [i for i, op in BY_ID.items() if not only or op.name in only] or list(BY_ID)
    op_id = rng.choice(ids)
    op = BY_ID[op_id]
    shapes, options = op.fuzz(rng) if op.fuzz else _varied(op, rng)
    elements = sum(torch.Size(s).numel() for s in shapes.values())
    runs = [b for b in backends_of(op) if not any(o in _dispatch.NAMES for o in only) or b in only]
    weights = {"cpu": 80, "composite": 6, "reference": 6, "triton": 1.5 if elements < 500 else 0}
    backend = rng.choices(runs, [weights.get(b, 1) + 1e-9 for b in runs])[0]
    names = [k for k in shapes if k in op.differentiable]
    return Case(
        op=op_id,
        shapes=shapes,
        options=options,
        dtype=rng.choice([*DTYPES, "float32"]),
        backend=None if backend == "cpu" and rng.random() < 0.1 else backend,
        values=rng.choice(VALUES),
        seed=rng.randrange(2**31),
        layouts={k: rng.choice(list(MAKERS)) for k in shapes if rng.random() < 0.6},
        upstream=tuple(rng.choice(UPSTREAM) if rng.random() < 0.6 else "plain" for _ in op.outputs),
        wanted=None if rng.random() < 0.6 else tuple(k for k in names if rng.random() < 0.6),
        threads=rng.choice((1, 2, 3)),
        isa=rng.choice(support.isas()) if backend == "cpu" and rng.random() < 0.5 else None,
    )


def fault(case: Case) -> str | None:
    """What is wrong with it: "" if the call is refused, which a drawn case never is but a shrunk one may be."""
    try:
        check(case)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        return "" if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: {error}"
    return None


def shrunk(case: Case, tries: int = 300) -> Case:
    """A smaller case that fails too."""
    searching = True
    while searching and tries > 0:
        searching = False
        for candidate in simpler(case):
            tries -= 1
            if fault(candidate):
                case, searching = candidate, True
                break
            if tries <= 0:
                break
    return case
