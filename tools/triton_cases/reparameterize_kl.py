"""reparameterize_kl: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import _blocks, reparameterize_kl
from torch import Tensor

from ._common import DTYPES, Cases


def launch(mu: Tensor, *, prior=False, eps=False, samples=None, free_bits=0.0, reduction="none", sample=True):
    given = torch.zeros_like(mu) if eps else None
    seed = torch.tensor(1) if sample and not eps else None
    prior_tensor = torch.zeros_like(mu) if prior else None
    inputs = (mu, torch.zeros_like(mu), prior_tensor, prior_tensor)
    z, kl = reparameterize_kl.forward(*inputs, given, seed, samples, free_bits, reduction, sample)
    needs = (True, True, prior, prior)
    reparameterize_kl.backward(z, kl, *inputs, given, seed, samples, free_bits, reduction, needs)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        for quads in _blocks.QUADS:
            yield f"{name} {quads} quads", lambda d=dtype, q=quads: launch(torch.zeros(8, 4 * q, dtype=d))
        yield f"{name} prior", lambda d=dtype: launch(torch.zeros(8, 1024, dtype=d), prior=True)
        yield (
            f"{name} strided",
            lambda d=dtype: launch(torch.zeros(4, 16, 16, 8, dtype=d).permute(0, 3, 1, 2)),
        )
    mu = torch.zeros(8, 1024)
    yield "total", lambda: launch(mu, reduction="batchmean")
    yield "eps", lambda: launch(mu, eps=True)
    yield "samples", lambda: launch(mu, samples=4)
    yield "KL only", lambda: launch(mu, sample=False)
    yield "free bits, prior", lambda: launch(mu, free_bits=0.1, prior=True)
    yield "rows inside quads", lambda: launch(torch.zeros(8, 1023))
    yield "many blocks a row", lambda: launch(torch.zeros(1, 1 << 16))
