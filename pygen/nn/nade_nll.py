"""The module over nade_nll."""

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction, check_size
from pygen.functional import nade_nll


def register_parameters(
    module: nn.Module,
    num_inputs: int,
    hidden_size: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Gives the module a NADE's parameters: weights uniform in +-1 / sqrt(fan-in), as those of nn.Linear; biases of 0."""
    for name, fan_in in (("weight", num_inputs), ("output_weight", hidden_size)):
        bound = max(1, fan_in) ** -0.5
        weight = torch.empty(num_inputs, hidden_size, device=device, dtype=dtype).uniform_(-bound, bound)
        module.register_parameter(name, nn.Parameter(weight))
    module.hidden_bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))
    module.output_bias = nn.Parameter(torch.zeros(num_inputs, device=device, dtype=dtype))


class NADENLL(nn.Module):
    """The negative log-likelihood, in nats, of binary x [N, D] under a NADE whose parameters it holds: x -> nll.

    See pygen.functional.nade_nll; pygen.models.NADE also draws.

    Args:
        num_inputs: D.
        hidden_size: H.
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> criterion = pygen.nn.NADENLL(10, 16)  # D = 10, H = 16
        >>> criterion(torch.randint(2, (4, 10))).shape
        torch.Size([])
    """

    weight: nn.Parameter  # [D, H]
    hidden_bias: nn.Parameter  # [H]
    output_weight: nn.Parameter  # [D, H]
    output_bias: nn.Parameter  # [D]

    def __init__(
        self,
        num_inputs: int,
        hidden_size: int,
        *,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_inputs", num_inputs), ("hidden_size", hidden_size)):
            check_size("NADENLL", name, value)
        check_reduction("NADENLL", reduction)
        self.num_inputs, self.hidden_size = num_inputs, hidden_size
        self.reduction, self.backend = reduction, _dispatch.checked("NADENLL", backend)
        register_parameters(self, num_inputs, hidden_size, device, dtype)

    def forward(
        self,
        x: Tensor,  # [N, D], bool, uint8, int64 or the parameters' dtype
    ) -> Tensor:
        parameters = (self.weight, self.hidden_bias, self.output_weight, self.output_bias)
        return nade_nll(x, *parameters, reduction=self.reduction, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.num_inputs}, {self.hidden_size}, reduction={self.reduction!r}"
