"""The modules over the noise-contrastive losses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_bool, check_reduction, check_size, check_tensor, fail
from pygen.functional import nce_loss, negative_sampling_loss, noise_table, sampled_softmax_loss

_DOC = """{what}: (input [N, D], target [N]) -> loss, in nats.

    Holds the classes' weights [C, D], drawn as nn.Embedding's over sqrt(D), a bias of zeros and, as a buffer, the alias table of
    the noise law counts^power. Draws negatives anew at each call. See pygen.functional.{function}.

    Args:
        num_classes: C.
        features: D.
        counts: [C], how often classes come (noise_table); None: all as often.
        num_negatives: K.
        power: of the noise law.
        shared: whether one draw of K negatives serves the whole batch.
        bias: whether classes have one.
        sparse: whether weight's gradient comes as a sparse tensor.
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> criterion = pygen.nn.{name}(1000, 16, num_negatives=5)  # 1000 classes, vectors of 16 numbers
        >>> criterion(torch.randn(8, 16), torch.randint(1000, (8,))).shape
        torch.Size([])
    """


class _Contrastive(nn.Module):
    """The parameters, the noise and the call of the three."""

    _loss: Callable[..., Tensor]
    noise: Tensor  # [C, 3]

    def __init__(
        self,
        num_classes: int,
        features: int,
        counts: Tensor | None = None,
        *,
        num_negatives: int,
        power: float = 0.75,
        shared: bool = False,
        bias: bool = True,
        sparse: bool = False,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        sizes = {"num_classes": num_classes, "features": features, "num_negatives": num_negatives}
        for argument, value in sizes.items():
            check_size(name, argument, value)
        for argument, value in (("shared", shared), ("bias", bias), ("sparse", sparse)):
            check_bool(name, argument, value)
        check_reduction(name, reduction)
        if counts is not None:
            check_tensor(name, "counts", counts)
        if counts is not None and counts.shape != (num_classes,):
            raise fail(name, "counts", f"[{num_classes}], of num_classes", list(counts.shape))
        self.num_classes, self.features, self.num_negatives = num_classes, features, num_negatives
        self.shared, self.sparse, self.reduction = shared, sparse, reduction
        self.backend = _dispatch.checked(name, backend)
        self.weight = nn.Parameter(torch.empty(num_classes, features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype)) if bias else None
        table = noise_table(torch.ones(num_classes, device="cpu") if counts is None else counts, power)
        self.register_buffer("noise", table.to(self.weight.device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.features**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        input: Tensor,  # [N, D]
        target: Tensor,  # [N], int64
    ) -> Tensor:
        options = {"num_negatives": self.num_negatives, "shared": self.shared, "sparse": self.sparse}
        return type(self)._loss(
            input,
            self.weight,
            target,
            bias=self.bias,
            noise=self.noise,
            reduction=self.reduction,
            backend=self.backend,
            **options,
        )

    def extra_repr(self) -> str:
        return f"{self.num_classes}, {self.features}, num_negatives={self.num_negatives}, reduction={self.reduction!r}"


class NegativeSamplingLoss(_Contrastive):
    __doc__ = _DOC.format(
        what="word2vec's loss, which trains embeddings of very many classes",
        function="negative_sampling_loss",
        name="NegativeSamplingLoss",
    )
    _loss = staticmethod(negative_sampling_loss)


class NCELoss(_Contrastive):
    __doc__ = _DOC.format(
        what="Noise-contrastive estimation, which trains a classifier of very many classes from a few drawn ones",
        function="nce_loss",
        name="NCELoss",
    )
    _loss = staticmethod(nce_loss)


class SampledSoftmaxLoss(_Contrastive):
    __doc__ = _DOC.format(
        what="Sampled softmax, which trains a softmax over very many classes from a few drawn ones",
        function="sampled_softmax_loss",
        name="SampledSoftmaxLoss",
    )
    _loss = staticmethod(sampled_softmax_loss)
