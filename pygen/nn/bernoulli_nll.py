"""The module over bernoulli_nll."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction
from pygen.functional import bernoulli_nll


class BernoulliNLL(nn.Module):
    """The negative log-likelihood, in nats, of binary x under independent Bernoullis: (logits, x) -> nll.

    For the reconstruction term of a VAE. No parameters. See pygen.functional.bernoulli_nll.

    Args:
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> criterion = pygen.nn.BernoulliNLL()
        >>> criterion(torch.randn(4, 1, 8, 8), torch.randint(2, (4, 1, 8, 8))).shape
        torch.Size([])
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
