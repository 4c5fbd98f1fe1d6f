"""What only a GPU can show of gated_masked_conv2d: dtypes, layouts and engines at real sizes, graphs, sizes past 2^31."""

import copy

import gated_conv_checks as checks
import pytest
import torch
from support import DTYPES, assert_same, dtype_name
from test_gated_masked_conv2d import check_nan, check_rounding
from test_gpu_masked_conv2d import LAST, _exact_float32, backend, each_backend  # noqa: F401  (fixtures)

from pygen import _backends
from pygen.functional import gated_masked_conv2d
from pygen.nn import GatedMaskedConv2d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
each_layout = pytest.mark.parametrize("layout", (torch.contiguous_format, LAST), ids=("nchw", "nhwc"))
ABOVE = ((True,) * 3, (True,) * 3, (False,) * 3)

# channels in and of a half, kernel, the form of cond, options
CASES = {
    "horizontal C=32": (32, 32, (1, 3), "map", {}),
    "horizontal C=64": (64, 64, (1, 3), "row", {}),
    "vertical C=100": (100, 100, (3, 3), "", {"kind": ABOVE}),
    "horizontal RGB C=48": (48, 48, (1, 3), "map", {"kind": "A", "groups": 3}),
    "horizontal RGB C=210": (210, 210, (1, 3), "row", {"groups": 3}),
}
each_case = pytest.mark.parametrize("case", CASES)


def launcher(stem, backend):  # noqa: F811
    return _backends.load_launcher(stem, backend)


@each_backend
@each_case
@each_dtype
@each_layout
@pytest.mark.parametrize("size", ((28, 28), (13, 29)), ids=("whole", "odd"))
def test_gpu_gated_masked_conv2d_is_exact(case, dtype, layout, size, backend):  # noqa: F811
    """The sums are exact in float32: pre is the float64 sum rounded once, out the gate's own kernel of pre."""
    ins, half, kernel, cond, options = CASES[case]
    tensors = checks.make(3, ins, half, size, kernel, dtype, layout, cond=cond)
    convolution, gate = launcher("masked_conv2d", backend), launcher("gated_activation", backend)
    checks.check(launcher("gated_masked_conv2d", backend), convolution, gate, "cuda", tensors, kernel, **options)


@each_backend
@each_dtype
@each_layout
@pytest.mark.parametrize(("half", "side", "groups"), ((64, 128, 1), (48, 96, 3), (20, 3, 1)))
def test_gpu_gated_masked_conv2d_side_is_exact(half, side, groups, dtype, layout, backend):  # noqa: F811
    """What the vertical stack gives the horizontal one, as a product of its own in the same sums."""
    tensors = checks.make(3, half, half, (28, 28), (1, 3), dtype, layout, side=side)
    convolution, gate = launcher("masked_conv2d", backend), launcher("gated_activation", backend)
    op = launcher("gated_masked_conv2d", backend)
    checks.check(op, convolution, gate, "cuda", tensors, (1, 3), groups=groups)


@each_backend
@pytest.mark.parametrize("kind", ("A of groups", "B of groups", "B", "dilated"))
def test_gpu_gated_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, backend):  # noqa: F811
    check_nan(kind, backend, "cuda")


@each_backend
def test_gpu_gated_masked_conv2d_rounds_once(backend):  # noqa: F811
    check_rounding(backend, "cuda")


def layer(backend, dtype=torch.float32, channels=64, groups=1):  # noqa: F811
    torch.manual_seed(0)
    module = GatedMaskedConv2d(channels, channels, 3, "B", color_groups=groups, cond_channels=5, backend=backend)
    return module.to("cuda", dtype)


def both(module, stacks, cond, weights):
    """The two stacks and the gradients of everything."""
    leaves = [t.detach().requires_grad_() for t in (*stacks, cond)]
    outputs = module(*leaves)
    grads = torch.autograd.grad(outputs, [*leaves, *module.parameters()], weights)
    return [*(o.detach() for o in outputs), *grads]


def inputs(channels, dtype, layout, n=4, size=(28, 28)):
    g = torch.Generator("cuda").manual_seed(1)
    images = [torch.randn(n, channels, *size, generator=g, device="cuda").to(dtype) for _ in range(4)]
    images = [t.contiguous(memory_format=layout) for t in images]
    return images[:2], torch.randn(n, 5, generator=g, device="cuda").to(dtype), images[2:]


@each_backend
@each_layout
@pytest.mark.parametrize("groups", (1, 3))
def test_gpu_gated_masked_conv2d_in_its_layer(layout, groups, backend):  # noqa: F811
    """Both stacks and all gradients equal the reference's in float64."""
    module = layer(backend, torch.float64, 66, groups)
    truth = copy.deepcopy(module)
    for part in truth.modules():
        if hasattr(part, "backend"):
            part.backend = "reference"
    given = inputs(66, torch.float64, layout, n=2, size=(9, 8))
    for a, b in zip(both(module, *given), both(truth, *given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@each_backend
@each_layout
def test_gpu_gated_masked_conv2d_repeats_at_large_batch(layout, backend):  # noqa: F811
    module, given = layer(backend, torch.bfloat16), inputs(64, torch.bfloat16, layout, n=256)
    first = both(module, *given)
    for _ in range(300):
        for a, b in zip(both(module, *given), first, strict=True):
            assert torch.equal(a, b)


@each_backend
def test_gpu_gated_masked_conv2d_replays_in_graphs(backend):  # noqa: F811
    module, (stacks, cond, weights) = layer(backend, torch.bfloat16), inputs(64, torch.bfloat16, LAST)
    both(module, stacks, cond, weights)  # Triton compiles at its first call, which cannot be captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both(module, stacks, cond, weights)
    for scale in (0.5, -2.0):
        for t in (*stacks, cond):
            t.mul_(scale)
        graph.replay()
        for a, b in zip(captured, both(module, stacks, cond, weights), strict=True):
            assert_same(a, b)


@each_backend
def test_gpu_gated_masked_conv2d_never_waits_for_the_device(backend):  # noqa: F811
    module, given = layer(backend), inputs(64, torch.float32, LAST)
    both(module, *given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        both(module, *given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@each_backend
@each_layout
def test_gpu_gated_masked_conv2d_indices_past_two_to_the_31(layout, backend):  # noqa: F811
    """More than 2^31 elements of pre and add: the last image equals that image alone."""
    channels, size = 64, (64, 64)
    n = (1 << 31) // (2 * channels * 64 * 64) + 2
    if torch.cuda.mem_get_info()[0] < 5 * n * 2 * channels * 64 * 64 * 2:
        pytest.skip("needs 22 GB of GPU memory")
    weight = torch.randn(2 * channels, channels, 1, 3, device="cuda").bfloat16() / 16
    x, add = (
        torch.empty((n, c, *size), dtype=torch.bfloat16, device="cuda", memory_format=layout).zero_()
        for c in (channels, 2 * channels)
    )
    for t in (x, add):
        t[-1].normal_()
    options = {"mask_type": "B", "backend": backend}
    whole = gated_masked_conv2d(x, weight, add=add, **options)
    last = gated_masked_conv2d(x[-1:].clone(), weight, add=add[-1:].clone(), **options)
    for a, b in zip(whole, last, strict=True):
        assert_same(a[-1:], b)
