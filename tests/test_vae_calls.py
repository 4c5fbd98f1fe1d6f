"""How pygen.models.VAE is called: noise, dtypes, copies, compilation, refusals."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from vae_twins import Z, levels, twins

from pygen.models import VAE

# Noise


def test_vae_noise_follows_seed_generator_and_manual_seed() -> None:
    _, model = twins((1, 4, 4))
    x = levels(5, (1, 4, 4))
    for call in (model.loss, model.elbo, lambda *a, **k: model.log_prob(x, num_samples=3, **k)):
        assert torch.equal(call(x, seed=7), call(x, seed=7))
        assert not torch.equal(call(x, seed=7), call(x, seed=8))
        first, second = (call(x, generator=torch.Generator().manual_seed(9)) for _ in range(2))
        assert torch.equal(first, second)
        torch.manual_seed(2)
        first, third = call(x), call(x)
        torch.manual_seed(2)
        assert torch.equal(call(x), first)
        assert not torch.equal(first, third)


def test_vae_sample_repeats_and_keeps_its_promises() -> None:
    _, model = twins((2, 3, 5), torch.float32)
    a = model.sample(6, seed=1)
    assert a.shape == (6, 2, 3, 5) and a.dtype == torch.uint8 and not a.requires_grad
    assert set(a.unique().tolist()) <= {0, 1}
    assert torch.equal(a, model.sample(6, seed=1)) and not torch.equal(a, model.sample(6, seed=2))
    assert torch.equal(a, model.sample(6, seed=torch.tensor(1)))
    assert torch.equal(a, model.sample(6, generator=torch.Generator().manual_seed(1)))
    state = torch.get_rng_state()
    model.sample(6, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(4)
    b = model.sample(6)
    torch.manual_seed(4)
    assert torch.equal(b, model.sample(6))
    assert model.sample(0).shape == (0, 2, 3, 5)
    assert not model.reconstruct(a).requires_grad and model.log_prob(a, num_samples=2).requires_grad
    torch.testing.assert_close(model.sample(20_000, seed=0).double().mean(0), mean_image(model), rtol=0, atol=0.02)


def mean_image(model: VAE) -> Tensor:
    z = torch.randn(100_000, Z, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.sigmoid(model.decode(z)).double().mean(0)


# Dtypes, copies, other ways to call it


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_vae_in_half_precision_gives_float32_likelihoods_near_the_truth(dtype: torch.dtype) -> None:
    _, wide = twins((1, 8, 8), hidden=16)
    _, model = twins((1, 8, 8), dtype, hidden=16)
    x = levels(9, (1, 8, 8))
    for half, truth in (
        (model.loss(x, seed=0), wide.loss(x, seed=0)),
        (model.elbo(x, seed=0), wide.elbo(x, seed=0)),
        (model.log_prob(x, num_samples=4, seed=0), wide.log_prob(x, num_samples=4, seed=0)),
    ):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half.double(), truth, rtol=5e-3, atol=0.3)
    assert model.sample(3).dtype == torch.uint8


def test_vae_under_autocast_gives_float32_loss_and_gradients() -> None:
    _, model = twins((1, 8, 8), torch.float32, conv=True)
    x = levels(9, (1, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x, seed=0)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(x, seed=0), rtol=1e-2, atol=0)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_vae_survives_deepcopy_and_pickle() -> None:
    _, model = twins((1, 8, 8), conv=True)
    x = levels(3, (1, 8, 8))
    model.loss(x).backward()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.loss(x, seed=1), model.loss(x, seed=1))


def test_vae_takes_int64_and_strided_and_empty_levels() -> None:
    _, model = twins((1, 4, 6))
    x = levels(5, (1, 4, 6))
    expected = model.loss(x, seed=0)
    assert torch.equal(model.loss(x.long(), seed=0), expected)
    assert torch.equal(model.loss(x.transpose(2, 3).contiguous().transpose(2, 3), seed=0), expected)
    assert torch.equal(model.loss(x.to(memory_format=torch.channels_last), seed=0), expected)
    assert model.elbo(x[:0]).shape == (0,) and model.log_prob(x[:0], num_samples=3).shape == (0,)
    assert model.reconstruct(x[:0]).shape == (0, 1, 4, 6)


def test_vae_loss_compiles_to_one_graph() -> None:
    _, model = twins((1, 4, 4), hidden=8)
    x = levels(5, (1, 4, 4))
    compiled = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
    loss = compiled(x, seed=3)
    torch.testing.assert_close(loss, model.loss(x, seed=3))
    got = torch.autograd.grad(loss, list(model.parameters()))
    expected = torch.autograd.grad(model.loss(x, seed=3), list(model.parameters()))
    torch.testing.assert_close(got, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_vae_on_a_gpu_equals_its_twin_and_marks_wrong_levels() -> None:
    plain, ours = (model.cuda() for model in twins((1, 8, 8)))
    x, eps = levels(6, (1, 8, 8)).cuda(), torch.randn(6, Z, dtype=torch.float64, device="cuda")
    torch.testing.assert_close(ours.loss(x, eps=eps), plain.loss(x, eps=eps), rtol=1e-12, atol=1e-12)
    assert ours.sample(3, seed=1).is_cuda
    x[2, 0, 0, 0] = 2  # looking at the values would wait for the device: the loss says it
    assert ours.loss(x).isnan()
    assert ours.elbo(x).isnan().tolist() == [False, False, True, False, False, False]


# Refusals

_X = levels(2, (1, 4, 4))
REFUSED = {
    "shape-of-two": (ValueError, "input_shape: .*got \\(4, 4\\)", lambda m: VAE((4, 4), 2)),
    "zero-side": (ValueError, "input_shape: .*got 0", lambda m: VAE((1, 0, 4), 2)),
    "float-latents": (TypeError, "latent_dim: .*got 2.5", lambda m: VAE((1, 4, 4), 2.5)),
    "bool-latents": (TypeError, "latent_dim: .*got True", lambda m: VAE((1, 4, 4), True)),
    "zero-latents": (ValueError, "latent_dim: .*got 0", lambda m: VAE((1, 4, 4), 0)),
    "no-hidden": (ValueError, "hidden: .*got none", lambda m: VAE((1, 4, 4), 2, hidden=())),
    "zero-hidden": (ValueError, "hidden: .*got 0", lambda m: VAE((1, 4, 4), 2, hidden=(4, 0))),
    "negative-beta": (ValueError, "beta: .*got -1", lambda m: VAE((1, 4, 4), 2, beta=-1)),
    "nan-beta": (ValueError, "beta: .*got nan", lambda m: VAE((1, 4, 4), 2, beta=math.nan)),
    "word-beta": (ValueError, "beta: .*got 'a'", lambda m: VAE((1, 4, 4), 2, beta="a")),
    "word-conv": (TypeError, "conv: expected True or False, got 'no'", lambda m: VAE((1, 4, 4), 2, conv="no")),
    "float-x": (TypeError, "x: .*got torch.float32", lambda m: m.loss(_X.float())),
    "bool-x": (TypeError, "x: .*got torch.bool", lambda m: m.loss(_X.bool())),
    "list-x": (TypeError, "x: .*got list", lambda m: m.loss([0, 1])),
    "wrong-size": (ValueError, "x: .*\\[N, 1, 4, 4\\], got \\[2, 1, 4, 3\\]", lambda m: m.log_prob(_X[..., :3])),
    "no-channel": (ValueError, "x: .*got \\[2, 4, 4\\]", lambda m: m.elbo(_X[:, 0])),
    "grey-levels": (ValueError, "x: .*0 .. 1, got 0 .. 16", lambda m: m.reconstruct(_X * 16)),
    "negative-levels": (ValueError, "x: .*0 .. 1, got -1 .. 0", lambda m: m.encode(-_X.long())),
    "cond": (TypeError, "cond: .*got Tensor", lambda m: m.loss(_X, torch.zeros(2))),
    "cond-log-prob": (TypeError, "cond: .*got int", lambda m: m.log_prob(_X, 3)),
    "no-samples": (ValueError, "num_samples: .*got 0", lambda m: m.log_prob(_X, num_samples=0)),
    "wide-z": (ValueError, "z: .*got \\[2, 4\\]", lambda m: m.decode(torch.zeros(2, 4))),
    "negative-n": (ValueError, "n: .*got -1", lambda m: m.sample(-1)),
    "float-n": (TypeError, "n: .*got 2.0", lambda m: m.sample(2.0)),
    "two-noises": (ValueError, "generator: .*at most one", lambda m: m.sample(2, seed=1, generator=torch.Generator())),
    "two-noises-loss": (ValueError, "at most one", lambda m: m.loss(_X, seed=1, generator=torch.Generator())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_vae_refuses(name: str) -> None:
    kind, message, call = REFUSED[name]
    model = VAE((1, 4, 4), Z)
    before = torch.get_rng_state()
    with pytest.raises(kind, match=message):
        call(model)
    assert torch.equal(before, torch.get_rng_state())
    model.loss(_X)


def test_vae_takes_numpy_ints() -> None:
    assert VAE(tuple(np.array([1, 4, 4])), np.int64(2), hidden=np.int32(8)).latent_dim == 2
