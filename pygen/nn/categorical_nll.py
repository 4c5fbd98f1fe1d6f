"""The module over categorical_nll."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction
from pygen.functional import categorical_nll


class CategoricalNLL(nn.Module):
    """The negative log-likelihood, in nats, of integer levels under softmaxes of logits: (logits, x) -> nll.

    The loss of PixelCNN and its kin, of logits [N, C * L, ...] and x [N, C, ...]. No parameters. See
    pygen.functional.categorical_nll.

    Args:
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> criterion = pygen.nn.CategoricalNLL()
        >>> logits, x = torch.randn(4, 3 * 16, 8, 8), torch.randint(16, (4, 3, 8, 8))  # 16 levels of each of 3 channels
        >>> criterion(logits, x).shape
        torch.Size([])
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
