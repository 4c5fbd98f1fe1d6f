"""Calls of masked_conv2d that its tests share, and which output of each may depend on which input."""

import pytest
import torch
from support import dtype_name

import pygen
from pygen import _taps

HOLES = ((True, False, True), (False, True, True), (True, False, False))
BACKENDS = [b for b in ("reference", "composite", "cpu") if pygen.backends().get(b) is None]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_dtype = pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)

# kernel, channels in and out, options
KINDS = {
    "A": ((3, 3), 2, 3, {"mask_type": "A"}),
    "B": ((3, 5), 2, 5, {"mask_type": "B"}),
    "A of groups": ((3, 3), 3, 6, {"mask_type": "A", "color_groups": 3}),
    "B of groups": ((3, 3), 6, 9, {"mask_type": "B", "color_groups": 3}),
    "dilated": ((3, 3), 2, 4, {"mask_type": "B", "dilation": 2}),
    "pattern": ((3, 3), 2, 3, {"mask_type": HOLES}),
    "wider than the image": ((7, 9), 1, 2, {"mask_type": "A", "dilation": 3}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, size: tuple[int, int] = (4, 3), dtype: torch.dtype = torch.float32, n: int = 1):
    kernel, ins, outs, options = KINDS[kind]
    x = torch.randn(n, ins, *size, dtype=torch.float64).to(dtype)
    w = torch.rand(outs, ins, *kernel, dtype=torch.float64).add(0.5).to(dtype)  # no live weight near 0
    return x, w, torch.randn(outs, dtype=torch.float64).to(dtype), options


def depends(w, size, options) -> torch.Tensor:
    """Which output (o, y, x) may depend on which input (i, v, u): bool [Cout, H, W, Cin, H, W], from the definition."""
    live = _taps.dense_mask(options["mask_type"], options.get("color_groups", 1), tuple(w.shape))
    outs, ins, kh, kw = w.shape
    result = torch.zeros(outs, *size, ins, *size, dtype=torch.bool)
    d = options.get("dilation", 1)
    for y, x, ky, kx in torch.cartesian_prod(*(torch.arange(s) for s in (*size, kh, kw))).tolist():
        v, u = y + (ky - kh // 2) * d, x + (kx - kw // 2) * d
        if 0 <= v < size[0] and 0 <= u < size[1]:
            result[:, y, x, :, v, u] = live[:, :, ky, kx]
    return result
