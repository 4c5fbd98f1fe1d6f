"""A layer of masked autoregressive flows."""

from __future__ import annotations

from collections.abc import Sequence

from pygen._checks import check_bool, fail
from pygen.nn._autoregressive import AutoregressiveLayer
from pygen.ops._autoregressive_rules import Affine
from pygen.ops.affine_coupling import check_scale


class MaskedAutoregressive(AutoregressiveLayer):
    """A layer of masked autoregressive flows (MAF, IAF): x -> (y, log_det), y = x e^f + t, from a MADE's shift t and scale f.

    With inverse=True y -> (x, log_det). t and f of a number are what a masked network makes of the numbers before
    it, and of cond. One way takes one pass of that network. The other has to find number after number, each of which
    the network needs for the next: it computes every unit once, when the last number that it sees is known, so it takes
    about one pass too, where code that runs the whole network for each number takes as many passes as there are
    numbers. Both ways are differentiable to any order; the first order of the inverse goes through the transposed
    network in the same way. At the start it is the identity: the last layer is zeros. Papamakarios et al. 2017, "Masked
    Autoregressive Flow for Density Estimation"; Kingma et al. 2016, "Improving Variational Inference with Inverse
    Autoregressive Flow".

    Args:
        num_inputs: D.
        hidden_sizes: widths of the network's hidden layers; one int is one layer.
        order: when each number comes, 0 .. D - 1 each once; None: as they lie. `range(D)[::-1]`: the last one first.
        cond_features: of cond, which a linear layer without bias adds to the first hidden layer; None: there is none.
        activation: of hidden units: "relu", "tanh", "elu" or "silu".
        scale, bound: of f, as in pygen.functional.affine_coupling.
        additive: y = x + t.
        backend: of all that runs: "reference", "cpu", "triton" (but for the inverse) or "cuda"; None chooses.

    Example:
        >>> layer = pygen.nn.MaskedAutoregressive(6, (32, 32), cond_features=2)
        >>> x, cond = torch.randn(8, 6), torch.randn(8, 2)
        >>> y, log_det = layer(x, cond)
        >>> y.shape, log_det.shape
        (torch.Size([8, 6]), torch.Size([8]))
        >>> torch.allclose(layer.inverse(y, cond)[0], x, atol=1e-4)
        True
    """

    _name = "MaskedAutoregressive"

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        order: Sequence[int] | None = None,
        cond_features: int | None = None,
        activation: str = "relu",
        scale: str = "exp",
        bound: float | None = None,
        additive: bool = False,
        backend: str | None = None,
    ) -> None:
        name = self._name
        check_scale(name, scale, bound)
        if check_bool(name, "additive", additive) and scale != "exp":
            raise fail(name, "scale", "'exp', the default, since an additive layer has none", repr(scale))
        super().__init__(
            num_inputs, hidden_sizes, order, cond_features, 1 if additive else 2, False, activation, backend
        )
        self.scale, self.bound, self.additive = scale, bound, additive

    @property
    def _rule(self) -> Affine:
        return Affine(self.scale, self.bound)

    def _extra(self) -> str:
        scale = "additive=True" if self.additive else f"scale={self.scale!r}"
        return scale if self.bound is None else f"{scale}, bound={self.bound}"
