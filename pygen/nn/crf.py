"""The module over the crf functions."""

import torch
from torch import Generator, Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction, check_tensor, fail
from pygen.functional import crf_decode, crf_marginals, crf_nll, crf_sample

_OP = "LinearChainCRF"


class LinearChainCRF(nn.Module):
    """A linear-chain CRF over a tagger's emissions: (emissions [N, T, K], tags [N, T]) -> negative log-likelihood, in nats.

    The result is the loss, to be minimised, not the log-likelihood; `decode` gives the likeliest tags. See
    pygen.functional.crf_nll. The parameters have the names, shapes and first values (uniform in [-0.1, 0.1]) of
    pytorch-crf's CRF, whose checkpoints load: transitions [num_tags, num_tags], from tag to tag, start_transitions and
    end_transitions [num_tags]. What differs from it: the batch comes first, the result is the negative, "batchmean" is
    the default, and decode gives tensors.

    Args:
        num_tags: K, at least 1.
        batch_first: True; another order is refused (transpose the emissions: any strides do).
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> crf = pygen.nn.LinearChainCRF(5)
        >>> emissions, tags = torch.randn(2, 7, 5), torch.randint(5, (2, 7))  # 2 sequences of 7 steps, 5 tags
        >>> crf(emissions, tags).shape
        torch.Size([])
        >>> tags, scores = crf.decode(emissions)
        >>> tags.shape, scores.shape
        (torch.Size([2, 7]), torch.Size([2]))
    """

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = True,
        *,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(num_tags, bool) or not isinstance(num_tags, int):
            raise fail(_OP, "num_tags", "an int", type(num_tags).__name__, kind=TypeError)
        if num_tags < 1:
            raise fail(_OP, "num_tags", "at least 1", num_tags)
        if batch_first is not True:
            raise fail(_OP, "batch_first", "True (emissions.transpose(0, 1) costs nothing)", batch_first)
        check_reduction(_OP, reduction)
        self.num_tags, self.reduction, self.backend = num_tags, reduction, _dispatch.checked(_OP, backend)
        self.start_transitions = nn.Parameter(torch.empty(num_tags, device=device, dtype=dtype))
        self.end_transitions = nn.Parameter(torch.empty(num_tags, device=device, dtype=dtype))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self,
        emissions: Tensor,  # [N, T, K]
        tags: Tensor,  # [N, T], int64
        lengths: Tensor | None = None,  # [N], int64
        *,
        mask: Tensor | None = None,  # [N, T], bool or uint8: true up to each length, instead of lengths
    ) -> Tensor:
        """The negative log-likelihood of the tags."""
        given = self._lengths(emissions, lengths, mask)
        return crf_nll(emissions, tags, *self._scores(), lengths=given, reduction=self.reduction, backend=self.backend)

    def decode(
        self, emissions: Tensor, lengths: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The likeliest tags [N, T], int64, -1 past the length, and their scores [N]."""
        return crf_decode(
            emissions, *self._scores(), lengths=self._lengths(emissions, lengths, mask), backend=self.backend
        )

    def marginals(self, emissions: Tensor, lengths: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each step, [N, T, K]."""
        return crf_marginals(
            emissions, *self._scores(), lengths=self._lengths(emissions, lengths, mask), backend=self.backend
        )

    def sample(
        self,
        emissions: Tensor,  # [N, T, K]
        num_samples: int | None = None,
        lengths: Tensor | None = None,  # [N], int64
        *,
        mask: Tensor | None = None,  # as forward's
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Tags drawn from the distribution whose nll forward gives: [N, T], int64, or [num_samples, N, T]; -1 past the length."""
        given = self._lengths(emissions, lengths, mask)
        return crf_sample(
            emissions, *self._scores(), num_samples=num_samples, lengths=given, temperature=temperature,
            seed=seed, generator=generator, backend=self.backend,
        )  # fmt: skip

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.transitions, self.start_transitions, self.end_transitions

    def _lengths(self, emissions: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """A mask with a hole raises on a CPU; on a GPU, where a check would have to synchronise, it is a wrong length."""
        if mask is None:
            # pytorch-crf's third argument
            if isinstance(lengths, Tensor) and lengths.dtype in (torch.bool, torch.uint8):
                raise fail(_OP, "lengths", "[N] of torch.int64 (a mask goes to mask=)", lengths.dtype, kind=TypeError)
            return lengths
        if lengths is not None:
            raise fail(_OP, "mask", "at most one of lengths and mask", "both")
        if not isinstance(mask, Tensor) or mask.dtype not in (torch.bool, torch.uint8):
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise fail(_OP, "mask", "a tensor of torch.bool or torch.uint8", got, kind=TypeError)
        check_tensor(_OP, "emissions", emissions)
        if emissions.dim() != 3:
            raise fail(_OP, "emissions", "[N, T, K]", list(emissions.shape))
        if mask.shape != emissions.shape[:2] or mask.device != emissions.device:
            where = f"{list(emissions.shape[:2])} on {emissions.device}"
            raise fail(_OP, "mask", f"shape {where}, as emissions", f"{list(mask.shape)} on {mask.device}")
        on = mask != 0
        holes = (on[:, 1:] & ~on[:, :-1]).any(1)
        if mask.is_cpu and not torch.compiler.is_compiling() and type(mask) is Tensor and bool(holes.any()):
            raise fail(
                _OP, "mask", "true up to a length and false from there on", f"a hole in row {int(holes.int().argmax())}"
            )
        return torch.where(holes, -1, on.sum(1))

    def extra_repr(self) -> str:
        return f"{self.num_tags}, reduction={self.reduction!r}"
