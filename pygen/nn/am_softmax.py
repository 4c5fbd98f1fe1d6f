"""The module over am_softmax."""

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction, check_size
from pygen.functional import am_softmax
from pygen.ops.am_softmax import check_options


class AMSoftmax(nn.Module):
    """The margin softmax loss (CosFace, ArcFace) with the classes' weights: (embeddings [N, D], target [N]) -> loss in nats.

    The weights, [C, D], are drawn as nn.Linear's. See pygen.functional.am_softmax.

    Args:
        in_features: D, of an embedding.
        num_classes: C.
        scale, margin, angular_margin, reduction, backend: as in the function.

    Example:
        >>> criterion = pygen.nn.AMSoftmax(16, 10)  # in place of a last layer of 10 classes and F.cross_entropy
        >>> loss = criterion(torch.randn(8, 16), torch.randint(10, (8,)))
        >>> loss.shape, criterion.weight.shape
        (torch.Size([]), torch.Size([10, 16]))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: float = 30.0,
        margin: float = 0.35,
        angular_margin: float = 0.0,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("num_classes", num_classes)):
            check_size("AMSoftmax", name, value)
        check_options("AMSoftmax", scale, margin, angular_margin)
        check_reduction("AMSoftmax", reduction)
        self.in_features, self.num_classes = in_features, num_classes
        self.scale, self.margin, self.angular_margin, self.reduction = scale, margin, angular_margin, reduction
        self.backend = _dispatch.checked("AMSoftmax", backend)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(
        self,
        input: Tensor,  # [N, in_features]
        target: Tensor,  # [N], int64
    ) -> Tensor:
        return am_softmax(
            input,
            self.weight,
            target,
            scale=self.scale,
            margin=self.margin,
            angular_margin=self.angular_margin,
            reduction=self.reduction,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        angular = f", angular_margin={self.angular_margin}" if self.angular_margin else ""
        return (
            f"{self.in_features}, {self.num_classes}, scale={self.scale}, margin={self.margin}{angular}, "
            f"reduction={self.reduction!r}"
        )
