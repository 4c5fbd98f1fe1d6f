"""masked_linear: what is its own, beside what test_conformance_*.py tests of every op."""

import pytest
import torch
from support import FAST_TARGETS, Target, assert_same, instruction_set, isas, threads

import pygen
from pygen.functional import masked_linear
from pygen.reference.masked_linear import live_mask

pytestmark = pytest.mark.usefixtures("poisoned")
COMPOSITE = [Target("composite", device) for device in sorted({t.device for t in FAST_TARGETS})]
each_target = pytest.mark.parametrize("target", [*FAST_TARGETS, *COMPOSITE], ids=str)
NAN = float("nan")


def degrees(count: int, most: int, seed: int) -> tuple[int, ...]:
    """In no order, with repetitions."""
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(most + 1, (count,), generator=g).tolist())


def layer(ins: int, outs: int, most: int, rows: int = 9, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """Degrees, their mask, and x, w, b, grad."""
    given = {"in_degrees": degrees(ins, most, 3), "out_degrees": degrees(outs, most, 4)}
    shapes = ((rows, ins), (outs, ins), (outs,), (rows, outs))
    return given, [torch.randn(s).to(device, dtype) for s in shapes]


@each_target
@pytest.mark.parametrize("strict", (True, False))
def test_masked_linear_jacobian_is_exactly_zero_where_degrees_say_so(target, strict):
    given, (x, w, b, _) = layer(13, 21, 6, rows=1, device=target.device)
    mask = live_mask(given["in_degrees"], given["out_degrees"], strict, x.device)
    seen = torch.autograd.functional.jacobian(
        lambda t: masked_linear(t, w, b, **given, strict=strict, backend=target.backend)[0], x
    )
    assert torch.equal(seen[:, 0] != 0, mask)


@each_target
@pytest.mark.parametrize("strict", (True, False))
def test_masked_linear_ignores_dead_weights_and_unfed_inputs(target, strict):
    """NaN in a dead weight changes nothing, bit for bit; NaN in an input reaches what it feeds, alone."""
    given, (x, w, b, grad) = layer(37, 45, 8, device=target.device)
    mask = live_mask(given["in_degrees"], given["out_degrees"], strict, x.device)
    options = {**given, "strict": strict, "backend": target.backend}

    def everything(weight):
        leaves = [t.detach().clone().requires_grad_() for t in (x, weight, b)]
        out = masked_linear(*leaves, **options)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    clean = everything(w)
    for a, c in zip(everything(w.masked_fill(~mask, NAN)), clean, strict=True):
        assert_same(a, c)
    assert (clean[2][~mask] == 0).all() and (clean[2][mask] != 0).all()

    for i in (0, 5, 36):
        spoilt = x.clone()
        spoilt[:, i] = NAN
        out = masked_linear(spoilt, w, b, **options)
        assert torch.equal(out.isnan(), mask[:, i].expand_as(out))
        torch.testing.assert_close(out[:, ~mask[:, i]], clean[0][:, ~mask[:, i]], rtol=1e-5, atol=1e-5)
    for o in (0, 7, 44):
        spoilt = grad.clone()
        spoilt[:, o] = NAN
        leaf = x.clone().requires_grad_()
        (back,) = torch.autograd.grad(masked_linear(leaf, w, b, **options), leaf, spoilt)
        assert torch.equal(back.isnan(), mask[o].expand_as(back))


@pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
def test_masked_linear_small_products_are_not_lost_beside_a_large_bias(target):
    """Half an ulp of the bias each: a sum that starts from it rounds them away one by one."""
    x, w = torch.ones(3, 64, device=target.device), torch.ones(5, 64, device=target.device)
    b = torch.full((5,), 2.0**24, device=target.device)
    live = {"in_degrees": (0,) * 64, "out_degrees": (1,) * 5, "strict": True}
    assert (masked_linear(x, w, b, **live, backend=target.backend) == 2**24 + 64).all()


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_masked_linear_is_accurate_at_every_size_around_a_tile(isa, dtype):
    with instruction_set(isa):
        for rows, ins, outs in (
            (1, 1, 33),
            (5, 6, 15),
            (6, 7, 16),
            (7, 12, 17),
            (13, 259, 31),
            (400, 5, 3),
            (7, 20, 96),
        ):
            # Also one by one without a tie, packed by the register from either end; and in cycles, written by quads.
            for most in (1, 5, ins, "rising", "falling", "cycles of 48", "cycles of 24"):
                given, (x, w, b, grad) = layer(ins, outs, ins if isinstance(most, str) else most, rows, dtype)
                if isinstance(most, str):
                    cycle = int(most.split()[-1]) if "cycles" in most else max(ins, outs)
                    step = -1 if most == "falling" else 1
                    given = {k: tuple(i % cycle for i in range(len(d)))[::step] for k, d in given.items()}
                for strict in (True, False):
                    mask = live_mask(given["in_degrees"], given["out_degrees"], strict, x.device)
                    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
                    out = masked_linear(*leaves, **given, strict=strict, backend="cpu")
                    wide = [t.double().requires_grad_() for t in (x, w, b)]
                    truth = torch.nn.functional.linear(wide[0], wide[1] * mask, wide[2])
                    got = (out, *torch.autograd.grad(out, leaves, grad))
                    for a, t in zip(got, (truth, *torch.autograd.grad(truth, wide, grad.double())), strict=True):
                        scale = 8 * torch.finfo(dtype).eps * max(rows, ins, outs) ** 0.5
                        torch.testing.assert_close(a.double(), t, rtol=scale, atol=8 * scale)


def test_masked_linear_results_do_not_depend_on_threads():
    given, (x, w, b, grad) = layer(300, 200, 50, rows=500)
    seen = []
    for count in (1, 2, 3):
        with threads(count):
            leaves = [t.clone().requires_grad_() for t in (x, w, b)]
            out = masked_linear(*leaves, **given, strict=False, backend="cpu")
            seen.append([out.detach(), *torch.autograd.grad(out, leaves, grad)])
    for other in seen[1:]:
        for a, b in zip(other, seen[0], strict=True):
            assert_same(a, b)


@each_target
def test_masked_linear_keeps_no_stale_weight(target):
    """A weight changed in place between two calls, as optimisers do."""
    given, (x, w, b, _) = layer(20, 30, 4, device=target.device)
    masked_linear(x, w, b, **given, strict=False, backend=target.backend)
    w.mul_(-2)
    mask = live_mask(given["in_degrees"], given["out_degrees"], False, x.device)
    out = masked_linear(x, w, b, **given, strict=False, backend=target.backend)
    torch.testing.assert_close(out, torch.nn.functional.linear(x, w * mask, b), rtol=1e-5, atol=1e-5)


@each_target
def test_masked_linear_training_never_sees_dead_weights(target):
    """200 steps of AdamW with weight decay: what dead entries hold at the start, NaN too, changes no output."""
    runs = []
    for spoil in (0.0, 7.0, NAN):
        torch.manual_seed(2)
        net = pygen.nn.MaskedLinear(degrees(6, 3, 1), degrees(8, 3, 2), strict=False, backend=target.backend)
        net.to(target.device)
        dead = ~live_mask(net.in_degrees, net.out_degrees, False, torch.device(target.device))
        with torch.no_grad():
            net.weight[dead] = spoil
        optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=0.1)
        x, wanted = (torch.randn(16, size).to(target.device) for size in (6, 8))
        for _ in range(200):
            optimizer.zero_grad()
            (net(x) - wanted).square().mean().backward()
            assert (net.weight.grad[dead] == 0).all()
            optimizer.step()
        runs.append(net(x).detach())
    assert_same(runs[1], runs[0])
    assert_same(runs[2], runs[0])


def test_masked_linear_explains_its_backend():
    given, (x, w, b, _) = layer(4, 5, 2)
    choice = pygen.explain("masked_linear", x, w, b)
    assert choice.backend == ("cpu" if pygen.backends()["cpu"] is None else "composite")
    assert "composite" in choice.rejected or choice.backend == "composite"
    with pytest.raises(RuntimeError, match="backend 'cuda' cannot run"):
        masked_linear(x, w, b, **given, strict=True, backend="cuda")
