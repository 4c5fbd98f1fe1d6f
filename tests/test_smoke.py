"""The walking skeleton: one op, reference beside C++."""

import torch

from pygen.functional import reparameterize_kl


def test_reparameterize_kl_cpu_equals_reference_with_equal_noise():
    mu, logvar = torch.randn(7, 33), torch.randn(7, 33)
    z, kl = reparameterize_kl(mu, logvar, seed=5, backend="cpu")
    z_ref, kl_ref = reparameterize_kl(mu.double(), logvar.double(), seed=5, backend="reference")
    torch.testing.assert_close(z.double(), z_ref, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(kl.double(), kl_ref, rtol=1e-6, atol=1e-6)
