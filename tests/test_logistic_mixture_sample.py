"""logistic_mixture_sample on every backend: quantiles of its own uniform numbers, the likelihood's law, any layout."""

import itertools
import math

import layouts
import pytest
import torch
from registry import SAMPLERS
from sampler_checks import assert_frequencies, check_calls, check_compiled, uniforms
from support import DTYPES, assert_same, dtype_name, fast_targets, instruction_set, isas, threads
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import logistic_mixture_nll, logistic_mixture_sample
from pygen.reference import logistic_mixture_sample as reference

judge = next(op.judge for op in SAMPLERS if op.name == "logistic_mixture_sample")
pytestmark = pytest.mark.usefixtures("poisoned")
SEED = -0x123456789ABCDEF
# (channels, components, levels, n, spatial)
CASES = {
    "one pixel": (1, 1, 2, 1, ()),
    "odd everything": (3, 3, 256, 3, (5, 7)),
    "grey": (1, 5, 256, 3, (9, 7)),
    "blocks of pixels": (3, 10, 256, 2, (700,)),
    "images of one pixel": (3, 4, 17, 70, ()),
    "many levels": (1, 2, 65536, 2, (33,)),
    "empty batch": (3, 2, 256, 0, (2, 2)),
    "no positions": (1, 2, 256, 2, (0,)),
}


def params_of(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict]:
    channels, components, levels, n, spatial = CASES[name]
    g = torch.Generator().manual_seed(5)
    shape = (n, (3 if channels == 1 else 10) * components, *spatial)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype), {"channels": channels, "num_levels": levels}


def check(params: Tensor, options: dict, levels: Tensor) -> None:
    judge({"params": params}, {"seed": SEED, **options}, levels)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_draws_are_those_of_float64(name, dtype, target):
    params, options = params_of(name, dtype)
    options |= {"temperature": 0.7, "min_log_scale": -2.0}
    check(
        params, options, logistic_mixture_sample(params.to(target.device), seed=SEED, backend=target.backend, **options)
    )


def test_each_level_holds_the_quantile_of_its_number():
    """Of the reference, in plain words: a component by its share, and the level whose bin has the quantile."""
    params, _ = params_of("grey", torch.float64)
    levels = logistic_mixture_sample(params, channels=1, seed=SEED, backend="reference").flatten(1)
    given, u = params.flatten(2), uniforms(3, 63, 2, SEED, DOMAINS["logistic_mixture_sample"])
    for n, p in itertools.product(range(3), range(63)):
        weights, means, scales = given[n, :5, p].softmax(0), given[n, 5:10, p], given[n, 10:, p].clamp(min=-7).exp()
        k = int((weights.cumsum(0) < u[n, 0, p]).sum())
        cdf = [torch.sigmoid((edge - means[k]) / scales[k]) for edge in (
            (2 * levels[n, p].double() - 256) / 255, (2 * levels[n, p].double() - 254) / 255
        )]  # fmt: skip
        assert levels[n, p] == 0 or cdf[0] < u[n, 1, p]
        assert levels[n, p] == 255 or cdf[1] >= u[n, 1, p]


@pytest.mark.parametrize(("channels", "levels"), [(1, 16), (3, 3)], ids=("grey", "colours"))
@pytest.mark.parametrize("temperature", (1.0, 0.6))
def test_frequencies_are_those_of_the_likelihood(channels, levels, temperature, target):
    """Over all pixels' values, the open bins among them."""
    g = torch.Generator().manual_seed(1)
    parts = 3 if channels == 1 else 10
    params, draws = torch.randn(1, parts * 3, 1, generator=g, dtype=torch.float64), 500 if target.slow else 60_000
    given = params.float().to(target.device).expand(-1, -1, draws)
    options = {"channels": channels, "num_levels": levels, "temperature": temperature}
    drawn = logistic_mixture_sample(given, seed=5, backend=target.backend, **options).cpu().long()[0]
    code = sum(drawn[c] * levels ** (channels - 1 - c) for c in range(channels))
    every = torch.tensor(list(itertools.product(range(levels), repeat=channels))).unsqueeze(2)  # [values, C, 1]
    cooled = params.clone()
    cooled[:, :3] /= temperature
    for c in range(channels):
        first = 3 * (1 + c * (2 if channels == 1 else 3) + 1)
        cooled[:, first : first + 3] += math.log(temperature)
    likelihood = logistic_mixture_nll(
        cooled.expand(len(every), -1, -1), every, num_levels=levels, min_log_scale=-80.0, reduction="none"
    )
    assert_frequencies(code, torch.exp(-likelihood))


@fast_targets
@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_layouts_and_backends_draw_alike(maker, target):
    for name in ("odd everything", "blocks of pixels", "images of one pixel"):
        params, options = params_of(name, torch.float64)
        laid = maker(params.to(target.device))
        got = logistic_mixture_sample(laid, seed=SEED, backend=target.backend, **options)
        assert_same(
            got.cpu(), logistic_mixture_sample(laid.contiguous().cpu(), seed=SEED, backend="reference", **options)
        )
        last = maker is layouts.channels_last and laid.dim() == 4
        assert got.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("isa", isas())
def test_each_instruction_set(isa):
    with instruction_set(isa):
        for name, dtype in itertools.product(("odd everything", "grey", "blocks of pixels"), DTYPES):
            params, options = params_of(name, dtype)
            check(params, options, logistic_mixture_sample(params, seed=SEED, backend="cpu", **options))


@fast_targets
def test_draws_do_not_depend_on_threads_and_batch(target):
    for name in ("odd everything", "blocks of pixels", "images of one pixel"):
        params, options = params_of(name)
        params, options = params.to(target.device), {**options, "seed": SEED, "backend": target.backend}
        whole = logistic_mixture_sample(params, **options)
        for count in (1, 3):
            with threads(count):
                assert_same(logistic_mixture_sample(params, **options), whole)
        assert_same(logistic_mixture_sample(params[:1].contiguous(), **options), whole[:1])


def special() -> tuple[Tensor, list[set[int]]]:
    """Parameters [1, 30, positions] of three components, and the levels that may come in all channels."""
    inf, nan = math.inf, math.nan
    params = torch.zeros(1, 30, 9)
    params[0, :3] = torch.tensor([-inf, 0.0, -inf]).unsqueeze(1)  # the second alone comes
    own = [3 * kind + 1 for kind in range(1, 10)]  # its numbers: mean, log scale, coefficient of red; of green; of blue
    params[0, own[1::3]] = -9.0  # scales; coefficients are 0
    cases = [({own[0]: 0.25, own[3]: 0.25, own[6]: 0.25}, {159, 160}), ({i: inf for i in own[::3]}, {255}),
             ({i: -inf for i in own[::3]}, {0}), ({i: nan for i in own[::3]}, {0}), ({i: nan for i in own[1::3]}, {0}),
             ({0: nan}, {0}), ({1: -inf}, {0}), ({1: inf}, {0}),
             ({0: -inf, 3: nan, 6: nan, 9: nan}, {127, 128})]  # of a component that does not come  # fmt: skip
    for at, (given, _) in enumerate(cases):
        for row, value in given.items():
            params[0, row, at] = value
    return params, [allowed for _, allowed in cases]


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_infinite_parameters_and_nan(target, dtype):
    params, allowed = special()
    for seed in range(2 if target.slow else 10):
        levels = logistic_mixture_sample(
            params.to(target.device, dtype), min_log_scale=-9.0, seed=seed, backend=target.backend
        )
        for at, some in enumerate(allowed):
            assert set(levels[0, :, at].tolist()) <= some, (at, levels[0, :, at])


def test_temperatures_at_both_ends(target):
    params = torch.tensor([0.0, 1.0, 0.2, -0.2, 2.0, 2.0], device=target.device).view(1, 6, 1).expand(40, 6, 1)
    for temperature in (1e-310, 1e-45, 1e-10):
        x = logistic_mixture_sample(params, channels=1, temperature=temperature, seed=1, backend=target.backend)
        assert (x == 102).all()
    hot = logistic_mixture_sample(params, channels=1, temperature=1e30, seed=1, backend=target.backend)
    assert set(hot.flatten().tolist()) == {0, 255}


def test_calls():
    params, options = params_of("odd everything")
    check_calls(lambda p, **more: logistic_mixture_sample(p, **options, **more), params)


@pytest.mark.slow
def test_compiled_and_registered():
    params, options = params_of("odd everything")
    check_compiled(lambda p, **more: logistic_mixture_sample(p, **options, **more), params)
    args = (params.requires_grad_(), torch.tensor(3), 3, 256, -7.0, 0.5, "auto")
    torch.library.opcheck(torch.ops.pygen.logistic_mixture_sample.default, args)


@pytest.mark.parametrize(
    ("given", "options", "kind", "match"),
    [
        ([1.0], {}, TypeError, "params: expected a torch.Tensor, got list"),
        (torch.zeros(2, 30, dtype=torch.int64), {}, TypeError, "params: expected float64, .* got torch.int64"),
        (torch.zeros(30), {}, ValueError, r"params: expected at least two dims \[N, P, ...\], got \[30\]"),
        (
            torch.zeros(2, 12),
            {},
            ValueError,
            r"params: expected a multiple of 10 .* of 3 channel\(s\), got 12 in \[2, 12\]",
        ),
        (torch.zeros(2, 0), {"channels": 1}, ValueError, "params: expected a multiple of 3 numbers a pixel"),
        (torch.zeros(2, 30), {"channels": 2}, ValueError, "channels: expected 1 or 3, got 2"),
        (torch.zeros(2, 30), {"channels": "3"}, TypeError, "channels: expected an int, got str"),
        (torch.zeros(2, 30), {"num_levels": 1}, ValueError, "num_levels: expected 2 <= num_levels <= 65536, got 1"),
        (torch.zeros(2, 30), {"min_log_scale": None}, TypeError, "min_log_scale: expected a number, got NoneType"),
    ],
)
def test_refusals(given, options, kind, match):
    with pytest.raises(kind, match=f"logistic_mixture_sample: {match}"):
        logistic_mixture_sample(given, **options)


def test_the_noise_has_a_domain_of_its_own():
    assert DOMAINS["logistic_mixture_sample"] == reference.DOMAIN
