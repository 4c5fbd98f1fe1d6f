"""What every op must do with gradients that are not plain memory, batched gradients, torch.func and forward mode."""

import pytest
import torch
from registry import each_op, gradients, leaves, on_floating, tiny
from support import FAST_TARGETS, SEED, assert_same

pytestmark = pytest.mark.usefixtures("poisoned")


def sparse_weight(w):
    return w.to_sparse() if w.dim() else w


def negated_weight(w):
    return torch.complex(w, -w).conj().imag if w.dtype in (torch.float32, torch.float64) else w


def absent_weight(w):
    return torch._efficientzerotensor(w.shape, dtype=w.dtype, device=w.device)


@each_op
@pytest.mark.parametrize("relay", (sparse_weight, negated_weight, absent_weight), ids=lambda r: r.__name__)
def test_upstream_gradients_that_are_not_plain_memory(op, relay, target):
    """Autograd sends sparse gradients (gather(sparse_grad=True)), negated views (of complex numbers) and zero tensors."""
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    outputs = op.run(marked, sample.options, target.backend)
    got = gradients(outputs, inputs, relay=relay, retain_graph=True)
    expected = gradients(outputs, inputs, relay=lambda w: torch.zeros_like(w) if relay is absent_weight else w)
    for a, b in zip(got, expected, strict=True):
        assert_same(a.to_dense() if a.is_sparse else a.resolve_neg(), b)


@each_op
def test_negated_inputs(op, target):
    """A view of a complex tensor may carry a negation that is not in memory."""
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32, target.device)
    negated = on_floating(negated_weight, tensors)
    assert all(t.is_neg() for t in negated.values() if t.is_floating_point())
    results = []
    for given in (negated, tensors):
        marked, inputs = leaves(op, given)
        outputs = op.run(marked, sample.options, target.backend)
        results.append([*op.run(given, sample.options, target.backend), *outputs, *gradients(outputs, inputs)])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


@each_op
@pytest.mark.parametrize("target", [None, *FAST_TARGETS], ids=str)
def test_batched_upstream_gradients(op, target):
    """torch.autograd.grad(is_grads_batched=True), which jacobian(vectorize=True) uses."""
    marked, inputs, options = tiny(op, target.device if target else "cpu")
    outputs = op.run(marked, options, target.backend if target else None)
    for i in range(len(outputs)):
        weights = torch.randn(3, *outputs[i].shape, dtype=torch.float64, device=outputs[i].device)
        options = {"retain_graph": True, "allow_unused": True}
        batched = torch.autograd.grad(outputs[i], inputs, weights, is_grads_batched=True, **options)
        for j, w in enumerate(weights):
            one = torch.autograd.grad(outputs[i], inputs, w, **options)
            for a, b in zip(batched, one, strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    torch.testing.assert_close(a[j], b, rtol=1e-12, atol=1e-12)


@each_op
def test_batched_gradients_of_gradients(op):
    """torch.autograd.functional.hessian(vectorize=True), of all floating arguments at once."""
    if op.surrogate:
        pytest.skip("its gradients are not its derivatives")
    marked, _, options = tiny(op)
    call, values = functional(op, marked, options, None)
    scalar = lambda *v: sum((o**2).sum() for o in call(*v))  # noqa: E731
    together, alone = (torch.autograd.functional.hessian(scalar, values, vectorize=v) for v in (True, False))
    for row, other in zip(together, alone, strict=True):
        for a, b in zip(row, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def functional(op, marked, options, backend):
    """The call as a function of its floating arguments, and these."""
    options = {**({"seed": SEED} if op.seeded else {}), **options}
    floating = {k: t.detach() for k, t in marked.items() if t.is_floating_point()}

    def call(*values):
        return op.call({**marked, **dict(zip(floating, values, strict=True))}, options, backend)

    return call, tuple(floating.values())


@each_op
@pytest.mark.parametrize("backend", (None, "reference"))
def test_func_transforms_are_right(op, backend):
    marked, _, options = tiny(op)
    call, values = functional(op, marked, options, backend)
    plain = call(*values)

    for dim in (0, -1):  # entries that are contiguous in memory, and that are not
        stacked = tuple(torch.stack((v, v * 0.5), dim) for v in values)
        mapped = torch.func.vmap(call, in_dims=dim)(*stacked)
        for i in range(2):
            for a, b in zip(mapped, call(*(s.select(dim, i) for s in stacked)), strict=True):
                torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)

    weights = [torch.randn_like(o) for o in plain]
    scalar = lambda *v: sum((o * w).sum() for o, w in zip(call(*v), weights, strict=True))  # noqa: E731
    which = tuple(range(len(values)))
    grads = torch.func.grad(scalar, argnums=which)(*values)
    inputs = [v.clone().requires_grad_() for v in values]
    for a, b in zip(grads, torch.autograd.grad(scalar(*inputs), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    tangents = tuple(torch.randn_like(v) for v in values)
    value, slope = torch.func.jvp(scalar, values, tangents)
    torch.testing.assert_close(value, scalar(*values), rtol=1e-12, atol=1e-12)
    along = sum((g * t).sum() for g, t in zip(grads, tangents, strict=True))
    torch.testing.assert_close(slope, along, rtol=1e-12, atol=1e-12)

    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(v, t) for v, t in zip(values, tangents, strict=True)]
        unpacked = torch.autograd.forward_ad.unpack_dual(scalar(*duals))
    assert unpacked.tangent is not None, "the tangent was dropped"
    torch.testing.assert_close(unpacked.tangent, slope, rtol=1e-12, atol=1e-12)

    hessian = torch.func.hessian(scalar)(*values)
    (first,) = torch.autograd.grad(scalar(*inputs), inputs[:1], create_graph=True)
    linear = {"retain_graph": True, "materialize_grads": True}  # zeros where the op is linear in its first input
    columns = [torch.autograd.grad(g, inputs[:1], **linear)[0] for g in first.reshape(-1)]
    rows = hessian.reshape(first.numel(), -1)
    torch.testing.assert_close(rows, torch.stack(columns).flatten(1), rtol=1e-10, atol=1e-10)


@each_op
@pytest.mark.parametrize("value", (0.0, -2.0))  # params begin at 0; the sigmoid of couplings turns at -2
def test_func_transforms_are_right_where_formulas_are_pieced_together(op, value):
    """What transforms differentiate is plain PyTorch, where clamp and abs have slopes of their own at the ends of pieces."""
    for sample in op.samples():
        if sum(t.numel() for t in sample.tensors.values()) > 500:
            continue
        tensors = on_floating(lambda t: torch.full_like(t, value), sample.cast(torch.float64))
        call, values = functional(op, tensors, sample.options, None)
        try:
            weights = [torch.randn_like(o) if o.is_floating_point() else o for o in call(*values)]
        except ValueError:
            continue  # no value that it takes
        scalar = lambda *v: sum((o * w).sum() for o, w in zip(call(*v), weights, strict=True))  # noqa: B023, E731
        floating = [k for k, t in tensors.items() if t.is_floating_point()]
        which = [i for i, v in enumerate(values) if floating[i] in op.differentiable]
        grads = torch.func.grad(scalar, argnums=tuple(which))(*values)
        inputs = [v.clone().requires_grad_(i in which) for i, v in enumerate(values)]
        expected = torch.autograd.grad(scalar(*inputs), [inputs[i] for i in which], materialize_grads=True)
        for a, b in zip(grads, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=sample.name)


@each_op
@pytest.mark.parametrize("target", [t for t in FAST_TARGETS if t.backend != "reference"], ids=str)
def test_func_transforms_refuse_a_backend_without_rules(op, target):
    marked, _, options = tiny(op, target.device)
    backend = target.backend
    call, values = functional(op, marked, options, backend)
    with pytest.raises(NotImplementedError, match=f"{op}: backend '{backend}' has no rules .* use backend='reference'"):
        torch.func.vmap(call)(*(torch.stack((v, v)) for v in values))
    with pytest.raises(NotImplementedError, match="no rules"), torch.autograd.forward_ad.dual_level():
        call(*(torch.autograd.forward_ad.make_dual(v, v) for v in values))
