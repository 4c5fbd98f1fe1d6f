"""gan_loss: discriminator_loss and generator_loss of every kind, with their statistics, in one pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops import _gan_autograd, _gan_common
from pygen.ops._gan_checks import Logits, check_logits, check_options, check_players, members
from pygen.reference import gan_loss as reference

_OP = "gan_loss"


class GanStats(NamedTuple):
    """What people log of a discriminator, from discriminator_loss(return_stats=True): 0-dim tensors without a gradient.

    An accuracy is the fraction of logits on the right side: of 0, of 1/2 for least_squares, and for the relativistic
    kinds of what the logit is compared with. NaN where there are no logits. Of several scales the mean.

    Example:
        >>> real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, -2.0])
        >>> _, stats = pygen.functional.discriminator_loss(real=real, fake=fake, return_stats=True)
        >>> stats.real_mean, stats.real_accuracy, stats.fake_accuracy
        (tensor(1.2500), tensor(0.7500), tensor(1.))
    """

    real_mean: Tensor
    fake_mean: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor


def discriminator_loss(
    *,
    real: Logits,
    fake: Logits,
    kind: str = "nonsaturating",
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    reduction: str = "mean",
    return_stats: bool = False,
    backend: str | None = None,
) -> Any:
    """The loss that a GAN's discriminator minimises, of its logits (not probabilities) of real and generated samples.

    With sp = softplus:

    =====================  ==============  ==============
    kind                   on real r       on fake f
    =====================  ==============  ==============
    minimax                sp(-r)          sp(f)
    nonsaturating          sp(-r)          sp(f)
    hinge                  relu(1-r)       relu(1+f)
    least_squares          (r-1)^2         f^2
    wasserstein            -r              f
    relativistic           sp(-(r-f)), one term, equal shapes
    relativistic_average   sp(-(r-mean f)) sp(f-mean r)
    =====================  ==============  ==============

    There is no factor 0.5: use scale. (Goodfellow et al. 2014; Lim and Ye 2017; Mao et al. 2017; Arjovsky et al. 2017;
    Jolicoeur-Martineau 2018.)

    Differentiable to any order in real and fake, through the means too (first order under torch.compile); torch.func
    transforms run the reference composition. The pass that sums the loss also makes the gradient for an upstream gradient
    of 1, one number a logit, which is held until backward hands it out (not under saved-tensor hooks such as
    checkpointing's; on a GPU not of float16, as a scaled loss has another upstream gradient, and not of means).

    Args:
        real: logits of real samples, any shape, float64, float32, bfloat16 or float16; or a list, one for each scale.
        fake: logits of generated samples, any shape, as many scales as real. Detach the samples, not the logits.
        kind: see the table.
        label_smoothing: s, 0 <= s < 0.5: the target of real logits is 1 - s, (1-s) sp(-r) + s sp(r) and (r-(1-s))^2; for
            minimax, nonsaturating and least_squares.
        scale: a factor.
        reduction: "mean", the mean of the real terms plus the mean of the fake terms; "sum", their sum, 0 of nothing;
            "none", a tuple (real_terms, fake_terms) in the shapes of real and fake, one tensor for relativistic. Of a list
            the mean over its members; with "none" a list.
        return_stats: also return GanStats, from the same pass.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64); with return_stats a tuple (loss, GanStats).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> real, fake = torch.randn(8, 1), torch.randn(8, 1)  # D(x) and D(G(z).detach())
        >>> pygen.functional.discriminator_loss(real=real, fake=fake, kind="hinge").shape
        torch.Size([])
    """
    op = "discriminator_loss"
    if return_stats is False:
        common = _gan_common.loss(op, real, fake, kind, label_smoothing, scale, reduction, backend)
        if common is not None:
            return common
    check_options(op, kind, label_smoothing, scale, reduction)
    reals, fakes = members(op, "real", real), members(op, "fake", fake)
    are_lists = (not isinstance(real, Tensor), not isinstance(fake, Tensor))
    options = (kind, "discriminator", float(label_smoothing), float(scale), reduction, bool(return_stats))
    outputs = call(op, reals, fakes, are_lists, options, backend)
    if reduction == "mean" or reduction == "sum":
        loss = outputs[0]
    else:
        loss = outputs[: len(reals)] if kind == "relativistic" else _pairs(outputs[: 2 * len(reals)])
        loss = list(loss) if are_lists[0] else loss[0]
    if not return_stats:
        return loss
    stats = outputs[-2] if kind == "relativistic_average" else outputs[-1]
    return loss, GanStats(*stats.unbind())


def generator_loss(
    *,
    fake: Logits,
    real: Logits | None = None,
    kind: str = "nonsaturating",
    scale: float = 1.0,
    reduction: str = "mean",
    backend: str | None = None,
) -> Any:
    """The loss that a GAN's generator minimises, of the discriminator's logits (not probabilities) of its samples.

    With sp = softplus:

    =====================  ============================================
    kind                   on fake f (and real r)
    =====================  ============================================
    minimax                -sp(f), saturating: no gradient while f << 0
    nonsaturating          sp(-f)
    hinge                  -f
    least_squares          (f-1)^2
    wasserstein            -f
    relativistic           sp(-(f-r)), one term, equal shapes
    relativistic_average   sp(-(f-mean r)) and sp(r-mean f)
    =====================  ============================================

    Differentiable to any order in fake and real (first order under torch.compile).

    Args:
        fake: logits of generated samples, any shape, or a list, one for each scale.
        real: logits of real samples: required for the relativistic kinds, refused for the others.
        kind, scale, reduction, backend: as in discriminator_loss; with "none" relativistic_average gives (real_terms,
            fake_terms), the others one tensor.

    Returns:
        float32 (float64 for float64).

    Raises:
        As discriminator_loss.

    Example:
        >>> real, fake = torch.randn(8, 1), torch.randn(8, 1)  # D(x) and D(G(z))
        >>> pygen.functional.generator_loss(fake=fake, kind="hinge").shape
        torch.Size([])
        >>> pygen.functional.generator_loss(fake=fake, real=real, kind="relativistic").shape
        torch.Size([])
    """
    op = "generator_loss"
    common = _gan_common.loss(op, real, fake, kind, 0.0, scale, reduction, backend)
    if common is not None:
        return common
    check_options(op, kind, 0.0, scale, reduction)
    check_players(op, kind, real)
    fakes = members(op, "fake", fake)
    reals = () if real is None else members(op, "real", real)
    are_lists = (not isinstance(real, Tensor), not isinstance(fake, Tensor))
    options = (kind, "generator", 0.0, float(scale), reduction, False)
    outputs = call(op, reals, fakes, are_lists, options, backend)
    if reduction == "mean" or reduction == "sum":
        return outputs[0]
    both = kind == "relativistic_average"
    loss = _pairs(outputs[: 2 * len(fakes)]) if both else list(outputs)
    return loss if are_lists[1] else loss[0]


def _pairs(terms: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(real terms, fake terms) of each member."""
    return list(zip(terms[::2], terms[1::2], strict=True))


def call(
    op: str,
    real: tuple[Tensor, ...],
    fake: tuple[Tensor, ...],
    are_lists: tuple[bool, bool],
    options: tuple,
    backend: str | None,
) -> Sequence[Tensor]:
    """Checks and runs gan_loss; the outputs of its launcher. A side that is () has no terms."""
    if _checks.autocast_enabled():
        both = _checks.promote_under_autocast(*real, *fake)
        real, fake = both[: len(real)], both[len(real) :]
    check_logits(op, real, fake, are_lists, options[0], options[4])
    name = _dispatch.requested(op, backend)
    tensors = real + fake
    if not _dispatch.is_plain(*tensors):
        if _dispatch.under_transform(op, name, tensors[0].device.type):
            return reference.forward(real, fake, *options)
        return torch.ops.pygen.gan_loss(list(real), list(fake), *options, name)
    name = _dispatch.resolve(op, name, tensors[0].device.type)
    launcher = _dispatch.launcher(op, _OP, name, tensors[0])
    if torch.is_grad_enabled():
        for t in tensors:
            if t.requires_grad:
                return _gan_autograd.apply(launcher, len(real), (*options, name), *tensors)
    return launcher.forward(real, fake, *options)
