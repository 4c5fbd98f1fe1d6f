"""The module over logistic_mixture_nll."""

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction
from pygen.functional import logistic_mixture_nll
from pygen.ops.logistic_mixture_nll import check_mixture


class LogisticMixtureNLL(nn.Module):
    """The negative log-likelihood, in nats, of integer levels under mixtures of logistics: (params, x) -> nll.

    The loss of PixelCNN++. No parameters. See pygen.functional.logistic_mixture_nll.

    Args:
        num_levels: of x, 2 .. 65536.
        min_log_scale: log scales count as at least this much.
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> criterion = pygen.nn.LogisticMixtureNLL()
        >>> params, x = torch.randn(2, 10 * 5, 8, 8), torch.randint(256, (2, 3, 8, 8))  # 5 components, 3 channels
        >>> criterion(params, x).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        num_levels: int = 256,
        min_log_scale: float = -7.0,
        reduction: str = "batchmean",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        check_mixture("LogisticMixtureNLL", num_levels, min_log_scale)
        check_reduction("LogisticMixtureNLL", reduction)
        self.num_levels, self.min_log_scale = num_levels, min_log_scale
        self.reduction, self.backend = reduction, _dispatch.checked("LogisticMixtureNLL", backend)

    def forward(
        self,
        params: Tensor,  # [N, P, ...]
        x: Tensor,  # [N, C, ...], uint8 or int64
    ) -> Tensor:
        return logistic_mixture_nll(
            params,
            x,
            num_levels=self.num_levels,
            min_log_scale=self.min_log_scale,
            reduction=self.reduction,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        return f"num_levels={self.num_levels}, min_log_scale={self.min_log_scale}, reduction={self.reduction!r}"
