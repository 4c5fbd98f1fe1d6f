"""masked_conv2d beyond its row: exact causality, dead things, the split, its modules, and training that ignores dead weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conv_samples import BACKENDS, HOLES, depends, each_backend, each_dtype, each_kind, make
from support import assert_same, fast_targets

import pygen
from pygen import _taps
from pygen import nn as pnn
from pygen.composite.masked_conv2d import rectangles
from pygen.functional import masked_conv2d


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
        ({"kernel_size": 4}, r"kernel_size: expected an odd kernel height, got 4 \(padded by zeros"),
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
