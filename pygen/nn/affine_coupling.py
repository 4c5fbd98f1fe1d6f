"""The module over affine_coupling."""

import torch
from torch import Tensor, nn

from pygen.functional import affine_coupling
from pygen.ops._halves import halves


def passing_half(x: Tensor, mask: str, flip: bool) -> Tensor:
    """What passes unchanged of x [N, C, ...], a view; mask "channel" or "even_odd"."""
    if mask == "even_odd":
        return x[:, 1::2] if flip else x[:, ::2]
    middle = (x.shape[1] + 1) // 2
    return x[:, middle:] if flip else x[:, :middle]


class AffineCoupling(nn.Module):
    """One coupling layer around a network of the user's: x -> (y, log_det), and y -> (x, log_det) with inverse=True.

    With mask "channel" and "even_odd" the conditioner is called with the half that passes unchanged, a view [N, C', ...], and
    gives the parameters of the other half; with "checkerboard" with all of x, zeros where it is transformed, and gives
    parameters of x's shape. It returns a pair (shift, log_scale), or one tensor with both along dim 1, shift first; or, of an
    additive coupling, the shift. See pygen.functional.affine_coupling. No parameters beside the conditioner's.

    Args:
        conditioner: the network.
        mask, flip, scale, bound, backend: as of the function.
        additive: NICE's coupling, without a scale.
    """

    def __init__(
        self,
        conditioner: nn.Module,
        *,
        mask: str = "channel",
        flip: bool = False,
        scale: str = "exp",
        bound: float | None = None,
        additive: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.mask, self.flip, self.scale, self.bound = mask, flip, scale, bound
        self.additive, self.backend = additive, backend

    def forward(
        self,
        x: Tensor,  # [N, C, ...]
        *args: Tensor,  # what the conditioner takes besides
        inverse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        made = self.conditioner(self.passing(x), *args)
        if self.additive:
            shift, log_scale = made, None
        else:
            shift, log_scale = halves(made) if isinstance(made, Tensor) else made
        return affine_coupling(
            x,
            shift,
            log_scale,
            mask=self.mask,
            flip=self.flip,
            scale=self.scale,
            bound=self.bound,
            inverse=inverse,
            backend=self.backend,
        )

    def inverse(self, y: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
        """(x, log_det of the inverse map)"""
        return self(y, *args, inverse=True)

    def passing(self, x: Tensor) -> Tensor:
        """What the conditioner sees of x: nothing of what is transformed, not even NaN."""
        if self.mask == "checkerboard":
            height, width = (torch.arange(n, device=x.device) for n in x.shape[-2:])
            live = (height[:, None] + width) % 2 == int(self.flip)
            return x.masked_fill(live, 0.0)
        return passing_half(x, self.mask, self.flip)

    def extra_repr(self) -> str:
        scale = "additive" if self.additive else f"scale={self.scale!r}"
        bound = "" if self.bound is None else f", bound={self.bound}"
        return f"mask={self.mask!r}, flip={self.flip}, {scale}{bound}"
