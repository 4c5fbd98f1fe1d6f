"""crf_nll, crf_decode and crf_sample against the recursion as people write it (pytorch-crf), eager and with its step compiled."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import crf_decode, crf_marginals, crf_nll, crf_sample

OP = "crf"
# (N, T, K): tagging with few and with many tags, and short sentences.
SHAPES = [(64, 512, 8), (64, 512, 64), (64, 32, 8), (64, 32, 64)]
# hard: one transition in eight cannot come, so that kernels sum logarithms.
CASES = [(shape, False) for shape in SHAPES] + [((64, 512, 8), True)]
MANY = 16  # samples of each sequence
DIRECTIONS = ("forward", "forward+backward", "decode", "sample", f"{MANY} samples")

Case = tuple[tuple[int, int, int], bool]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # emissions, tags, transitions, start, end
Op = Callable[..., Tensor]


def step(state: Tensor, emissions: Tensor, transitions: Tensor) -> Tensor:
    return torch.logsumexp(state.unsqueeze(2) + transitions, 1) + emissions


def plain(advance: Op) -> Op:
    """The negative log-likelihood by a loop over steps, in the dtype of the emissions; of a batch of full length."""

    def nll(emissions: Tensor, tags: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        state = start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            state = advance(state, emissions[:, t], transitions)
        score = emissions.gather(2, tags.unsqueeze(2)).sum((1, 2)) + transitions[tags[:, :-1], tags[:, 1:]].sum(1)
        score = score + start[tags[:, 0]] + end[tags[:, -1]]
        return (torch.logsumexp(state + end, 1) - score).mean()

    return nll


def plain_decode(emissions: Tensor, tags: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Viterbi, the way back kept: the likeliest tags [N, T]."""
    state, back = start + emissions[:, 0], []
    for t in range(1, emissions.shape[1]):
        best, before = (state.unsqueeze(2) + transitions).max(1)
        state = best + emissions[:, t]
        back.append(before)
    path = [(state + end).argmax(1)]
    for before in reversed(back):
        path.append(before.gather(1, path[-1].unsqueeze(1)).squeeze(1))
    return torch.stack(path[::-1], 1)


def draw_step(weights: Tensor) -> Tensor:
    """A tag of each row of logarithms of weights, by torch.multinomial."""
    return torch.multinomial(weights.softmax(-1), 1).squeeze(1)


def race_step(weights: Tensor) -> Tensor:
    """The same as a race of exponential clocks, which needs no second pass and can be compiled."""
    p = weights.softmax(-1)
    return (p / torch.empty_like(p).exponential_()).argmax(-1)


def plain_sample(samples: int, advance: Op, draw: Op) -> Op:
    """Forward filtering, backward sampling: tags [samples * N, T], all samples of a batch side by side."""

    def sample(emissions: Tensor, tags: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        states = [start + emissions[:, 0]]
        for t in range(1, emissions.shape[1]):
            states.append(advance(states[-1], emissions[:, t], transitions))
        back, path = transitions.t(), [draw((states[-1] + end).repeat(samples, 1))]
        for state in reversed(states[:-1]):
            path.append(draw(state.repeat(samples, 1) + back[path[-1]]))
        return torch.stack(path[::-1], 1)

    return sample


def _sample(name: str, samples: int) -> Op:
    def sample(emissions: Tensor, tags: Tensor, *scores: Tensor) -> Tensor:
        return crf_sample(emissions, *scores, num_samples=samples, seed=5, backend=name)

    return sample


def _samples(direction: str) -> int:
    """Of each sequence; 0 where nothing is drawn."""
    return {"sample": 1, f"{MANY} samples": MANY}.get(direction, 0)


def _decode(name: str) -> Op:
    def decode(emissions: Tensor, tags: Tensor, *scores: Tensor) -> Tensor:
        return crf_decode(emissions, *scores, backend=name)[0]

    return decode


def _providers(direction: str) -> dict[str, Op]:
    torch._dynamo.reset()
    decoding = direction == "decode"
    ops: dict[str, Op] = {"eager": plain_decode if decoding else plain(step)}
    samples = _samples(direction)
    if samples:
        advance = harness.compiled(step)
        ops = {"eager": plain_sample(samples, step, draw_step), "eager race": plain_sample(samples, step, race_step)}
        ops["compiled"] = plain_sample(samples, advance, harness.compiled(race_step))
    elif not decoding:
        ops["compiled"] = plain(harness.compiled(step))
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            nll = lambda *given, name=name: crf_nll(*given, backend=name)  # noqa: E731
            ops[f"pygen {name}"] = _sample(name, samples) if samples else _decode(name) if decoding else nll
    return ops


def _work(op: Op, direction: str, inputs: Inputs) -> Work:
    if direction != "forward+backward":
        return lambda: op(*inputs)
    given = [t.detach().requires_grad_(t.is_floating_point()) for t in inputs]
    leaves = [t for t in given if t.requires_grad]
    return lambda: torch.autograd.grad(op(*given), leaves)


def _checked_error(name: str, op: Op, direction: str, inputs: Inputs) -> float:
    """Of loss and gradients against float64, each over its largest value; of tags the share that differs."""
    if direction == "decode":
        error = (op(*inputs) != plain_decode(*inputs)).double().mean().item()
        assert not name.startswith("pygen ") or error < 1e-3, f"{name}: {error} of the tags differ"
        return error
    if _samples(direction):
        return _drawn_error(name, op, inputs)
    results = []
    for double in (True, False):
        run = plain(step) if double else op
        given = [t.detach().to(torch.float64 if double and t.is_floating_point() else None) for t in inputs]
        given = [t.requires_grad_(t.is_floating_point()) for t in given]
        loss = run(*given)
        results.append([loss, *torch.autograd.grad(loss, [t for t in given if t.requires_grad])])
    error = max(((b - a).abs().max() / a.abs().max()).item() for a, b in zip(*results, strict=True))
    assert not name.startswith("pygen ") or error <= 2e-5, f"{name} is off by {error}"
    return error


def _drawn_error(name: str, op: Op, inputs: Inputs) -> float:
    """How far the tags' frequencies over the batch lie from the sum of their marginals, in standard deviations."""
    emissions, _, *scores = inputs
    chances = crf_marginals(emissions.double(), *(t.double() for t in scores), backend="reference")
    drawn = op(*inputs).view(-1, *emissions.shape[:2])
    counts = torch.nn.functional.one_hot(drawn, emissions.shape[2]).double().sum((0, 1, 2))
    spread = (chances * (1 - chances)).sum((0, 1)) * len(drawn)  # of independent steps
    error = ((counts - chances.sum((0, 1)) * len(drawn)).abs() / spread.clamp(min=1).sqrt()).max().item()
    assert error < 8, f"{name}: a tag's frequency is off by {error} standard deviations"
    return error


def _inputs(case: Case) -> Inputs:
    (n, steps, k), hard = case
    g = torch.Generator().manual_seed(0)
    emissions, transitions = (torch.randn(shape, generator=g) for shape in ((n, steps, k), (k, k)))
    start, end = torch.randn(2, k, generator=g)
    tags = torch.randint(k, (n, steps), generator=g)
    if hard:
        transitions[(torch.arange(k * k).view(k, k) + torch.arange(k).unsqueeze(1)) % 8 == 1] = -1e4
    return tuple(t.to(DEVICE) for t in (emissions, tags, transitions, start, end))  # type: ignore[return-value]


def _case_id(case: Case) -> str:
    (n, steps, k), hard = case
    return f"N={n} T={steps} K={k}{' hard constraints' if hard else ''}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    inputs, ops = _inputs(case), _providers(direction)
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, direction, inputs))
    works = {name: _work(op, direction, inputs) for name, op in ops.items()}
    passes = 5 if direction == "forward+backward" else 3 if _samples(direction) else 1  # states both ways; the gradient
    measured = harness.compare(works, passes * inputs[0].numel() * 4, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(dict.fromkeys(name for direction in ("forward", "sample") for name in _providers(direction)))
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_crf(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip("no such provider in this direction")
    harness.record(benchmark, group[provider])
