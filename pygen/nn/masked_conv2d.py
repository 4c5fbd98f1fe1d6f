"""Masked convolutions as modules: one layer, and the two stacks of Gated PixelCNN."""

from typing import Any

import torch
from torch import Tensor, nn

from pygen import _dispatch, _taps
from pygen._checks import check_bool, check_floating, check_size, check_tensor, fail
from pygen.functional import gated_masked_conv2d, masked_conv2d
from pygen.nn._layers import at_each_pixel, hooked
from pygen.nn._pointwise import PointwiseConv2d


class MaskedConv2d(nn.Conv2d):
    """nn.Conv2d whose kernel sees only some of its taps, such as the pixels before a pixel's own: the layer of PixelCNN.

    The same size comes out. Initialised like nn.Conv2d. The state_dict has `weight` and `bias`; a checkpoint that also
    has a `mask` loads if that mask is this one. See pygen.functional.masked_conv2d.

    Args:
        in_channels, out_channels, bias, device, dtype: as in nn.Conv2d.
        kernel_size: an int or (height, width), odd.
        mask_type: "A" (pixels before the centre in raster order), "B" (and the centre), or a pattern of live taps, bool [kH, kW].
        color_groups, dilation, backend: as in masked_conv2d.
        padding: None, "same", or the number that is the same.
        stride, groups, padding_mode: only nn.Conv2d's defaults.

    Example:
        >>> layer = pygen.nn.MaskedConv2d(1, 16, 7, "A")
        >>> layer(torch.randn(2, 1, 8, 8)).shape
        torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        mask_type: Any,
        *,
        color_groups: int = 1,
        dilation: int = 1,
        padding: int | tuple[int, int] | str | None = None,
        bias: bool = True,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        name = type(self).__name__
        for argument, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_size(name, argument, channels)
        check_bool(name, "bias", bias)
        height, width = _taps.kernel_sides(name, kernel_size, patterns=True)
        mask_type = _taps.normalize_mask_type(name, mask_type)
        _taps.live_taps(name, mask_type, color_groups, height, width)
        _taps.check_groups(name, mask_type, color_groups, in_channels, out_channels)
        _taps.check_dilation(name, dilation)
        same = (height // 2 * dilation, width // 2 * dilation)
        if padding not in (None, "same", same) and not (same[0] == same[1] and padding == same[0]):
            raise fail(name, "padding", f"None, 'same' or {same}", repr(padding))
        for option, value, default in (
            ("stride", stride, (1, (1, 1))),
            ("groups", groups, (1,)),
            ("padding_mode", padding_mode, ("zeros",)),
        ):
            if value not in default:
                raise fail(name, option, repr(default[0]), repr(value))
        super().__init__(
            in_channels,
            out_channels,
            (height, width),
            padding=same,
            dilation=dilation,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.mask_type, self.color_groups = mask_type, color_groups
        self.backend = _dispatch.checked(name, backend)

    def forward(self, input: Tensor) -> Tensor:  # [N, Cin, H, W] -> [N, Cout, H, W]
        return masked_conv2d(
            input,
            self.weight,
            self.bias,
            mask_type=self.mask_type,
            color_groups=self.color_groups,
            dilation=self.dilation[0],
            backend=self.backend,
        )

    def live_mask(self) -> Tensor:
        """bool [Cout, Cin, kH, kW]: which weights are used."""
        return _taps.dense_mask(self.mask_type, self.color_groups, self.weight.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        theirs = state_dict.pop(prefix + "mask", None)
        if theirs is not None:
            compare_masks("MaskedConv2d", prefix + "mask", theirs, self.live_mask())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        live = repr(self.mask_type) if isinstance(self.mask_type, str) else "a pattern"
        groups = f", color_groups={self.color_groups}" if self.color_groups > 1 else ""
        return f"{super().extra_repr()}, mask_type={live}{groups}"


def compare_masks(op: str, name: str, theirs: Tensor, ours: Tensor) -> None:
    """Raises, naming the first place, where a checkpoint's mask (of any shape that broadcasts) differs."""
    try:
        theirs = theirs.detach().cpu().expand(ours.shape)
    except RuntimeError:
        raise fail(op, name, f"a mask {list(ours.shape)}", list(theirs.shape)) from None
    different = (theirs != ours.to(theirs.dtype)).nonzero()
    if len(different):
        out, in_, *tap = place = tuple(different[0].tolist())
        where = f"output {out}, input {in_}{f', tap ({tap[0]}, {tap[1]})' if tap else ''}"
        expected, got = ("live", "dead") if ours[place] else ("dead", "live")
        raise fail(op, name, f"this layer's mask, {expected} at {where}", got)


class _BeforeGate(MaskedConv2d):
    """The masked convolution of a stack with the gate behind it."""

    def forward(  # type: ignore[override]  # two outputs
        self,
        input: Tensor,
        cond: Tensor | None = None,
        add: Tensor | None = None,
        side: tuple[Tensor, nn.Conv2d] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What goes into the gate [N, 2 C, H, W], with `add` and a 1x1 convolution of a side, and what comes out [N, C, H, W]."""
        bias = self.bias
        if side is not None and side[1].bias is not None:
            bias = side[1].bias if bias is None else bias + side[1].bias
        return gated_masked_conv2d(
            input,
            self.weight,
            bias,
            mask_type=self.mask_type,
            add=add,
            cond=cond,
            side=None if side is None else side[0],
            side_weight=None if side is None else side[1].weight,
            color_groups=self.color_groups,
            dilation=self.dilation[0],
            backend=self.backend,
        )


class GatedMaskedConv2d(nn.Module):
    """A layer of Gated PixelCNN: a vertical stack that sees the rows above, a horizontal one that sees the row so far.

    vertical' = gate(conv(vertical)); horizontal' = out(gate(conv(horizontal) +
    vertical_to_horizontal(conv(vertical)))), added to horizontal with type B (with A that would show each pixel to
    itself). No blind spot. Van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", figure 2.

    Args:
        in_channels, out_channels: of either stack; equal with type B.
        kernel_size: k, odd: k x k over the rows above, 1 x k along the row.
        mask_type: "A" for the first layer, "B" for the others.
        color_groups: of the horizontal stack.
        cond_channels: K, to condition on [N, K] or [N, K, H, W]; None: no condition.
        backend: as in pygen.functional.masked_conv2d.

    Example:
        >>> first, layer = pygen.nn.GatedMaskedConv2d(1, 16, 7, "A"), pygen.nn.GatedMaskedConv2d(16, 16, 3, "B")
        >>> x = torch.randn(2, 1, 8, 8)
        >>> vertical, horizontal = layer(*first(x, x))
        >>> vertical.shape, horizontal.shape
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 16, 8, 8]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        mask_type: str,
        *,
        color_groups: int = 1,
        cond_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if mask_type not in ("A", "B"):
            raise fail(name, "mask_type", "'A' or 'B'", repr(mask_type))
        for argument, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_size(name, argument, channels)
        if cond_channels is not None:
            check_size(name, "cond_channels", cond_channels)
        if mask_type == "B" and in_channels != out_channels:
            raise fail(name, "out_channels", f"{in_channels}, in_channels (the residual connection)", out_channels)
        if isinstance(kernel_size, (tuple, list)):
            raise fail(name, "kernel_size", "an int, of k x k", repr(kernel_size), kind=TypeError)
        _taps.kernel_sides(name, kernel_size)
        _taps.check_groups(name, mask_type, color_groups, in_channels, 2 * out_channels)
        self.mask_type, self.color_groups = mask_type, color_groups
        self.backend = _dispatch.checked(name, backend)
        there: dict[str, Any] = {"device": device, "dtype": dtype}
        live_rows = kernel_size // 2 + (mask_type == "B")
        above = tuple((row < live_rows,) * kernel_size for row in range(kernel_size))
        wide = 2 * out_channels
        masked: dict[str, Any] = {"backend": backend, **there}
        self.vertical = _BeforeGate(in_channels, wide, kernel_size, above, **masked)
        self.vertical_to_horizontal = PointwiseConv2d(wide, wide, **there)
        self.horizontal = _BeforeGate(
            in_channels, wide, (1, kernel_size), mask_type, color_groups=color_groups, **masked
        )
        self.out = (
            PointwiseConv2d(out_channels, out_channels, **there)
            if color_groups == 1
            else MaskedConv2d(out_channels, out_channels, 1, "B", color_groups=color_groups, **masked)
        )
        self.cond = nn.Linear(cond_channels, 2 * wide, bias=False, **there) if cond_channels is not None else None

    def forward(self, vertical: Tensor, horizontal: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Either stack [N, C, H, W], cond [N, K] or [N, K, H, W] -> the two stacks."""
        if (cond is None) != (self.cond is None):
            expected = (
                "None (cond_channels was not set)" if self.cond is None else "a tensor, since cond_channels is set"
            )
            raise fail(type(self).__name__, "cond", expected, "None" if cond is None else "a tensor", kind=TypeError)
        to_vertical, to_horizontal = self.conditions(cond)
        v, gated_v = self.vertical(vertical, to_vertical)
        if v.is_cpu or hooked(self.vertical_to_horizontal, self.out):  # products of their own are faster on CPUs
            _, gated_h = self.horizontal(horizontal, to_horizontal, add=self.vertical_to_horizontal(v))
            out = self.out(gated_h)
            return gated_v, out if self.mask_type == "A" else horizontal + out
        _, gated_h = self.horizontal(horizontal, to_horizontal, side=(v, self.vertical_to_horizontal))
        if self.mask_type == "A":
            return gated_v, self.out(gated_h)
        options: dict[str, Any] = {"color_groups": self.color_groups, "backend": self.backend}
        return gated_v, masked_conv2d(gated_h, self.out.weight, self.out.bias, mask_type="B", add=horizontal, **options)

    def conditions(self, cond: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What cond [N, K] or [N, K, H, W] adds to the two gates, [N, 2 C] or [N, 2 C, H, W] each."""
        if self.cond is None or cond is None:
            return None, None
        name, channels = type(self).__name__, self.cond.in_features
        check_tensor(name, "cond", cond)
        check_floating(name, "cond", cond)
        if cond.dim() not in (2, 4) or cond.shape[1] != channels:
            raise fail(name, "cond", f"[N, {channels}] or [N, {channels}, H, W]", list(cond.shape))
        both = self.cond(cond) if cond.dim() == 2 else at_each_pixel(self.cond, cond)
        to_vertical, to_horizontal = both.chunk(2, dim=1)
        return to_vertical, to_horizontal
