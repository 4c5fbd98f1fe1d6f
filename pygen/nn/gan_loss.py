"""The GAN losses as a module."""

from typing import Any

from torch import Tensor, nn

from pygen import _dispatch, presets
from pygen._checks import check_bool, fail
from pygen._gan_terms import RELATIVISTIC
from pygen.functional import discriminator_loss, generator_loss
from pygen.ops._gan_checks import Logits, check_options, members
from pygen.ops.gan_loss import call


class GANLoss(nn.Module):
    """The losses of a GAN's discriminator and generator, of logits (not probabilities), as one object. No parameters.

    Its call is pix2pix's `criterion(prediction, target_is_real)`.

    Args:
        kind: as in pygen.functional.discriminator_loss; None means "nonsaturating", or what `like` says.
        like: a code base whose constants to take, see pygen.presets.gan_loss; not together with kind or scale.
        variant: the code base's own name of the loss.
        label_smoothing: of the discriminator's real logits.
        scale: a factor on both players' losses.
        reduction: "mean", "sum" or "none".
        backend: as in the functions.

    Example:
        >>> criterion = pygen.nn.GANLoss("hinge")
        >>> real, fake = torch.randn(8, 1), torch.randn(8, 1)  # the discriminator's logits
        >>> criterion.discriminator(real=real, fake=fake).shape, criterion.generator(fake=fake).shape
        (torch.Size([]), torch.Size([]))
        >>> criterion(fake, True, for_discriminator=False).shape  # the generator's too
        torch.Size([])
    """

    def __init__(
        self,
        kind: str | None = None,
        *,
        like: str | None = None,
        variant: str | None = None,
        label_smoothing: float = 0.0,
        scale: float | None = None,
        reduction: str = "mean",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if like is None:
            if variant is not None:
                raise fail("GANLoss", "variant", "None without like", repr(variant))
            plain: dict[str, Any] = {
                "kind": "nonsaturating" if kind is None else kind,
                "scale": 1.0 if scale is None else scale,
            }
            of_discriminator = of_generator = plain
        else:
            for name, value in (("kind", kind), ("scale", scale)):
                if value is not None:
                    raise fail("GANLoss", name, f"None, as like={like!r} sets it", repr(value))
            preset = presets.gan_loss(like, variant)
            of_discriminator, of_generator = dict(preset.discriminator), dict(preset.generator)
        self.of_discriminator, self.of_generator = of_discriminator, of_generator
        self.label_smoothing, self.reduction = label_smoothing, reduction
        self.backend = _dispatch.checked("GANLoss", backend)
        check_options("GANLoss", self.kind, label_smoothing, of_discriminator["scale"], reduction)

    @property
    def kind(self) -> str:
        """The discriminator's."""
        return str(self.of_discriminator["kind"])

    def discriminator(self, *, real: Logits, fake: Logits, return_stats: bool = False) -> Any:
        """pygen.functional.discriminator_loss with this module's options."""
        return discriminator_loss(
            real=real,
            fake=fake,
            **self.of_discriminator,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            return_stats=return_stats,
            backend=self.backend,
        )

    def generator(self, *, fake: Logits, real: Logits | None = None) -> Any:
        """pygen.functional.generator_loss with this module's options."""
        return generator_loss(fake=fake, real=real, **self.of_generator, reduction=self.reduction, backend=self.backend)

    def forward(self, prediction: Logits, target_is_real: bool, *, for_discriminator: bool = True) -> Any:
        """One term, without any scale, as pix2pix and SPADE call it: their training loops halve the discriminator's sum.

        Args:
            prediction: logits, or a list of them.
            target_is_real: True or False, what the player that is trained wants them to be.
            for_discriminator: False for the generator's turn, which hinge and wasserstein treat otherwise; then
                target_is_real is True.
        """
        op = "GANLoss"
        check_bool(op, "target_is_real", target_is_real)
        if self.kind in RELATIVISTIC:
            raise fail(op, "kind", "one whose terms stand alone for this call; use .discriminator", repr(self.kind))
        if not for_discriminator:
            if not target_is_real:
                raise fail(
                    op, "target_is_real", "True for the generator, who wants its samples to pass", target_is_real
                )
            options = {**self.of_generator, "scale": 1.0}
            return generator_loss(fake=prediction, **options, reduction=self.reduction, backend=self.backend)
        logits = members(op, "prediction", prediction)
        is_list = not isinstance(prediction, Tensor)
        how = (self.kind, "discriminator", float(self.label_smoothing), 1.0, self.reduction, False)
        real, fake = (logits, ()) if target_is_real else ((), logits)
        outputs = call(op, real, fake, (is_list, is_list), how, self.backend)
        return list(outputs) if self.reduction == "none" and is_list else outputs[0]

    def extra_repr(self) -> str:
        return (
            f"discriminator={self.of_discriminator}, generator={self.of_generator}, "
            f"label_smoothing={self.label_smoothing}, reduction={self.reduction!r}"
        )
