"""The ways into the noise-contrastive losses that draw: compiled, of any batch."""

import pytest
import torch
from registry import on_floating
from rows.noise_contrastive import LOSSES, tensors
from support import assert_same

from pygen import nn as pnn
from pygen.functional import noise_table

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
