"""The module over nade_nll."""

import torch
from torch import Tensor, nn

from pygen.functional import nade_nll


class NADENLL(nn.Module):
    """x -> nll of a NADE whose parameters it holds: see pygen.functional.nade_nll.

    Weights start uniform in +-1 / sqrt(fan-in) as those of nn.Linear, biases at 0.

    Args:
        num_inputs: D.
        hidden_size: H.
        reduction: "batchmean", "sum" or "none".
    """

    def __init__(
        self, num_inputs: int, hidden_size: int, *, reduction: str = "batchmean", backend: str | None = None
    ) -> None:
        super().__init__()
        self.num_inputs, self.hidden_size = num_inputs, hidden_size
        self.reduction, self.backend = reduction, backend
        self.weight = nn.Parameter(torch.empty(num_inputs, hidden_size))
        self.hidden_bias = nn.Parameter(torch.empty(hidden_size))
        self.output_weight = nn.Parameter(torch.empty(num_inputs, hidden_size))
        self.output_bias = nn.Parameter(torch.empty(num_inputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight, fan_in in ((self.weight, self.num_inputs), (self.output_weight, self.hidden_size)):
            nn.init.uniform_(weight, -(max(1, fan_in) ** -0.5), max(1, fan_in) ** -0.5)
        nn.init.zeros_(self.hidden_bias)
        nn.init.zeros_(self.output_bias)

    def forward(
        self,
        x: Tensor,  # [N, D], bool, uint8, int64 or the parameters' dtype
    ) -> Tensor:
        parameters = (self.weight, self.hidden_bias, self.output_weight, self.output_bias)
        return nade_nll(x, *parameters, reduction=self.reduction, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.num_inputs}, {self.hidden_size}, reduction={self.reduction!r}"
