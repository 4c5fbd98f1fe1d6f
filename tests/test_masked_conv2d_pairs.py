"""masked_conv2d in bfloat16 by the processor's own products of pairs: beside the products that widen, and by NaN."""

import contextlib

import pytest
import torch
from conv_samples import depends
from support import assert_accurate, isas

from pygen import _backends, _taps
from pygen.functional import masked_conv2d

CPU = _backends.compiled("_cpu") if isas() else None
pytestmark = pytest.mark.skipif(
    CPU is None or not CPU.bf16_products(), reason="the processor has no products of bfloat16"
)

# kernel, channels in and out, size, options: odd groups leave half a pair empty, an odd width half an element.
CASES = {
    "B": ((3, 3), 6, 5, (4, 8), {"mask_type": "B"}),
    "A, odd": ((5, 3), 7, 9, (5, 7), {"mask_type": "A"}),
    "groups of three": ((3, 3), 9, 12, (4, 9), {"mask_type": "B", "color_groups": 3}),
    "groups of four": ((3, 5), 12, 9, (4, 5), {"mask_type": "A", "color_groups": 3}),
    "dilated": ((3, 3), 8, 17, (5, 19), {"mask_type": "B", "dilation": 2}),
    "pattern": ((3, 3), 3, 8, (3, 5), {"mask_type": ((True, False, True), (False, True, True), (True, True, False))}),
    "wide": ((1, 3), 16, 33, (2, 70), {"mask_type": "B"}),
    "registers of 5": ((3, 3), 7, 77, (5, 6), {"mask_type": "B"}),
    "registers of 3": ((3, 3), 46, 47, (4, 5), {"mask_type": "A"}),
    "registers of 2, few rows": ((5, 5), 30, 32, (1, 9), {"mask_type": "B", "dilation": 2}),
    "one pixel": ((1, 1), 1, 1, (1, 1), {"mask_type": "B"}),
}
each_case = pytest.mark.parametrize("case", CASES)
each_layout = pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last), ids=("NCHW", "NHWC"))


@contextlib.contextmanager
def products(use: bool):
    CPU.set_bf16_products(use)
    try:
        yield
    finally:
        CPU.set_bf16_products(True)


def run(x, w, b, g, options):
    leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, w, b)]
    out = masked_conv2d(*leaves, backend="reference" if x.dtype != torch.bfloat16 else "cpu", **options)
    return [out.detach(), *torch.autograd.grad(out, leaves, g)]


def tensors(case, layout):
    kernel, ins, outs, size, options = CASES[case]
    x, g = torch.randn(3, ins, *size), torch.randn(3, outs, *size)
    tensors = x.to(memory_format=layout), torch.randn(outs, ins, *kernel), torch.randn(outs), g.to(memory_format=layout)
    return [t.bfloat16() for t in tensors], options


@each_layout
@each_case
def test_masked_conv2d_by_pairs_is_as_accurate_as_what_widens(case, layout):
    given, options = tensors(case, layout)
    truth = run(*(t.double() for t in given), options)
    with products(False):
        widened = run(*given, options)
    for ours, ref, base in zip(run(*given, options), truth, widened, strict=True):
        assert ours.stride() == base.stride()
        assert_accurate(ours, ref, base, what=case)


def test_masked_conv2d_by_pairs_takes_subnormal_numbers_for_zeros():
    """As such processors do. And the tests here do not see one kernel twice."""
    x, w = torch.full((1, 4, 8, 8), 1e-30).bfloat16(), torch.full((4, 4, 3, 3), 1e-9).bfloat16()
    assert (masked_conv2d(x, w, mask_type="B", backend="cpu") == 0).all()
    with products(False):
        assert (masked_conv2d(x, w, mask_type="B", backend="cpu") > 0).all()


@each_layout
@each_case
def test_masked_conv2d_by_pairs_sees_only_live_taps(case, layout):
    """NaN in a dead weight, in any pixel and in any of the gradient's: what it must not reach is as it was."""
    (x, w, b, g), options = tensors(case, layout)
    size = x.shape[2:]
    may = depends(w, size, options)
    mask = _taps.dense_mask(options["mask_type"], options.get("color_groups", 1), tuple(w.shape))
    w = w.masked_fill(~mask, torch.nan)
    clean = run(x, w, b, g, options)
    torch.manual_seed(1)
    for _ in range(12):
        i, v, u = (int(torch.randint(n, ())) for n in (x.shape[1], *size))
        u = (u, 0, size[1] - 1)[int(torch.randint(3, ()))]
        spoilt = x.clone(memory_format=torch.preserve_format)
        spoilt[1, i, v, u] = torch.nan
        out, _, weight, bias = run(spoilt, w, b, g, options)
        reached = torch.zeros_like(out, dtype=torch.bool)
        reached[1] = may[..., i, v, u]
        check(out, clean[0], reached)
        taps = torch.zeros_like(mask)
        taps[:, i] = mask[:, i] & fits(mask.shape[2:], v, u, size, options)
        check(weight, clean[2], taps)
        assert torch.equal(bias, clean[3])


def fits(kernel, v, u, size, options):
    """Taps [kH, kW] by which pixel (v, u) is seen from a pixel inside the image."""
    d = options.get("dilation", 1)
    seen = torch.zeros(*kernel, dtype=torch.bool)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y, x = v - (ky - kernel[0] // 2) * d, u - (kx - kernel[1] // 2) * d
            seen[ky, kx] = 0 <= y < size[0] and 0 <= x < size[1]
    return seen


def check(ours, clean, reached):
    assert torch.equal(ours.isnan(), reached)
    assert torch.equal(ours[~reached], clean[~reached])


def test_masked_conv2d_by_pairs_adds_long_sums_in_runs():
    """1,280 channels of equal products, whose roundings all go one way in one long sum."""
    x, w = torch.ones(1, 1280, 3, 7).bfloat16(), torch.full((16, 1280, 3, 3), 0.1).bfloat16()
    out = masked_conv2d(x, w, mask_type="B", backend="cpu")
    truth = masked_conv2d(x.double(), w.double(), mask_type="B", backend="reference")
    assert torch.equal(out, truth.bfloat16())


@pytest.mark.parametrize("outs", (16, 5), ids=("lanes", "planes"))
def test_masked_conv2d_by_pairs_an_odd_channel_meets_no_other_weight(outs):
    """Beside the last of three channels lies the next target's first weight, here an infinite one."""
    x, w = torch.randn(2, 3, 4, 5).bfloat16(), torch.randn(outs, 3, 3, 3).bfloat16()
    w[1:, 0] = torch.inf
    out = masked_conv2d(x, w, mask_type="B", backend="cpu")
    assert out[:, 0].isfinite().all() and not out[:, 1:].isfinite().any()
