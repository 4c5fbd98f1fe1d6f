"""The two kernels of am_softmax by themselves, of any launcher, against float64."""

from types import ModuleType

import torch
import torch.nn.functional as F
from support import assert_accurate

from pygen.reference.am_softmax import EPS, norms


def check_rows(launcher: ModuleType, classes: int, dtype: torch.dtype, device: str = "cpu") -> None:
    """Losses, gradients in `dtype`, and NaN where the target is no class."""
    wide = torch.promote_types(dtype, torch.float32)
    g = torch.Generator().manual_seed(3)
    products = torch.randn(3, classes, generator=g, dtype=wide)
    rows, columns = 20 + torch.rand(3, generator=g, dtype=wide), 0.5 + torch.rand(classes, generator=g, dtype=wide)
    target, upstream = torch.tensor([0, classes - 1, classes]), torch.tensor([0.5, 2.0, 1.0], dtype=wide)
    factors = rows.double().unsqueeze(1) * columns.double()
    logits, drawn = (products * factors).requires_grad_(), target.clamp(max=classes - 1)
    nll = F.cross_entropy(logits - 7.0 * F.one_hot(drawn, classes), drawn, reduction="none")
    grads = torch.autograd.grad(nll, logits, upstream.double())[0] * factors
    products, rows, columns, target, upstream = (t.to(device) for t in (products, rows, columns, target, upstream))

    ours, written = launcher.rows(products.clone(), rows, columns, target, 7.0, upstream, dtype)
    alone, nothing = launcher.rows(products.clone(), rows, columns, target, 7.0, None, dtype)
    assert nothing is None and ours[2].isnan() and alone[2].isnan() and written.dtype == dtype
    assert torch.equal(ours[:2], alone[:2])
    own_eps = 100  # logits of 100, and their half eps
    assert_accurate(ours[:2], nll[:2].detach(), nll[:2].detach().to(wide), what="loss", own_eps=own_eps)
    allowed = own_eps * torch.finfo(wide).eps + torch.finfo(dtype).eps
    error = (written[:2].double().cpu() - grads[:2]).abs().max()
    assert error <= allowed * grads[:2].abs().max(), f"gradients: error {error:.3g}"


def check_across(launcher: ModuleType, features: int, dtype: torch.dtype, device: str = "cpu") -> None:
    """Of rows, one of which has no direction."""
    wide = torch.promote_types(dtype, torch.float32)
    g = torch.Generator().manual_seed(4)
    grad, t = (torch.randn(35, features, generator=g, dtype=wide).to(d) for d in (wide, dtype))
    t[3] = 0
    norm = norms(t.to(wide))
    units = t.double() / norm.double().unsqueeze(1)
    truth = 2.5 * (grad.double() - units * (units * grad.double()).sum(1, keepdim=True))
    there = [v.to(device) for v in (grad, t, norm)]
    got = launcher.across(there[0].clone(), *there[1:], EPS, torch.tensor(2.5, dtype=wide, device=device))
    assert_accurate(got, truth, truth.to(dtype), dtype=dtype, what="across")
    assert torch.equal(launcher.across(there[0].clone(), *there[1:], EPS, None)[3].cpu(), grad[3].to(dtype))
