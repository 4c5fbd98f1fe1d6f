"""reparameterize_kl: the reparameterised sample and the Gaussian KL in one pass, the noise never stored."""

import torch
from torch import Generator, Tensor

from pygen import _checks, _dispatch, _noise
from pygen._layout import empty_like_input, empty_output
from pygen.native import reparameterize_kl as native
from pygen.native._arguments import are_plain
from pygen.ops import _library
from pygen.ops._gaussian import check_gaussians
from pygen.ops._saved import check_kinds, kinds, save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import reparameterize_kl as reference

_OP = "reparameterize_kl"


def reparameterize_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    num_samples: int | None = None,
    eps: Tensor | None = None,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    free_bits: float = 0.0,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """A VAE's latents and their KL in one pass: draws z = mu + exp(logvar / 2) eps and computes KL(N(mu, e^logvar) || prior).

    The prior is standard normal by default. Backward makes the noise again from its seed: only the inputs and the seed
    are kept. Differentiable to any order in mu, logvar, prior_mu and prior_logvar (first order under torch.compile).
    torch.func transforms run the reference composition; under vmap every example has the same noise for the same seed.
    Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.

    Args:
        mu: [N, ...], float64, float32, bfloat16 or float16; computed in float32 (float64).
        logvar: log sigma^2; broadcasts to mu's shape. -inf gives z = mu and kl = +inf.
        prior_mu: mean of the prior, broadcasts to mu's shape; None means 0. Given with prior_logvar or not at all.
        prior_logvar: log variance of the prior, broadcasts to mu's shape; None means 0.
        num_samples: K Monte-Carlo samples: z is [K, N, ...], and z[0] equals z without it. kl does not depend on it.
        eps: the noise itself, exactly z's shape and mu's dtype; may not require grad.
        seed: an int or a 0-dim int64 tensor on mu's device; equal seeds give equal noise on every backend and layout.
        generator: draws the seed, instead of torch's default generator. At most one of eps, seed and generator.
        free_bits: nats; each element's KL counts as at least this much, without a gradient below it. 0: off.
        reduction: "none" gives kl per sample, [N], summed over the other dims; "sum" the total; "batchmean" total / N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        z, mu's dtype, channels_last iff mu is; and kl in nats, float32 (float64 for float64).

    Raises:
        TypeError: a dtype or type is not accepted.
        ValueError: shapes, devices or options do not fit.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> mu, logvar = torch.randn(4, 16), torch.randn(4, 16)
        >>> z, kl = pygen.functional.reparameterize_kl(mu, logvar)
        >>> z.shape, kl.shape
        (torch.Size([4, 16]), torch.Size([]))
        >>> z, kl = pygen.functional.reparameterize_kl(mu, logvar, num_samples=8, reduction="none", seed=0)
        >>> z.shape, kl.shape
        (torch.Size([8, 4, 16]), torch.Size([4]))
    """
    if (
        not torch.compiler.is_compiling()
        and prior_mu is None
        and prior_logvar is None
        and num_samples is None
        and eps is None
        and (seed is None or seed.__class__ is int)
        and free_bits.__class__ is float
        and free_bits == 0.0
        and reduction.__class__ is str
        and reduction in _checks.REDUCTIONS
        and (backend is None or (backend.__class__ is str and backend == "cpu"))
        and _is_common(mu, logvar, backend)
    ):
        seed = _noise.resolve_seed(_OP, seed, generator, mu.device)
        if torch.is_grad_enabled() and (mu.requires_grad or logvar.requires_grad):
            return _common_apply(mu, logvar, seed, reduction)
        return native.forward_plain(mu, logvar, seed, reduction)
    if _checks.autocast_enabled():
        mu, logvar, prior_mu, prior_logvar, eps = _checks.promote_under_autocast(
            mu, logvar, prior_mu, prior_logvar, eps
        )
    check_gaussians(_OP, mu, logvar, prior_mu, prior_logvar)
    _checks.check_reduction(_OP, reduction)
    if num_samples is not None or eps is not None or free_bits.__class__ is not float or free_bits != 0.0:
        _check_options(mu, num_samples, eps, seed, generator, free_bits)
    name = _dispatch.requested(_OP, backend)
    plain = _dispatch.is_plain(mu, logvar, prior_mu, prior_logvar, eps, seed)
    if plain:
        name = _dispatch.resolve(_OP, name, mu.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, mu) if plain else None
    composite = launcher is None and _dispatch.under_transform(_OP, name, mu.device.type)
    seed = None if eps is not None else _noise.resolve_seed(_OP, seed, generator, mu.device)
    options = (num_samples, float(free_bits), reduction, name)
    if launcher is None:
        if composite:
            return reference.forward(mu, logvar, prior_mu, prior_logvar, eps, seed, *options[:3], True)
        return torch.ops.pygen.reparameterize_kl(mu, logvar, prior_mu, prior_logvar, eps, seed, *options)
    if torch.is_grad_enabled() and (
        mu.requires_grad
        or logvar.requires_grad
        or (prior_mu is not None and (prior_mu.requires_grad or prior_logvar.requires_grad))
    ):
        return _fast_apply(launcher, mu, logvar, prior_mu, prior_logvar, eps, seed, options)
    return launcher.forward(
        mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, float(free_bits), reduction, True
    )


def _is_common(mu: Tensor, logvar: Tensor, backend: str | None) -> bool:
    """Whether nothing about the tensors of nearly every VAE's call needs a second look before the C++ kernel."""
    return bool(
        are_plain(mu, logvar)
        and logvar.shape == mu.shape
        and mu.dim() > 0
        and _dispatch.nothing_intercepts()
        and _dispatch.resolve(_OP, backend or _dispatch.AUTO, "cpu") == "cpu"
    )


def check_free_bits(op: str, free_bits: object) -> None:
    if isinstance(free_bits, bool) or not isinstance(free_bits, (int, float)):
        raise _checks.fail(op, "free_bits", "a number of nats", type(free_bits).__name__, kind=TypeError)
    if not 0 <= free_bits <= _checks.LARGEST:
        raise _checks.fail(op, "free_bits", "0 <= free_bits < inf", free_bits)


def _check_options(
    mu: Tensor, num_samples: object, eps: Tensor | None, seed: object, generator: object, free_bits: float
) -> None:
    if num_samples is not None:
        if isinstance(num_samples, bool) or not isinstance(num_samples, (int, torch.SymInt)):
            raise _checks.fail(_OP, "num_samples", "an int or None", type(num_samples).__name__, kind=TypeError)
        if num_samples < 1 or num_samples >= 2**32:
            raise _checks.fail(_OP, "num_samples", "1 <= num_samples < 2^32", num_samples)
    check_free_bits(_OP, free_bits)
    if eps is None:
        return
    if seed is not None or generator is not None:
        other = "seed" if seed is not None else "generator"
        raise _checks.fail(_OP, other, "at most one of eps, seed and generator", f"both eps and {other}")
    _checks.check_tensor(_OP, "eps", eps)
    _checks.check_like(_OP, "eps", eps, "mu", mu)
    shape = mu.shape if num_samples is None else (num_samples, *mu.shape)
    if eps.shape != torch.Size(shape):
        raise _checks.fail(_OP, "eps", f"z's shape {list(shape)}", list(eps.shape))
    if eps.requires_grad:
        raise _checks.fail(_OP, "eps", "noise that does not require grad (detach it)", "requires_grad=True")


def _launch(mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, free_bits, reduction, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, mu)
    return launcher.forward(mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, free_bits, reduction, True)


def _launch_backward(grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed, *options):
    *rest, needs, backend = options
    launcher = _dispatch.launcher(_OP, _OP, backend, mu)
    grads = launcher.backward(grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed, *rest, needs)
    return [g for g in grads if g is not None]


def _fake(mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, free_bits, reduction, backend):
    kl_shape = mu.shape[:1] if reduction == "none" else ()
    kl = torch.empty(kl_shape, dtype=torch.promote_types(mu.dtype, torch.float32), device=mu.device)
    return empty_output(mu, num_samples), kl


def _fake_backward(
    grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, free_bits, reduction, needs, backend
):
    return [
        empty_like_input(t, mu.shape) for t, n in zip((mu, logvar, prior_mu, prior_logvar), needs, strict=True) if n
    ]


class _ReparameterizeKl(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, mu, logvar, prior_mu, prior_logvar, eps, seed, options):
        ctx.set_materialize_grads(False)
        save(ctx, mu, logvar, prior_mu, prior_logvar, eps, seed)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below(mu, logvar, prior_mu, prior_logvar, eps, seed, *options)
        num_samples, free_bits, reduction, _ = options
        return launcher.forward(mu, logvar, prior_mu, prior_logvar, eps, seed, num_samples, free_bits, reduction, True)

    @staticmethod
    def backward(ctx, grad_z, grad_kl):
        needs = ctx.needs_input_grad[1:5]
        return None, *_gradients(ctx.launcher, grad_z, grad_kl, saved(ctx), ctx.options, needs), None, None, None


class _CommonReparameterizeKl(torch.autograd.Function):
    """_ReparameterizeKl of a call that _is_common: less Python."""

    @staticmethod
    def forward(ctx, mu, logvar, seed, reduction):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(mu, logvar, seed)
        ctx.call = reduction, kinds(mu)
        return native.forward_plain(mu, logvar, seed, reduction)

    @staticmethod
    def backward(ctx, grad_z, grad_kl):
        mu, logvar, seed = ctx.saved_tensors
        reduction, kind = ctx.call
        needs = ctx.needs_input_grad
        if (
            needs[0]
            and needs[1]
            and grad_z is not None
            and grad_kl is not None
            and not torch.is_grad_enabled()
            and are_plain(grad_z, mu, logvar)
            and mu.shape == logvar.shape == grad_z.shape  # else one was replaced
            and grad_kl.layout is torch.strided
            and _dispatch.is_plain(grad_kl)
            and not _dispatch.is_batched(grad_kl)
            and grad_kl.data_ptr()
        ):
            return *native.backward_plain(grad_z, grad_kl, mu, logvar, seed, reduction), None, None
        check_kinds((mu, logvar), 2 * kind)
        given = (mu, logvar, None, None, None, seed)
        options = (None, 0.0, reduction, "cpu")
        grads = _gradients(native, grad_z, grad_kl, given, options, (needs[0], needs[1], False, False))
        return grads[0], grads[1], None, None


def _gradients(launcher, grad_z, grad_kl, saved, options, needs) -> tuple[Tensor | None, ...]:
    """Of mu, logvar, prior_mu and prior_logvar; recorded where a graph of the backward is asked for."""
    if grad_z is None and grad_kl is None:
        return (None,) * 4
    *options, backend = options
    args = (_dispatch.readable(grad_z), _dispatch.readable(grad_kl), *saved, *options, needs)
    if _dispatch.transformed(grad_z, grad_kl):
        return tuple(reference.backward(*args))
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        grads = iter(torch.ops.pygen.reparameterize_kl_backward(*args, backend))
    else:
        grads = iter(_ReparameterizeKlBackward.apply(_launch_backward, *args, backend))
    return tuple(next(grads) if n else None for n in needs)


class _ReparameterizeKlBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed, *options):
        ctx.set_materialize_grads(False)
        save(ctx, grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed)
        ctx.options = options
        return tuple(call(grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, eps, seed, *options))

    @staticmethod
    def backward(ctx, *grad_grads):
        *options, _ = ctx.options
        needs = (*ctx.needs_input_grad[1:7], False, False)
        grads = composite_gradients(lambda *t: reference.backward(*t, *options), saved(ctx), needs, grad_grads)
        return None, *grads, *(None for _ in ctx.options)


_fast_apply = _library.fast_apply(_ReparameterizeKl)
_common_apply = _library.fast_apply(_CommonReparameterizeKl)

_TENSORS = "Tensor mu, Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar, Tensor? eps, Tensor? seed"
_OPTIONS = "SymInt? num_samples, float free_bits, str reduction"

_below = _library.register(
    f"reparameterize_kl({_TENSORS}, {_OPTIONS}, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda *args: _ReparameterizeKl.apply(None, *args[:6], args[6:]),
)
_below_backward = _library.register(
    f"reparameterize_kl_backward(Tensor? grad_z, Tensor? grad_kl, {_TENSORS}, {_OPTIONS}, bool[] needs, str backend)"
    " -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_ReparameterizeKlBackward.apply(_below_backward, *args)),
)
