"""The module over categorical_nll."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction
from pygen.functional import categorical_nll


class CategoricalNLL(nn.Module):
    """(logits, x) -> nll: see pygen.functional.categorical_nll. No parameters of its own.

    Args:
        reduction: "batchmean", "sum" or "none".
    """

    def __init__(self, *, reduction: str = "batchmean", backend: str | None = None) -> None:
        super().__init__()
        check_reduction("CategoricalNLL", reduction)
        self.reduction, self.backend = reduction, _dispatch.checked("CategoricalNLL", backend)

    def forward(
        self,
        logits: Tensor,  # [N, C * L, ...]
        x: Tensor,  # [N, C, ...], uint8 or int64
    ) -> Tensor:
        return categorical_nll(logits, x, reduction=self.reduction, backend=self.backend)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
