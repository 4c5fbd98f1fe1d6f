"""The module over bernoulli_nll."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction
from pygen.functional import bernoulli_nll


class BernoulliNLL(nn.Module):
    """(logits, x) -> nll: see pygen.functional.bernoulli_nll. No parameters of its own.

    Args:
        reduction: "batchmean", "sum" or "none".
    """

    def __init__(self, *, reduction: str = "batchmean", backend: str | None = None) -> None:
        super().__init__()
        check_reduction("BernoulliNLL", reduction)
        self.reduction, self.backend = reduction, _dispatch.checked("BernoulliNLL", backend)

    def forward(
        self,
        logits: Tensor,  # [N, ...]
        x: Tensor,  # broadcasts to logits; bool, uint8, int64 or logits' dtype
    ) -> Tensor:
        return bernoulli_nll(logits, x, reduction=self.reduction, backend=self.backend)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
