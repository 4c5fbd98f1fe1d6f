"""The constants of well-known code bases, which disagree on factors and on what they call a loss."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pygen._checks import fail, named_here


class GanPreset(NamedTuple):
    """One code base's GAN losses: keyword arguments for our functions.

    `penalty` goes to gradient_penalty; None where the code base has none. `penalty_every`: the penalty is taken at every so
    many discriminator steps and then counts so many times.
    """

    discriminator: Mapping[str, object]  # for discriminator_loss
    generator: Mapping[str, object]  # for generator_loss
    penalty: Mapping[str, object] | None = None
    penalty_every: int = 1


def _preset(
    kind: str, generator_kind: str, scale: float = 1.0, penalty: dict | None = None, every: int = 1
) -> GanPreset:
    return GanPreset(
        MappingProxyType({"kind": kind, "scale": scale}),
        MappingProxyType({"kind": generator_kind, "scale": 1.0}),
        None if penalty is None else MappingProxyType(penalty),
        every,
    )


_WGAN_GP = {"kind": "wgan_gp", "gamma": 10.0}

# like -> variant -> constants; the first variant is that code base's default.
_GAN = {
    # taming/modules/losses/vqperceptual.py: half the sum for D; G is -mean(f) whatever D's loss is.
    "taming": {"hinge": _preset("hinge", "wasserstein", 0.5), "vanilla": _preset("nonsaturating", "wasserstein", 0.5)},
    # training/loss.py of stylegan2-ada-pytorch: R1 with gamma / 2, gamma 10, at every 16th step.
    "stylegan2": {"logistic": _preset("nonsaturating", "nonsaturating", 1.0, {"kind": "r1", "gamma": 10.0}, 16)},
    # models/networks.py and pix2pix_model.py: the loop, not the criterion, halves D's sum.
    "pix2pix": {
        "lsgan": _preset("least_squares", "least_squares", 0.5),
        "vanilla": _preset("nonsaturating", "nonsaturating", 0.5),
        "wgangp": _preset("wasserstein", "wasserstein", 0.5, _WGAN_GP),
    },
    # torch_mimicry/modules/losses.py: what it calls minimax is the non-saturating loss.
    "mimicry": {
        "hinge": _preset("hinge", "hinge"),
        "gan": _preset("nonsaturating", "nonsaturating"),
        "ns": _preset("nonsaturating", "nonsaturating"),
        "wasserstein": _preset("wasserstein", "wasserstein", 1.0, _WGAN_GP),
    },
}


# Others with the losses of one of these.
_SAME_LOSS = {
    "stylegan2ada": "stylegan2",
    "stylegan2adapytorch": "stylegan2",
    "stylegan3": "stylegan2",
    "vqgan": "taming",
    "tamingtransformers": "taming",
    "cyclegan": "pix2pix",
    "torchmimicry": "mimicry",
}


def gan_loss(like: str, variant: str | None = None) -> GanPreset:
    """The GAN losses of a well-known code base, with its constants: keyword arguments for our functions.

    Args:
        like: "taming" (hinge, vanilla), "stylegan2" (logistic), "pix2pix" (lsgan, vanilla, wgangp) or "mimicry" (hinge, gan,
            ns, wasserstein).
        variant: the code base's own name of the loss; None means its default, named first above.

    Returns:
        A GanPreset: discriminator, generator and penalty (for gradient_penalty, or None), each a mapping; penalty_every, an int.

    Raises:
        ValueError: no such code base or variant.

    Example:
        >>> preset = pygen.presets.gan_loss("stylegan2")
        >>> preset.penalty, preset.penalty_every
        (mappingproxy({'kind': 'r1', 'gamma': 10.0}), 16)
        >>> real, fake = torch.randn(8, 1), torch.randn(8, 1)  # the discriminator's logits
        >>> pygen.functional.discriminator_loss(real=real, fake=fake, **preset.discriminator).shape
        torch.Size([])
    """
    if like not in _GAN:
        raise fail("presets.gan_loss", "like", f"one of {', '.join(_GAN)}", named_here(like, _GAN, _SAME_LOSS))
    variants = _GAN[like]
    if variant is None:
        return next(iter(variants.values()))
    if variant not in variants:
        raise fail("presets.gan_loss", "variant", f"one of {', '.join(variants)} for {like!r}", repr(variant))
    return variants[variant]
