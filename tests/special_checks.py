"""What kernels that take a GPU's special units must still be: rounded to 16 bits as if they had been exact, nearly."""

import math

import torch
from registry import OPS

from pygen.functional import gated_activation, generator_loss, reparameterize_kl
from pygen.reference.noise import uniform, words


def step(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Between neighbours of `dtype` where x lies, in float64."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(x.abs().clamp(min=info.tiny))
    return torch.exp2(exponent.double() - 1) * info.eps


def sweep(dtype: torch.dtype) -> torch.Tensor:
    """Of both signs, from numbers that are their own tanh to numbers whose tanh is 1."""
    magnitudes = torch.cat((torch.logspace(-4, 1.1, 3000), torch.linspace(0.004, 0.02, 1000)))
    return torch.cat((magnitudes, -magnitudes)).to(dtype)


def check_gate(dtype: torch.dtype, backend: str, device: str) -> None:
    """Values and both slopes, but for a twentieth of a step."""
    a = sweep(dtype)
    for b in (torch.full_like(a, 0.3), a.flip(0), torch.full_like(a, -7.0)):
        x = torch.stack((a, b), dim=1)
        there = x.to(device).requires_grad_()
        out = gated_activation(there, backend=backend)
        (grad,) = torch.autograd.grad(out, there, torch.ones_like(out))
        tanh, sigmoid, other = torch.tanh(a.double()), torch.sigmoid(b.double()), torch.sigmoid(-b.double())
        slopes = torch.stack((sigmoid / torch.cosh(a.double()) ** 2, tanh * sigmoid * other), dim=1)
        for got, exact in ((out, (tanh * sigmoid)[:, None]), (grad, slopes)):
            assert ((got.detach().cpu().double() - exact).abs() <= 0.55 * step(exact, dtype)).all()


def check_gate_of_float32(backend: str, device: str) -> None:
    """Values and both slopes keep their digits near 0 and in the tails, which the special units alone would lose."""
    a = sweep(torch.float32)
    x = torch.stack((a, a.flip(0)), dim=1)
    there = x.to(device).requires_grad_()
    out = gated_activation(there, backend=backend)
    (grad,) = torch.autograd.grad(out, there, torch.ones_like(out))
    a, b = x.double().unbind(1)
    tanh, sigmoid, other = torch.tanh(a), torch.sigmoid(b), torch.sigmoid(-b)
    slopes = torch.stack((sigmoid / torch.cosh(a) ** 2, tanh * sigmoid * other), dim=1)
    for got, exact in ((out, (tanh * sigmoid)[:, None]), (grad, slopes)):
        assert ((got.detach().cpu().double() - exact).abs() <= 1e-6 * exact.abs()).all()


def check_losses_of_confident_logits(backend: str, device: str) -> None:
    """Terms and slopes of the GAN losses keep their digits where both are next to nothing, as far as floats are normal.

    Not in Triton's interpreter, which rounds a product before it adds (a GPU does not): 34 eps for logits of 72.
    """
    logits = torch.linspace(0.01, 86, 5000)
    there = logits.to(device).requires_grad_()
    terms = generator_loss(fake=there, reduction="none", backend=backend)
    (grad,) = torch.autograd.grad(terms, there, torch.ones_like(terms))
    e = torch.exp(-logits.double())
    for got, exact in ((terms, torch.log1p(e)), (grad, -e / (1 + e))):
        assert ((got.detach().cpu().double() - exact).abs() <= 8 * torch.finfo(torch.float32).eps * exact.abs()).all()


# Whose first normals have a radius of nearly nothing, as u is 1 but for so many times 2^-24.
CLOSE_TO_ONE = {1369702: 0, 5486628: 1, 2691448: 2}


def check_gaussian(dtype: torch.dtype, backend: str, device: str) -> None:
    """Deviations and the KL of log-variances around 0, where it cancels, and of those whose deviation no float holds."""
    logvar = sweep(dtype)
    logvar = torch.cat((logvar[logvar.abs() < 5], torch.tensor((-1e4, -200.0, -180.0), dtype=dtype)))[:, None]
    z, kl = _gaussian(logvar, backend, device)
    x = logvar.double()[:, 0]
    series = sum(x**k / math.factorial(k) for k in range(2, 14))
    exact = torch.where(x.abs() < 0.3, series, torch.expm1(x) - x) / 2
    narrow = dtype.itemsize == 2
    assert ((kl - exact).abs() <= (24 if narrow else 12) * torch.finfo(torch.float32).eps * exact).all()
    std = torch.exp(x / 2)
    allowed = 0.55 * step(std, dtype) if narrow else 2 * torch.finfo(dtype).eps * std
    assert ((z[:, 0] - std).abs() <= allowed + 2.0**-125).all()  # below which it may be 0
    z, kl = _gaussian(torch.tensor((178.0, 200.0, 300.0, 1e4, torch.inf), dtype=dtype)[:, None], backend, device)
    assert (z == torch.inf).all() and (kl == torch.inf).all()


def _gaussian(logvar: torch.Tensor, backend: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(logvar / 2) and the KL of means of 0, in float64."""
    there = logvar.to(device)
    z, kl = reparameterize_kl(
        torch.zeros_like(there), there, eps=torch.ones_like(there), reduction="none", backend=backend
    )
    return z.double().cpu(), kl.double().cpu()


def check_noise(dtype: torch.dtype, backend: str, device: str) -> None:
    """But for 6e-6, and more where both normals of a pair are nearly 0, which is where log(u) has lost its digits."""
    op = next(op for op in OPS if op.name == "reparameterize_kl")
    assert op.noise is not None
    for seed, shape in ((7, (64, 512)), *((seed, (1, 8)) for seed in CLOSE_TO_ONE)):
        zeros = torch.zeros(shape, dtype=dtype)
        exact = op.noise({"mu": zeros.double(), "logvar": zeros.double()}, {"seed": seed}).reshape(shape)
        z, _ = reparameterize_kl(zeros.to(device), zeros.to(device), seed=seed, backend=backend)
        radius = exact.view(*shape[:-1], -1, 2).norm(dim=-1).repeat_interleave(2, dim=-1)
        allowed = 0.5 * step(exact, dtype) + 6e-6 + 4e-7 / radius.clamp(min=6e-4)
        assert ((z.cpu().double() - exact).abs() <= allowed).all()
        if seed in CLOSE_TO_ONE:
            u = uniform(words(8, torch.tensor(seed), 1, 0))[..., ::2]
            assert (1 - u.max()) * 2**24 == CLOSE_TO_ONE[seed]
        else:
            assert radius.min() < 0.02
