"""One row per op: what the generic tests of test_conformance_*.py need to know of it. Rows lie in tests/rows/<op>.py.

A row file defines ROWS, a list of Op. Every generic test runs over every row, so an op gets all of them by adding one.
"""

import importlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import layouts
import pytest
import torch
from support import OWN_EPS, SEED, Target, compute_dtype, mixed_weights
from torch import Tensor, nn

Tensors = dict[str, Tensor]
Outputs = tuple[Tensor, ...]


def on_floating(change: Callable[[Tensor], Tensor], tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors, those of integers as they are."""
    return {k: change(t) if t.is_floating_point() else t for k, t in tensors.items()}


@dataclass(frozen=True)
class Sample:
    """Arguments of one call. `tensors` are float64 here, and tests round them to the dtype they look at; or integers."""

    name: str
    tensors: Mapping[str, Tensor]
    options: Mapping[str, object] = field(default_factory=dict)
    small: bool = True  # quick enough for Triton's interpreter

    def cast(self, dtype: torch.dtype, device: str = "cpu") -> Tensors:
        return {k: t.to(dtype=dtype if t.is_floating_point() else None, device=device) for k, t in self.tensors.items()}


@dataclass(frozen=True)
class ErrorInput:
    """Arguments that must be refused, with exactly this type and a message that matches."""

    name: str
    tensors: Mapping[str, object]  # as passed: dtypes are part of the fault
    options: Mapping[str, object]
    error: type[Exception]
    match: str


@dataclass(frozen=True)
class Op:
    """One public function."""

    name: str
    outputs: tuple[str, ...]
    differentiable: tuple[str, ...]  # arguments
    call: Callable[..., Outputs]  # call(tensors, options, backend) -> outputs: the public function
    composite: Callable[..., Outputs]  # composite(tensors, options): the same in plain PyTorch, in the tensors' dtype
    samples: Callable[[], list[Sample]]
    errors: Callable[[], list[ErrorInput]]
    low_outputs: frozenset[str] = frozenset()  # those in the input's dtype; the others come out in compute dtype
    elementwise: frozenset[str] = frozenset()  # those without a sum, equal bit for bit over layouts and batches
    options: Mapping[str, tuple] = field(default_factory=dict)  # option -> two values that give different results
    seeded: bool = False  # takes seed= and generator=
    # The noise of a seeded op's call, float64, as its eps= takes it: noise(tensors, options with a seed).
    noise: Callable[[Tensors, Mapping[str, object]], Tensor] | None = None
    autocast: str = "promote"  # mixed dtypes to the widest; or "cast" to autocast's own, as torch does with layers
    unsaved: frozenset[str] = frozenset()  # arguments that no gradient depends on
    batched: frozenset[str] | None = None  # arguments whose dim 0 is the batch; None: all
    registered: Callable[..., list] = lambda sample, dtype: []  # [(torch op, args)] for opcheck
    more_samples: Callable[[], list[Sample]] | None = (
        None  # for opcheck, where tensors cannot be cut and laid out at will
    )
    modules: Mapping[str, Callable[[], tuple[nn.Module, tuple]]] = field(default_factory=dict)  # name -> module, inputs
    kept: frozenset[str] = frozenset()  # outputs that backward reads: changing them in place is noticed
    saved_extra: int = 0  # bytes beside the inputs that backward may keep; a seeded op keeps its seed
    # Draws (argument -> shape, options) for fuzz.py; without one it varies the samples.
    fuzz: Callable[[random.Random], tuple[dict[str, tuple[int, ...]], dict]] | None = None
    finite: frozenset[str] = frozenset()  # arguments to which fuzz.py gives no NaN and no infinity; the row says why
    # Of an output's dtype, what numbers in between are rounded to that the result does not forget: those that one kernel hands
    # the next, or sums in the dtype computed in. The composite takes rounded= for each such number.
    rounds_between: Callable[[torch.dtype], torch.dtype] | None = None
    # Of float64 there is no wider truth, and plain PyTorch's own error is not known: how many eps right answers may lie apart
    # there. More than the rule's 4 for a gradient whose weights are softmaxes of large logits, as fuzz.py has it.
    double_eps: float = OWN_EPS
    # Argument of levels -> the option that says how many there are, or how many, or a function of the shapes that says it.
    integers: Mapping[str, str | int | Callable[[Mapping[str, tuple[int, ...]]], int]] = field(default_factory=dict)
    bytes: bool = True  # those arguments may hold uint8 too
    # Arguments to which fuzz.py gives no large values, and what it multiplies them by, of their shape; the row says why.
    gentle: Mapping[str, Callable[[Sequence[int]], float]] = field(default_factory=dict)

    # Of a sampler: judge(tensors, options with a seed, *outputs) raises AssertionError unless each decision is that of its
    # own uniform number, but for rounding. It has no gradients, and the generic tests leave it to its own: see SAMPLERS.
    judge: Callable[..., None] | None = None

    # Arguments whose rows no layout makes the same: what is left of their gradients then is rounding errors, of nothing.
    distinct: frozenset[str] = frozenset()

    # Straight through, or with terms that stop gradients: these are not the derivatives of the values, and differences of values
    # say nothing of them. They are held against the composite's, which autograd makes, and closed forms.
    surrogate: bool = False

    def __str__(self) -> str:
        return self.name

    def sample(self, name: str) -> Sample:
        return next(s for s in self.samples() if s.name == name)

    def run(self, tensors: Mapping[str, Tensor], options: Mapping[str, object], backend: str | None = None) -> Outputs:
        """The call, with a fixed seed unless the options say where the noise comes from."""
        if self.seeded and not {"seed", "generator", "eps"} & {*options, *tensors}:
            options = {**options, "seed": SEED}
        return self.call(tensors, options, backend)

    def truth(self, tensors: Tensors, options: Mapping[str, object], *, double: bool = True) -> Outputs:
        """The composite in float64 of the same rounded inputs; or in the dtype that ops compute in."""
        options = {"seed": SEED, **options} if self.seeded else options
        wide = torch.float64 if double else compute_dtype(next(iter(tensors.values())).dtype)
        return self.composite(on_floating(lambda t: t.to(wide), {k: t.cpu() for k, t in tensors.items()}), options)

    def output_dtype(self, output: str, dtype: torch.dtype) -> torch.dtype:
        return dtype if output in self.low_outputs else compute_dtype(dtype)


def _load() -> list[Op]:
    stems = sorted(path.stem for path in (Path(__file__).parent / "rows").glob("[a-z]*.py"))
    return list(itertools.chain.from_iterable(importlib.import_module(f"rows.{stem}").ROWS for stem in stems))


_ROWS = _load()
OPS = [op for op in _ROWS if not op.judge]
SAMPLERS = [op for op in _ROWS if op.judge]  # for fuzz.py and the sanitizer
each_op = pytest.mark.parametrize("op", OPS, ids=str)
# Few samples by name would say nothing of options: one sample stands for each op where the claim is not about values.
each_sample = pytest.mark.parametrize(
    ("op", "sample"), [pytest.param(op, s, id=f"{op}-{s.name}") for op in OPS for s in op.samples()]
)
each_error = pytest.mark.parametrize(
    ("op", "error"), [pytest.param(op, e, id=f"{op}-{e.name}") for op in OPS for e in op.errors()]
)


def skip_if_slow(target: Target, sample: Sample) -> None:
    if target.slow and not sample.small:
        pytest.skip("too large for Triton's interpreter")


def leaves(op: Op, tensors: Tensors, wanted: Sequence[str] | None = None) -> tuple[Tensors, list[Tensor]]:
    """The tensors as they are, the differentiable ones (or those wanted) requiring grad; and these."""
    names = op.differentiable if wanted is None else wanted
    marked = {k: t.detach().requires_grad_(k in names) for k, t in tensors.items()}
    return marked, [t for k, t in marked.items() if k in names]


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    *,
    only: Sequence[int] | None = None,
    relay: Callable[[Tensor], Tensor] = lambda w: w,
    **options: bool,
) -> list[Tensor | None]:
    """d <mixed weights, outputs> / d inputs, of all outputs or only those numbered, the weights laid out by `relay`."""
    if not inputs:
        return []
    chosen = [o for i, o in enumerate(outputs) if o.requires_grad and (only is None or i in only)]
    weights = [relay(mixed_weights(o.shape, o.dtype, o.device.type)) for o in chosen]
    return list(torch.autograd.grad(chosen, list(inputs), weights, allow_unused=True, **options))


def tiny(op: Op, device: str = "cpu") -> tuple[Tensors, list[Tensor], Mapping[str, object]]:
    """A sample small enough for finite differences, as float64 leaves."""
    for sample in op.samples():
        if sample.name == "tiny":  # of an op whose tensors cannot be cut at will
            return (*leaves(op, sample.cast(torch.float64, device)), sample.options)
    sample = op.sample("odd everything")
    cut = {
        k: t[tuple(slice(0, 2) for _ in t.shape)].contiguous() for k, t in sample.cast(torch.float64, device).items()
    }
    return (*leaves(op, cut), sample.options)


def layout_sample(op: Op, sample: Sample, maker: Callable, dtype: torch.dtype, device: str) -> Tensors:
    """The sample's tensors, each laid out by the maker."""
    kept = op.distinct if maker is layouts.expanded else ()
    return {k: t if k in kept else maker(t) for k, t in sample.cast(dtype, device).items()}
