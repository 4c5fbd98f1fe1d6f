"""reparameterize_kl as nearly every VAE calls it: a short way through Python, which must hold all that the long one holds."""

import pytest
import torch
from support import assert_same, isas

from pygen.functional import reparameterize_kl

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not isas(), reason="needs the compiled module"),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def call(mu, logvar, **options):
    return reparameterize_kl(mu, logvar, seed=5, backend="cpu", **options)


def long_way(mu, logvar, **options):
    """The same value by a call that the short way does not take."""
    return reparameterize_kl(mu, logvar, seed=torch.tensor(5), backend="cpu", **options)


def pair(dtype=torch.float64, shape=(3, 5), grad=True):
    return tuple(torch.randn(shape).to(dtype).requires_grad_(grad) for _ in range(2))


def is_short(*outputs):
    return all(o.grad_fn.name() == "_CommonReparameterizeKlBackward" for o in outputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["batchmean", "sum", "none"])
@pytest.mark.parametrize("shape", [(3, 5), (7,), (2, 3, 4, 5), (0, 4), (4, 0)], ids=str)
def test_the_short_way_equals_the_long_one(dtype, reduction, shape):
    results = []
    for f in (call, long_way):
        torch.manual_seed(1)
        mu, logvar = pair(dtype, shape)
        z, kl = f(mu, logvar, reduction=reduction)
        assert is_short(z, kl) is (f is call and mu.numel() > 0)
        with torch.no_grad():
            bare = f(mu, logvar, reduction=reduction)
        grads = torch.autograd.grad((z, kl), (mu, logvar), (torch.randn_like(z), torch.randn_like(kl)))
        results.append((z, kl, *bare, *grads))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


def test_the_short_way_draws_as_the_long_one_does():
    """Seed from torch's generator, from a generator of the caller's, or an int: the next draw is the same too."""
    mu, logvar = pair()
    state = torch.get_rng_state()
    for options in ({}, {"seed": 3}, {"generator": torch.Generator().manual_seed(3)}):
        torch.set_rng_state(state)
        z, _ = reparameterize_kl(mu, logvar, backend="cpu", **options)
        after = torch.rand(2)
        assert is_short(z)
        torch.set_rng_state(state)
        if "generator" in options:
            options["generator"].manual_seed(3)
        other, _ = reparameterize_kl(mu, logvar, backend="cpu", free_bits=1e-300, **options)
        assert not is_short(other)
        assert_same(z, other)
        assert_same(after, torch.rand(2))


def test_the_short_way_is_differentiable_twice():
    mu, logvar = pair()
    assert is_short(*call(mu, logvar))
    assert torch.autograd.gradcheck(call, (mu, logvar))
    assert torch.autograd.gradgradcheck(call, (mu, logvar))


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=str)
@pytest.mark.parametrize("of", [0, 1, 2], ids=["z", "kl", "both"])
def test_the_short_way_gives_what_gradients_are_asked_for(needs, of):
    results = []
    for f in (call, long_way):
        torch.manual_seed(1)
        inputs = [t.requires_grad_(n) for t, n in zip(pair(grad=False), needs, strict=True)]
        outputs = f(*inputs)
        outputs = outputs if of == 2 else outputs[of : of + 1]
        sum(o.square().sum() for o in outputs).backward()
        results.append([t.grad for t in inputs])
    for a, b, n in zip(*results, needs, strict=True):
        assert (a is not None) is n
        assert_same(a, b)


def _gradients_of_z():
    g = torch.randn(3, 5, dtype=torch.float64)
    return {
        "expanded": torch.ones((), dtype=torch.float64).expand(3, 5),
        "transposed": torch.randn(5, 3, dtype=torch.float64).t(),
        "every other": torch.randn(3, 10, dtype=torch.float64)[:, ::2],
        "negated": torch._neg_view(g),
        "zeros without memory": torch._efficientzerotensor((3, 5), dtype=torch.float64),
    }


@pytest.mark.parametrize("kind", _gradients_of_z())
def test_the_short_way_reads_any_gradient(kind):
    mu, logvar = pair()
    grad = _gradients_of_z()[kind]
    one = torch.ones((), dtype=torch.float64)
    for grads in (
        (grad, one),
        (grad, torch._neg_view(one)),
        (grad, torch._efficientzerotensor((), dtype=torch.float64)),
    ):
        z, kl = call(mu, logvar)
        got = torch.autograd.grad((z, kl), (mu, logvar), grads)
        plain = tuple(g.clone().contiguous() for g in grads)
        expected = torch.autograd.grad(long_way(mu, logvar), (mu, logvar), plain)
        for a, b in zip(got, expected, strict=True):
            assert_same(a, b)


def test_the_short_way_reads_batched_gradients():
    """is_grads_batched: several upstream gradients in one, under PyTorch's older vmap."""
    mu, logvar = pair()
    several = torch.randn(4, 3, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    got = torch.autograd.grad(call(mu, logvar), (mu, logvar), several, is_grads_batched=True)
    for i in range(4):
        one = torch.autograd.grad(call(mu, logvar), (mu, logvar), tuple(g[i] for g in several))
        for a, b in zip(got, one, strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


def test_the_short_way_reads_a_batched_gradient_beside_a_plain_one():
    """What hands z a gradient of its own whatever comes: kl's alone is batched then."""

    class Ones(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.sum()

        @staticmethod
        def backward(ctx, grad):
            return torch.ones(3, 5, dtype=torch.float64)

    mu, logvar = pair()
    upstream = torch.randn(4, dtype=torch.float64)

    def total():
        z, kl = call(mu, logvar)
        return Ones.apply(z) + kl

    got = torch.autograd.grad(total(), (mu, logvar), upstream, is_grads_batched=True)
    for i in range(4):
        for a, b in zip(got, torch.autograd.grad(total(), (mu, logvar), upstream[i]), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("which", (0, 1))
@pytest.mark.parametrize("change", (lambda t: t[:2].clone(), torch.Tensor.float), ids=("smaller", "float"))
def test_what_was_replaced_after_the_short_way_forward_is_refused(which, change):
    given = pair()
    outputs = call(*given)
    assert is_short(outputs[0])
    upstream = [torch.ones_like(o) for o in outputs]  # dense
    given[which].data = change(given[which].data)
    with pytest.raises(RuntimeError, match="replaced after the forward pass"):
        torch.autograd.grad(outputs, given, upstream)


def _inputs():
    mu, logvar = pair(grad=False)
    wide = torch.randn(3, 10, dtype=torch.float64)
    return {
        "transposed mu": (torch.randn(5, 3, dtype=torch.float64).t(), logvar),
        "strided logvar": (mu, wide[:, ::2]),
        "one logvar a row": (mu, logvar[:, :1]),
        "negated mu": (torch._neg_view(mu), logvar),
        "negated logvar": (mu, torch._neg_view(logvar)),
        "channels_last": tuple(torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last) for _ in range(2)),
    }


@pytest.mark.parametrize("kind", _inputs())
def test_other_inputs_take_the_long_way(kind):
    torch.manual_seed(1)
    mu, logvar = (t.requires_grad_() for t in _inputs()[kind])
    z, kl = call(mu, logvar)
    assert not is_short(z)
    expected = reparameterize_kl(
        mu.clone(memory_format=torch.contiguous_format), logvar.clone().expand_as(mu), seed=5, backend="reference"
    )
    for a, b in zip((z, kl), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_what_listens_to_torch_is_asked():
    """A function mode, a dispatch mode, torch.func, forward mode and another chosen backend all see the call."""
    from torch.utils._python_dispatch import TorchDispatchMode

    mu, logvar = pair(grad=False)
    seen = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Listener():
        call(mu, logvar)
    assert "pygen.reparameterize_kl.default" in seen
    grad = torch.func.grad(lambda m: sum(o.sum() for o in reparameterize_kl(m, logvar, seed=5)))(mu)
    mu.requires_grad_()
    expected = torch.autograd.grad(sum(o.sum() for o in call(mu, logvar)), mu)[0]
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
    import pygen

    with pygen.use_backend("reference"):
        assert not is_short(reparameterize_kl(mu, logvar, seed=5)[0])
        assert is_short(call(mu, logvar)[0])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda m, v: (m.float(), v), TypeError),
        (lambda m, v: (m.long(), v.long()), TypeError),
        (lambda m, v: (m, v[:2]), ValueError),
        (lambda m, v: (m[0, 0], v[0, 0]), ValueError),
        (lambda m, v: (m.to_sparse(), v.to_sparse()), TypeError),
        (lambda m, v: (m.numpy(), v), TypeError),
    ],
    ids=["two dtypes", "integers", "two shapes", "no dims", "sparse", "an array"],
)
def test_the_short_way_lets_nothing_pass(change, kind):
    inputs = change(*pair(grad=False))
    state = torch.get_rng_state()
    with pytest.raises(kind, match="reparameterize_kl"):
        reparameterize_kl(*inputs, backend="cpu")
    assert torch.equal(state, torch.get_rng_state())
