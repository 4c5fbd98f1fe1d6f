"""The kernels of masked_conv2d by their seams: tiles, instruction sets, the minimal filtering of the C++ one, threads."""

import pytest
import torch
import torch.nn.functional as F
from conv_samples import BACKENDS, depends, each_backend, each_dtype
from support import assert_accurate, assert_same, fast_targets, instruction_set, isas, threads

import pygen
from pygen import _taps
from pygen.functional import masked_conv2d

INF = float("inf")


@pytest.mark.parametrize("isa", isas())
@each_dtype
def test_masked_conv2d_is_accurate_at_every_width_and_channel_count(isa, dtype):
    """Around the tiles: pixels in vectors of up to 48, channels in fours, sixes, eights and sixteens; by either algorithm."""
    with instruction_set(isa):
        direct = ((1, 1, 1), (3, 4, 8), (5, 8, 9), (7, 17, 24), (8, 6, 25), (13, 5, 49))
        for ins, outs, width in (*direct, (16, 16, 4), (18, 21, 26), (75, 17, 50)):
            x, w = torch.randn(2, ins, 4, width).to(dtype), torch.randn(outs, ins, 3, 3).to(dtype)
            g = torch.randn(2, outs, 4, width).to(dtype)
            found = []
            for wide in (None, torch.float64, torch.float32):
                leaves = [t.to(wide or dtype).requires_grad_() for t in (x, w)]
                if wide is None:
                    out = masked_conv2d(*leaves, mask_type="B", backend="cpu")
                else:
                    mask = _taps.dense_mask("B", 1, tuple(w.shape)).to(wide)
                    out = F.conv2d(leaves[0], leaves[1] * mask, padding=1)
                found.append([out, *torch.autograd.grad(out, leaves, g.to(wide or dtype))])
            for ours, ref, base in zip(*found, strict=True):
                assert_accurate(ours, ref, base.to(dtype), what=f"{ins} -> {outs}, width {width}")


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(("width", "limit"), ((6, 8), (7, 20)), ids=("filtered", "direct"))
def test_masked_conv2d_adds_long_sums_in_runs(isa, width, limit):
    """1,280 channels of equal products, whose roundings all go one way: 13 and 361 eps if each is added to one sum."""
    x, w = torch.ones(1, 1280, 3, width), torch.full((16, 1280, 3, 3), 0.1)
    with instruction_set(isa):
        out = masked_conv2d(x, w, mask_type="B", backend="cpu")
    truth = masked_conv2d(x.double(), w.double(), mask_type="B", backend="reference")
    assert ((out - truth).abs() / truth).max() < limit * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("shape", ((1, 1, 17, 17), (20, 9, 32, 32), (1, 2, 3, 500)), ids=str)
def test_masked_conv2d_gradient_of_the_bias_adds_pixels_in_runs(isa, shape):
    """Equal terms, whose roundings all go one way: 20 eps if a strip's are added to one sum."""
    x, weight, bias = torch.zeros(shape), torch.zeros(shape[1], shape[1], 1, 1), torch.zeros(shape[1])
    leaves = weight.requires_grad_(), bias.requires_grad_()  # of the bias alone it is torch's sum
    grad, count = torch.full(shape, 0.825), shape[0] * shape[2] * shape[3]
    with instruction_set(isa):
        _, ours = torch.autograd.grad(masked_conv2d(x, *leaves, mask_type="B", backend="cpu"), leaves, grad)
    truth = grad[0, 0, 0, 0].double() * count
    assert ((ours - truth).abs() / truth).max() < 5 * torch.finfo(torch.float32).eps


@fast_targets
@pytest.mark.parametrize("images", (1, 5, 9, 16, 17, 40))
def test_masked_conv2d_gradient_of_the_weight_adds_up_every_image(target, images):
    """Whole numbers: whatever the order of partial sums, they are exact."""
    x, g = (torch.randint(-3, 4, (images, channels, 6, 5)).float() for channels in (4, 3))
    w, b = torch.zeros(3, 4, 3, 3, device=target.device), torch.zeros(3, device=target.device)
    leaves = w.requires_grad_(), b.requires_grad_()
    out = masked_conv2d(x.to(target.device), *leaves, mask_type="B", backend=target.backend)
    got = torch.autograd.grad(out, leaves, g.to(target.device))
    leaves = torch.zeros(3, 4, 3, 3).requires_grad_(), torch.zeros(3).requires_grad_()
    mask = _taps.dense_mask("B", 1, (3, 4, 3, 3))
    truth = torch.autograd.grad(F.conv2d(x, leaves[0] * mask, leaves[1], padding=1), leaves, g)
    for a, c in zip(got, truth, strict=True):
        assert torch.equal(a.cpu(), c)


@fast_targets
def test_masked_conv2d_small_products_are_not_lost_beside_a_large_bias(target):
    """Half an ulp of the bias each: a sum that starts from it rounds them away one by one."""
    x, w = torch.ones(1, 8, 5, 9, device=target.device), torch.ones(3, 8, 3, 3, device=target.device)
    b = torch.full((3,), 2.0**24, device=target.device)
    out = masked_conv2d(x, w, b, mask_type="A", backend=target.backend)
    assert (out[:, :, 1:, 1:-1] == 2**24 + 32).all()


# Channels and widths for which the C++ kernel takes Winograd's minimal filtering.
FILTERED = {
    "B": ((3, 5), 16, 18, {"mask_type": "B"}),
    "A of groups": ((3, 3), 18, 24, {"mask_type": "A", "color_groups": 3}),
    "B of groups": ((5, 7), 18, 21, {"mask_type": "B", "color_groups": 3}),
    "pattern": ((3, 3), 17, 19, {"mask_type": ((True, True, True), (False, True, True), (True, True, False))}),
}


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("kind", FILTERED)
def test_masked_conv2d_by_minimal_filtering_sees_only_live_taps(kind, isa):
    """NaN in any pixel, forward and back: pixels share products, yet none sees what it must not. Dead weights are NaN."""
    kernel, ins, outs, options = FILTERED[kind]
    size = (4, 10)
    w = torch.rand(outs, ins, *kernel) + 0.5
    may = depends(w, size, options)
    w = w.masked_fill(
        ~_taps.dense_mask(options["mask_type"], options.get("color_groups", 1), tuple(w.shape)), torch.nan
    )
    x, g = torch.randn(1, ins, *size), torch.randn(1, outs, *size)

    def back(g):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(masked_conv2d(leaf, w, backend="cpu", **options), leaf, g)[0]

    turned = may.permute(3, 4, 5, 0, 1, 2)
    with instruction_set(isa):
        for run, given, reach in ((lambda x: masked_conv2d(x, w, backend="cpu", **options), x, may), (back, g, turned)):
            clean = run(given)
            wider = run(torch.nn.functional.pad(given, (0, 1)))[..., :-1] if given is x else None
            if wider is not None:  # odd widths go by the direct kernel: the same sums, rounded otherwise
                torch.testing.assert_close(clean, wider, rtol=1e-4, atol=1e-4)
                assert not torch.equal(clean, wider)
            for i, v, u in torch.cartesian_prod(
                torch.tensor([0, 7, given.shape[1] - 1]), *map(torch.arange, size)
            ).tolist():
                spoilt = given.clone()
                spoilt[0, i, v, u] = torch.nan
                out, reached = run(spoilt)[0], reach[:, :, :, i, v, u]
                assert torch.equal(out.isnan(), reached)
                assert torch.equal(out[~reached], clean[0][~reached])


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("options", ({"mask_type": "A"}, {"mask_type": "B", "color_groups": 3}), ids=str)
def test_masked_conv2d_infinite_and_huge_pixels_are_what_they_are_one_by_one(isa, options):
    """Also where neighbours share products: their differences are NaN or beyond float32, the convolution is not."""
    x, w = torch.randn(2, 24, 6, 8), torch.rand(18, 24, 3, 3) + 0.5
    x[0, 3, 2, 2:5] = torch.tensor((INF, INF, 1e37))
    x[0, 7, 4, 1], x[1, 5, 3, 6] = -INF, float("nan")
    found = {}
    for backend in ("cpu", "reference"):
        with instruction_set(isa):
            leaf = x.clone().requires_grad_()
            out = masked_conv2d(leaf, w, backend=backend, **options)
            up = torch.zeros_like(out)
            up[0, 1, 3, 3:6], up[1, 2, 4, 4] = torch.tensor((INF, -INF, 1e37)), float("nan")
            found[backend] = out.detach(), *torch.autograd.grad(out, leaf, up)
    for ours, ref in zip(*found.values(), strict=True):
        for special in (torch.isnan, torch.isposinf, torch.isneginf):
            assert special(ref).any() and torch.equal(special(ours), special(ref))


@pytest.mark.parametrize("isa", isas())
@each_dtype
def test_masked_conv2d_of_little_but_nan_is_taken_over_by_the_direct_kernel(isa, dtype):
    """A network that has diverged: every pixel but the first, which sees none, is NaN, and nothing is computed one by one."""
    x, w = torch.full((4, 16, 40, 40), torch.nan, dtype=dtype), torch.randn(16, 16, 3, 3).to(dtype)
    x[:, :, :, :20] = torch.randn(4, 16, 40, 20).to(dtype)
    bias = torch.randn(16).to(dtype)
    for count in (1, 3):
        with instruction_set(isa), threads(count):
            ours = masked_conv2d(x, w, bias, mask_type="A", backend="cpu")
        ref = masked_conv2d(x, w, bias, mask_type="A", backend="reference")
        assert torch.equal(ours.isnan(), ref.isnan()) and 30_000 < ref.isnan().sum() < ref.numel()
        finite = ~ref.isnan()
        torch.testing.assert_close(ours[finite], ref[finite], rtol=2e-2 if dtype.itemsize == 2 else 1e-4, atol=1e-2)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="the C++ module is not built")
def test_masked_conv2d_explains_which_of_its_kernels_computes():
    """Channels from 16 on, even widths, taps side by side; of tensors alone, and on other backends, it says nothing."""

    def how(channels=16, width=8, **options):
        x, w = torch.zeros(2, channels, 6, width), torch.zeros(channels, channels, 3, 3)
        return pygen.explain("masked_conv2d", x, w, **({"mask_type": "B"} | options)).how

    assert "Winograd" in how() and "Winograd" in how(mask_type="A")
    assert "Winograd" in str(
        pygen.explain("masked_conv2d", torch.zeros(2, 16, 6, 8), torch.zeros(16, 16, 3, 3), mask_type="B")
    )
    for other in (how(15), how(width=7), how(dilation=2), how(mask_type=((True, False, True),) * 3)):
        assert other == "adds up tap by tap"
    assert how(backend="reference") == ""
    assert pygen.explain("masked_conv2d", torch.zeros(2, 16, 6, 8)).how == ""
    with pytest.raises(ValueError, match="mask_type"):
        how(mask_type="C")


@pytest.mark.parametrize("shape", ((5, 9, 30, 23), (5, 18, 30, 22)), ids=str)
@each_backend
def test_masked_conv2d_results_do_not_depend_on_threads(backend, shape):
    if backend != "cpu":
        pytest.skip("what torch's own ops do is torch's affair")
    x, w = torch.randn(shape, requires_grad=True), torch.randn(20, shape[1], 3, 3, requires_grad=True)
    b = torch.randn(20, requires_grad=True)
    results = []
    for count in (1, 2, 3, 7):
        with threads(count):
            out = masked_conv2d(x, w, b, mask_type="B", backend=backend)
            results.append([out, *torch.autograd.grad(out.square().sum(), (x, w, b))])
    for other in results[1:]:
        for a, c in zip(results[0], other, strict=True):
            assert_same(a, c)
