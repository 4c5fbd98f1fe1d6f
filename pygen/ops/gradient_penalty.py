"""gradient_penalty: R1, R2, WGAN-GP and DRAGAN, of the logits and per sample.

The work is the discriminator's own second derivative. Of the norm beside it (sample_dot), forward reads the gradient once and
backward reads and writes it once.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks, _dispatch
from pygen._sums import total
from pygen.ops.sample_dot import sample_dot

_OP = "gradient_penalty"
KINDS = ("r1", "r2", "wgan_gp", "dragan")
_NEEDS = {"r1": ("real",), "r2": ("fake",), "wgan_gp": ("real", "fake"), "dragan": ("real",)}

Discriminator = Callable[[Tensor], Tensor | Sequence[Tensor]]


def gradient_penalty(
    discriminator: Discriminator,
    *,
    real: Tensor | None = None,
    fake: Tensor | None = None,
    kind: str = "r1",
    gamma: float = 1.0,
    target: float = 1.0,
    reduction: str = "mean",
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Penalises a GAN's discriminator D for steep gradients g = d (sum of D's logits) / d x, one norm for each sample.

    The norm is over all dims of a sample. Added to the discriminator's loss:

    =======  =======================================  ==============================================================
    kind     penalty of a sample                      at
    =======  =======================================  ==============================================================
    r1       gamma / 2 ||g||^2                        real (Mescheder et al. 2018, and StyleGAN2, with gamma / 2)
    r2       gamma / 2 ||g||^2                        fake
    wgan_gp  gamma (||g|| - target)^2                 u real + (1 - u) fake, one u for each sample (Gulrajani et al. 2017)
    dragan   gamma (||g|| - target)^2                 real + u std(real) / 2 v, one u for each sample, one v for each
                                                      element, both uniform (Kodali et al. 2017)
    =======  =======================================  ==============================================================

    The samples are detached: the gradient of the penalty reaches the discriminator alone. At g = 0, where the norm has
    no derivative, it is taken as 0, so nothing becomes NaN. A batch norm in D makes samples depend on each other: then
    there is no gradient per sample.

    Args:
        discriminator: x [N, ...] -> logits (not the loss, not probabilities) of any shape, or a list of them; all are summed.
        real: [N, ...]; for r1, wgan_gp and dragan, refused where it has no use.
        fake: [N, ...]; for r2 and wgan_gp.
        kind: see the table.
        gamma: the factor; wgan_gp's lambda is 10 in its paper.
        target: the norm that wgan_gp and dragan aim at.
        reduction: "mean" over the samples, "sum", or "none", [N].
        generator: draws u and v, on the samples' device; None means torch's default.
        backend: what sums the squares and their gradient, "reference", "cpu", "triton", "cuda"; None chooses. Triton and
            CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64); differentiable in the discriminator's parameters unless gradients are off.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
        >>> real = torch.randn(4, 1, 4, 4)
        >>> penalty = pygen.functional.gradient_penalty(discriminator, real=real, kind="r1", gamma=10.0)
        >>> penalty.shape
        torch.Size([])
        >>> penalty.backward()  # into the discriminator's parameters
    """
    _check(real, fake, kind, gamma, target, reduction)
    if not callable(discriminator):
        raise _checks.fail(_OP, "discriminator", "a function or module", type(discriminator).__name__, kind=TypeError)
    if backend is not None:
        given = fake if real is None else real
        assert given is not None
        _dispatch.resolve(_OP, _dispatch.requested(_OP, backend), given.device.type)
    points = _points(real, fake, kind, generator).requires_grad_()
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        logits = discriminator(points)
        each: list[Any] = list(logits) if isinstance(logits, Iterable) and not isinstance(logits, Tensor) else [logits]
        for t in each:
            if not isinstance(t, Tensor):
                raise _checks.fail(_OP, "discriminator", "logits, or a list of them", type(t).__name__, kind=TypeError)
        both = torch.stack([t.sum() for t in each]).sum()
        if not both.requires_grad:
            raise _checks.fail(
                _OP, "discriminator", "logits that depend on its input", "logits that do not require grad"
            )
        (grad,) = torch.autograd.grad(
            both, points, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        squared = sample_dot(grad, backend=backend)
        if kind in ("r1", "r2"):
            penalty = (0.5 * gamma) * squared
        else:
            positive = squared > 0
            norm = torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
            penalty = gamma * (norm - target).square()
        if reduction == "mean":
            penalty = total(penalty) / penalty.numel()
        elif reduction == "sum":
            penalty = total(penalty)
    return penalty if create_graph else penalty.detach()


def _points(real: Tensor | None, fake: Tensor | None, kind: str, generator: Generator | None) -> Tensor:
    if kind == "r2":
        assert fake is not None
        return fake.detach().clone()
    assert real is not None
    real = real.detach()
    if kind == "r1":
        return real.clone()
    each = (real.shape[0], *[1] * (real.dim() - 1))
    u = torch.rand(each, dtype=real.dtype, device=real.device, generator=generator)
    if kind == "wgan_gp":
        assert fake is not None
        return torch.lerp(fake.detach(), real, u)
    v = torch.rand(real.shape, dtype=real.dtype, device=real.device, generator=generator)
    spread = real.std() if real.numel() > 1 else real.new_zeros(())
    return real + u * (0.5 * spread) * v


def _check(
    real: Tensor | None, fake: Tensor | None, kind: object, gamma: object, target: object, reduction: object
) -> None:
    if kind not in KINDS:
        got = _checks.named_here(kind, KINDS, {"gp": "wgan_gp", "gradientpenalty": "wgan_gp"})
        raise _checks.fail(_OP, "kind", f"one of {', '.join(KINDS)}", got)
    if reduction not in ("mean", "sum", "none"):
        raise _checks.fail(_OP, "reduction", "'mean', 'sum' or 'none'", repr(reduction))
    for name, value in (("gamma", gamma), ("target", target)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _checks.fail(_OP, name, "a number", type(value).__name__, kind=TypeError)
        if not (math.isfinite(value) and value >= 0):
            raise _checks.fail(_OP, name, "a finite number >= 0", value)
    for name, t in (("real", real), ("fake", fake)):
        if name not in _NEEDS[str(kind)]:
            if t is not None:
                raise _checks.fail(_OP, name, f"None, as kind {kind!r} does not look at it", "samples")
            continue
        if t is None:
            raise _checks.fail(_OP, name, f"samples [N, ...], which kind {kind!r} needs", None)
        _checks.check_tensor(_OP, name, t)
        _checks.check_floating(_OP, name, t)
        if t.dim() == 0:
            raise _checks.fail(_OP, name, "at least one dim, [N, ...]", "a 0-dim tensor")
        if t.shape[0] == 0 and reduction == "mean":
            raise _checks.fail(_OP, name, "at least one sample to take the mean of", list(t.shape))
    if kind == "wgan_gp":
        assert real is not None and fake is not None
        _checks.check_like(_OP, "fake", fake, "real", real)
        if fake.shape != real.shape:
            raise _checks.fail(_OP, "fake", f"{list(real.shape)}, the shape of real", list(fake.shape))
