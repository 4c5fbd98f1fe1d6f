"""The likelihoods' samplers against what draws whole tensors in plain PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import bernoulli_sample, categorical_sample, logistic_mixture_sample

OP = "samplers"
Draw = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]
# What is drawn, the parameters' shape, their layout: pixel models of 256 levels and of two, tokens; bits of digits and
# of images; ten components of a CIFAR image.
CASES: list[tuple[str, Shape, str]] = [
    ("categorical", (16, 256, 28, 28), "contiguous"),
    ("categorical", (16, 256, 28, 28), "channels_last"),
    ("categorical", (32, 2, 28, 28), "contiguous"),
    ("categorical", (8, 50257), "contiguous"),
    ("bernoulli", (64, 784), "contiguous"),
    ("bernoulli", (64, 3, 64, 64), "contiguous"),
    ("mixture", (16, 100, 32, 32), "contiguous"),
    ("mixture", (16, 100, 32, 32), "channels_last"),
]
DTYPES = (torch.float32, torch.bfloat16)


def _wide(params: Tensor) -> Tensor:
    return params if params.dtype == torch.float64 else params.float()


def multinomial(logits: Tensor) -> Tensor:
    p = _wide(logits).movedim(1, -1).softmax(-1)
    return torch.multinomial(p.reshape(-1, p.shape[-1]), 1).view(p.shape[:-1])


def distribution(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=_wide(logits).movedim(1, -1), validate_args=False).sample()


def race(logits: Tensor) -> Tensor:
    """The first of exponential clocks: Gumbel-max without a logarithm."""
    p = _wide(logits).softmax(1)
    return (p / torch.empty_like(p).exponential_()).argmax(1)


def bits(logits: Tensor) -> Tensor:
    return torch.bernoulli(_wide(logits).sigmoid())


def threshold(logits: Tensor) -> Tensor:
    p = _wide(logits).sigmoid()
    return (torch.rand_like(p) < p).to(torch.uint8)


def mixture(params: Tensor, components: int = 10) -> Tensor:
    """As it comes with PixelCNN++, on its layout: noise of [1e-5, 1 - 1e-5], values between the levels, clamped."""
    given = _wide(params).permute(0, 2, 3, 1)
    logits, rest = given[..., :components], given[..., components:].unflatten(-1, (3, 3, components))
    gumbel = -torch.log(-torch.log(torch.empty_like(logits).uniform_(1e-5, 1 - 1e-5)))
    chosen = torch.nn.functional.one_hot((logits + gumbel).argmax(-1), components).to(given.dtype)[..., None, None, :]
    means, log_scales, coefficients = (rest * chosen).sum(-1).unbind(-1)
    u = torch.empty_like(means).uniform_(1e-5, 1 - 1e-5)
    x = means + log_scales.clamp(min=-7.0).exp() * (torch.log(u) - torch.log(1 - u))
    c = torch.tanh(coefficients)
    red = x[..., 0].clamp(-1, 1)
    green = (x[..., 1] + c[..., 0] * red).clamp(-1, 1)
    blue = (x[..., 2] + c[..., 1] * red + c[..., 2] * green).clamp(-1, 1)
    return ((torch.stack((red, green, blue), 1) + 1) * 127.5).round().to(torch.uint8)


OURS: dict[str, Callable[..., Tensor]] = {
    "categorical": categorical_sample,
    "bernoulli": bernoulli_sample,
    "mixture": logistic_mixture_sample,
}
EAGER: dict[str, dict[str, Draw]] = {
    "categorical": {"multinomial": multinomial, "Categorical.sample": distribution, "race": race},
    "bernoulli": {"eager": bits},
    "mixture": {"eager": mixture},
}
COMPILED: dict[str, Draw] = {"categorical": race, "bernoulli": threshold, "mixture": mixture}
TOLERANCE = 0.02  # of a mean over hundreds of thousands of draws


def _providers(kind: str) -> dict[str, Draw]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    draws = {**EAGER[kind], "compiled": harness.compiled(COMPILED[kind])}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            draws[f"pygen {name}"] = lambda params, name=name: OURS[kind](params, backend=name)
    return draws


def _params(shape: Shape, dtype: torch.dtype, layout: str) -> Tensor:
    g = torch.Generator().manual_seed(0)
    params = (2 * torch.randn(shape, generator=g)).to(DEVICE, dtype)
    return params.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else params


def _case_id(case: tuple[str, Shape, str], dtype: torch.dtype) -> str:
    kind, shape, layout = case
    return f"{kind} {'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')} {layout}"


def _checked(draws: dict[str, Draw], params: Tensor) -> dict[str, float]:
    """How far each one's mean draw lies from the others'; fails where ours does."""
    mean = lambda name, draw: torch.stack([draw(params).double().mean() for _ in range(4)]).mean().item()  # noqa: E731
    means = harness.errors_of(draws, mean)
    middle = sorted(means.values())[len(means) // 2]
    many = params.numel() // params.shape[1] > 1000

    def check(name: str, draw: Draw) -> float:
        error = abs(means[name] - middle) / max(middle, 1e-9)
        assert not (many and name.startswith("pygen ")) or error <= TOLERANCE, f"{name} is off by {error}"
        return error

    return harness.errors_of(draws, check)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, dtype = request.param
    kind, shape, layout = case
    params = _params(shape, dtype, layout)
    draws = _providers(kind)
    errors = _checked(draws, params)
    works: dict[str, Work] = {name: (lambda draw=draw: draw(params)) for name, draw in draws.items()}
    drawn = next(draw for name, draw in draws.items() if name.startswith("pygen"))(params)
    moved = params.numel() * params.element_size() + drawn.numel() * drawn.element_size()
    measured = harness.compare(works, moved, errors)
    collect(OP, _case_id(case, dtype), "draw", measured)
    return measured


GROUPS = [
    pytest.param((case, dtype), id=_case_id(case, dtype), marks=pytest.mark.benchmark(group=_case_id(case, dtype)))
    for case in CASES
    for dtype in DTYPES
]
NAMES = list(dict.fromkeys(name for kind in OURS for name in _providers(kind)))
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_samplers(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip("not of what is drawn here")
    harness.record(benchmark, group[provider])
