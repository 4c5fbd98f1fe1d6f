"""What only a GPU can show of masked_conv2d: dtypes and layouts at real sizes, TF32, determinism, graphs, sizes past 2^31."""

import conv_checks
import conv_samples as samples
import pytest
import torch
import torch.nn.functional as F
from support import DTYPES, assert_accurate, assert_same, compute_dtype, dtype_name

import pygen
from pygen import _backends, _taps
from pygen.functional import masked_conv2d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
READY = [name for name in ("cuda", "triton") if pygen.backends()[name] is None]
MMA = "cuda by mma.sync"  # where Hopper would take its warpgroups
HOPPER = "cuda" in READY and torch.cuda.get_device_capability()[0] == 9
each_backend = pytest.mark.parametrize("backend", [*(READY or ["cuda"]), *([MMA] if HOPPER else [])], indirect=True)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
LAST = torch.channels_last

# channels in and out, kernel, options
CASES = {
    "3x3 B C=32": (32, 32, (3, 3), {"mask_type": "B"}),
    "3x3 A C=64": (64, 64, (3, 3), {"mask_type": "A"}),
    "3x3 B C=200": (200, 200, (3, 3), {"mask_type": "B"}),
    "7x7 A first layer": (3, 66, (7, 7), {"mask_type": "A", "color_groups": 3}),
    "3x3 B RGB": (66, 66, (3, 3), {"mask_type": "B", "color_groups": 3}),
    "3x3 A RGB C=144": (144, 144, (3, 3), {"mask_type": "A", "color_groups": 3}),
    "pattern, dilated": (
        17,
        80,
        (5, 3),
        {"mask_type": ((True, False, True),) * 3 + ((False,) * 3,) * 2, "dilation": 2},
    ),
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def backend(request):
    if request.param != MMA:
        yield request.param
        return
    compiled = _backends.compiled("_cuda")
    before = compiled.use_wgmma(False)
    yield "cuda"
    compiled.use_wgmma(before)


@pytest.fixture(autouse=True)
def _exact_float32():
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


def tensors(case, dtype=torch.float32, n=5, size=(28, 29), layout=torch.contiguous_format, eighths=True):
    ins, outs, kernel, options = CASES[case]
    g = torch.Generator("cuda").manual_seed(1)
    shapes = ((n, ins, *size), (outs, ins, *kernel), (outs,), (n, outs, *size))
    x, w, b, grad = (torch.randn(s, generator=g, device="cuda") for s in shapes)
    # The order of a long sum costs more than the rule allows: eighths cost nothing.
    if eighths and dtype in (torch.float32, torch.float64):
        x, w, b, grad = (t.mul(8).round().div(8) for t in (x, w, b, grad))
    x, w, b, grad = (t.to(dtype) for t in (x, w, b, grad))
    return (*(t.contiguous(memory_format=layout) for t in (x, w)), b, grad.contiguous(memory_format=layout)), options


def both(x, w, b, grad, options, backend):
    """Output and the gradients of input, weight and bias."""
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]
    out = masked_conv2d(*leaves, backend=backend, **options)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def dense(x, w, b, grad, options, wide):
    """As `both`, with torch's own convolution of the masked weight."""
    mask = _taps.dense_mask(options["mask_type"], options.get("color_groups", 1), tuple(w.shape)).to(x.device, wide)
    dilation, leaves = options.get("dilation", 1), [t.detach().to(wide).requires_grad_() for t in (x, w, b)]
    pads = [side // 2 * dilation for side in w.shape[2:]]
    out = F.conv2d(leaves[0], leaves[1] * mask, leaves[2], padding=pads, dilation=dilation)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(wide))]


@each_backend
@each_case
@each_dtype
@pytest.mark.parametrize("layout", (torch.contiguous_format, LAST), ids=("nchw", "nhwc"))
def test_gpu_masked_conv2d_is_accurate(case, dtype, layout, backend):
    (x, w, b, grad), options = tensors(case, dtype, layout=layout)
    ours = both(x, w, b, grad, options, backend)
    assert ours[0].is_contiguous(memory_format=layout)
    ref = dense(*(t.cpu() for t in (x, w, b, grad)), options, torch.float64)
    base = dense(*(t.cpu() for t in (x, w, b, grad)), options, compute_dtype(dtype))
    for what, a, r, c in zip(("output", "input", "weight", "bias"), ours, ref, base, strict=True):
        assert_accurate(a.cpu(), r, c.to(dtype), dtype=dtype, what=what)


@each_backend
@samples.each_kind
@each_dtype
def test_gpu_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, dtype, backend):
    conv_checks.check_nan(_backends.load_launcher("masked_conv2d", backend), "cuda", kind, dtype)


@each_backend
@pytest.mark.parametrize("case", ("3x3 B C=200", "3x3 B RGB"))
def test_gpu_masked_conv2d_obeys_the_tf32_switch(case, backend):
    """Off: the error of float32. On: more than that, and no more than ten bits of mantissa leave."""
    (x, w, b, grad), options = tensors(case, eighths=False)  # which TF32 would hold exactly
    ref = dense(x, w, b, grad, options, torch.float64)[:3]  # the bias's gradient multiplies nothing
    errors = {}
    for precision in ("ieee", "tf32"):
        torch.backends.cudnn.conv.fp32_precision = precision
        ours = both(x, w, b, grad, options, backend)
        errors[precision] = [((a - r).abs().max() / r.abs().max()).item() for a, r in zip(ours[:3], ref, strict=True)]
    assert max(errors["ieee"]) < 2e-6 and min(errors["tf32"]) > 1e-5 and max(errors["tf32"]) < 2e-3


@each_backend
@pytest.mark.slow
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_gpu_masked_conv2d_repeats_at_large_batch(dtype, backend):
    (x, w, b, grad), options = tensors("3x3 A C=64", dtype, n=256, layout=LAST)
    first = both(x, w, b, grad, options, backend)
    for _ in range(1000):
        for a, c in zip(both(x, w, b, grad, options, backend), first, strict=True):
            assert torch.equal(a, c)


@each_backend
def test_gpu_masked_conv2d_rows_do_not_depend_on_their_batch(backend):
    (x, w, b, _), options = tensors("3x3 B C=200", torch.bfloat16, n=64, layout=LAST)
    whole = masked_conv2d(x, w, b, backend=backend, **options)
    assert_same(masked_conv2d(x[3:4], w, b, backend=backend, **options), whole[3:4])


@each_backend
def test_gpu_masked_conv2d_second_order(backend):
    (x, w, b, _), options = tensors("3x3 B RGB", torch.float64, n=1, size=(4, 3))

    def penalty(name):
        leaves = [t.detach().requires_grad_() for t in (x, w, b)]
        out = masked_conv2d(*leaves, backend=name, **options)
        (first,) = torch.autograd.grad(out.square().sum(), leaves[0], create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaves)

    for ours, ref in zip(penalty(backend), penalty("reference"), strict=True):
        torch.testing.assert_close(ours, ref, rtol=1e-9, atol=1e-9)


@each_backend
def test_gpu_masked_conv2d_replays_in_graphs(backend):
    (x, w, b, grad), options = tensors("3x3 B RGB", torch.bfloat16, n=2)
    both(x, w, b, grad, options, backend)  # Triton compiles at its first call, which cannot be captured
    graph = torch.cuda.CUDAGraph()
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]
    with torch.cuda.graph(graph):
        out = masked_conv2d(*leaves, backend=backend, **options)
        captured = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    for scale in (0.5, -2.0):
        x.mul_(scale)  # the leaves share their memory
        w.mul_(scale)
        graph.replay()
        for a, c in zip(captured, both(x, w, b, grad, options, backend), strict=True):
            assert_same(a, c)


@each_backend
def test_gpu_masked_conv2d_runs_on_the_current_stream(backend):
    (x, w, b, grad), options = tensors("3x3 A C=64", n=2)
    expected = both(x + 3, w, b, grad, options, backend)
    late, side = torch.empty_like(x), torch.cuda.Stream()
    for _ in range(3):
        late.zero_()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            late.copy_(x).add_(3)
            got = both(late, w, b, grad, options, backend)
        torch.cuda.synchronize()
        for a, c in zip(got, expected, strict=True):
            assert_same(a, c)


@each_backend
def test_gpu_masked_conv2d_never_waits_for_the_device(backend):
    (x, w, b, grad), options = tensors("3x3 B RGB", n=2)
    both(x, w, b, grad, options, backend)
    torch.cuda.set_sync_debug_mode("error")
    try:
        both(x, w, b, grad, options, backend)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_backend
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpu_masked_conv2d_follows_the_tensors_device(backend):
    (x, w, b, grad), options = tensors("3x3 A C=64", n=1)
    expected = both(x, w, b, grad, options, backend)
    there = both(*(t.to("cuda:1") for t in (x, w, b, grad)), options, backend)
    assert torch.cuda.current_device() == 0
    for a, c in zip(there, expected, strict=True):
        assert a.device.index == 1
        assert_same(a.to("cuda:0"), c)


@pytest.mark.slow
@each_backend
@pytest.mark.parametrize("layout", (torch.contiguous_format, LAST), ids=("nchw", "nhwc"))
@pytest.mark.parametrize("channels", (16, 64))
def test_gpu_masked_conv2d_indices_past_two_to_the_31(layout, backend, channels):
    """More than 2^31 elements in and out: the last image equals that image alone, and the weight's gradient sees it."""
    size = (64, 64)
    n = (1 << 31) // (channels * 64 * 64) + 2
    if torch.cuda.mem_get_info()[0] < 6 * n * channels * size[0] * size[1] * 2:
        pytest.skip("needs 26 GB of GPU memory")
    w, b = (torch.randn(s, device="cuda").bfloat16() for s in ((channels, channels, 3, 3), (channels,)))
    x = torch.empty((n, channels, *size), dtype=torch.bfloat16, device="cuda", memory_format=layout).zero_()
    x[-1].normal_()
    options = {"mask_type": "B", "backend": backend}
    out = masked_conv2d(x, w, b, **options)
    alone = x[-1:].clone()
    assert_same(out[-1:].contiguous(), masked_conv2d(alone, w, b, **options).contiguous())
    assert torch.equal(out[0], b.view(-1, 1, 1).expand_as(out[0]))
    del out
    launcher = _backends.load_launcher("masked_conv2d", backend)
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    assert_same(launcher.grad_input(x, w, *mask)[-1:].contiguous(), launcher.grad_input(alone, w, *mask).contiguous())
    got, _ = launcher.grad_weight(x, x, (3, 3), *mask, True)
    expected, _ = launcher.grad_weight(alone, alone, (3, 3), *mask, True)
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())


@pytest.mark.parametrize("outs", (200, 137))
@pytest.mark.parametrize("layout", (torch.contiguous_format, LAST), ids=("NCHW", "NHWC"))
@each_dtype
@each_backend
def test_gpu_masked_conv2d_adds_a_tensor(backend, dtype, layout, outs):
    """By 16 bytes and by elements, several tiles a block. Eighths, so that only roundings are left: in Triton two."""
    g = torch.Generator("cuda").manual_seed(2)
    shapes = ((64, 64, 28, 29), (outs, 64, 3, 3), (outs,), (64, outs, 28, 29))
    x, w, b, add = (torch.randn(s, generator=g, device="cuda").mul(8).round().div(8).to(dtype) for s in shapes)
    x, add = (t.contiguous(memory_format=layout) for t in (x, add))
    there = [t.cpu() for t in (x, w, b, add)]
    product = dense(*there, {"mask_type": "B"}, torch.float64)[0]
    truth = (product + there[3].double()).to(dtype) if backend == "cuda" else product.to(dtype) + there[3]
    out = masked_conv2d(x, w, b, mask_type="B", add=add, backend=backend)
    assert out.is_contiguous(memory_format=layout)
    assert_same(out.cpu(), truth)
