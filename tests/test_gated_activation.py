"""gated_activation: what is its own, beside what test_conformance_*.py tests of every op."""

import layouts
import pytest
import torch
from support import FAST_TARGETS, assert_same, instruction_set, isas, threads, ulps

from pygen.functional import gated_activation

pytestmark = pytest.mark.usefixtures("poisoned")
INF, NAN = float("inf"), float("nan")


def digits_lost(isa: str) -> int:
    """Without fused multiply-adds exp(-|b|) loses digits as |b| grows."""
    return 10 if isa == "baseline" else 1


def sweep() -> torch.Tensor:
    """float32 over the whole range, dense around 0."""
    magnitudes = torch.cat((torch.logspace(-30, 1.9, 4000), torch.linspace(0.001, 12, 6000)))
    return torch.cat((magnitudes, -magnitudes))


def pairs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.stack((a, b), dim=1)  # [N, 2]


@pytest.mark.parametrize("isa", isas())
def test_gated_activation_is_within_6_ulp_of_the_truth(isa):
    """Near 0, where tanh is its argument, and in the tails of the logistic function, where it is an exponential."""
    x = sweep()
    with instruction_set(isa):
        for a, b in (
            (x, torch.full_like(x, 0.7)),
            (torch.full_like(x, -0.3), x.clamp(-80, 80)),
            (x, x.flip(0).clamp(-80, 80)),
        ):
            out = gated_activation(pairs(a, b), backend="cpu")[:, 0]
            truth = torch.tanh(a.double()) * torch.sigmoid(b.double())
            normal = truth.abs() > 1e-37
            assert ulps(out, truth)[normal].max() < 6 * digits_lost(isa)


@pytest.mark.parametrize("isa", isas())
def test_gated_activation_slopes_keep_their_digits_in_the_tails(isa):
    """1 - tanh^2 is exp(-2|a|) there, which a subtraction from 1 would lose."""
    a, b = torch.linspace(-30, 30, 4001), torch.linspace(40, -40, 4001)
    with instruction_set(isa):
        x = pairs(a, b).requires_grad_()
        (grad,) = torch.autograd.grad(gated_activation(x, backend="cpu").sum(), x)
    a, b = a.double(), b.double()
    slope = torch.cosh(a) ** -2 * torch.sigmoid(b), torch.tanh(a) * torch.sigmoid(b) * torch.sigmoid(-b)
    for got, truth in zip(grad.unbind(1), slope, strict=True):
        assert ((got.double() - truth).abs() <= 1e-6 * digits_lost(isa) * truth.abs() + 1e-37).all()


@pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64))
def test_gated_activation_at_infinity_and_nan(target, dtype):
    x = torch.tensor(
        [[INF, 1.0], [-INF, -INF], [INF, INF], [1.0, -INF], [0.0, INF], [NAN, 1.0], [1.0, NAN]],
        dtype=dtype,
        device=target.device,
    )
    wide = torch.float64
    x.requires_grad_()
    out = gated_activation(x, backend=target.backend)
    truth = (torch.tanh(x[:, :1].to(wide)) * torch.sigmoid(x[:, 1:].to(wide))).to(dtype)
    torch.testing.assert_close(out, truth, equal_nan=True)
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert grad[:5].isfinite().all() and grad[5:].isnan().any(1).all()
    assert (grad[1] == 0).all() and (grad[2] == 0).all()


@pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
def test_gated_activation_halves_inside_each_group(target):
    """Across the groups' borders R would see G: the Jacobian between different groups is exactly zero."""
    x = torch.randn(1, 12, 1, 1, device=target.device, requires_grad=True)
    for o in range(6):
        (grad,) = torch.autograd.grad(gated_activation(x, color_groups=3, backend=target.backend)[0, o, 0, 0], x)
        group = o // 2
        live = torch.zeros(12, dtype=torch.bool)
        live[group * 4 + o % 2] = live[group * 4 + 2 + o % 2] = True
        assert torch.equal(grad[0, :, 0, 0].cpu() != 0, live)


@pytest.mark.parametrize("maker", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_gated_activation_cond_sums_over_pixels_at_any_thread_count(maker):
    """[N, C] against the same cond spread over the pixels and summed, in images beyond a block, channels first and last."""
    for shape, groups in (((2, 12, 41, 37), 3), ((1, 66, 9, 31), 1), ((5, 4, 1, 2300), 2)):
        plain = torch.randn(shape)
        cond = torch.randn(shape[:2])
        grad = torch.randn(shape[0], shape[1] // 2, *shape[2:])
        seen = []
        for count in (1, 2, 3):
            with threads(count):
                c = cond.clone().requires_grad_()
                out = gated_activation(maker(plain), c, color_groups=groups, backend="cpu")
                seen.append(torch.autograd.grad(out, c, grad)[0])
        for other in seen[1:]:
            assert_same(other, seen[0])
        spread = cond.double()[:, :, None, None].expand(shape).clone().requires_grad_()
        (full,) = torch.autograd.grad(
            gated_activation(maker(plain).double(), spread, color_groups=groups, backend="reference"),
            spread,
            grad.double(),
        )
        torch.testing.assert_close(seen[0].double(), full.sum((2, 3)), rtol=2e-6, atol=2e-5)


def test_gated_activation_full_cond_has_the_gradient_of_the_input():
    for maker in layouts.MAKERS[:6]:
        x, cond = (maker(torch.randn(2, 8, 6, 5)).requires_grad_() for _ in range(2))
        out = gated_activation(x, cond, backend="cpu")
        grads = torch.autograd.grad(out, (x, cond), torch.randn_like(out))
        assert torch.equal(*grads) and grads[0].data_ptr() != grads[1].data_ptr()
