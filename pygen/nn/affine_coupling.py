"""The module over affine_coupling."""

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_bool, check_tensor, fail
from pygen.functional import affine_coupling
from pygen.ops._halves import halves
from pygen.ops.affine_coupling import check_mask, check_scale


def passing_half(x: Tensor, mask: str, flip: bool) -> Tensor:
    """What passes unchanged of x [N, C, ...], a view; mask "channel" or "even_odd"."""
    if mask == "even_odd":
        return x[:, 1::2] if flip else x[:, ::2]
    middle = (x.shape[1] + 1) // 2
    return x[:, middle:] if flip else x[:, :middle]


def check_conditioner(name: str, conditioner: object) -> None:
    if not callable(conditioner):
        raise fail(name, "conditioner", "a module", type(conditioner).__name__, kind=TypeError)


def check_input(name: str, x: object, least: int) -> None:
    """Before the conditioner, whose error would be about a half."""
    check_tensor(name, "x", x)
    if isinstance(x, Tensor) and x.dim() < least:
        dims = "three dims [N, ..., H, W]" if least == 3 else "two dims [N, C, ...]"
        raise fail(name, "x", f"at least {dims}", list(x.shape))


class AffineCoupling(nn.Module):
    """A coupling layer of normalizing flows (NICE, RealNVP) around a network of yours: x -> (y, log_det).

    With inverse=True y -> (x, log_det). The conditioner sees what passes unchanged and gives the shift and log_scale of
    the rest. With mask "channel" and "even_odd" it is called with the half that passes, a view [N, C', ...], and gives
    the parameters of the other half; with "checkerboard" with all of x, zeros where it is transformed, and gives
    parameters of x's shape. It returns a pair (shift, log_scale), or one tensor with both along dim 1, shift first; or,
    of an additive coupling, the shift. See pygen.functional.affine_coupling. No parameters beside the conditioner's.

    Args:
        conditioner: the network.
        mask, flip, scale, bound, backend: as in the function.
        additive: NICE's coupling, without a scale.

    Example:
        >>> layer = pygen.nn.AffineCoupling(torch.nn.Linear(3, 6))  # 3 of 6 numbers pass; shift and log_scale of the others
        >>> x = torch.randn(4, 6)
        >>> y, log_det = layer(x)
        >>> y.shape, log_det.shape
        (torch.Size([4, 6]), torch.Size([4]))
        >>> torch.allclose(layer.inverse(y)[0], x, atol=1e-4)
        True
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
        check_conditioner("AffineCoupling", conditioner)
        check_mask("AffineCoupling", mask, flip)
        check_scale("AffineCoupling", scale, bound)
        if check_bool("AffineCoupling", "additive", additive) and scale != "exp":
            raise fail(
                "AffineCoupling", "scale", "'exp', the default, since an additive coupling has none", repr(scale)
            )
        self.conditioner = conditioner
        self.mask, self.flip, self.scale, self.bound = mask, flip, scale, bound
        self.additive, self.backend = additive, _dispatch.checked("AffineCoupling", backend)

    def forward(
        self,
        x: Tensor,  # [N, C, ...]
        *args: Tensor,  # what the conditioner takes besides
        inverse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        check_input("AffineCoupling", x, 3 if self.mask == "checkerboard" else 2)
        made = self.conditioner(self.passing(x), *args)
        if self.additive:
            shift, log_scale = made, None
        elif isinstance(made, Tensor):
            shift, log_scale = halves(made)
        elif isinstance(made, (tuple, list)) and len(made) == 2:
            shift, log_scale = made
        else:
            got = f"{len(made)} things" if isinstance(made, (tuple, list)) else type(made).__name__
            raise fail(
                "AffineCoupling",
                "conditioner",
                "a tensor or a pair (shift, log_scale) to come out of it",
                got,
                kind=TypeError,
            )
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
