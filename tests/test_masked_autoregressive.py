"""MaskedAutoregressive: its inverse and that one's gradients against passes of a plain masked network, one for each number."""

import copy
import math

import pytest
import torch
from masked_autoregressive_twins import (
    CASES,
    KINDS,
    MIXED,
    compare,
    derived,
    each_backend,
    each_case,
    each_kind,
    given,
    made,
    ours,
    passes,
)
from support import assert_same, instruction_set, isas, mixed_weights, threads

pytestmark = pytest.mark.usefixtures("poisoned")


@each_backend
@each_case
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_masked_autoregressive_inverse_and_its_gradients_are_those_of_plain_passes(case, backend, dtype):
    sizes, options = CASES[case]
    layer = made(*sizes, backend=backend, dtype=dtype, **options)
    got = compare(layer, given(layer, dtype=dtype))
    assert got["x"].abs().max() > 0.1 and (getattr(layer, "additive", False) or got["log_det"].abs().min() > 1e-3)


@each_case
def test_by_passes_is_what_plain_passes_give(case):
    sizes, options = CASES[case]
    layer = made(*sizes, **options)
    compare(layer, given(layer), lambda layer: lambda parameters, *inputs: passes(layer, parameters, *inputs))


@each_backend
@each_case
def test_masked_autoregressive_inverse_undoes_forward(case, backend):
    """And the log-determinants are those of the two Jacobians."""
    sizes, options = CASES[case]
    layer = made(*sizes, backend=backend, **options)
    x, *cond = given(layer, 3)
    y, log_det = layer(x, *cond)
    back, minus = layer.inverse(y, *cond)
    assert (back - x).abs().max() < 1e-10 and (log_det + minus).abs().max() < 1e-10 and (y - x).abs().max() > 0.01
    one = [c[:1] for c in cond]
    for run, at, total in ((layer, x, log_det), (layer.inverse, y, minus)):
        jacobian = torch.autograd.functional.jacobian(lambda t, run=run: run(t, *one)[0], at[:1])
        square = jacobian.reshape(layer.num_inputs, layer.num_inputs)
        torch.testing.assert_close(torch.linalg.slogdet(square)[1], total[0], rtol=1e-9, atol=1e-9)
        turns = torch.tensor(layer.order)
        assert (square[turns[:, None] < turns] == 0).all()  # exactly: of the numbers after it


@each_backend
@pytest.mark.parametrize(
    "kind",
    ({"scale": "tanh", "bound": 1.5}, {"num_bins": 3}, *({"activation": name} for name in ("tanh", "elu", "silu"))),
    ids=str,
)
def test_masked_autoregressive_derivatives_of_both_orders(backend, kind):
    layer = made(3, (4, 3), backend=backend, order=(1, 2, 0), cond_features=2, scale_of=1.2, **kind)
    names = [name for name, _ in layer.named_parameters()]

    def run(y, cond, *parameters):
        return ours(layer)(dict(zip(names, parameters, strict=True)), y, cond)

    inputs = [t.detach().clone().requires_grad_() for t in (*given(layer, 2), *layer.parameters())]
    assert torch.autograd.gradcheck(run, inputs)
    grads = [torch.ones(shape, dtype=torch.float64).requires_grad_() for shape in ((2, 3), (2,))]
    assert torch.autograd.gradgradcheck(run, inputs, grads)


@each_backend
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@each_kind
def test_masked_autoregressive_narrow_dtypes_compute_in_float32(backend, dtype, kind):
    layer = made(7, (9, 4), backend=backend, dtype=dtype, order=MIXED, **kind)
    y = given(layer, dtype=dtype)[0]
    x, log_det = layer.inverse(y)
    exact = copy.deepcopy(layer).double().inverse(y.double())
    assert (x.dtype, log_det.dtype) == (dtype, torch.float32)
    assert_same(x, exact[0].to(dtype)) if dtype is torch.bfloat16 else torch.testing.assert_close(x, exact[0].to(dtype))
    torch.testing.assert_close(log_det.double(), exact[1], rtol=1e-5, atol=1e-5)
    compare(layer, (y,))


@each_backend
@each_kind
def test_masked_autoregressive_takes_any_strides(backend, kind):
    layer = made(7, (9, 4, 8), backend=backend, order=MIXED, cond_features=3, **kind)
    y, cond = given(layer, 6)
    expected = derived(layer, ours(layer), (y, cond), torch.float64)
    for of in layer.layers:
        of.weight.data = of.weight.data.T.contiguous().T
    wide = y.new_full((6, 14), math.nan)
    wide[:, ::2] = y
    for form in (y.T.contiguous().T, wide[:, ::2]):
        results = layer.inverse(form, cond.T.contiguous().T)
        for name, got in zip(("x", "log_det"), results, strict=True):
            torch.testing.assert_close(got, expected[name], rtol=1e-12, atol=1e-12)
    again = derived(layer, ours(layer), (y, cond), torch.float64)
    for name, value in expected.items():
        torch.testing.assert_close(again[name], value, rtol=1e-12, atol=1e-12, msg=name)
    rows = (y[:1].expand(6, 7), cond[:1].expand(6, 3)), (y[:1].repeat(6, 1), cond[:1].repeat(6, 1))
    same = [layer.inverse(*row) for row in rows]
    torch.testing.assert_close(*same, rtol=0, atol=0)


@each_backend
@each_kind
def test_masked_autoregressive_empty_batch(backend, kind):
    layer = made(7, (9, 4), backend=backend, cond_features=3, **kind)
    got = derived(layer, ours(layer), given(layer, 0), torch.float64)
    assert got["x"].shape == (0, 7) and got["log_det"].shape == (0,)
    assert all((value == 0).all() for name, value in got.items())


@each_backend
@each_case
def test_masked_autoregressive_nan_stays_where_it_is(backend, case):
    """Of a row it reaches no other row and no number before it; of a dead weight nothing at all, gradients included."""
    sizes, options = CASES[case]
    layer = made(*sizes, backend=backend, **options)
    y, *cond = given(layer)
    clean = derived(layer, ours(layer), (y, *cond), torch.float64)
    broken, at = y.clone(), layer.num_inputs // 2
    broken[2, layer.order.index(at)] = math.nan
    others = torch.arange(5) != 2
    got = derived(layer, ours(layer), (broken, *cond), torch.float64)
    for name in ("x", "log_det", "grad of y"):
        assert_same(got[name][others], clean[name][others], what=name)
    before = torch.tensor(layer.order) < at
    assert_same(got["x"][2, before], clean["x"][2, before])
    assert got["x"][2, layer.order.index(at)].isnan()
    with torch.no_grad():
        for of in layer.layers:
            of.weight.masked_fill_(~of.live_mask(), math.nan)
    assert any(p.isnan().any() for p in layer.parameters())
    got = derived(layer, ours(layer), (y, *cond), torch.float64)
    for name, value in clean.items():
        assert_same(got[name], value, what=name)
        if name.startswith("grad of layers") and name.endswith("weight"):
            assert (value[~layer.layers[int(name[15])].live_mask()] == 0).all()


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_masked_autoregressive_results_do_not_depend_on_threads_or_neighbours(isa, dtype):
    """To the last bit, on every instruction set; blocks of images, and one alone."""
    for case in (
        "panels",
        "panels of one",
        "additive",
        "sigmoid",
        "narrow",
        "spline panels",
        "splines in a box",
        "elu",
        "silu",
    ):
        sizes, options = CASES[case]
        layer = made(*sizes, backend="cpu", dtype=dtype, **options)
        inputs, seen = given(layer, 131, dtype), []
        with instruction_set(isa):
            compare(layer, [t[:9] for t in inputs])
            for count in (1, 2, 3):
                with threads(count):
                    seen.append(derived(layer, ours(layer), inputs, dtype))
            for name in ("x", "log_det", "grad of y"):
                assert_same(seen[0][name], seen[1][name], what=name)
                assert_same(seen[0][name], seen[2][name], what=name)
            weights = [mixed_weights((131, layer.num_inputs), dtype), mixed_weights((131,), dtype)]
            if layer.cond is not None:
                continue  # torch's own product rounds what conditions give, by the batch's size
            for some in (slice(0, 1), slice(130, 131), slice(17, 60)):
                y = inputs[0][some].clone().requires_grad_()
                x, log_det = layer.inverse(y, *(c[some] for c in inputs[1:]))
                (grad,) = torch.autograd.grad((x, log_det), y, [w[some] for w in weights])
                alone = {"x": x, "log_det": log_det}
                if layer.activation == "relu":  # torch rounds the last places of a tensor's exponentials otherwise
                    alone["grad of y"] = grad
                for name, value in alone.items():
                    assert_same(value, seen[0][name][some], what=name)


@each_backend
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_masked_autoregressive_large_log_scales(backend, dtype):
    """As affine_coupling promises: as rounded, infinite where it overflows, 0 where it vanishes, no NaN of finite numbers."""
    most = math.log(torch.finfo(dtype).max)
    for f, of in ((-1.5 * most, (0.0, math.inf, -math.inf)), (1.5 * most, (0.0, 0.0, 0.0))):
        layer = made(7, (9, 4), backend=backend, dtype=dtype, order=MIXED)
        last = layer.layers[-1]
        with torch.no_grad():
            for at in (MIXED.index(6), 7 + MIXED.index(6)):
                last.weight[at], last.bias[at] = 0, 0 if at < 7 else f
        y = given(layer, 3, dtype)[0]
        y[:, MIXED.index(6)] = torch.tensor([0.0, 2.5, -1.0])
        y.requires_grad_()
        x, log_det = layer.inverse(y)
        assert_same(x[:, MIXED.index(6)], torch.tensor(of, dtype=dtype))
        assert x[:, [i for i in range(7) if i != MIXED.index(6)]].isfinite().all()
        assert log_det.isfinite().all() and (log_det + f).abs().max() < 10
        learnt = (y, *layer.parameters())
        grads = torch.autograd.grad(
            log_det.sum() if f < 0 else log_det.sum() + x.sum(), learnt
        )  # that of x is infinite
        assert all(g.isfinite().all() for g in grads) and grads[0].abs().max() > 0.1


@pytest.mark.parametrize("features", (None, 3))
@pytest.mark.parametrize("kind", (*KINDS.values(), {"additive": True}), ids=(*KINDS, "additive"))
def test_masked_autoregressive_ops_are_as_torch_wants_them(features, kind):
    """Schemas, fakes, autograd and compilation of the inverse and of its gradient."""
    layer = made(7, (9, 4), order=MIXED, cond_features=features, **kind)
    y, *cond = given(layer)
    weights, biases = ([getattr(part, kind).detach() for part in layer.layers] for kind in ("weight", "bias"))
    if features:
        biases[0] = biases[0] + layer.cond(*cond).detach()
    options = [degree for of_units in layer._degrees for degree in of_units], layer.activation, *layer._rule.options()

    def leaves(*tensors):
        return [t.clone().requires_grad_() for t in tensors]

    y, weights, biases = *leaves(y), leaves(*weights), leaves(*biases)
    torch.library.opcheck(torch.ops.pygen.autoregressive_inverse.default, (y, weights, biases, *options, "auto"))
    x, log_det = torch.ops.pygen.autoregressive_inverse(y, weights, biases, *options, "auto")
    grads = leaves(torch.cos(x.detach()), torch.sin(1 + log_det.detach()))
    args = *grads, x.detach(), y, weights, biases, *options, [True] * (1 + 2 * len(weights)), "auto"
    torch.library.opcheck(torch.ops.pygen.autoregressive_inverse_backward.default, args)
