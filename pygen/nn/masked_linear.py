"""MADE's layer as a module."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen.functional import masked_linear
from pygen.nn.masked_conv2d import compare_masks
from pygen.ops.masked_linear import check_degrees


class MaskedLinear(nn.Linear):
    """nn.Linear whose connections obey degrees, the layer of MADE: input i feeds output o only where its degree allows it.

    Initialised like nn.Linear; no mask is kept. The state_dict has `weight` and `bias`; a checkpoint that also has a
    `mask` [out, in] loads if that mask is this one. See pygen.functional.masked_linear.

    Args:
        in_degrees: one int for each input, a sequence or a one-dimensional tensor or array of integers.
        out_degrees: one int for each output, likewise.
        strict: input i feeds output o where out_degrees[o] > in_degrees[i]; else where >=.
        bias, device, dtype: as in nn.Linear; backend: as in the function.

    Example:
        >>> layer = pygen.nn.MaskedLinear([0, 1, 2], [0, 1], strict=False)
        >>> layer(torch.randn(8, 3)).shape
        torch.Size([8, 2])
        >>> layer.live_mask()
        tensor([[ True, False, False],
                [ True,  True, False]])
    """

    def __init__(
        self,
        in_degrees: Sequence[int],
        out_degrees: Sequence[int],
        *,
        strict: bool,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        in_degrees, out_degrees = _plain(in_degrees), _plain(out_degrees)
        check_degrees(type(self).__name__, in_degrees, out_degrees, strict)
        super().__init__(len(in_degrees), len(out_degrees), bias=bias, device=device, dtype=dtype)
        self.in_degrees, self.out_degrees = tuple(in_degrees), tuple(out_degrees)
        self.strict, self.backend = strict, _dispatch.checked(type(self).__name__, backend)

    def forward(self, input: Tensor) -> Tensor:  # [..., in] -> [..., out]
        return masked_linear(
            input,
            self.weight,
            self.bias,
            in_degrees=self.in_degrees,
            out_degrees=self.out_degrees,
            strict=self.strict,
            backend=self.backend,
        )

    def live_mask(self) -> Tensor:
        """bool [out, in]: which weights are used."""
        ins, outs = (torch.tensor(d, dtype=torch.int64, device="cpu") for d in (self.in_degrees, self.out_degrees))
        return outs[:, None] > ins if self.strict else outs[:, None] >= ins

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        theirs = state_dict.pop(prefix + "mask", None)
        if theirs is not None:
            compare_masks("MaskedLinear", prefix + "mask", theirs, self.live_mask())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, strict={self.strict}"


def _plain(degrees: Any) -> Any:
    """Of a tensor, an array, a range or a sequence of NumPy's integers a list of int; check_degrees sees to the rest."""
    if hasattr(degrees, "tolist"):
        return degrees.tolist()
    if isinstance(degrees, Sequence) and not isinstance(degrees, str):
        return [degree.item() if hasattr(degree, "item") else degree for degree in degrees]
    return degrees
