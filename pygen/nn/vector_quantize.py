"""The module over vector_quantize: a codebook, learnt by gradient or kept by moving averages."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_size, fail
from pygen.functional import code_statistics, vector_quantize
from pygen.ops._saved import snapshot
from pygen.ops.vector_quantize import check_reduction


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class VectorQuantizer(nn.Module):
    """The bottleneck of a VQ-VAE with its codebook: input [N, dim, ...] -> (quantized, indices [N, ...], loss).

    Each position's vector is replaced by its nearest code; see pygen.functional.vector_quantize. decay=None: `codebook`
    [num_codes, dim] is a parameter, learnt by the loss. A decay keeps it by moving averages instead (van den Oord et
    al. 2017, appendix A.1; Razavi et al. 2019): the loss is the commitment alone, `codebook` a buffer, beside it the
    buffers `cluster_sizes` [num_codes] and `cluster_sums` [num_codes, dim], all in state_dict. Each forward pass in
    training mode, with gradients or without, then moves them, after the codes were looked up:

        sizes = decay sizes + (1 - decay) counts        sums = decay sums + (1 - decay) code_statistics' sums
        codebook = sums / (n (sizes + epsilon) / (n + num_codes epsilon)), n the total of sizes

    They begin with sizes of 1 and sums equal to the codebook, so a code that nothing chooses stays where it is.
    Processes of a distributed training see their own batches: DistributedDataParallel hands on the buffers of the
    first. Keep them in float32 or wider (autocast does): 16 bits lose what a step adds. And outside of activation
    checkpointing: its second forward pass, within backward, would move them again and, as they have moved, find other
    codes than the first; it raises RuntimeError.

    Args:
        num_codes: K. The codebook is drawn uniformly from +-1 / K.
        dim: D.
        beta, reduction, backend: as in the function.
        codebook_weight: as in the function, 1 by default; with a decay 0, and no other.
        decay: 0 < decay < 1, 0.99 in the papers; None learns by gradient.
        epsilon: of the smoothing of sizes (Laplace's), > 0.
        restart_threshold: with a decay, codes whose size fell below it are put on positions of the batch, drawn by torch's
            generator of the device (as many numbers as codes, each training pass), their size on the threshold; None: never.

    Example:
        >>> quantizer = pygen.nn.VectorQuantizer(16, 4)
        >>> quantized, indices, loss = quantizer(torch.randn(2, 4, 8, 8))
        >>> quantized.shape, indices.shape, loss.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 8, 8]), torch.Size([]))
        >>> quantizer.lookup(indices).shape  # what a decoder takes
        torch.Size([2, 4, 8, 8])
    """

    codebook: Tensor  # [K, D]
    cluster_sizes: Tensor  # [K]
    cluster_sums: Tensor  # [K, D]

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        beta: float = 0.25,
        codebook_weight: float | None = None,
        decay: float | None = None,
        epsilon: float = 1e-5,
        restart_threshold: float | None = None,
        reduction: str = "mean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_size(name, "num_codes", num_codes)
        check_size(name, "dim", dim)
        check_reduction(name, reduction)
        if not _is_number(beta) or not beta >= 0:
            raise fail(name, "beta", "a number >= 0", repr(beta))
        if decay is not None and not (_is_number(decay) and 0 < decay < 1):
            raise fail(name, "decay", "None or 0 < decay < 1", repr(decay))
        if codebook_weight is not None and not (
            _is_number(codebook_weight) and (codebook_weight >= 0 if decay is None else codebook_weight == 0)
        ):
            expected = "None or a number >= 0" if decay is None else "None or 0 beside a decay"
            raise fail(name, "codebook_weight", expected, repr(codebook_weight))
        if not _is_number(epsilon) or not epsilon > 0:
            raise fail(name, "epsilon", "a number > 0", repr(epsilon))
        if restart_threshold is not None and (
            decay is None or not _is_number(restart_threshold) or not restart_threshold > 0
        ):
            raise fail(name, "restart_threshold", "None, or a number > 0 beside a decay", repr(restart_threshold))
        self.num_codes, self.dim, self.beta, self.decay, self.epsilon = num_codes, dim, beta, decay, epsilon
        self.restart_threshold, self.reduction = restart_threshold, reduction
        if codebook_weight is None:
            codebook_weight = 1.0 if decay is None else 0.0
        self.codebook_weight = codebook_weight
        self.backend = _dispatch.checked(name, backend)
        codebook = torch.empty(num_codes, dim, device=device, dtype=dtype)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("cluster_sizes", torch.empty(num_codes, device=device, dtype=dtype))
            self.register_buffer("cluster_sums", torch.empty_like(codebook))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.codebook, -1 / self.num_codes, 1 / self.num_codes)
        if self.decay is not None:
            self.cluster_sizes.fill_(1)
            self.cluster_sums.copy_(self.codebook)

    def forward(
        self,
        input: Tensor,  # [N, dim, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        moves = self.decay is not None and self.training
        if moves and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            expected = "None or eval() under activation checkpointing, whose second forward pass finds other codes"
            raise fail(type(self).__name__, "decay", expected, self.decay, kind=RuntimeError)
        result = vector_quantize(
            input,
            snapshot(self.codebook) if moves else self.codebook,  # backward reads what was looked up
            beta=self.beta,
            codebook_weight=self.codebook_weight,
            reduction=self.reduction,
            backend=self.backend,
        )
        if moves:
            self._move(input.detach(), result[1])
        return result

    @torch.no_grad()
    def _move(
        self,
        input: Tensor,  # [N, dim, ...]
        indices: Tensor,  # [N, ...]
    ) -> None:
        assert self.decay is not None
        if not indices.numel():
            return
        counts, sums = code_statistics(input, indices, self.num_codes, backend=self.backend)
        sizes = self.cluster_sizes.to(sums.dtype) * self.decay + counts.to(sums.dtype) * (1 - self.decay)
        total = self.cluster_sums.to(sums.dtype) * self.decay + sums * (1 - self.decay)
        n = sizes.sum()
        codebook = total / (n * (sizes + self.epsilon) / (n + self.num_codes * self.epsilon)).unsqueeze(1)
        if self.restart_threshold is not None:
            dead = sizes < self.restart_threshold
            rows = input.movedim(1, -1).reshape(-1, self.dim)
            drawn = rows[torch.randint(rows.shape[0], (self.num_codes,), device=input.device)].to(sums.dtype)
            codebook = torch.where(dead.unsqueeze(1), drawn, codebook)
            total = torch.where(dead.unsqueeze(1), drawn * self.restart_threshold, total)
            sizes = torch.where(dead, self.restart_threshold, sizes)
        self.cluster_sizes.copy_(sizes)
        self.cluster_sums.copy_(total)
        self.codebook.copy_(codebook)

    def lookup(
        self,
        indices: Tensor,  # [N, ...], int64
    ) -> Tensor:
        """The codes in their places, [N, dim, ...]: what a decoder takes."""
        return F.embedding(indices, self.codebook).movedim(-1, 1)

    @staticmethod
    def perplexity(
        counts: Tensor,  # [K], of code_statistics or torch.bincount
    ) -> Tensor:
        """e^entropy of the codes' use, 1 .. K: how many codes are in use, so to speak."""
        chances = counts / counts.sum()
        return torch.special.entr(chances).sum().exp()

    def extra_repr(self) -> str:
        moving = f", codebook_weight={self.codebook_weight}"
        if self.decay is not None:
            moving = f", decay={self.decay}, epsilon={self.epsilon}"
        if self.restart_threshold is not None:
            moving += f", restart_threshold={self.restart_threshold}"
        return f"{self.num_codes}, {self.dim}, beta={self.beta}{moving}, reduction={self.reduction!r}"
