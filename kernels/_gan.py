"""What the Triton kernels of gan_loss share: the terms of csrc/common/gan_loss.h, and how a call's tensors reach them."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from pygen._gan_terms import Side, terms, wide_dtype

from . import _blocks
from ._compat import OPTIONS, float_bits, tl_wide
from ._softplus import log1p_unit, relu, sigmoid_of


@triton.jit
def gan_value(y, e, OFFSET: tl.constexpr, FORM: tl.constexpr):
    if FORM == "softplus":
        return relu(y) + log1p_unit(e)
    elif FORM == "smoothed_softplus":
        return relu(y) * (1.0 - OFFSET) + relu(-y) * OFFSET + log1p_unit(e)
    elif FORM == "hinge":
        return relu(y + 1.0)
    elif FORM == "square":
        return (y - OFFSET) * (y - OFFSET)
    else:
        return y


@triton.jit
def gan_slope(y, e, OFFSET: tl.constexpr, FORM: tl.constexpr):
    if FORM == "softplus":
        return sigmoid_of(y, e)
    elif FORM == "smoothed_softplus":
        return sigmoid_of(y, e) - OFFSET
    elif FORM == "hinge":
        return tl.where(y + 1.0 <= 0.0, 0.0, 1.0)
    elif FORM == "square":
        return (y - OFFSET) * 2.0
    else:
        return tl.full(y.shape, 1.0, y.dtype)


@triton.jit
def load_block(ptr, offs, mask, WIDE: tl.constexpr):
    return tl.load(ptr + offs, mask=mask, other=0.0).to(WIDE)


class Segments:
    """A call's tensors as kernels take them: one segment for each side of each member that has terms."""

    def __init__(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], kind: str, player: str, label_smoothing: float, scale: float,
        reduction: str,
    ) -> None:  # fmt: skip
        of_kind = terms(kind, player, label_smoothing)
        self.other = of_kind.other
        members = max(len(real), len(fake))
        sides: list[Side] = []
        tensors, others = [], []
        for member in range(members):
            for side, logits in ((of_kind.real, real), (of_kind.fake, fake)):
                if side is not None and logits:
                    sides.append(side)
                    tensors.append(logits[member].contiguous())
                    others.append(fake[member].contiguous() if self.other == "pair" else None)
        self.tensors = tuple(tensors)
        self.others = tuple(others) if self.other == "pair" else ()
        self.sides = tuple(sides)
        self.numels = tuple(t.numel() for t in tensors)
        blocks = [-(-n // _blocks.GAN_BLOCK) for n in self.numels]
        self.firsts = tuple(sum(blocks[:i]) for i in range(len(blocks) + 1))
        self.programs = self.firsts[-1]
        weights = []
        for side, n in zip(sides, self.numels, strict=True):
            weight = side.weight * scale / (1 if reduction == "none" else members)
            weights.append(float_bits(weight / n if reduction == "mean" else weight))
        self.weights = tuple(weights)
        self.inverses = tuple(float_bits(1.0 / n if n else float("nan")) for n in self.numels)
        self.wide = tl_wide(tensors[0].dtype)
        self.dtype = wide_dtype(tensors[0].dtype)
        self.device = tensors[0].device

    def gradients(self, of_real: Sequence, of_fake: Sequence) -> tuple[tuple, tuple]:
        """Each segment's gradient and, with pairs, the other side's, of the members' by sides."""
        if self.other == "pair":
            return tuple(of_real), tuple(of_fake)
        if of_real and of_fake:
            return tuple(g for pair in zip(of_real, of_fake, strict=True) for g in pair), ()
        return (*of_real, *of_fake), ()

    def forms(self) -> dict[str, tuple]:
        """What FORM, SIGN and OFFSET are, segment by segment. Not a tuple of tuples, which Triton 3.6 and 3.7 do not take."""
        names = ("form", "sign", "offset")
        return {f"{name.upper()}S": tuple(getattr(side, name) for side in self.sides) for name in names}

    def constants(self) -> dict[str, object]:
        return {"WIDE": self.wide, "BLOCK": _blocks.GAN_BLOCK, "num_warps": _blocks.GAN_WARPS, **OPTIONS}
