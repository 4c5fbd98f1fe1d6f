"""Calls of the Triton launchers that together compile every kernel in every configuration. cuda_check.py makes them."""

from collections.abc import Callable, Iterator

import torch
from pygen.kernels import _blocks, reparameterize_kl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _reparameterize_kl(
    mu: Tensor, *, prior=False, eps=False, samples=None, free_bits=0.0, reduction="none", sample=True
):
    given = torch.zeros_like(mu) if eps else None
    seed = torch.tensor(1) if sample and not eps else None
    prior_tensor = torch.zeros_like(mu) if prior else None
    inputs = (mu, torch.zeros_like(mu), prior_tensor, prior_tensor)
    z, kl = reparameterize_kl.forward(*inputs, given, seed, samples, free_bits, reduction, sample)
    needs = (True, True, prior, prior)
    reparameterize_kl.backward(z, kl, *inputs, given, seed, samples, free_bits, reduction, needs)


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """Pairs of a name and a call."""
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        for quads in _blocks.QUADS:
            yield f"{name} {quads} quads", lambda d=dtype, q=quads: _reparameterize_kl(torch.zeros(8, 4 * q, dtype=d))
        yield f"{name} prior", lambda d=dtype: _reparameterize_kl(torch.zeros(8, 1024, dtype=d), prior=True)
        yield (
            f"{name} strided",
            lambda d=dtype: _reparameterize_kl(torch.zeros(4, 16, 16, 8, dtype=d).permute(0, 3, 1, 2)),
        )
    mu = torch.zeros(8, 1024)
    yield "total", lambda: _reparameterize_kl(mu, reduction="batchmean")
    yield "eps", lambda: _reparameterize_kl(mu, eps=True)
    yield "samples", lambda: _reparameterize_kl(mu, samples=4)
    yield "KL only", lambda: _reparameterize_kl(mu, sample=False)
    yield "free bits, prior", lambda: _reparameterize_kl(mu, free_bits=0.1, prior=True)
    yield "rows inside quads", lambda: _reparameterize_kl(torch.zeros(8, 1023))
    yield "many blocks a row", lambda: _reparameterize_kl(torch.zeros(1, 1 << 16))
