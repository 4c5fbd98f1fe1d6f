"""The module over rbm_free_energy."""

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction, check_size
from pygen.functional import rbm_free_energy


def register_parameters(
    module: nn.Module,
    num_visible: int,
    num_hidden: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Gives the module a machine's parameters: weights N(0, 0.01^2), as Hinton 2012, section 8, has them; biases of 0."""
    module.weight = nn.Parameter(0.01 * torch.randn(num_hidden, num_visible, device=device, dtype=dtype))
    module.visible_bias = nn.Parameter(torch.zeros(num_visible, device=device, dtype=dtype))
    module.hidden_bias = nn.Parameter(torch.zeros(num_hidden, device=device, dtype=dtype))


class RBMFreeEnergy(nn.Module):
    """The free energy, in nats, of a restricted Boltzmann machine whose parameters it holds: v [N, D] -> energy.

    See pygen.functional.rbm_free_energy; pygen.models.RBM has the chains as well.

    Args:
        num_visible: D.
        num_hidden: H.
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> energy = pygen.nn.RBMFreeEnergy(6, 3, reduction="none")
        >>> energy(torch.randint(2, (4, 6))).shape
        torch.Size([4])
    """

    weight: nn.Parameter  # [H, D]
    visible_bias: nn.Parameter  # [D]
    hidden_bias: nn.Parameter  # [H]

    def __init__(
        self,
        num_visible: int,
        num_hidden: int,
        *,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_visible", num_visible), ("num_hidden", num_hidden)):
            check_size("RBMFreeEnergy", name, value)
        check_reduction("RBMFreeEnergy", reduction)
        self.num_visible, self.num_hidden = num_visible, num_hidden
        self.reduction, self.backend = reduction, _dispatch.checked("RBMFreeEnergy", backend)
        register_parameters(self, num_visible, num_hidden, device, dtype)

    def forward(
        self,
        v: Tensor,  # [N, D], bool, uint8, int64 or the parameters' dtype
    ) -> Tensor:
        parameters = (self.weight, self.visible_bias, self.hidden_bias)
        return rbm_free_energy(v, *parameters, reduction=self.reduction, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.num_visible}, {self.num_hidden}, reduction={self.reduction!r}"
