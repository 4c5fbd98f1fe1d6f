"""pygen.nn as people use modules: made with wrong options, in training loops, under torch's tools for modules."""

import copy
import functools
import io
import warnings

import numpy as np
import pytest
import torch
from module_cases import MODULES, each_module, run, total
from support import assert_same
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from pygen import nn as pnn


def test_every_public_module_has_a_row() -> None:
    assert set(MODULES) == set(pnn.__all__)


REFUSED = [
    (lambda: pnn.MaskedConv2d("3", 6, 3, "B"), ValueError, "MaskedConv2d: in_channels: expected an int >= 1, got '3'"),
    (lambda: pnn.MaskedConv2d(3, -6, 3, "B"), ValueError, "MaskedConv2d: out_channels: .* got -6"),
    (lambda: pnn.MaskedConv2d(3, 6, "3", "B"), TypeError, "MaskedConv2d: kernel_size: expected an int, or two"),
    (lambda: pnn.MaskedConv2d(3, 6, (3, 3, 3), "B"), TypeError, "MaskedConv2d: kernel_size: .* got \\(3, 3, 3\\)"),
    (lambda: pnn.MaskedConv2d(3, 6, -3, "B"), ValueError, "MaskedConv2d: kernel_size: expected at least 1, got -3"),
    (lambda: pnn.MaskedConv2d(3, 6, 3, "B", bias=None), TypeError, "MaskedConv2d: bias: expected True or False"),
    (lambda: pnn.GatedMaskedConv2d(4, 4, (3, 3), "B"), TypeError, "GatedMaskedConv2d: kernel_size: expected an int"),
    (lambda: pnn.GatedMaskedConv2d(-4, -4, 3, "B"), ValueError, "GatedMaskedConv2d: in_channels: .* got -4"),
    (lambda: pnn.GatedMaskedConv2d(4, 4, 3, "B", color_groups=3), ValueError, "GatedMaskedConv2d: color_groups: "),
    (lambda: pnn.GatedMaskedConv2d(4, 4, 3, "B", cond_channels=0), ValueError, "GatedMaskedConv2d: cond_channels: "),
    (lambda: pnn.RowLSTM(3, 3, "3"), TypeError, "RowLSTM: kernel_size: expected an int"),
    (lambda: pnn.MaskedLinear(3, 4, strict=False), TypeError, "MaskedLinear: in_degrees: .*, got int"),
    (lambda: pnn.MaskedLinear([1], [1.5], strict=False), TypeError, "MaskedLinear: out_degrees: .*, got one of float"),
    (lambda: pnn.MaskedLinear([1], [1], strict="no"), TypeError, "MaskedLinear: strict: expected a bool, got str"),
    (lambda: pnn.AMSoftmax(3, 5, scale=-1), ValueError, "AMSoftmax: scale: expected a number > 0"),
    (lambda: pnn.AMSoftmax(3, 5, margin="a"), TypeError, "AMSoftmax: margin: expected a number, got str"),
    (lambda: pnn.LogisticMixtureNLL(num_levels=1), ValueError, "LogisticMixtureNLL: num_levels: .* got 1"),
    (lambda: pnn.ReparameterizeKL(free_bits=-1), ValueError, "ReparameterizeKL: free_bits: .* got -1"),
    (lambda: pnn.DiagonalGaussian(4, "3"), ValueError, "DiagonalGaussian: latent_dim: .* got '3'"),
    (lambda: pnn.NCELoss(9, 6, [1] * 9, num_negatives=2), TypeError, "NCELoss: counts: .* got list"),
    (lambda: pnn.NCELoss(9, 6, num_negatives=2, sparse="no"), TypeError, "NCELoss: sparse: .* got 'no'"),
    (lambda: pnn.VectorQuantizer(4, 3, reduction="batchmean"), ValueError, "VectorQuantizer: reduction: "),
    (lambda: pnn.AffineCoupling(None), TypeError, "AffineCoupling: conditioner: expected a module, got NoneType"),
    (lambda: pnn.AffineCoupling(nn.ReLU(), mask="half"), ValueError, "AffineCoupling: mask: .* got 'half'"),
    (lambda: pnn.AffineCoupling(nn.ReLU(), scale="tanh"), TypeError, "AffineCoupling: bound: .* got NoneType"),
    (lambda: pnn.AffineCoupling(nn.ReLU(), scale="sigmoid", additive=True), ValueError, "AffineCoupling: scale: "),
    (lambda: pnn.SplineCoupling(nn.ReLU(), mask="checkerboard"), ValueError, "SplineCoupling: mask: .*checkerboard"),
    (lambda: pnn.SplineCoupling(nn.ReLU(), mask=None), ValueError, "SplineCoupling: mask: .* got None"),
    (lambda: pnn.SplineCoupling(nn.ReLU(), bound=-1.0), ValueError, "SplineCoupling: bound: .* got -1.0"),
    (lambda: pnn.SplineCoupling(nn.ReLU(), min_bin_width=1.0), ValueError, "SplineCoupling: min_bin_width: "),
    *(
        (functools.partial(make, reduction="mean"), ValueError, f"{make.__name__}: reduction: .* got 'mean'")
        for make in (pnn.BernoulliNLL, pnn.CategoricalNLL, pnn.LogisticMixtureNLL, pnn.ReparameterizeKL)
    ),
    *(
        (functools.partial(make, 3, 5, reduction="mean"), ValueError, f"{make.__name__}: reduction: .* got 'mean'")
        for make in (pnn.AMSoftmax, pnn.NADENLL, pnn.RBMFreeEnergy)
    ),
]


@pytest.mark.parametrize(("make", "kind", "match"), REFUSED, ids=[match[:60] for *_, match in REFUSED])
def test_wrong_options_are_refused_when_a_module_is_made(make, kind, match) -> None:
    with pytest.raises(kind, match=match):
        make()


@pytest.mark.parametrize("name", pnn.__all__)
def test_a_module_refuses_a_backend_that_there_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is made; one that cannot run here may be made here, for another machine."""
    init = getattr(pnn, name).__init__

    def make(backend: str) -> nn.Module:
        monkeypatch.setattr(getattr(pnn, name), "__init__", functools.partialmethod(init, backend=backend))
        return MODULES[name]()[0]

    assert make("triton") is not None
    for wrong in ("gpu", "Triton", ""):
        with pytest.raises(ValueError, match=f"^{name}: backend: expected one of reference, .* got {wrong!r}"):
            make(wrong)


def test_wrong_calls_are_refused_by_name() -> None:
    """Before torch's layers inside say something of shapes that nobody passed."""
    gated, x = pnn.GatedMaskedConv2d(4, 4, 3, "B", cond_channels=2), torch.zeros(2, 4, 5, 5)
    coupling = pnn.AffineCoupling(lambda half: (half, half, half))
    for call, kind, match in (
        (lambda: gated(x, x, torch.zeros(2, 3)), ValueError, r"cond: expected \[N, 2\] or .*, got \[2, 3\]"),
        (lambda: gated(x, x, torch.zeros(2, 2, 1)), ValueError, r"cond: expected \[N, 2\] or .*, got \[2, 2, 1\]"),
        (lambda: gated(x, x, torch.tensor([0, 1])), TypeError, r"cond: expected .* got torch.int64"),
        (lambda: gated(x, x, 1), TypeError, r"cond: expected a torch.Tensor, got int"),
        (lambda: coupling(x), TypeError, r"conditioner: expected .* got 3 things"),
        (lambda: coupling(torch.zeros(4)), ValueError, r"x: expected at least two dims .* got \[4\]"),
        (lambda: pnn.SplineCoupling(nn.ReLU())([1.0]), TypeError, r"x: expected a torch.Tensor, got list"),
        (lambda: pnn.GANLoss()(x, "fake"), TypeError, r"target_is_real: expected True or False, got 'fake'"),
    ):
        with pytest.raises(kind, match=match):
            call()


MADE = {
    "DiagonalGaussian": lambda **there: pnn.DiagonalGaussian(4, 2, **there),
    "LinearChainCRF": lambda **there: pnn.LinearChainCRF(3, **there),
    "NADENLL": lambda **there: pnn.NADENLL(4, 2, **there),
    "GatedMaskedConv2d": lambda **there: pnn.GatedMaskedConv2d(4, 4, 3, "B", cond_channels=2, **there),
    "DiagonalBiLSTM": lambda **there: pnn.DiagonalBiLSTM(2, 2, **there),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_modules_are_made_where_and_as_they_are_told(make) -> None:
    parameters = [*make(device="meta", dtype=torch.bfloat16).parameters()]
    assert parameters and all(p.is_meta and p.dtype == torch.bfloat16 for p in parameters)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            parameters = [*make().parameters()]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(p.is_meta and p.dtype == torch.float64 for p in parameters)


def test_an_energy_takes_device_and_dtype() -> None:
    """Not on meta, where a multiplication takes torch seconds to load."""
    module = pnn.RBMFreeEnergy(4, 2, device="cpu", dtype=torch.float64)
    assert all(p.dtype == torch.float64 for p in module.parameters())


@each_module
def test_modules_train_with_torchs_usual_tools(make) -> None:
    """Whole-module saving, an average of the weights, accumulated gradients, clipping, autocast, an empty batch."""
    module, inputs = make()
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for a, b in zip(run(torch.load(buffer, weights_only=False), inputs), run(module, inputs), strict=True):
        assert_same(a, b)
    parameters = [*module.parameters()]
    if not parameters:
        return
    average = torch.optim.swa_utils.AveragedModel(module)
    total(run(module, inputs)).backward()
    once = [p.grad.clone() for p in parameters]
    total(run(module, inputs)).backward()
    for p, grad in zip(parameters, once, strict=True):
        torch.testing.assert_close(p.grad, 2 * grad)
    assert nn.utils.clip_grad_norm_(parameters, 1e-3) > 1e-3
    torch.optim.SGD(parameters, 1e3).step()
    average.update_parameters(module)  # the first copies
    for a, b in zip(run(average, inputs), run(module, inputs), strict=True):
        assert_same(a, b)
    expected = run(module, inputs)
    exact = torch.autograd.grad(total(expected), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run(module, inputs)
    module.zero_grad()
    total(outputs).backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in parameters)
    for a, b in zip((*outputs, *(p.grad for p in parameters)), (*expected, *exact), strict=True):
        assert (a - b).double().norm() <= 0.02 * b.double().norm()


def _weights(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.dim() > 1]


@each_module
def test_modules_under_parametrizations_and_pruning(make) -> None:
    """What computes `weight` anew reaches the kernel: a norm that is doubled, a weight that is pruned away."""
    module, inputs = make()
    if not _weights(module):
        return
    expected = copy.deepcopy(module)
    for layer, theirs in zip(_weights(module), _weights(expected), strict=True):
        parametrizations.weight_norm(layer)
        with torch.no_grad():
            layer.parametrizations.weight.original0.mul_(2)
            theirs.weight.mul_(2)
    for a, b in zip(run(module, inputs), run(expected, inputs), strict=True):
        torch.testing.assert_close(a, b)
    total(run(module, inputs)).backward()
    assert all(p.grad is not None for p in module.parameters())
    for layer in _weights(expected):
        prune.l1_unstructured(layer, "weight", 1.0)
    zeroed = make()[0]
    zeroed.load_state_dict({k: v for k, v in expected.state_dict().items() if "weight_" not in k}, strict=False)
    with torch.no_grad():
        for layer in _weights(zeroed):
            layer.weight.zero_()
    for a, b in zip(run(expected, inputs), run(zeroed, inputs), strict=True):
        torch.testing.assert_close(a, b)


@each_module
def test_modules_by_functional_call(make) -> None:
    """torch.func.grad of functional_call gives what backward gives."""
    module, inputs = make()
    parameters = dict(module.named_parameters())
    if not parameters:
        return

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        outputs = torch.func.functional_call(module, parameters, inputs)
        return total(outputs if isinstance(outputs, tuple) else (outputs,))

    torch.manual_seed(4)
    grads = torch.func.grad(loss)(parameters)
    total(run(module, inputs)).backward()
    for name, p in parameters.items():
        torch.testing.assert_close(grads[name], p.grad, atol=1e-5, rtol=1e-4)


def test_losses_that_draw_are_traced() -> None:
    """By torch.jit.trace shapes are tensors: the number of draws is that of the example."""
    module, inputs = MODULES["NCELoss"]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they become constants
        traced = torch.jit.trace(module, inputs, check_trace=False)
    others = tuple(t.flip(0) for t in inputs)
    torch.manual_seed(4)
    assert_same(traced(*others), run(module, others)[0])


@pytest.mark.slow
@each_module
def test_modules_compile_as_one_graph(make) -> None:
    """Values and gradients; a loss that draws takes its seed from torch's generator in the graph too."""
    torch._dynamo.reset()
    module, inputs = make()
    expected = run(module, inputs)
    outputs = run(torch.compile(module, fullgraph=True, backend="eager"), inputs)
    for a, b in zip(outputs, expected, strict=True):
        assert_same(a, b)
    parameters = [*module.parameters()]
    if parameters:
        grads = torch.autograd.grad(total(outputs), parameters)
        for a, b in zip(grads, torch.autograd.grad(total(expected), parameters), strict=True):
            assert_same(a, b)


@pytest.mark.parametrize(
    "degrees",
    [range(3), torch.arange(3), np.arange(3), [*np.arange(3)]],
    ids=["range", "tensor", "array", "NumPy ints"],
)
def test_degrees_of_a_linear_layer_may_be_any_integers_in_a_row(degrees) -> None:
    layer = pnn.MaskedLinear(degrees, degrees, strict=True)
    assert layer.in_degrees == layer.out_degrees == (0, 1, 2) and {*map(type, layer.in_degrees)} == {int}
    assert layer(torch.ones(2, 3)).shape == (2, 3)


def test_linear_checkpoints_with_a_mask_load_if_it_is_the_same() -> None:
    layer = pnn.MaskedLinear([0, 1, 2], [1, 2], strict=False)
    state = {**layer.state_dict(), "mask": torch.tensor([[1.0, 1, 0], [1, 1, 1]])}
    again = pnn.MaskedLinear([0, 1, 2], [1, 2], strict=False)
    again.load_state_dict(state)
    assert_same(again.weight, layer.weight)
    state["mask"] = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"mask: expected this layer's mask, dead at output 0, input 2, got live"):
        again.load_state_dict(state)
