"""masked_conv2d beyond its row: exact causality, dead things, the split, its modules, and training that ignores dead weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support import assert_accurate, assert_same, dtype_name, fast_targets, instruction_set, isas, threads

import pygen
from pygen import _taps
from pygen import nn as pnn
from pygen.composite.masked_conv2d import rectangles
from pygen.functional import masked_conv2d

INF = float("inf")
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


@each_kind
@each_dtype
@each_backend
@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last), ids=("nchw", "nhwc"))
def test_masked_conv2d_jacobian_is_exactly_zero_where_it_must_not_look(kind, dtype, backend, layout):
    x, w, b, options = make(kind, dtype=dtype)
    x = x.contiguous(memory_format=layout)
    jacobian = torch.autograd.functional.jacobian(lambda x: masked_conv2d(x, w, b, backend=backend, **options), x)
    assert torch.equal(jacobian[0, :, :, :, 0] != 0, depends(w, x.shape[2:], options))


@each_kind
@each_backend
def test_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, backend):
    x, w, b, options = make(kind)
    clean = masked_conv2d(x, w, b, backend=backend, **options)
    may = depends(w, x.shape[2:], options)
    for i, v, u in torch.cartesian_prod(*(torch.arange(s) for s in x.shape[1:])).tolist():
        spoilt = x.clone()
        spoilt[0, i, v, u] = float("nan")
        out = masked_conv2d(spoilt, w, b, backend=backend, **options)[0]
        reached = may[:, :, :, i, v, u]
        assert torch.equal(out.isnan(), reached)
        assert torch.equal(out[~reached], clean[0][~reached])


@each_kind
@each_dtype
@each_backend
def test_masked_conv2d_ignores_dead_weights_and_gives_them_zero_gradient(kind, dtype, backend):
    x, w, b, options = make(kind, dtype=dtype, n=2)
    dead = ~_taps.dense_mask(options["mask_type"], options.get("color_groups", 1), tuple(w.shape))
    results = []
    for filler in (1.0, float("nan"), float("inf")):
        leaves = [t.clone().requires_grad_() for t in (x, w.masked_fill(dead, filler), b)]
        out = masked_conv2d(*leaves, backend=backend, **options)
        first = torch.autograd.grad(out.float().square().sum(), leaves, create_graph=True)
        assert not first[1][dead].any()
        second = torch.autograd.grad(first[0].float().square().sum() + first[1].float().square().sum(), leaves[:2])
        assert not second[1][dead].any()
        results.append([out, *first, *second])
    for other in results[1:]:
        for a, c in zip(results[0], other, strict=True):
            assert_same(a.detach(), c.detach())


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


def test_masked_conv2d_split_covers_live_taps_once():
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        pattern = torch.rand(5, 7, generator=generator) < 0.5
        taps = tuple(pattern.flatten().nonzero()[:, 0].tolist())
        covered = torch.zeros(5, 7, dtype=torch.int64)
        for y0, y1, x0, x1 in rectangles(taps, 7):
            covered[y0:y1, x0:x1] += 1
        assert torch.equal(covered, pattern.long())
    assert rectangles(tuple(range(5)), 3) == ((0, 1, 0, 3), (1, 2, 0, 2)), "type B is two calls"


def test_masked_conv2d_explains_its_backend():
    choice = pygen.explain("masked_conv2d", torch.zeros(1, 1, 2, 2))
    assert choice.backend in BACKENDS and choice.rejected["cuda"] == "it runs on CUDA tensors, these are on cpu"
    with pytest.raises(RuntimeError, match="masked_conv2d: backend 'cuda' cannot run"):
        masked_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1), mask_type="B", backend="cuda")


def test_masked_conv2d_takes_patterns_as_arrays_and_tensors():
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    expected = masked_conv2d(x, w, mask_type=HOLES)
    for pattern in (torch.tensor(HOLES), torch.tensor(HOLES).numpy(), [list(row) for row in HOLES]):
        assert_same(masked_conv2d(x, w, mask_type=pattern), expected)


@fast_targets
def test_masked_conv2d_training_never_sees_dead_weights(target):
    """200 steps of AdamW, whose weight decay moves dead weights too: outputs depend on live ones alone."""
    torch.manual_seed(1)
    first = torch.nn.Sequential(pnn.MaskedConv2d(1, 6, 5, "A"), torch.nn.ReLU(), pnn.MaskedConv2d(6, 1, 3, "B")).to(
        target.device
    )
    other = copy.deepcopy(first)
    with torch.no_grad():
        for layer in (other[0], other[2]):
            layer.weight.masked_fill_(~layer.live_mask().to(target.device), 7.0)
    models = []
    x = (torch.rand(8, 1, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.5).float().to(target.device)
    torch.set_num_threads(1)  # the convolutions are far too small for two
    for model in (first, other):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        for _ in range(200):
            with pygen.use_backend(target.backend):
                loss = F.binary_cross_entropy_with_logits(model(x), x)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
        models.append((loss.detach(), model(x).detach()))
    assert_same(models[0][1], models[1][1])
    assert_same(models[0][0], models[1][0])


def test_masked_conv2d_module_matches_conv2d_in_init_and_checkpoints():
    torch.manual_seed(5)
    ours = pnn.MaskedConv2d(3, 6, 3, "B", color_groups=3)
    torch.manual_seed(5)
    plain = torch.nn.Conv2d(3, 6, 3, padding=1)
    assert list(ours.state_dict()) == list(plain.state_dict()) == ["weight", "bias"]
    assert_same(ours.weight, plain.weight)
    assert_same(ours.bias, plain.bias)
    state = plain.state_dict()
    ours.load_state_dict(state)
    for mask in (ours.live_mask(), ours.live_mask().float()):
        before = {**state, "mask": mask}
        ours.load_state_dict(before, strict=True)
        assert "mask" in before, "the caller's checkpoint was changed"
    wrong = ours.live_mask()
    wrong[3, 2, 1, 1] = True
    with pytest.raises(
        ValueError, match=r"mask: expected this layer's mask, dead at output 3, input 2, tap \(1, 1\), got"
    ):
        ours.load_state_dict({**state, "mask": wrong})
    fewer = ours.live_mask()
    fewer[4, 1, 0, 2] = False
    with pytest.raises(
        ValueError, match=r"mask: expected this layer's mask, live at output 4, input 1, tap \(0, 2\), got"
    ):
        ours.load_state_dict({**state, "mask": fewer})
    with pytest.raises(ValueError, match=r"mask: expected a mask \[6, 3, 3, 3\], got \[5, 5\]"):
        ours.load_state_dict({**state, "mask": torch.zeros(5, 5)})
    nested = torch.nn.Sequential(pnn.MaskedConv2d(1, 1, 3, "A"))
    with pytest.raises(ValueError, match=r"0\.mask: expected this layer's mask"):
        nested.load_state_dict({**nested.state_dict(), "0.mask": torch.ones(3, 3)})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kernel_size": 4}, "kernel_size: expected an odd kernel height, got 4"),
        ({"padding": 0}, r"padding: expected None, 'same' or \(1, 1\), got 0"),
        ({"stride": 2}, "stride: expected 1, got 2"),
        ({"groups": 2}, "groups: expected 1, got 2"),
        ({"padding_mode": "reflect"}, "padding_mode: expected 'zeros', got 'reflect'"),
        ({"mask_type": "C"}, "mask_type: expected 'A', 'B'"),
        ({"mask_type": HOLES, "kernel_size": 5}, r"mask_type: expected a pattern \[5, 5\]"),
        ({"color_groups": 3}, "color_groups: expected a divisor of the input channels"),
        ({"dilation": 0}, "dilation: expected at least 1"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_masked_conv2d_module_refuses(options, match):
    given = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "mask_type": "B"} | options
    with pytest.raises(ValueError, match=rf"^MaskedConv2d: {match}"):
        pnn.MaskedConv2d(**given)


@pytest.mark.parametrize("padding", (None, "same", 1, (1, 1)))
def test_masked_conv2d_module_takes_the_same_padding(padding):
    assert pnn.MaskedConv2d(1, 1, 3, "B", padding=padding)(torch.zeros(1, 1, 4, 5)).shape == (1, 1, 4, 5)


@each_dtype
def test_gated_masked_conv2d_stacks_see_only_what_came_before(dtype):
    """Layer A, then B, RGB groups: which pixels and channels the horizontal stack sees, exactly."""
    torch.manual_seed(2)
    layers = (
        pnn.GatedMaskedConv2d(3, 6, 5, "A", color_groups=3, dtype=dtype),
        pnn.GatedMaskedConv2d(6, 6, 3, "B", color_groups=3, dtype=dtype),
    )
    size, centre = (4, 5), (2, 2)

    def horizontal(x):
        v = h = x
        for layer in layers:
            v, h = layer(v, h)
        return h[0, :, centre[0], centre[1]]

    seen = torch.autograd.functional.jacobian(horizontal, torch.randn(1, 3, *size).to(dtype))[:, 0] != 0
    position = torch.arange(size[0] * size[1]).view(size)
    at = position[centre]
    assert not seen[:, :, position > at].any()
    for group in range(3):
        outs = seen[2 * group : 2 * group + 2]
        assert not outs[:, group:, centre[0], centre[1]].any(), "a channel sees itself or a later one"
    assert seen[2:, 0, centre[0], centre[1]].any(), "green does not see red"
    assert seen[:, :, 1, 4].any(), "a blind spot to the upper right"


@pytest.mark.parametrize("shape", [(2, 1, 5, 4), (2, 3, 1, 1)], ids=str)
@pytest.mark.parametrize("backend", ["reference", "composite", "cpu"])
def test_masked_conv2d_of_an_ambiguous_layout_is_contiguous(shape, backend):
    """N1HW and NC11 are contiguous and channels_last at once: the output is plainly contiguous."""
    x, weight = torch.randn(shape), torch.randn(6, shape[1], 3, 3)
    assert x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    assert masked_conv2d(x, weight, mask_type="B", backend=backend).is_contiguous()
