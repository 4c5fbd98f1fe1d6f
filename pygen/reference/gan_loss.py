"""The GAN losses in plain PyTorch, sp = softplus, r and f logits of real and generated samples.

    kind                  D on r             D on f           G
    minimax               sp(-r)             sp(f)            -sp(f)
    nonsaturating         sp(-r)             sp(f)            sp(-f)
    hinge                 relu(1-r)          relu(1+f)        -f
    least_squares         (r-1)^2            f^2              (f-1)^2
    wasserstein           -r                 f                -f
    relativistic          sp(-(r-f))                          sp(-(f-r))
    relativistic_average  sp(-(r-mean f))    sp(f-mean r)     sp(-(f-mean r)) and sp(r-mean f)

(Goodfellow 2014; Lim and Ye 2017; Mao 2017; Arjovsky 2017; Jolicoeur-Martineau 2018.) `forward` differentiates by autograd;
`backward` is the closed form, itself differentiable, so it serves second order. Both compute in float32 (float64 for float64).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference._layout import in_layout_of
from pygen.reference._likelihood import compute_dtype, softplus


def _mean(x: Tensor | None) -> Tensor:
    assert x is not None
    return x.mean() if x.numel() else x.sum()


def arguments(kind: str, player: str, r: Tensor | None, f: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What the loss function of each side sees: (of the real logits, of the fake ones); None for a side without terms."""
    sign = 1 if player == "discriminator" else -1
    if kind == "relativistic":
        assert r is not None and f is not None
        return sign * (f - r), None
    if kind == "relativistic_average":
        assert r is not None and f is not None
        return sign * (_mean(f) - r), sign * (f - _mean(r))
    return None if r is None else -r, f if f is None or player == "discriminator" else -f


def _is_softplus(kind: str) -> bool:
    return kind in ("minimax", "nonsaturating", "relativistic", "relativistic_average")


def terms(
    kind: str, player: str, label_smoothing: float, r: Tensor | None, f: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The terms of the real logits and of the fake ones, of their shapes."""
    on_real, on_fake = arguments(kind, player, r, f)

    def term(y: Tensor, smoothing: float) -> Tensor:
        if _is_softplus(kind):
            if kind == "minimax" and player == "generator":
                return -softplus(-y)
            return (1 - smoothing) * softplus(y) + smoothing * softplus(-y) if smoothing else softplus(y)
        if player == "generator" and kind in ("hinge", "wasserstein"):
            return y
        if kind == "hinge":
            return F.relu(1 + y)
        return y

    if kind == "least_squares":
        target = 1.0 if player == "generator" else 0.0
        return None if r is None else (r - (1 - label_smoothing)).square(), None if f is None else (f - target).square()
    return (
        None if on_real is None else term(on_real, label_smoothing),
        None if on_fake is None else term(on_fake, 0.0),
    )


def slopes(
    kind: str, player: str, label_smoothing: float, r: Tensor | None, f: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The derivatives of `terms` by their `arguments`."""
    on_real, on_fake = arguments(kind, player, r, f)

    def slope(y: Tensor, smoothing: float) -> Tensor:
        if _is_softplus(kind):
            if kind == "minimax" and player == "generator":
                return torch.sigmoid(-y)
            return torch.sigmoid(y) - smoothing if smoothing else torch.sigmoid(y)
        if player == "generator" and kind in ("hinge", "wasserstein"):
            return torch.ones_like(y)
        if kind == "hinge":
            return torch.where(1 + y <= 0, 0.0, torch.ones_like(y))
        return torch.ones_like(y)

    if kind == "least_squares":
        sign, target = (-1, 1.0) if player == "generator" else (1, 0.0)
        return (
            None if r is None else -2 * (r - (1 - label_smoothing)),
            None if f is None else 2 * sign * (f - target),
        )
    return (
        None if on_real is None else slope(on_real, label_smoothing),
        None if on_fake is None else slope(on_fake, 0.0),
    )


def statistics(kind: str, r: Tensor, f: Tensor) -> Tensor:
    """[real_mean, fake_mean, real_accuracy, fake_accuracy] of one member of a discriminator's logits."""
    r, f = r.detach(), f.detach()
    on_real, on_fake = arguments(kind, "discriminator", r, f)
    if kind == "relativistic":
        right = [(on_real < 0).to(r.dtype)] * 2
    elif kind == "least_squares":
        right = [(r > 0.5).to(r.dtype), (f < 0.5).to(r.dtype)]
    else:
        right = [(on_real < 0).to(r.dtype), (on_fake < 0).to(r.dtype)]
    return torch.stack([r.mean(), f.mean(), right[0].mean(), right[1].mean()])


def _gradient_like(grad: Tensor, like: Tensor) -> Tensor:
    """`grad` with the dtype and strides of torch.empty_like(like)."""
    out = torch.empty_like(like)
    return grad.to(like.dtype) if grad.stride() == out.stride() else out.copy_(grad)


def _pairs(real: Sequence[Tensor], fake: Sequence[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """Members in compute dtype; a missing player is None."""
    count = max(len(real), len(fake))
    wide = compute_dtype((*real, *fake)[0].dtype)
    sides = [[t.to(wide) for t in side] if side else [None] * count for side in (real, fake)]
    return list(zip(*sides, strict=True))


def forward(
    real: Sequence[Tensor],  # the members' logits, any shapes; empty where the loss has no use for them
    fake: Sequence[Tensor],
    kind: str,
    player: str,  # "discriminator" or "generator"
    label_smoothing: float,
    scale: float,
    reduction: str,
    stats: bool,
) -> list[Tensor]:
    """[loss], or under "none" each member's real terms and then its fake terms; then, if asked for, the stats [4]; then, for
    relativistic_average, what backward reuses: each member's two means and two sums of slopes, [members, 4]."""
    members = _pairs(real, fake)
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    for r, f in members:
        both = terms(kind, player, label_smoothing, r, f)
        each = [scale * t for t in both if t is not None]
        if reduction == "none":
            outputs += [in_layout_of(scale * t, like) for t, like in zip(both, (r, f), strict=True) if t is not None]
        else:
            losses.append(sum(t.mean() if reduction == "mean" else t.sum() for t in each))  # type: ignore[arg-type]
    if losses:
        outputs.append(sum(losses) / len(members))  # type: ignore[arg-type]
    if stats:
        outputs.append(torch.stack([statistics(kind, r, f) for r, f in members]).mean(0))
    if kind == "relativistic_average":
        outputs.append(torch.stack([_reused(player, r.detach(), f.detach()) for r, f in members]))
    return outputs


def _reused(player: str, r: Tensor, f: Tensor) -> Tensor:
    on_real, on_fake = slopes("relativistic_average", player, 0.0, r, f)
    return torch.stack([_mean(r), _mean(f), on_real.sum(), on_fake.sum()])


def backward(
    grad_losses: Sequence[Tensor | None],  # as forward's outputs, without the stats
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    reused: Tensor | None,  # forward's last output; taken anew here, so that it too is differentiated
    kind: str,
    player: str,
    label_smoothing: float,
    scale: float,
    reduction: str,
    needs: Sequence[bool],  # of real, then of fake
) -> list[Tensor | None]:
    """Gradients of real, then of fake; None where needs is False."""
    members = _pairs(real, fake)
    upstream = iter(grad_losses)
    grads_real: list[Tensor | None] = []
    grads_fake: list[Tensor | None] = []

    def weighted(slope: Tensor | None) -> Tensor | None:
        if slope is None:
            return None
        g = next(upstream) if reduction == "none" else grad_losses[0]
        if g is None:
            return torch.zeros_like(slope)
        if reduction == "mean":
            g = g / (slope.numel() * len(members)) if slope.numel() else g
        elif reduction == "sum":
            g = g / len(members)
        return g * scale * slope

    sign = 1 if player == "discriminator" else -1
    for r, f in members:
        on_real, on_fake = (weighted(s) for s in slopes(kind, player, label_smoothing, r, f))
        if kind == "relativistic":
            assert on_real is not None
            grads_real.append(-sign * on_real)
            grads_fake.append(sign * on_real)
        elif kind == "relativistic_average":
            assert r is not None and f is not None and on_real is not None and on_fake is not None
            grads_real.append(-sign * (on_real + on_fake.sum() / max(1, r.numel())))
            grads_fake.append(sign * (on_fake + on_real.sum() / max(1, f.numel())))
        else:
            if on_real is not None:
                grads_real.append(-on_real)
            if on_fake is not None:
                grads_fake.append(sign * on_fake)
    grads = zip((*grads_real, *grads_fake), (*real, *fake), needs, strict=True)
    return [_gradient_like(g, t) if n else None for g, t, n in grads]
