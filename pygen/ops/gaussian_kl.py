"""gaussian_kl: the KL divergence between diagonal Gaussians, by the kernels of reparameterize_kl without the sample."""

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen._layout import empty_like_input
from pygen.ops import _library
from pygen.ops._gaussian import check_gaussians
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import reparameterize_kl as reference

_OP = "gaussian_kl"
_STEM = "reparameterize_kl"


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """KL(N(mu, e^logvar) || N(prior_mu, e^prior_logvar)) of diagonal Gaussians, in nats: a VAE's KL term without drawing z.

    The prior is standard normal by default. Exact near logvar = prior_logvar. Differentiable to any order in every
    tensor (first order under torch.compile). Kingma and Welling 2014, appendix B.

    Args:
        mu: [N, ...], float64, float32, bfloat16 or float16; computed in float32 (float64).
        logvar: log sigma^2; broadcasts to mu's shape. -inf gives +inf.
        prior_mu: broadcasts to mu's shape; None means 0. Given with prior_logvar or not at all.
        prior_logvar: broadcasts to mu's shape; None means 0.
        reduction: "none" gives [N], summed over the other dims; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64 inputs), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> mu, logvar = torch.ones(4, 16), torch.zeros(4, 16)
        >>> pygen.functional.gaussian_kl(mu, logvar)
        tensor(8.)
        >>> pygen.functional.gaussian_kl(mu, logvar, reduction="none").shape
        torch.Size([4])
    """
    if _checks.autocast_enabled():
        mu, logvar, prior_mu, prior_logvar = _checks.promote_under_autocast(mu, logvar, prior_mu, prior_logvar)
    check_gaussians(_OP, mu, logvar, prior_mu, prior_logvar)
    _checks.check_reduction(_OP, reduction)
    name = _dispatch.requested(_OP, backend)
    tensors = (mu, logvar, prior_mu, prior_logvar)
    if not _dispatch.is_plain(*tensors):
        if _dispatch.under_transform(_OP, name, mu.device.type):
            return reference.forward(*tensors, None, None, None, 0.0, reduction, False)[1]
        return torch.ops.pygen.gaussian_kl(*tensors, reduction, name)
    name = _dispatch.resolve(_OP, name, mu.device.type)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _GaussianKl.apply(_launch, *tensors, reduction, name)
    return _launch(*tensors, reduction, name)


def _launch(mu, logvar, prior_mu, prior_logvar, reduction, backend):
    launcher = _dispatch.launcher(_OP, _STEM, backend, mu)
    return launcher.forward(mu, logvar, prior_mu, prior_logvar, None, None, None, 0.0, reduction, False)[1]


def _launch_backward(grad_kl, mu, logvar, prior_mu, prior_logvar, reduction, needs, backend):
    launcher = _dispatch.launcher(_OP, _STEM, backend, mu)
    grads = launcher.backward(
        None, grad_kl, mu, logvar, prior_mu, prior_logvar, None, None, None, 0.0, reduction, needs
    )
    return [g for g in grads if g is not None]


def _fake(mu, logvar, prior_mu, prior_logvar, reduction, backend):
    shape = mu.shape[:1] if reduction == "none" else ()
    return torch.empty(shape, dtype=torch.promote_types(mu.dtype, torch.float32), device=mu.device)


def _fake_backward(grad_kl, mu, logvar, prior_mu, prior_logvar, reduction, needs, backend):
    inputs = (mu, logvar, prior_mu, prior_logvar)
    return [empty_like_input(t, mu.shape) for t, n in zip(inputs, needs, strict=True) if n]


class _GaussianKl(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call, mu, logvar, prior_mu, prior_logvar, reduction, backend):
        save(ctx, mu, logvar, prior_mu, prior_logvar)
        ctx.call, ctx.reduction, ctx.backend = call, reduction, backend
        return call(mu, logvar, prior_mu, prior_logvar, reduction, backend)

    @staticmethod
    def backward(ctx, grad_kl):
        needs = ctx.needs_input_grad[1:5]
        args = (_dispatch.readable(grad_kl), *saved(ctx), ctx.reduction, needs, ctx.backend)
        if _dispatch.transformed(grad_kl):
            grads = reference.backward(None, *args[:-3], None, None, None, 0.0, ctx.reduction, needs)
            return None, *grads, None, None
        if ctx.call is not _launch:
            grads = iter(torch.ops.pygen.gaussian_kl_backward(*args))
        elif torch.is_grad_enabled():
            grads = iter(_GaussianKlBackward.apply(_launch_backward, *args))
        else:
            grads = iter(_launch_backward(*args))
        return None, *(next(grads) if n else None for n in needs), None, None


class _GaussianKlBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_kl, mu, logvar, prior_mu, prior_logvar, reduction, needs, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_kl, mu, logvar, prior_mu, prior_logvar)
        ctx.reduction, ctx.needs = reduction, needs
        return tuple(call(grad_kl, mu, logvar, prior_mu, prior_logvar, reduction, needs, backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        def formula(grad_kl, *inputs):
            return reference.backward(None, grad_kl, *inputs, None, None, None, 0.0, ctx.reduction, ctx.needs)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, None, None, None


_TENSORS = "Tensor mu, Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar"

_below = _library.register(
    f"gaussian_kl({_TENSORS}, str reduction, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _GaussianKl.apply(_below, *args),
)
_below_backward = _library.register(
    f"gaussian_kl_backward(Tensor grad_kl, {_TENSORS}, str reduction, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_GaussianKlBackward.apply(_below_backward, *args)),
)
