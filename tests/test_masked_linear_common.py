"""masked_linear as nearly every network calls it: a short way through Python, which must hold all that the long one holds."""

import pytest
import torch
from support import DTYPES, assert_same, dtype_name, instruction_set, isas
from test_masked_linear import layer
from torch.utils._python_dispatch import TorchDispatchMode

import pygen
from pygen import _degrees
from pygen.composite import masked_linear as composite
from pygen.functional import masked_linear
from pygen.ops import _linear_common

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not isas(), reason="needs the compiled module"),
]


def long_way(x, w, b, **options):
    """The same value by a call that the short way does not take: lists of degrees."""
    options |= {k: list(options[k]) for k in ("in_degrees", "out_degrees")}
    return masked_linear(x, w, b, **options)


def is_short(out):
    return out.grad_fn.name() == "_CommonMaskedLinearBackward"


def leaves(*tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("strict", (True, False))
@pytest.mark.parametrize("bias", (True, False))
def test_the_short_way_equals_the_long_one(dtype, strict, bias):
    """Bit for bit, whatever the order of the degrees: output, with and without gradients, and each set of gradients."""
    rising = {"in_degrees": tuple(range(50)), "out_degrees": tuple(range(70))}
    mixed, (x, w, b, grad) = layer(50, 70, 33, 23, dtype)
    b = b if bias else None
    for isa in isas():
        for degrees in (mixed, rising):
            options = {**degrees, "strict": strict, "backend": "cpu"}
            with instruction_set(isa):
                bare = masked_linear(x, w, b, **options)
                assert not bare.requires_grad
                for frozen in range(-1, 2 + bias):
                    runs = []
                    for call in (masked_linear, long_way):
                        given = leaves(x, w, *([b] if bias else []))
                        if frozen >= 0:
                            given[frozen].requires_grad_(False)
                        out = call(*given, *([] if bias else [None]), **options)
                        assert is_short(out) is (call is masked_linear)
                        assert_same(out, bare)
                        runs.append(torch.autograd.grad(out, [t for t in given if t.requires_grad], grad))
                    for a, c in zip(*runs, strict=True):
                        assert_same(a, c)


def test_what_is_not_plain_goes_the_long_way_and_agrees():
    given, (x, w, b, _) = layer(20, 30, 9)
    options = {**given, "strict": False, "backend": "cpu"}
    expected = masked_linear(x, w, b, **options)
    turned = w.t().contiguous().t()
    negated = torch._neg_view(-x)
    for call in ((x.t().contiguous().t(), w, b), (x, turned, b), (negated, w, b), (x, w, torch._neg_view(-b))):
        out = masked_linear(*(t.requires_grad_() for t in call), **options)
        assert not is_short(out)
        torch.testing.assert_close(out, expected)
    several = masked_linear(x.view(3, 3, 20).requires_grad_(), w, b, **options)
    assert not is_short(several)
    assert_same(several.view(9, 30), expected)
    empty = masked_linear(x[:0].requires_grad_(), w, b, **options)
    assert empty.shape == (0, 30) and not is_short(empty)


def test_gradients_that_are_not_plain_go_the_long_way_and_agree():
    given, (x, w, b, grad) = layer(20, 30, 9)
    options = {**given, "strict": True, "backend": "cpu"}
    given = leaves(x, w, b)
    out = masked_linear(*given, **options)
    assert is_short(out)
    expected = torch.autograd.grad(out, given, grad, retain_graph=True)
    for upstream in (grad.t().contiguous().t(), torch._neg_view(-grad), grad.to_sparse()):
        for a, c in zip(torch.autograd.grad(out, given, upstream, retain_graph=True), expected, strict=True):
            assert_same(a, c)
    ones = torch.autograd.grad(out, given, torch.ones_like(out), retain_graph=True)
    for a, c in zip(torch.autograd.grad(out.sum(), given, retain_graph=True), ones, strict=True):
        assert_same(a, c)  # stride 0
    batched = torch.autograd.grad(out, given, torch.stack((grad, -grad)), retain_graph=True, is_grads_batched=True)
    for a, c in zip(batched, expected, strict=True):
        torch.testing.assert_close(a, torch.stack((c, -c)), rtol=1e-4, atol=1e-5)


def test_the_short_way_is_differentiable_twice():
    given, (x, w, b, _) = layer(5, 6, 3, dtype=torch.float64)
    options = {**given, "strict": False, "backend": "cpu"}
    given = leaves(x[:2], w, b)
    assert is_short(masked_linear(*given, **options))
    assert torch.autograd.gradgradcheck(lambda *t: masked_linear(*t, **options), given)


@pytest.mark.parametrize("which", (0, 1))
@pytest.mark.parametrize("change", (lambda t: t[: len(t) // 2].clone(), torch.Tensor.double), ids=("smaller", "double"))
def test_what_was_replaced_after_the_short_way_forward_is_refused(which, change):
    given, (x, w, b, grad) = layer(20, 30, 9)
    given, options = leaves(x, w, b), {**given, "strict": True, "backend": "cpu"}
    out = masked_linear(*given, **options)
    assert is_short(out)
    given[which].data = change(given[which].data)
    with pytest.raises(RuntimeError, match="replaced after the forward pass"):
        torch.autograd.grad(out, given, grad)


def test_what_listens_to_torch_and_another_backend_are_asked():
    given, (x, w, b, _) = layer(20, 30, 9)
    options, seen = {**given, "strict": True}, []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Listener():
        masked_linear(x, w, b, **options)
    assert "pygen.masked_linear.default" in seen
    x.requires_grad_()
    assert is_short(masked_linear(x, w, b, **options))
    with pygen.use_backend("reference"):
        assert not is_short(masked_linear(x, w, b, **options))
        assert is_short(masked_linear(x, w, b, **options, backend="cpu"))


def test_degrees_that_equal_others_but_are_no_int_are_refused_after_them():
    x, w = torch.ones(2, 2), torch.ones(2, 2)
    masked_linear(x, w, in_degrees=(0, 1), out_degrees=(0, 1), strict=True, backend="cpu")
    for bad in ((False, True), (0.0, 1.0)):
        with pytest.raises(TypeError, match="in_degrees: expected a tuple of int"):
            masked_linear(x, w, in_degrees=bad, out_degrees=(0, 1), strict=True, backend="cpu")
    with pytest.raises(TypeError, match="strict: expected a bool"):
        masked_linear(x, w, in_degrees=(0, 1), out_degrees=(0, 1), strict=1, backend="cpu")


def test_degrees_are_told_apart_though_their_tuples_come_and_go():
    """Plans go by identity: a tuple that lies where another lay must not get its plan."""
    x, w = torch.ones(1, 3), torch.ones(2, 3)
    for i in range(1000):
        ins, outs = tuple([i, i + 1, i + 2]), tuple([i + i % 3, i + 2])
        out = masked_linear(x, w, in_degrees=ins, out_degrees=outs, strict=False, backend="cpu")
        assert out.tolist() == [[1.0 + i % 3, 3.0]]
    assert len(_linear_common._plans) <= _linear_common._MOST_PLANS


def test_what_is_kept_for_later_calls_is_made_out_of_sight():
    """As of the pool of torch.compile's CUDA graphs, which takes what the thread that records them allocates."""
    seen = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    plan, there = _degrees.forward_plan((3, 1, 4, 1), (2, 7, 1), True), torch.device("meta")
    with Listener():
        assert all(t.is_meta for t in _degrees.on_device(plan, there))
        assert composite._mask((3, 1, 4, 1), (2, 7, 1), True, there).is_meta
    assert seen == []
