"""Negative sampling and sampled softmax against gathers, bmm and F.binary_cross_entropy_with_logits, eager and compiled.

With gradients: dense ones of the whole table, and sparse ones, which eager takes from F.embedding(sparse=True).
"""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import negative_sampling_loss, noise_sample, noise_table, sampled_softmax_loss

OP = "noise_contrastive"
# (N, C, D, K, shared): word2vec's batches of a small and a large vocabulary; a language model's softmax.
SHAPES = [(1024, 10_000, 128, 5, False), (8192, 71_000, 128, 5, False), (1024, 71_000, 300, 20, False)]
SHAPES += [(1024, 71_000, 128, 1024, True)]
GPU_SHAPES = [(8192, 1_000_000, 300, 5, False), (8192, 1_000_000, 128, 25, False), (8192, 1_000_000, 512, 8192, True)]
DIRECTIONS = ("forward", "dense gradients", "sparse gradients")
CASES = SHAPES if DEVICE.type == "cpu" else GPU_SHAPES

Op = Callable[..., Tensor]
Case = tuple[int, int, int, int, bool]


def plain(input: Tensor, weight: Tensor, target: Tensor, negatives: Tensor, log_q: Tensor, sparse: bool) -> Tensor:
    """Scores by embeddings, bmm or mm; hits counted by nobody, as there are few."""
    own = (input * F.embedding(target, weight, sparse=sparse)).sum(1)
    rows = F.embedding(negatives, weight, sparse=sparse)
    if negatives.dim() == 1:
        others = input @ rows.t() - log_q[negatives]
        others = others.masked_fill(negatives == target.unsqueeze(1), -torch.inf)
        logits = torch.cat(((own - log_q[target]).unsqueeze(1), others), 1)
        return F.cross_entropy(logits, torch.zeros_like(target))
    others = torch.bmm(rows, input.unsqueeze(2)).squeeze(2)
    lost = F.binary_cross_entropy_with_logits(own, torch.ones_like(own), reduction="sum")
    lost = lost + F.binary_cross_entropy_with_logits(others, torch.zeros_like(others), reduction="sum")
    return lost / len(input)


def ours(backend: str) -> Op:
    def run(input: Tensor, weight: Tensor, target: Tensor, negatives: Tensor, log_q: Tensor, sparse: bool) -> Tensor:
        given = (input, weight, target, negatives)
        if negatives.dim() == 1:
            return sampled_softmax_loss(*given, noise=log_q, sparse=sparse, backend=backend)
        return negative_sampling_loss(*given, remove_accidental_hits=False, sparse=sparse, backend=backend)

    return run


def _providers(direction: str) -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain}
    if direction != "sparse gradients":  # which torch.compile leaves to eager
        ops["compiled"] = harness.compiled(plain)
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = ours(name)
    return ops


def _work(op: Op, direction: str, input: Tensor, weight: Tensor, *rest: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(input, weight, *rest, False)
    leaves = [t.detach().requires_grad_() for t in (input, weight)]
    return lambda: torch.autograd.grad(op(*leaves, *rest, direction == "sparse gradients"), leaves)


def _errors(ops: dict[str, Op], input: Tensor, weight: Tensor, *rest: Tensor) -> dict[str, float]:
    """Of the loss and both gradients against float64, each over its largest value; fails where ours is wrong."""

    def run(op: Op, dtype: torch.dtype) -> tuple[Tensor, ...]:
        leaves = [t.detach().to(dtype).requires_grad_() for t in (input, weight)]
        loss = op(*leaves, *rest, False)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    truth = run(plain, torch.float64)

    def check(name: str, op: Op) -> float:
        got = run(op, input.dtype)
        error = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(got, truth, strict=True))
        assert error <= 1e-5 or not name.startswith("pygen "), f"{name} is off by {error}"
        return error

    return harness.errors_of(ops, check)


def _inputs(case: Case) -> tuple[Tensor, ...]:
    n, classes, features, count, shared = case
    g = torch.Generator().manual_seed(0)
    input = torch.randn(n, features, generator=g)
    weight = torch.randn(classes, features, generator=g) / features**0.5
    counts = 1e6 / torch.arange(1.0, classes + 1)  # Zipf's law
    table = noise_table(counts)
    target = torch.multinomial(counts, n, replacement=True, generator=g)
    negatives = noise_sample(table, count if shared else (n, count), seed=1)
    log_q = table[:, 2].view(torch.float64).float().double()  # both take it without rounding
    return tuple(t.to(DEVICE) for t in (input, weight, target, negatives, log_q))


def _case_id(case: Case) -> str:
    n, classes, features, count, shared = case
    return f"N={n} C={classes} D={features} K={count}{' shared' if shared else ''}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    inputs = _inputs(case)
    ops = _providers(direction)
    errors = _errors(ops, *inputs)
    works = {name: _work(op, direction, *inputs) for name, op in ops.items()}
    n, classes, features, count, shared = case
    rows = 2 * n + count if shared else n * (2 + count)  # read; with gradients written once more, or the whole table
    written = (0, n + classes, rows)[DIRECTIONS.index(direction)]
    waiting = works if direction == "sparse gradients" else ()  # how many classes came is asked of the device
    measured = harness.compare(works, 4 * features * (rows + written), errors, waiting=waiting)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers("forward"))
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_noise_contrastive(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip(f"{provider} does not do this")
    harness.record(benchmark, group[provider])
