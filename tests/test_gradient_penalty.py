"""gradient_penalty against the composite written out, and where it would break: zero gradients, shapes, refusals."""

import pytest
import torch
from torch import nn

from pygen.functional import gradient_penalty
from pygen.ops.sample_dot import sample_dot

KINDS = ("r1", "r2", "wgan_gp", "dragan")


def critic(dtype=torch.float64):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(16, 3), nn.Tanh())
    return model.to(dtype)


def samples(dtype=torch.float64, n=5):
    g = torch.Generator().manual_seed(2)
    real, fake = (torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=g) for _ in range(2))
    return real.to(dtype), fake.to(dtype)


def given(kind, real, fake):
    return {
        "r1": {"real": real},
        "r2": {"fake": fake},
        "wgan_gp": {"real": real, "fake": fake},
        "dragan": {"real": real},
    }[kind]


def points(kind, real, fake, seed):
    g = torch.Generator().manual_seed(seed)
    if kind in ("r1", "r2"):
        return real if kind == "r1" else fake
    u = torch.rand(len(real), 1, 1, 1, dtype=real.dtype, generator=g)
    if kind == "wgan_gp":
        return u * real + (1 - u) * fake
    return real + u * 0.5 * real.std() * torch.rand(real.shape, dtype=real.dtype, generator=g)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_gradient_penalty_equals_the_composite_and_so_do_its_gradients(kind, reduction):
    """The norm of each sample's own gradient, one sample at a time."""
    model, (real, fake) = critic(), samples()
    got = gradient_penalty(
        model,
        **given(kind, real, fake),
        kind=kind,
        gamma=3.0,
        reduction=reduction,
        generator=torch.Generator().manual_seed(7),
    )
    each = []
    for x in points(kind, real, fake, 7):
        x = x[None].detach().requires_grad_()
        (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        squared = g.square().sum()
        each.append(1.5 * squared if kind in ("r1", "r2") else 3.0 * (squared.sqrt() - 1).square())
    each = torch.stack(each)
    expected = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(got.sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(expected.sum(), parameters, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_penalty_survives_a_zero_gradient(kind):
    """A discriminator that ignores its input, and one that is flat in places."""
    real, fake = samples(torch.float32)
    weight = torch.zeros(32, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, **given(kind, real, fake), kind=kind)
    assert penalty.item() == (0.0 if kind in ("r1", "r2") else 1.0)
    (grad,) = torch.autograd.grad(penalty, weight)
    assert grad.isfinite().all() and not grad.any()
    bias = torch.ones((), requires_grad=True)
    assert gradient_penalty(lambda x: bias + 0 * x.sum(), **given(kind, real, fake), kind=kind).isfinite()
    mixed = gradient_penalty(
        lambda x: torch.relu(x.sum((1, 2, 3))), **given(kind, real, fake), kind=kind, reduction="none"
    )
    assert mixed.isfinite().all()


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 2, 2), (0, 4), (3, 0)], ids=str)
def test_squared_norms_and_their_gradients_to_third_order(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sample_dot(x), x.square().flatten(1).sum(1) if x.dim() > 1 else x.square())
    if x.numel():
        assert torch.autograd.gradcheck(sample_dot, x) and torch.autograd.gradgradcheck(sample_dot, x)
        (first,) = torch.autograd.grad(sample_dot(x).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
        (third,) = torch.autograd.grad(second.sum(), x)
        plain = lambda: x.square().flatten(1).sum(1) if x.dim() > 1 else x.square()  # noqa: E731
        (a,) = torch.autograd.grad(plain().square().sum(), x, create_graph=True)
        (b,) = torch.autograd.grad(a.square().sum(), x, create_graph=True)
        torch.testing.assert_close(third, torch.autograd.grad(b.sum(), x)[0])
    zero = torch.zeros(shape, requires_grad=True)
    (grad,) = torch.autograd.grad(sample_dot(zero).sum(), zero)
    assert not grad.any() and grad.shape == shape
    half = torch.full(shape, 300.0, dtype=torch.float16, requires_grad=True)
    assert sample_dot(half).isfinite().all()
    (grad,) = torch.autograd.grad((0.01 * sample_dot(half)).sum(), half)
    assert grad.dtype == torch.float16 and (grad == 6.0).all()


def test_squared_norms_store_nothing_beside_their_input():
    x = torch.randn(8, 3, 64, 64, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        sample_dot(x)
    assert [t.data_ptr() for t in saved] == [x.data_ptr()]


def test_gradient_penalty_takes_lists_low_precision_and_no_grad():
    model, (real, _) = critic(torch.bfloat16), samples(torch.bfloat16)
    penalty = gradient_penalty(model, real=real, reduction="none")
    assert penalty.dtype == torch.float32 and penalty.shape == (5,) and penalty.requires_grad
    with torch.no_grad():
        assert not gradient_penalty(model, real=real).requires_grad
    model, (real, _) = critic(), samples()
    doubled = gradient_penalty(lambda x: [model(x), model(x)], real=real)
    torch.testing.assert_close(doubled, 4 * gradient_penalty(model, real=real))
    assert real.grad is None and not real.requires_grad
    big = torch.full((1, 3), 300.0, dtype=torch.float16)  # its square overflows float16
    assert gradient_penalty(lambda x: (x * big).sum(1), real=big).item() == pytest.approx(0.5 * 3 * 300**2)


def test_gradient_penalty_draws_one_u_for_each_sample():
    """On a ramp between real and fake each sample's point is on the line, at its own place."""
    seen = []

    def watch(x):
        seen.append(x.detach().clone())
        return x.sum()

    real, fake = torch.ones(64, 3, 2), torch.zeros(64, 3, 2)
    gradient_penalty(watch, real=real, fake=fake, kind="wgan_gp")
    u = seen[0].flatten(1)
    assert torch.equal(u, u[:, :1].expand_as(u)) and len(u[:, 0].unique()) > 60
    torch.manual_seed(5)
    gradient_penalty(watch, real=real, fake=fake, kind="wgan_gp")
    torch.manual_seed(5)
    gradient_penalty(watch, real=real, fake=fake, kind="wgan_gp")
    assert torch.equal(seen[1], seen[2]) and not torch.equal(seen[0], seen[1])


def test_gradient_penalty_refuses_what_does_not_fit():
    x = torch.zeros(3, 2)

    def d(x):
        return x.sum()

    for match, kind, options in (
        (r"kind: expected one of r1, r2, wgan_gp, dragan, got 'path'$", ValueError, {"real": x, "kind": "path"}),
        (r"kind: expected .*, got 'WGAN-GP', which is 'wgan_gp' here", ValueError, {"real": x, "kind": "WGAN-GP"}),
        (r"kind: expected .*, got 'gp', which is 'wgan_gp' here", ValueError, {"real": x, "kind": "gp"}),
        (r"real: expected samples \[N, ...\], which kind 'r1' needs, got None", ValueError, {}),
        (r"fake: expected None, as kind 'r1' does not look at it", ValueError, {"real": x, "fake": x}),
        (r"fake: expected samples .* got None", ValueError, {"real": x, "kind": "wgan_gp"}),
        (
            r"fake: expected \[3, 2\], the shape of real, got \[2, 2\]",
            ValueError,
            {"real": x, "fake": x[:2], "kind": "wgan_gp"},
        ),
        (
            r"fake: expected torch.float32, the dtype of real",
            TypeError,
            {"real": x, "fake": x.double(), "kind": "wgan_gp"},
        ),
        (r"real: expected a torch.Tensor, got list", TypeError, {"real": [1.0]}),
        (r"real: expected float64, .* got torch.int64", TypeError, {"real": x.long()}),
        (r"real: expected at least one sample", ValueError, {"real": x[:0]}),
        (r"gamma: expected a number, got str", TypeError, {"real": x, "gamma": "10"}),
        (r"gamma: expected a finite number >= 0, got -1", ValueError, {"real": x, "gamma": -1}),
        (
            r"reduction: expected 'mean', 'sum' or 'none', got 'batchmean'",
            ValueError,
            {"real": x, "reduction": "batchmean"},
        ),
    ):
        with pytest.raises(kind, match=match):
            gradient_penalty(d, **options)
    with pytest.raises(ValueError, match="discriminator: expected logits that depend on its input"):
        gradient_penalty(lambda x: torch.zeros(3), real=x)
    for other, got in ((x, "Tensor"), (lambda x: 1.0, "float"), (lambda x: [x, None], "NoneType")):
        with pytest.raises(TypeError, match=f"discriminator: expected .*, got {got}"):
            gradient_penalty(other, real=x)
