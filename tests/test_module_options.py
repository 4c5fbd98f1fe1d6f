"""Each option that a module of pygen.nn is made with reaches the function that it stands for."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from module_cases import MODULES, each_module, run, total
from support import assert_same
from torch import Tensor, nn

from pygen import functional as pf
from pygen import nn as pnn

COUNTS = torch.arange(1.0, 10.0)
REDUCTIONS = ({"reduction": "sum"}, {"reduction": "none"})


@dataclass(frozen=True)
class Case:
    make: Callable[..., nn.Module]
    call: Callable[..., object]  # call(module, *inputs, **options): the function with the module's parameters
    options: tuple[dict, ...]  # each changes the result
    given: Callable[[nn.Module], Callable] = lambda module: module  # what of the module to call with the inputs
    elsewhere: frozenset[str] = frozenset()  # options that other tests look at


def _kl(module: nn.Module, x: Tensor, **options: object) -> tuple[Tensor, ...]:
    return pf.reparameterize_kl(*module.linear(x).chunk(2, -1), **options)


def _affine(module: nn.Module, x: Tensor, additive: bool = False, flip: bool = False, **options: object) -> tuple:
    even_odd = options.get("mask") == "even_odd"
    first, second = (x[:, ::2], x[:, 1::2]) if even_odd else x.chunk(2, 1)
    made = module.conditioner(second if flip else first)
    shift, log_scale = (made, None) if additive else made.chunk(2, 1)
    return pf.affine_coupling(x, shift, log_scale, flip=flip, **options)


def _spline(module: nn.Module, x: Tensor, mask: str = "channel", flip: bool = False, **options: object) -> tuple:
    first, second = (x[:, ::2], x[:, 1::2]) if mask == "even_odd" else x.chunk(2, 1)
    params = module.conditioner(second if flip else first)
    return pf.rational_quadratic_spline(x, params, mask=mask, flip=flip, **options)


def _made_autoregressive(**options: object) -> nn.Module:
    layer = pnn.MaskedAutoregressive(4, (5, 6), cond_features=2, **options)
    nn.init.normal_(layer.layers[-1].weight)
    return layer


def _network(m: nn.Module, x: Tensor, cond: Tensor, order: tuple, outputs: tuple, activation: str) -> Tensor:
    hidden = [tuple(i * 4 // size - 1 for i in range(size)) for size in (5, 6)]
    degrees, made = [order, *hidden, outputs], x
    for i, layer in enumerate(m.layers):
        of = {"in_degrees": degrees[i], "out_degrees": degrees[i + 1], "strict": i == 2}
        made = pf.masked_linear(getattr(F, activation)(made) if i else made, layer.weight, layer.bias, **of)
        made = made if i else made + m.cond(cond)
    return made


def _autoregressive(
    m: nn.Module,
    x: Tensor,
    cond: Tensor,
    order: tuple = (0, 1, 2, 3),
    additive: bool = False,
    activation: str = "relu",
    **options: object,
) -> tuple:
    made = _network(m, x, cond, order, order * (1 if additive else 2), activation)
    return pf.affine_coupling(x, *(made.chunk(2, 1) if not additive else (made, None)), mask=None, **options)


def _made_autoregressive_spline(**options: object) -> nn.Module:
    layer = pnn.MaskedAutoregressiveSpline(4, (5, 6), cond_features=2, **options)
    nn.init.normal_(layer.layers[-1].weight)
    return layer


def _autoregressive_spline(
    m: nn.Module,
    x: Tensor,
    cond: Tensor,
    order: tuple = (0, 1, 2, 3),
    num_bins: int = 8,
    activation: str = "relu",
    **options: object,
) -> tuple:
    numbers = 3 * num_bins + (1 if options.get("tails", "linear") is None else -1)
    made = _network(m, x, cond, order, tuple(turn for turn in order for _ in range(numbers)), activation)
    return pf.rational_quadratic_spline(x, made, **options)


def _contrastive(module: nn.Module, x: Tensor, target: Tensor, power: float = 0.75, **options: object) -> Tensor:
    function = {
        "NCELoss": pf.nce_loss,
        "NegativeSamplingLoss": pf.negative_sampling_loss,
        "SampledSoftmaxLoss": pf.sampled_softmax_loss,
    }[type(module).__name__]
    noise = pf.noise_table(COUNTS, power)
    return function(x, module.weight, target, bias=module.bias, noise=noise, num_negatives=3, **options)


CONTRASTIVE = {
    kind.__name__: Case(
        lambda kind=kind, **options: kind(9, 6, COUNTS, num_negatives=3, **options),
        _contrastive,
        ({"power": 0.1}, {"shared": True}, {"sparse": True}, *REDUCTIONS),
    )
    for kind in (pnn.NCELoss, pnn.NegativeSamplingLoss, pnn.SampledSoftmaxLoss)
}
CASES = CONTRASTIVE | {
    "MaskedAutoregressive": Case(
        _made_autoregressive,
        _autoregressive,
        ({"order": (2, 0, 3, 1)}, {"additive": True}, {"scale": "sigmoid"}, {"scale": "tanh", "bound": 0.5},
         {"activation": "elu"}),
        elsewhere=frozenset({"cond_features"}),
    ),
    "MaskedAutoregressiveSpline": Case(
        _made_autoregressive_spline,
        _autoregressive_spline,
        (
            {"order": (2, 0, 3, 1)}, {"activation": "tanh"}, {"num_bins": 3}, {"tails": None, "bound": 9.0}, {"bound": 2.0},
            {"min_bin_width": 0.1},
            {"min_bin_height": 0.1}, {"min_derivative": 0.1}, {"identity_init": False},
        ),
        elsewhere=frozenset({"cond_features"}),
    ),
    "AMSoftmax": Case(
        lambda **options: pnn.AMSoftmax(6, 9, **options),
        lambda m, x, target, **options: pf.am_softmax(x, m.weight, target, **{"scale": 30.0, "margin": 0.35} | options),
        ({"scale": 7.0}, {"margin": 0.1}, {"angular_margin": 0.3}, *REDUCTIONS),
    ),
    "AffineCoupling": Case(
        lambda additive=False, **options: pnn.AffineCoupling(
            nn.Linear(2, 2 if additive else 4), additive=additive, **options
        ),
        _affine,
        ({"mask": "even_odd"}, {"flip": True}, {"scale": "sigmoid"}, {"scale": "tanh", "bound": 0.5}, {"additive": True}),
    ),
    "SplineCoupling": Case(
        lambda tails="linear", **options: pnn.SplineCoupling(
            nn.Linear(2, 16 if tails else 20), tails=tails, **options
        ),
        _spline,
        (
            {"mask": "even_odd"}, {"flip": True}, {"tails": None}, {"bound": 2.0}, {"min_bin_width": 0.1},
            {"min_bin_height": 0.1}, {"min_derivative": 0.1}, {"identity_init": False},
        ),
    ),
    "BernoulliNLL": Case(pnn.BernoulliNLL, lambda m, *inputs, **options: pf.bernoulli_nll(*inputs, **options), REDUCTIONS),
    "CategoricalNLL": Case(
        pnn.CategoricalNLL, lambda m, *inputs, **options: pf.categorical_nll(*inputs, **options), REDUCTIONS
    ),
    "LogisticMixtureNLL": Case(
        pnn.LogisticMixtureNLL,
        lambda m, *inputs, **options: pf.logistic_mixture_nll(*inputs, **{"num_levels": 256} | options),
        ({"num_levels": 16}, {"min_log_scale": 0.5}, *REDUCTIONS),
    ),
    "LinearChainCRF": Case(
        lambda **options: pnn.LinearChainCRF(3, **options),
        lambda m, x, tags, lengths, **options: pf.crf_nll(
            x, tags, m.transitions, m.start_transitions, m.end_transitions, lengths=lengths, **options
        ),
        REDUCTIONS,
        elsewhere=frozenset({"batch_first"}),
    ),
    "NADENLL": Case(
        lambda **options: pnn.NADENLL(5, 3, **options),
        lambda m, x, **options: pf.nade_nll(
            x, m.weight, m.hidden_bias, m.output_weight, m.output_bias, **options
        ),
        REDUCTIONS,
    ),
    "RBMFreeEnergy": Case(
        lambda **options: pnn.RBMFreeEnergy(5, 3, **options),
        lambda m, v, **options: pf.rbm_free_energy(v, m.weight, m.visible_bias, m.hidden_bias, **options),
        REDUCTIONS,
    ),
    "ReparameterizeKL": Case(
        pnn.ReparameterizeKL,
        lambda m, *inputs, **options: pf.reparameterize_kl(*inputs, **options),
        ({"free_bits": 0.7}, *REDUCTIONS),
    ),
    "DiagonalGaussian": Case(lambda **options: pnn.DiagonalGaussian(6, 3, **options), _kl, ({"free_bits": 0.7}, *REDUCTIONS)),
    "VectorQuantizer": Case(
        lambda **options: pnn.VectorQuantizer(9, 6, **options),
        lambda m, x, **options: pf.vector_quantize(x, m.codebook, **options),
        ({"beta": 0.75}, {"codebook_weight": 0.25}, *REDUCTIONS),
        elsewhere=frozenset({"decay", "epsilon", "restart_threshold"}),
    ),
    "GANLoss": Case(
        pnn.GANLoss,
        lambda m, x, _, **options: pf.discriminator_loss(real=x, fake=x.flip(0) + 0.5, **options),
        ({"kind": "hinge"}, {"label_smoothing": 0.2}, {"scale": 3.0}, *REDUCTIONS),
        given=lambda m: lambda x, _: m.discriminator(real=x, fake=x.flip(0) + 0.5),
        elsewhere=frozenset({"like", "variant"}),
    ),
    "MaskedConv2d": Case(
        lambda **options: pnn.MaskedConv2d(3, 6, 3, "B", **options),
        lambda m, x, **options: pf.masked_conv2d(x, m.weight, m.bias, mask_type="B", **options),
        ({"color_groups": 3}, {"dilation": 2}),
        elsewhere=frozenset({"padding", "stride", "groups", "padding_mode"}),
    ),
    "MaskedLinear": Case(
        lambda strict=False: pnn.MaskedLinear((1, 2, 0, 1), (1, 0, 2), strict=strict),
        lambda m, x, strict=False: pf.masked_linear(
            x, m.weight, m.bias, in_degrees=(1, 2, 0, 1), out_degrees=(1, 0, 2), strict=strict
        ),
        ({"strict": True},),
    ),
}  # fmt: skip
STACKS = {
    "GatedMaskedConv2d",
    "RowLSTM",
    "DiagonalBiLSTM",
}  # of several functions: their twins are in files of their own
ROWS = [pytest.param(name, options, id=f"{name}-{options}") for name, case in CASES.items() for options in case.options]


def results(call: Callable, inputs: tuple, module: nn.Module) -> tuple[Tensor, ...]:
    """Outputs, and the gradients of the parameters and of the first input, where it has any."""
    first = inputs[0].detach().clone()
    marked = (first.requires_grad_() if first.is_floating_point() else first, *inputs[1:])
    outputs = run(call, marked)
    wanted = [t for t in (first, *module.parameters()) if t.requires_grad]
    grads = torch.autograd.grad(total(outputs), wanted, allow_unused=True)
    return (*outputs, *(g for g in grads if g is not None))


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    """In values and layouts."""
    pairs = zip(a, b, strict=True)
    return all(
        s.layout == t.layout and s.shape == t.shape and torch.equal(s.to_dense(), t.to_dense()) for s, t in pairs
    )


@pytest.mark.parametrize(("name", "options"), ROWS)
def test_option_reaches_the_function(name: str, options: dict) -> None:
    case, (_, inputs) = CASES[name], MODULES[name]()
    torch.manual_seed(0)
    module = case.make(**options)
    got = results(case.given(module), inputs, module)
    expected = results(lambda *given: case.call(module, *given, **options), inputs, module)
    for a, b in zip(got, expected, strict=True):
        assert_same(a.to_dense(), b.to_dense())
    assert same(got, expected)
    if not {"additive", "tails", "num_bins"} & options.keys():  # which take parameters of other shapes
        plain = case.make()
        plain.load_state_dict(module.state_dict())
        if "power" in options:
            plain.noise = pf.noise_table(COUNTS)
        assert not same(got, results(case.given(plain), inputs, plain)), "it changes nothing here"


def test_every_module_and_option_has_a_row() -> None:
    assert set(CASES) | STACKS == set(pnn.__all__)
    everywhere = {"backend", "device", "dtype", "bias"}
    for name, case in CASES.items():
        arguments = inspect.signature(getattr(pnn, name)).parameters.values()
        optional = {p.name for p in arguments if p.default is not p.empty or p.name == "strict"} - {"counts"}
        assert optional - everywhere - case.elsewhere == {option for options in case.options for option in options}, (
            name
        )


@each_module
def test_backend_reaches_the_functions(make: Callable) -> None:
    """Of the module, and of each one in it that has its own."""
    module, inputs = make()
    holders = [m for m in module.modules() if getattr(m, "backend", "none of its own") is None]
    assert holders
    for holder in holders:
        if type(holder).__name__ == "GatedMaskedConv2d":  # asks on a GPU alone
            continue
        holder.backend = "cuda"  # which CPU tensors are not for
        with pytest.raises(RuntimeError, match="backend 'cuda' cannot run"):
            module(*inputs)
        holder.backend = None
    module(*inputs)


STDS = {
    "NCELoss": (lambda: pnn.NCELoss(400, 25, num_negatives=1).weight, 0.2),
    "RBMFreeEnergy": (lambda: pnn.RBMFreeEnergy(90, 100).weight, 0.01),
    "AMSoftmax": (lambda: pnn.AMSoftmax(25, 400).weight, 0.2 / 3**0.5),
    "NADENLL": (lambda: pnn.NADENLL(100, 90).weight, 0.1 / 3**0.5),
    "NADENLL, outputs": (lambda: pnn.NADENLL(90, 100).output_weight, 0.1 / 3**0.5),
    "LinearChainCRF": (lambda: pnn.LinearChainCRF(100).transitions, 0.1 / 3**0.5),
    "VectorQuantizer": (lambda: pnn.VectorQuantizer(100, 90).codebook, 0.01 / 3**0.5),
    "RowLSTM": (lambda: pnn.RowLSTM(5, 20, 5).state_to_state, 0.1 / 3**0.5),
    "MaskedConv2d": (lambda: pnn.MaskedConv2d(4, 90, 5, "B").weight, 0.1 / 3**0.5),
}


@pytest.mark.parametrize("name", STDS)
def test_first_weights_are_as_wide_as_is_said(name: str) -> None:
    torch.manual_seed(0)
    make, std = STDS[name]
    weight = make().detach()
    assert abs(weight.std() / std - 1) < 0.05 and abs(weight.mean()) < 0.05 * std
    if name not in ("NCELoss", "RBMFreeEnergy"):  # uniform ones
        assert 1.7 * std < weight.abs().max() <= 3**0.5 * std * (1 + 1e-6)


def test_a_gaussian_alone_and_a_chains_other_answers_are_the_functions() -> None:
    x = torch.randn(4, 6)
    gaussian = pnn.DiagonalGaussian(6, 3, reduction="none")
    mu, logvar = F.linear(x, gaussian.linear.weight, gaussian.linear.bias).chunk(2, 1)
    assert_same(gaussian.kl(x), pf.gaussian_kl(mu, logvar, reduction="none"))
    prior = {"prior_mu": torch.randn(3), "prior_logvar": torch.randn(3), "num_samples": 2, "seed": 5}
    for a, b in zip(
        pnn.ReparameterizeKL()(mu, logvar, **prior), pf.reparameterize_kl(mu, logvar, **prior), strict=True
    ):
        assert_same(a, b)
    emissions, chain = torch.randn(2, 4, 3), pnn.LinearChainCRF(3)
    scores = (chain.transitions, chain.start_transitions, chain.end_transitions)
    assert_same(chain.marginals(emissions), pf.crf_marginals(emissions, *scores))
    for a, b in zip(chain.decode(emissions), pf.crf_decode(emissions, *scores), strict=True):
        assert_same(a, b)
    drawn = chain.sample(emissions, 50, temperature=0.1, seed=3)
    assert_same(drawn, pf.crf_sample(emissions, *scores, num_samples=50, temperature=0.1, seed=3))
    assert not torch.equal(drawn, pf.crf_sample(emissions, *scores, num_samples=50, seed=3))
