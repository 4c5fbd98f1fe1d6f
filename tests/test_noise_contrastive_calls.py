"""The ways into the noise-contrastive losses: those that draw, compiled, of any batch; those without gradients."""

import pytest
import torch
from registry import on_floating
from rows.noise_contrastive import LOSSES, call, tensors
from support import assert_same

from pygen import nn as pnn
from pygen.functional import noise_table
from pygen.ops import _noise_contrastive_autograd

TABLE = noise_table(torch.arange(1.0, 12))
MODULES = {"nce": pnn.NCELoss, "negative_sampling": pnn.NegativeSamplingLoss, "sampled_softmax": pnn.SampledSoftmaxLoss}


def leaves() -> dict[str, torch.Tensor]:
    t = on_floating(lambda v: v.float().requires_grad_(), tensors(7, 5, 11, 1))
    return {k: t[k] for k in ("input", "weight", "bias", "target")}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_that_draw_compile_whole(kind):
    t = leaves()
    inputs = [t["input"], t["weight"], t["bias"]]

    def both(seed):
        options = {"noise": TABLE, "num_negatives": 4, "shared": kind == "nce"}
        return LOSSES[kind](**t, **options, seed=seed), LOSSES[kind](**t, **options)

    compiled, seed = torch.compile(both, backend="aot_eager", fullgraph=True), torch.tensor(3)
    torch.manual_seed(5)
    got = compiled(seed)
    torch.manual_seed(5)
    expected = both(seed)
    for a, b in zip(got, expected, strict=True):
        assert_same(a.detach(), b.detach())
    grads = [torch.autograd.grad(losses[0] + losses[1], inputs) for losses in (got, expected)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)  # sums of two in another order


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSSES)
def test_modules_compile_for_any_batch(kind):
    module = MODULES[kind](11, 5, torch.arange(1.0, 12), num_negatives=3, reduction="none")
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    t = leaves()
    for n in (7, 5, 2, 1):
        torch.manual_seed(n)
        got = compiled(t["input"][:n], t["target"][:n])
        torch.manual_seed(n)
        assert_same(got.detach(), module(t["input"][:n], t["target"][:n]).detach())


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(
    "n, features, count, dtype", ((1, 3, 1, torch.float64), (37, 19, 5, torch.float32), (18, 40, 70, torch.bfloat16))
)
def test_calls_without_gradients_give_the_same_bits(monkeypatch, kind, n, features, count, dtype):
    """By a way of their own, of whole vectors of samples and of parts of them; drawn or given, of a table or its logarithms."""
    t = on_floating(lambda v: v.to(dtype).requires_grad_(), tensors(n, features, 50, count))
    t["noise"] = noise_table(torch.arange(1.0, 51))
    plain = {k: v.detach() for k, v in t.items()}
    log_q = plain["noise"][:, 2].view(torch.float64)
    laws = ({},) if kind == "negative_sampling" else ({}, {"noise": log_q.clone()}, {"noise": log_q})
    expected = [call(t, {"kind": kind, "reduction": r}, None)[0].detach() for r in ("none", "sum", "batchmean")]
    wide = on_floating(torch.Tensor.double, plain)
    exact = call(wide, {"kind": kind, "reduction": "none"}, "reference")[0]
    torch.testing.assert_close(expected[0].double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected[1].double(), exact.sum(), rtol=1e-5, atol=1e-5)
    long, seen = _noise_contrastive_autograd._forward, []
    monkeypatch.setattr(_noise_contrastive_autograd, "_forward", lambda *args: seen.append(args) or long(*args))
    for law in laws:
        for reduction, loss in zip(("none", "sum", "batchmean"), expected, strict=True):
            assert_same(call(plain | law, {"kind": kind, "reduction": reduction}, None)[0], loss)
    assert len(seen) == (3 if len(laws) == 3 else 0)  # the last law is not contiguous
    assert_same(
        call(plain | {"weight": -plain["weight"]}, {"kind": kind}, None)[0],
        call(plain | {"weight": torch._neg_view(plain["weight"])}, {"kind": kind}, None)[0],
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_a_class_that_is_none_is_refused_without_gradients(kind):
    for name in ("target", "negatives"):
        for wrong in (-1, 5, 2**40, -(2**62)):
            t = tensors(40, 3, 5, 2)
            t[name].view(-1)[39] = wrong
            with pytest.raises(ValueError, match=rf": {name}: expected classes 0 .. 4, got"):
                call(t, {"kind": kind}, None)


@pytest.mark.parametrize("kind", ["nce", "sampled_softmax"])
def test_probabilities_in_place_of_their_logarithms_are_refused_in_training(kind):
    t, negatives = leaves(), torch.tensor([1, 2])
    for dtype in (torch.float64, torch.float32):
        q = torch.arange(1.0, 12, dtype=dtype).softmax(0)
        with pytest.raises(ValueError, match=r"noise: expected log q, got probabilities \(q.log\(\)\)"):
            LOSSES[kind](**t, negatives=negatives, noise=q)
        for log_q in (q.log(), torch.zeros_like(q), 5 + q.log(), torch.arange(1.0, 12, dtype=dtype).log()):
            assert LOSSES[kind](**t, negatives=negatives, noise=log_q).isfinite()
