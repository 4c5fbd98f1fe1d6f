"""What CUDA C++ takes from a GPU's special units where results are rounded to 16 bits. On the host these err as much as the PTX
manual allows (csrc/common/special.h), so the bounds hold on a GPU too."""

import host_cuda
import pytest
import torch
from registry import OPS
from support import dtype_name

from pygen.functional import gated_activation, reparameterize_kl

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
narrow = pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=dtype_name)


def step(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Between neighbours of `dtype` where x lies, in float64."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(x.abs().clamp(min=info.tiny))
    return torch.exp2(exponent.double() - 1) * info.eps


def sweep(dtype: torch.dtype) -> torch.Tensor:
    """Of both signs, from numbers that are their own tanh to numbers whose tanh is 1."""
    magnitudes = torch.cat((torch.logspace(-4, 1.1, 3000), torch.linspace(0.004, 0.02, 1000)))
    return torch.cat((magnitudes, -magnitudes)).to(dtype)


@narrow
def test_the_gate_is_rounded_as_if_it_were_exact(dtype):
    """But for a twentieth of a step, values and both slopes."""
    a = sweep(dtype)
    for b in (torch.full_like(a, 0.3), a.flip(0), torch.full_like(a, -7.0)):
        x = torch.stack((a, b), dim=1).requires_grad_()
        out = gated_activation(x, backend=BACKEND)
        (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
        wide = x.detach().double().requires_grad_()
        truth = torch.tanh(wide[:, :1]) * torch.sigmoid(wide[:, 1:])
        tanh, sigmoid, other = torch.tanh(a.double()), torch.sigmoid(b.double()), torch.sigmoid(-b.double())
        slopes = torch.stack((sigmoid / torch.cosh(a.double()) ** 2, tanh * sigmoid * other), dim=1)
        for got, exact in ((out, truth.detach()), (grad, slopes)):
            assert ((got.detach().double() - exact).abs() <= 0.55 * step(exact, dtype)).all()


@narrow
def test_noise_is_rounded_as_if_it_were_exact(dtype):
    """But for 6e-6, and more where both normals of a pair are nearly 0, which is where log(u) has lost its digits."""
    op = next(op for op in OPS if op.name == "reparameterize_kl")
    zeros = torch.zeros(64, 512, dtype=dtype)
    exact = op.noise({"mu": zeros.double(), "logvar": zeros.double()}, {"seed": 7}).reshape(zeros.shape)
    z, _ = reparameterize_kl(zeros, zeros, seed=7, backend=BACKEND)
    radius = exact.view(64, 256, 2).norm(dim=-1).repeat_interleave(2, dim=-1)
    allowed = 0.5 * step(exact, dtype) + 6e-6 + 4e-7 / radius
    assert ((z.double() - exact).abs() <= allowed).all()
    assert radius.min() < 0.02
