"""MaskedAutoregressive as a module: transforms, compilation, autocast, layers that someone changed, what it refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch
from masked_autoregressive_twins import MIXED, derived, each_backend, each_kind, given, made, ours, plain, twin
from masked_autoregressive_twins import passes as plain_passes
from support import assert_same, mixed_weights, no_leak
from torch import nn

from pygen.nn import MaskedAutoregressive, MaskedLinear
from pygen.nn import _autoregressive as module
from pygen.ops._autoregressive_inverse import by_passes

pytestmark = pytest.mark.usefixtures("poisoned")


@each_backend
@each_kind
def test_masked_autoregressive_of_one_output_alone(backend, kind):
    """A gradient of x, or of log_det, only; what nothing asks for is not made; gradients that have no strides of their own."""
    layer = made(7, (9, 4), backend=backend, order=MIXED, cond_features=3, **kind)
    y, cond = given(layer)
    for pick in (lambda x, log_det: x.sum(), lambda x, log_det: log_det.sum()):
        a, b = (torch.autograd.grad(pick(*run(y.requires_grad_(), cond)), [y, layer.layers[1].weight], materialize_grads=True)
                for run in (layer.inverse, lambda y, c: plain_passes(layer, dict(layer.named_parameters()), y, c)))  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    weights = mixed_weights(y.shape, y.dtype)
    expected = torch.autograd.grad(layer.inverse(y, cond)[0], y, -weights)
    for negated in (torch._neg_view(weights), (-weights).to_sparse()):
        assert_same(torch.autograd.grad(layer.inverse(y, cond)[0], y, negated)[0], expected[0])
    layer.requires_grad_(False)
    x, log_det = layer.inverse(y.detach(), cond)
    assert not x.requires_grad and not log_det.requires_grad
    layer.layers[1].bias.requires_grad_()
    layer.inverse(y.detach(), cond)[0].sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is not None] == ["layers.1.bias"]


@pytest.mark.parametrize("backend", ("reference", None))
@each_kind
def test_masked_autoregressive_under_transforms(backend, kind):
    layer = made(4, (6, 5), backend=backend, cond_features=2, **(kind or {"scale": "sigmoid"}))
    y, cond = given(layer, 6)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    expected = twin(layer, parameters, y, cond)
    apart = torch.func.vmap(lambda y, c: ours(layer)(parameters, y, c))(y.view(3, 2, 4), cond.view(3, 2, 2))
    torch.testing.assert_close([a.flatten(0, 1) for a in apart], list(expected))
    tangents = torch.sin(torch.arange(24.0, dtype=torch.float64)).view(6, 4), torch.cos(cond)
    a, b = (
        torch.func.jvp(lambda y, c, run=run: run(layer)(parameters, y, c), (y, cond), tangents) for run in (ours, plain)
    )
    torch.testing.assert_close(a, b)

    def loss(run):
        return lambda p, y, c: sum(t.square().sum() for t in run(layer)(p, y[None], c[None]))

    a, b = (torch.func.vmap(torch.func.grad(loss(run)), (None, 0, 0))(parameters, y, cond) for run in (ours, plain))
    torch.testing.assert_close(a, b)
    layer = made(4, 3, backend="cpu")
    with pytest.raises(
        NotImplementedError, match=r"autoregressive_inverse: backend 'cpu' has no rules for torch\.func"
    ):
        torch.func.vmap(lambda y: layer.inverse(y[None]))(y)


@each_backend
@each_kind
def test_masked_autoregressive_compiled(backend, kind):
    layer = made(7, (9, 4), backend=backend, dtype=torch.float32, cond_features=3, **kind)
    inputs = given(layer, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *inputs: layer.inverse(*inputs), fullgraph=True)
    a, b = (derived(layer, lambda p, *i, run=run: run(*i), inputs, torch.float32) for run in (compiled, layer.inverse))
    for name in a:
        assert_same(a[name], b[name], what=name)
    results = []
    for run in (compiled, layer.inverse):
        loss = sum(t.square().sum() for t in run(*inputs))
        results.append(torch.autograd.grad(loss, list(layer.parameters())))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@each_kind
def test_masked_autoregressive_exported(kind):
    layer = made(7, (9, 4), cond_features=3, **kind)
    inputs = given(layer)
    program = torch.export.export(layer, inputs, {"inverse": True})
    for a, b in zip(program.module()(*inputs, inverse=True), layer.inverse(*inputs), strict=True):
        assert_same(a, b)


@each_backend
@each_kind
def test_masked_autoregressive_under_autocast_inverts_in_the_weights_dtype(backend, kind):
    """What cond adds, and passes of changed layers, too."""
    for changed in (False, True):
        layer = made(7, (9, 4), backend=backend, dtype=torch.float32, cond_features=3, **kind)
        if changed:
            layer.layers[1].register_forward_hook(lambda layer, args, out: 1.5 * out)
        (y, cond), seen = given(layer, dtype=torch.float32), []
        for on in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=on):
                x, log_det = layer.inverse(y.requires_grad_(), cond)
            seen.append([x, log_det, *torch.autograd.grad(x.sum() + log_det.sum(), [y, *layer.parameters()])])
        for a, b in zip(*seen, strict=True):
            assert_same(a, b)


@each_kind
def test_masked_autoregressive_with_parametrized_weights(kind):
    for norm in (nn.utils.parametrizations.weight_norm, nn.utils.weight_norm, nn.utils.parametrizations.spectral_norm):
        layer = made(7, (9, 4), order=MIXED, cond_features=3, **kind).eval()
        for of in layer.layers[:2]:
            norm(of)
        assert layer._is_plain() == (norm is not nn.utils.weight_norm)  # whose hook makes the weight
        compared_by_hand(layer)


def compared_by_hand(layer):
    """The inverse of forward, and the gradients of passes of the layer's own network."""
    y, cond = given(layer)
    learnt = [p for p in layer.parameters() if p.requires_grad]

    def passes(y, c):
        return by_passes(y, layer.order, lambda x: layer._make(x, c), layer._rule, None)

    seen = []
    for run in (layer.inverse, passes):
        outputs = run(y, cond)
        weights = [mixed_weights(t.shape, t.dtype) for t in outputs]
        seen.append([*outputs, *torch.autograd.grad(outputs, learnt, weights)])
    x, log_det = seen[0][:2]
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x, cond), (y, -log_det), rtol=1e-10, atol=1e-10)


class Doubled(MaskedLinear):
    def forward(self, input):
        return 2 * super().forward(input)


def changed(how):
    layer = made(7, (9, 4), order=MIXED, cond_features=3)
    ins, outs = layer._degrees[1:3]
    if how == "hook":
        layer.layers[1].register_forward_hook(lambda layer, args, out: 1.5 * out)
    elif how == "pre-hook":
        layer.layers[2].register_forward_pre_hook(lambda layer, args: (1.5 * args[0],))
    elif how == "backward hook":
        layer.layers[0].register_full_backward_hook(lambda layer, grads, outs: None)
    elif how == "forward":
        layer.layers[1].forward = lambda x, plain=layer.layers[1].forward: 1.5 * plain(x)
    elif how == "subclass":
        layer.layers[1] = Doubled(ins, outs, strict=False).double()
    elif how == "no bias":
        layer.layers[1] = MaskedLinear(ins, outs, strict=False, bias=False).double()
    elif how == "another module":
        layer.layers[0] = nn.Sequential(layer.layers[0], nn.Hardtanh())
    elif how == "strict":
        layer.layers[1] = MaskedLinear(ins, outs, strict=True).double()
    elif how == "degrees":
        layer.layers[1] = MaskedLinear(ins, [max(d - 1, -1) for d in outs], strict=False).double()
    return layer


CHANGES = ("hook", "pre-hook", "backward hook", "forward", "subclass", "no bias", "another module", "strict", "degrees")


@pytest.mark.parametrize("how", CHANGES)
def test_masked_autoregressive_of_changed_layers_runs_passes(how, monkeypatch):
    layer = changed(how)
    monkeypatch.setattr(module, "autoregressive_inverse", lambda *a, **k: pytest.fail("took the layers for plain ones"))
    compared_by_hand(layer)


def test_masked_autoregressive_replaced_by_one_of_more_layers_runs_passes():
    for change in (lambda layers: layers.insert(1, nn.ReLU()), lambda layers: layers.append(nn.Softplus())):
        layer = made(7, (9, 4), order=MIXED, cond_features=3)
        change(layer.layers)
        assert not layer._is_plain()
        compared_by_hand(layer)


@each_backend
@each_kind
def test_masked_autoregressive_under_saved_tensor_hooks_and_checkpointing(backend, kind):
    layer = made(7, (9, 4), backend=backend, cond_features=3, **kind)
    y, cond = given(layer)
    expected = derived(layer, ours(layer), (y, cond), torch.float64)

    def again(parameters, y, cond):
        return torch.utils.checkpoint.checkpoint(
            lambda y, c: ours(layer)(parameters, y, c), y, cond, use_reentrant=False
        )

    got = derived(layer, again, (y, cond), torch.float64)
    for name, value in expected.items():
        assert_same(got[name], value, what=name)
    with no_leak():
        x, log_det = layer.inverse(y.requires_grad_(), cond)
        (x.sum() + log_det.sum()).backward()
        layer.zero_grad(set_to_none=True)
        y.grad = None
        del x, log_det


def test_masked_autoregressive_is_kept_and_copied():
    layer = made(7, (9, 4), order=MIXED, cond_features=3, scale="tanh", bound=2.0)
    y, cond = given(layer)
    other = MaskedAutoregressive(7, (9, 4), order=MIXED, cond_features=3, scale="tanh", bound=2.0).double()
    start = other(y, cond)
    assert torch.equal(start[0], y) and (start[1] == 0).all()  # the identity
    assert list(layer.state_dict()) == [
        *(f"layers.{i}.{name}" for i in range(3) for name in ("weight", "bias")),
        "cond.weight",
    ]
    other.load_state_dict(layer.state_dict())
    expected = layer.inverse(y, cond)
    for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        for a, b in zip(same.inverse(y, cond), expected, strict=True):
            assert_same(a, b)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        MaskedAutoregressive(7, (9, 4)).load_state_dict(layer.state_dict())


def test_masked_autoregressive_says_what_it_is():
    def shown(*args, **options):
        return repr(MaskedAutoregressive(*args, **options)).split("\n")[1].strip()

    assert shown(3, 4) == "3, scale='exp'"
    assert shown(3, 4, order=[0, 1, 2], additive=True, cond_features=2) == "3, additive=True, cond_features=2"
    assert shown(3, 4, order=[2, 1, 0], scale="tanh", bound=2) == "3, scale='tanh', bound=2, order=range(D)[::-1]"
    assert shown(3, 4, activation="elu") == "3, scale='exp', activation='elu'"
    assert shown(3, 4, order=torch.tensor([1, 0, 2])) == "3, scale='exp', order=of its own"
    assert MaskedAutoregressive(3, 4, order=np.array([1, 0, 2])).order == (1, 0, 2)


def layer(*sizes, **options):
    return MaskedAutoregressive(*(sizes or (3, 4)), **options)


Y, C = torch.zeros(2, 3), torch.zeros(2, 5)
REFUSED = {
    "num_inputs": (lambda: layer(0, 4), "num_inputs: expected an int >= 1, got 0"),
    "hidden": (lambda: layer(3, 0), "hidden_sizes: expected an int >= 1, got 0"),
    "no hidden": (lambda: layer(3, ()), r"hidden_sizes: expected an int, or a sequence of at least one, got \(\)"),
    "hidden float": (lambda: layer(3, 4.0), "hidden_sizes: expected an int, or a sequence of at least one, got 4.0"),
    "cond_features": (lambda: layer(cond_features=0), "cond_features: expected an int >= 1, got 0"),
    "scale": (lambda: layer(scale="soft"), "scale: expected 'exp', 'sigmoid' or 'tanh', got 'soft'"),
    "bound": (lambda: layer(scale="tanh"), "bound: expected a positive number, since scale is 'tanh', got NoneType"),
    "activation": (lambda: layer(activation="gelu"), "activation: expected 'relu' or 'tanh' or 'elu' or 'silu', got 'gelu'"),
    "additive": (lambda: layer(additive=1), "additive: expected True or False, got 1"),
    "additive scale": (lambda: layer(additive=True, scale="sigmoid"), "scale: expected 'exp', the default, .* got 'sigmoid'"),
    "order short": (lambda: layer(order=(0, 1)), r"order: expected each of 0 .. 2 once, got \(0, 1\)"),
    "order twice": (lambda: layer(order=(0, 1, 1)), r"order: expected each of 0 .. 2 once, got \(0, 1, 1\)"),
    "order int": (lambda: layer(order=3), "order: expected each of 0 .. 2 once, got 3"),
    "order float": (lambda: layer(order=(0.0, 1.0, 2.0)), r"order: expected each of 0 .. 2 once, got \(0.0"),
    "order names": (lambda: layer(order="abc"), "order: expected each of 0 .. 2 once, got 'abc'"),
    "backend": (lambda: layer(backend="gpu"), "backend: expected one of reference, .* got 'gpu'"),
    "x list": (lambda: layer()([1.0]), "x: expected a torch.Tensor, got list"),
    "x levels": (lambda: layer()(Y.long()), "x: expected float64, float32, .* got torch.int64"),
    "x shape": (lambda: layer()(C), r"x: expected shape \[N, 3\], got \[2, 5\]"),
    "y shape": (lambda: layer().inverse(Y[0]), r"y: expected shape \[N, 3\], got \[3\]"),
    "y dtype": (lambda: layer().inverse(Y.double()), "y: expected torch.float32, the dtype of the weights, got torch.float64"),
    "cond unasked": (lambda: layer()(Y, C), "cond: expected None, as the layer has no cond_features, got Tensor"),
    "cond missing": (lambda: layer(cond_features=5).inverse(Y), r"cond: expected features \[2, 5\], got None"),
    "cond list": (lambda: layer(cond_features=5)(Y, [1.0]), "cond: expected a torch.Tensor, got list"),
    "cond shape": (lambda: layer(cond_features=5)(Y, C[:1]), r"cond: expected shape \[2, 5\], got \[1, 5\]"),
    "cond dtype": (lambda: layer(cond_features=5)(Y, C.double()), "cond: expected torch.float32, the dtype of x, got .*64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_masked_autoregressive_refuses(name):
    call, match = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match="MaskedAutoregressive: " + match):
        call()


def test_masked_autoregressive_refuses_backends_that_cannot_run():
    for backend, why in (("triton", "autoregressive_inverse has none"), ("cuda", "it runs on CUDA tensors")):
        with pytest.raises(RuntimeError, match=f"autoregressive_inverse: backend '{backend}' cannot run: {why}"):
            layer(backend=backend).inverse(Y)


def test_masked_autoregressive_under_autocast_takes_narrow_numbers():
    of = made(3, 4, dtype=torch.float32, cond_features=5)
    with torch.autocast("cpu", torch.bfloat16):
        x, log_det = of.inverse(Y.bfloat16() + 1, C.bfloat16())
        assert (x.dtype, log_det.dtype) == (torch.float32, torch.float32)
        with pytest.raises(TypeError, match=r"cond: expected float64, .* got torch\.int64"):
            of.inverse(Y, C.long())
    assert_same(x, of.inverse(Y + 1, C)[0])
