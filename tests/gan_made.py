"""What a GPU's forward makes of the GAN losses' gradients, and what backward then does: the claims for either backend."""

import torch
from rows.gan_loss import logits
from support import assert_same
from test_gan_loss import loss_of

from pygen._gan_terms import terms


def sides(dtype: torch.dtype, device: str, shape=(5, 7, 73), fake_shape=None):
    return [t.to(device, dtype).requires_grad_() for t in logits(shape, fake_shape).values()]


def by_backward_alone(make_loss):
    """Under hooks forward leaves the gradients to backward's kernel."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        return make_loss()


def check_same_as_backward_alone(backend, device, player, kind, smoothing, dtype, *, few=False):
    """Loss and gradients bit for bit, the signs of zeros too; handed out once, so whoever got them may change them."""
    real, fake = sides(dtype, device, fake_shape=(5, 7, 73) if kind == "relativistic" else (2, 11, 3))
    for members in (False,) if few else (False, True):

        def loss(members=members, real=real, fake=fake):
            r, f = ([real, fake], [fake, real]) if members and kind != "relativistic" else (real, fake)
            return loss_of(player, kind, smoothing, r, f, scale=0.75, backend=backend)

        for upstream in (1.0, -0.3) if few else (1.0, -0.3, 0.0, torch.nan):
            weight = torch.full((), upstream, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
            weight = weight.to(device)

            def gradients(of, weight=weight):
                return torch.autograd.grad(of, (real, fake), weight, allow_unused=True, retain_graph=True)

            alone, ours = by_backward_alone(loss), loss()
            assert_same(ours, alone, what="loss")
            expected, first = gradients(alone), gradients(ours)
            for attempt in (first, gradients(ours)):
                for a, b in zip(attempt, expected, strict=True):
                    assert_same(a, b, what=f"gradient for {upstream}")
                    assert a is None or (torch.signbit(a) == torch.signbit(b))[a == 0].all()
                    if attempt is first and a is not None:
                        a.fill_(3.0)


def check_of_one_nothing_is_moved(launcher, device, player, kind, smoothing, dtype):
    """Backward leaves what forward made where the upstream gradient is 1, and else writes all of it anew."""
    other = terms(kind, player, smoothing).other
    real, fake = ([t.detach()] for t in sides(dtype, device))
    if player == "generator" and other == "none":
        real = []
    options = (kind, player, smoothing, 0.75, "mean")
    for needs in {(True,) * (len(real) + len(fake)), *([(True, False), (False, True)] if real else [])}:
        outputs, made = launcher.forward_with_gradients(real, fake, *options, False, needs)
        if other == "mean" or dtype == torch.float16:
            assert made is None
            continue
        assert [g is not None for g in made] == list(needs)
        for upstream in (1.0, 2.0):
            weight = torch.full_like(outputs[0], upstream)
            expected = launcher.backward((weight,), real, fake, None, *options, needs)
            for g in made:
                if g is not None:
                    g.fill_(7.0)
            got = launcher.backward((weight,), real, fake, None, *options, needs, made)
            for a, b, g in zip(got, expected, made, strict=True):
                assert a is g
                if a is not None:
                    assert_same(a, torch.full_like(a, 7.0) if upstream == 1.0 else b)
