"""A layer of autoregressive neural spline flows."""

from __future__ import annotations

from collections.abc import Sequence

from pygen._checks import check_bool, check_size, fail
from pygen.nn._autoregressive import AutoregressiveLayer
from pygen.ops._autoregressive_rules import Spline
from pygen.ops.rational_quadratic_spline import MOST_BINS, check_form, check_numbers


class MaskedAutoregressiveSpline(AutoregressiveLayer):
    """A layer of autoregressive neural spline flows: x -> (y, log_det), each number by a spline of a MADE.

    With inverse=True y -> (x, log_det). The splines are those of pygen.functional.rational_quadratic_spline, their
    numbers what a masked network makes of the numbers before, and of cond. As with MaskedAutoregressive either way
    takes about one pass of the network, is differentiable to any order, and the first order of the inverse goes through
    the transposed network. At the start it is the identity, where identity_init is true: the last layer is zeros.
    Durkan et al. 2019, "Neural Spline Flows", whose RQ-NSF (AR) has residual blocks in its network.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the network's hidden layers; one int is one layer.
        num_bins: of each spline, 1 .. 256; the last layer makes 3 num_bins - 1 numbers for each input (tails=None: + 1).
        order: when each number comes, 0 .. D - 1 each once; None: as they lie. `range(D)[::-1]`: the last one first.
        cond_features: of cond, which a linear layer without bias adds to the first hidden layer; None: there is none.
        activation: of hidden units: "relu", "tanh", "elu" or "silu".
        tails, bound, min_bin_width, min_bin_height, min_derivative, identity_init: as in the function.
        backend: of all that runs: "reference", "cpu", "triton" (but for the inverse) or "cuda"; None chooses.

    Example:
        >>> layer = pygen.nn.MaskedAutoregressiveSpline(6, (32, 32), num_bins=8, cond_features=2)
        >>> x, cond = torch.randn(8, 6), torch.randn(8, 2)
        >>> y, log_det = layer(x, cond)
        >>> y.shape, log_det.shape
        (torch.Size([8, 6]), torch.Size([8]))
        >>> torch.allclose(layer.inverse(y, cond)[0], x, atol=1e-4)
        True
    """

    _name = "MaskedAutoregressiveSpline"

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        num_bins: int = 8,
        order: Sequence[int] | None = None,
        cond_features: int | None = None,
        activation: str = "relu",
        tails: str | None = "linear",
        bound: float | tuple[float, float] = 3.0,
        min_bin_width: float = 1e-3,
        min_bin_height: float = 1e-3,
        min_derivative: float = 1e-3,
        identity_init: bool = True,
        backend: str | None = None,
    ) -> None:
        name = self._name
        check_size(name, "num_bins", num_bins)
        if num_bins > MOST_BINS:
            raise fail(name, "num_bins", f"an int <= {MOST_BINS}", num_bins)
        check_form(name, None, False, tails)
        check_numbers(name, num_bins, bound, min_bin_width, min_bin_height, min_derivative)
        check_bool(name, "identity_init", identity_init)
        numbers = 3 * num_bins + (1 if tails is None else -1)
        super().__init__(num_inputs, hidden_sizes, order, cond_features, numbers, True, activation, backend)
        self.num_bins, self.tails, self.bound = num_bins, tails, bound
        self.min_bin_width, self.min_bin_height, self.min_derivative = min_bin_width, min_bin_height, min_derivative
        self.identity_init = identity_init

    @property
    def _rule(self) -> Spline:
        least = self.min_bin_width, self.min_bin_height, self.min_derivative
        return Spline(self.tails, *check_numbers(self._name, self.num_bins, self.bound, *least), self.identity_init)

    def _extra(self) -> str:
        return f"num_bins={self.num_bins}, tails={self.tails!r}, bound={self.bound}"
