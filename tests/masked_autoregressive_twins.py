"""Layers of MaskedAutoregressive to look at, and their inverse as people write it: a pass of the network for each number."""

import math

import pytest
import torch
import torch.nn.functional as F
from support import assert_accurate, mixed_weights

from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline
from pygen.ops._autoregressive_inverse import by_passes
from pygen.reference import rational_quadratic_spline

each_backend = pytest.mark.parametrize("backend", ("reference", "cpu"))
MIXED = (3, 0, 6, 1, 5, 2, 4)
LONG = tuple(i * 27 % 70 for i in range(70))
CASES = {
    "one": ((1, 3), {}),
    "one cond": ((1, (3, 2)), {"cond_features": 2, "scale": "tanh", "bound": 1.5}),
    "two reversed": ((2, 5), {"order": (1, 0), "scale": "sigmoid"}),
    "two cond": ((2, 1), {"cond_features": 1, "additive": True}),
    "mixed": ((7, (9, 4, 8)), {"order": MIXED, "cond_features": 3}),
    "narrow": ((7, 3), {"order": range(7)[::-1], "scale": "tanh", "bound": 2}),
    "additive": ((7, (6, 11)), {"order": MIXED, "additive": True}),
    "sigmoid": ((7, (2, 20, 5)), {"scale": "sigmoid", "cond_features": 2}),
    "panels": ((70, (50, 90, 30)), {"order": LONG, "cond_features": 3, "scale": "tanh", "bound": 3.0}),
    "panels of one": ((70, 130), {"order": range(70)[::-1]}),
    "tanh": ((7, (9, 40, 8)), {"order": MIXED, "activation": "tanh", "cond_features": 3}),
    "elu": ((7, (20, 5)), {"activation": "elu", "scale": "tanh", "bound": 2.0}),
    "silu": ((70, (50, 90)), {"order": LONG, "activation": "silu"}),
    "tanh splines": ((7, (9, 8)), {"num_bins": 3, "activation": "tanh"}),
    "spline of one": ((1, 3), {"num_bins": 4}),
    "spline of one bin": ((2, 5), {"num_bins": 1, "order": (1, 0), "cond_features": 2, "tails": None, "bound": 2.5}),
    "splines": ((7, (9, 4, 8)), {"num_bins": 5, "order": MIXED, "cond_features": 3}),
    "splines of the paper": ((7, 11), {"num_bins": 3, "identity_init": False, "bound": (-1.5, 2.5), "min_derivative": 0.02}),
    "splines in a box": ((5, (6, 9)), {"num_bins": 6, "tails": None, "bound": 6, "min_bin_width": 0.05, "min_bin_height": 0.01}),
    "spline panels": ((70, (50, 90)), {"num_bins": 4, "order": LONG, "cond_features": 3, "bound": 2.0}),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES)
KINDS = {"affine": {}, "spline": {"num_bins": 4}}  # of a layer: options that say which
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def made(*sizes, backend=None, dtype=torch.float64, seed=0, scale_of=0.8, **options):
    """No layer at its zeros; of weights that neither fade nor grow."""
    kind = MaskedAutoregressiveSpline if "num_bins" in options else MaskedAutoregressive
    layer, g = kind(*sizes, backend=backend, **options), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            size = scale_of / math.sqrt(p.shape[1]) if p.dim() > 1 else 0.3
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * size)
    return layer.to(dtype)


def given(layer, n=5, dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(n, layer.num_inputs, generator=g, dtype=torch.float64).to(dtype)
    if layer.cond_features is None:
        return (y,)
    return y, torch.randn(n, layer.cond_features, generator=g, dtype=torch.float64).to(dtype)


def network(layer, parameters, x, cond=None):
    """What the rule needs of each number, by plain PyTorch with masks."""
    last = len(layer.layers) - 1
    for i, of in enumerate(layer.layers):
        w, b = (parameters[f"layers.{i}.{name}"] for name in ("weight", "bias"))
        x = F.linear(x if i == 0 else getattr(F, layer.activation)(x), w * of.live_mask(), b)
        x = x if cond is None or i else x + cond @ parameters["cond.weight"].T
        assert of.strict == (i == last)
    return x


def undone(layer, y, made):
    """x and its log-derivatives, of what the network made of the right x."""
    if isinstance(layer, MaskedAutoregressiveSpline):
        bound = layer.bound if isinstance(layer.bound, tuple) else (-layer.bound, layer.bound)
        beta = math.log(2) / (1 - layer.min_derivative) if layer.identity_init else 1.0
        least = layer.min_bin_width, layer.min_bin_height, layer.min_derivative
        return rational_quadratic_spline.compose(
            y, made, "all", False, layer.tails or "none", *bound, *least, beta, True
        )
    shift, s = (made, torch.zeros_like(made)) if layer.additive else made.chunk(2, 1)
    f = {
        "exp": lambda: s,
        "sigmoid": lambda: F.logsigmoid(s + 2),
        "tanh": lambda: layer.bound * torch.tanh(s / layer.bound),
    }
    f = f[layer.scale]()
    return (y - shift) * torch.exp(-f), (torch.zeros_like(f) if layer.additive else -f).sum(1)


def twin(layer, parameters, y, cond=None):
    """A pass of the whole network for each number; autograd goes through all of them."""
    x = torch.zeros_like(y)
    for _ in range(y.shape[1]):
        x, log_det = undone(layer, y, network(layer, parameters, x, cond))
    return x, log_det


def derived(layer, run, inputs, dtype):
    """run(parameters, y, cond) and all of its gradients, by name."""
    parameters = {name: p.detach().to(dtype).requires_grad_() for name, p in layer.named_parameters()}
    inputs = [t.detach().to(dtype).requires_grad_() for t in inputs]
    x, log_det = run(parameters, *inputs)
    sources = [*inputs, *parameters.values()]
    weights = mixed_weights(x.shape, x.dtype), mixed_weights(log_det.shape, log_det.dtype)
    outputs = (x, log_det) if log_det.requires_grad else (x,)  # of an additive layer it is 0
    grads = torch.autograd.grad(outputs, sources, weights[: len(outputs)], materialize_grads=True)
    names = ["y", "cond"][: len(inputs)] + list(parameters)
    return {"x": x, "log_det": log_det} | {f"grad of {name}": g for name, g in zip(names, grads, strict=True)}


def ours(layer):
    return lambda parameters, *inputs: torch.func.functional_call(layer, parameters, inputs, {"inverse": True})


def plain(layer):
    return lambda parameters, *inputs: twin(layer, parameters, *inputs)


def passes(layer, parameters, y, cond=None):
    return by_passes(y, layer.order, lambda x: network(layer, parameters, x, cond), layer._rule, "reference")


def compare(layer, inputs, other=ours):
    """By the suite's rule, of plain PyTorch in the inputs' dtype (float32 for narrow ones, rounded once) and in float64."""
    dtype = inputs[0].dtype
    got = derived(layer, other(layer), inputs, dtype)
    truth, base = (
        derived(layer, plain(layer), inputs, d) for d in (torch.float64, torch.promote_types(dtype, torch.float32))
    )
    for name, value in got.items():
        own_eps = 64 if dtype is torch.float64 else 4  # there plain PyTorch is the truth, without an error of its own
        assert_accurate(value, truth[name].detach(), base[name], dtype=value.dtype, what=name, own_eps=own_eps)
    assert got["log_det"].dtype == torch.promote_types(dtype, torch.float32)
    return got
