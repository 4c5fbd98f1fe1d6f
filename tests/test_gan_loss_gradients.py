"""Gradients of the GAN losses that forward makes in the same pass: the same as backward's, handed out once, and not held."""

import gc
import weakref

import gan_made
import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
from layouts import misaligned
from rows.gan_loss import logits
from support import CPU_TARGETS, DTYPES, assert_same, dtype_name, instruction_set, isas
from test_gan_loss import cases, loss_of

from pygen import _dispatch
from pygen._gan_terms import KINDS
from pygen.functional import discriminator_loss
from pygen.native import gan_loss as native

pytestmark = pytest.mark.usefixtures("poisoned")
LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1),
    "misaligned": misaligned,
    "every second": lambda t: torch.stack([t, t], -1)[..., 0],
}


def without_ready_gradients(make_loss):
    """Under hooks forward leaves the gradients to backward's kernel."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        return make_loss()


@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_made_in_forward_are_those_of_backward(player, kind, smoothing, dtype, layout):
    """Bit for bit, the loss too; of more than a block, with a tail, for an upstream gradient of 1 and for others."""
    for isa in isas():
        with instruction_set(isa):
            both = logits((5, 7, 73), (5, 7, 73) if kind == "relativistic" else (2, 11, 3)).values()
            real, fake = (LAYOUTS[layout](t.to(dtype)).requires_grad_() for t in both)

            def loss(real=real, fake=fake):
                return loss_of(player, kind, smoothing, real, fake, scale=0.75, backend="cpu")

            expected = without_ready_gradients(loss)
            assert_same(loss(), expected)
            assert_same(loss_of(player, kind, smoothing, real.detach(), fake.detach(), scale=0.75), expected)
            for upstream in (1.0, -0.3, 0.0):
                weight = torch.full_like(expected, upstream)
                again = torch.autograd.grad(expected, (real, fake), weight, allow_unused=True, retain_graph=True)
                for a, b in zip(
                    torch.autograd.grad(loss(), (real, fake), weight, allow_unused=True), again, strict=True
                ):
                    assert_same(a, b)
                    assert a is None or a.stride() == b.stride()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_is_handed_out_once(kind):
    """Whoever got it may change it, before the graph is gone through again."""
    real, fake = (t.float().requires_grad_() for t in logits((33,)).values())
    for upstream in (None, torch.tensor(2.5)):
        loss = discriminator_loss(real=real, fake=fake, kind=kind, backend="cpu")
        first = torch.autograd.grad(loss, (real, fake), upstream, retain_graph=True)
        kept = [g.clone() for g in first]
        for g in first:
            g.zero_()
        second = torch.autograd.grad(loss, (real, fake), upstream, retain_graph=True)
        third = torch.autograd.grad(loss, (real, fake), upstream, create_graph=True)
        for a, b, c in zip(kept, second, third, strict=True):
            assert_same(b, a)
            torch.testing.assert_close(c.detach(), a)


def test_each_side_gets_a_gradient_only_where_it_needs_one():
    for kind in ("nonsaturating", "relativistic", "relativistic_average"):
        real, fake = (t.float() for t in logits((17,)).values())
        loss = discriminator_loss(real=real.requires_grad_(), fake=fake, kind=kind, backend="cpu")
        (of_real,) = torch.autograd.grad(loss, real)
        loss = discriminator_loss(real=real.detach(), fake=fake.requires_grad_(), kind=kind, backend="cpu")
        (of_fake,) = torch.autograd.grad(loss, fake)
        together = discriminator_loss(real=real, fake=fake, kind=kind, backend="cpu")
        for a, b in zip(torch.autograd.grad(together, (real, fake)), (of_real, of_fake), strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("way", ["forward_plain", "forward_with_gradients"])
def test_what_forward_holds_is_one_gradient_a_logit_until_backward(way, monkeypatch):
    made: list = []
    forward = getattr(native, way)

    def watched(*args):
        result = forward(*args)
        made.extend(weakref.ref(g) for g in result[1] or () if g is not None)
        return result

    def loss_of(real, fake, **options):
        if way == "forward_with_gradients":
            real, fake = [real], [fake]
        return discriminator_loss(real=real, fake=fake, backend="cpu", **options)

    monkeypatch.setattr(native, way, watched)
    real, fake = (t.float().requires_grad_() for t in logits((4, 5), (6,)).values())
    loss = loss_of(real, fake)
    assert [ref().shape for ref in made] == [(4, 5), (6,)]
    grads = torch.autograd.grad(loss, (real, fake))
    assert [ref() is g for ref, g in zip(made, grads, strict=True)] == [True, True]
    del grads
    assert all(ref() is None for ref in made) and loss.requires_grad
    made.clear()
    loss = loss_of(real, fake)
    del loss
    gc.collect()
    assert len(made) == 2 and all(ref() is None for ref in made)
    made.clear()
    loss_of(real, fake, reduction="none")  # of single terms forward cannot know the gradient
    loss_of(real.detach(), fake.detach())
    without_ready_gradients(lambda: loss_of(real, fake))
    assert not made


def test_gradients_of_an_upstream_gradient_without_memory_or_negated():
    real, fake = (t.float().requires_grad_() for t in logits((9,)).values())
    expected = torch.autograd.grad(discriminator_loss(real=real, fake=fake, backend="cpu"), (real, fake))
    for upstream, factor in ((torch._efficientzerotensor(()), 0.0), (torch._neg_view(torch.ones(())), -1.0)):
        loss = discriminator_loss(real=real, fake=fake, backend="cpu")
        for a, b in zip(torch.autograd.grad(loss, (real, fake), upstream), expected, strict=True):
            assert_same(a, b * factor)


TRITON = [t for t in CPU_TARGETS if t.backend == "triton"]
needs_triton = pytest.mark.skipif(not TRITON, reason="Triton's interpreter is not at hand")
FEW = [  # a launch takes the interpreter long
    pytest.param(*case.values, dtype, id=f"{case.id}-{dtype_name(dtype)}")
    for case in cases()
    for dtype in DTYPES
    if (case.id in ("D-minimax-smoothed", "D-relativistic", "G-hinge") and dtype in (torch.float32, torch.bfloat16))
    or case.id == "D-nonsaturating"
    or (case.id == "D-relativistic_average" and dtype == torch.float32)
]


@needs_triton
@pytest.mark.parametrize(("player", "kind", "smoothing", "dtype"), FEW)
class TestTriton:
    """What is made on a GPU and what is not: of float16, of means and of layouts in which kernels do not work."""

    def test_gradients_are_those_of_backward_alone(self, player, kind, smoothing, dtype):
        gan_made.check_same_as_backward_alone("triton", "cpu", player, kind, smoothing, dtype, few=True)

    def test_of_an_upstream_gradient_of_one_nothing_is_moved(self, player, kind, smoothing, dtype):
        launcher = _dispatch.launcher("gan_loss", "gan_loss", "triton", torch.empty(0))
        gan_made.check_of_one_nothing_is_moved(launcher, "cpu", player, kind, smoothing, dtype)


@needs_triton
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
def test_triton_gradients_of_other_layouts(layout):
    real, fake = (LAYOUTS[layout](t.float()).requires_grad_() for t in logits((5, 7, 9)).values())
    results = [
        torch.autograd.grad(discriminator_loss(real=real, fake=fake, backend=backend), (real, fake))
        for backend in ("triton", "cpu")
    ]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
        assert a.stride() == b.stride()
