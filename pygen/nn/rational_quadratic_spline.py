"""The module over rational_quadratic_spline."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_bool, fail
from pygen.functional import rational_quadratic_spline
from pygen.nn.affine_coupling import check_conditioner, check_input, passing_half
from pygen.ops.rational_quadratic_spline import check_form, check_numbers


class SplineCoupling(nn.Module):
    """A coupling layer of neural spline flows around a network of yours: x -> (y, log_det).

    With inverse=True y -> (x, log_det). The conditioner is called with the half that passes unchanged, a view [N, C',
    ...], and gives the parameters of the other half as pygen.functional.rational_quadratic_spline takes them: 3 K - 1
    numbers for each channel of it along dim 1 (tails=None: 3 K + 1), as of a Linear or a Conv2d with so many outputs. K
    follows. No parameters beside the conditioner's. A conditioner of nflows, whose widths and heights are divided by
    the root of its hidden size, carries over with identity_init=False and the rows of its last layer that make them
    divided by that root.

    Args:
        conditioner: the network.
        mask: "channel" or "even_odd".
        flip, tails, bound, min_bin_width, min_bin_height, min_derivative, identity_init, backend: as in the function.

    Example:
        >>> layer = pygen.nn.SplineCoupling(torch.nn.Linear(3, 3 * (3 * 8 - 1)))  # 3 of 6 numbers pass; 8 bins for the others
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
        tails: str | None = "linear",
        bound: float | tuple[float, float] = 3.0,
        min_bin_width: float = 1e-3,
        min_bin_height: float = 1e-3,
        min_derivative: float = 1e-3,
        identity_init: bool = True,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        name = "SplineCoupling"
        check_conditioner(name, conditioner)
        if mask is None:
            raise fail(name, "mask", "'channel' or 'even_odd'", None)
        check_form(name, mask, flip, tails)
        check_numbers(name, 1, bound, min_bin_width, min_bin_height, min_derivative)
        check_bool(name, "identity_init", identity_init)
        self.conditioner = conditioner
        self.mask, self.flip, self.tails, self.bound = mask, flip, tails, bound
        self.min_bin_width, self.min_bin_height, self.min_derivative = min_bin_width, min_bin_height, min_derivative
        self.identity_init, self.backend = identity_init, _dispatch.checked(name, backend)

    def forward(
        self,
        x: Tensor,  # [N, C, ...]
        *args: Tensor,  # what the conditioner takes besides
        inverse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        check_input("SplineCoupling", x, 2)
        return rational_quadratic_spline(
            x,
            self.conditioner(passing_half(x, self.mask, self.flip), *args),
            mask=self.mask,
            flip=self.flip,
            tails=self.tails,
            bound=self.bound,
            min_bin_width=self.min_bin_width,
            min_bin_height=self.min_bin_height,
            min_derivative=self.min_derivative,
            identity_init=self.identity_init,
            inverse=inverse,
            backend=self.backend,
        )

    def inverse(self, y: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
        """(x, log_det of the inverse map)"""
        return self(y, *args, inverse=True)

    def extra_repr(self) -> str:
        return f"mask={self.mask!r}, flip={self.flip}, tails={self.tails!r}, bound={self.bound}"
