"""What only a GPU can show of gated_activation, masked_linear and sample_dot: real sizes, determinism, graphs, streams, 2^31."""

from functools import cache

import pytest
import torch
from registry import OPS, leaves
from rows import gated_activation, masked_linear, sample_dot
from support import DTYPES, assert_same, dtype_name, mixed_weights
from test_conformance import check_against_truth

import pygen
from pygen import functional

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICE = "cuda"
READY = [name for name in ("cuda", "triton") if pygen.backends()[name] is None]
each_backend = pytest.mark.parametrize("backend", READY or ["cuda"])
BY_NAME = {op.name: op for op in OPS}
LAST = torch.channels_last

# Op, its tensors (more than one wave of blocks) and options.
CASES = {
    "gate, cond by channel": ("gated_activation", gated_activation.tensors((40, 256, 28, 29), (40, 256)), {}),
    "gate, map and groups": (
        "gated_activation",
        gated_activation.tensors((33, 132, 28, 28), (33, 132, 28, 28)),
        {"color_groups": 3},
    ),
    "MADE 784-500": (
        "masked_linear",
        masked_linear.tensors((3000,), 784, 500),
        masked_linear.options(784, 500, 783, False),
    ),
    "MADE 500-784": (
        "masked_linear",
        masked_linear.tensors((1500,), 500, 784),
        masked_linear.options(500, 784, 783, True),
    ),
    "squares": ("sample_dot", sample_dot._tensors((64, 3, 256, 255)), {}),
    "products": ("sample_dot", sample_dot._tensors((70_001, 37), pair=True), {}),
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def _exact_float32():
    switch = torch.backends.cuda.matmul
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


def made(case, dtype=torch.float32, device=DEVICE, layout=torch.contiguous_format):
    """The case's op, tensors and options."""
    name, tensors, options = CASES[case]
    if name == "masked_linear" and dtype in (torch.float32, torch.float64):
        # The order of a long sum costs more than the rule allows: eighths cost nothing.
        tensors = {k: t.mul(8).round().div(8) for k, t in tensors.items()}
    laid = {k: t.contiguous(memory_format=layout) if t.dim() == 4 else t for k, t in tensors.items()}
    return BY_NAME[name], {k: t.to(device=device, dtype=dtype) for k, t in laid.items()}, options


@cache
def upstream(shape, dtype):
    """Made once: what comes from the host cannot be captured, and takes longer than the op."""
    return mixed_weights(shape, dtype, DEVICE)


def results(op, tensors, options, backend):
    """Outputs and gradients."""
    marked, inputs = leaves(op, tensors)
    outputs = op.run(marked, options, backend)
    grads = torch.autograd.grad(outputs, inputs, [upstream(tuple(o.shape), o.dtype) for o in outputs])
    return [*(o.detach() for o in outputs), *(g.to(DEVICE) for g in grads)]


@each_backend
@each_case
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("layout", (torch.contiguous_format, LAST), ids=("nchw", "nhwc"))
def test_gpu_layer_is_accurate(case, dtype, layout, backend):
    op, tensors, options = made(case, dtype, layout=layout)
    if layout is LAST and not any(t.dim() == 4 for t in tensors.values()):
        pytest.skip("it has no images")
    check_against_truth(op, tensors, options, backend)


@each_backend
@each_case
@pytest.mark.slow
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_gpu_layer_repeats_bit_for_bit(case, dtype, backend):
    op, tensors, options = made(case, dtype)
    first = results(op, tensors, options, backend)
    for _ in range(300):
        for a, c in zip(results(op, tensors, options, backend), first, strict=True):
            assert torch.equal(a, c)


@each_backend
@each_case
def test_gpu_layer_rows_do_not_depend_on_their_batch(case, backend):
    """Sums run over units of the whole tensor: of 37 elements only every eighth row is cut as the first one is."""
    op, tensors, options = made(case, torch.bfloat16)
    (whole,) = op.run(tensors, options, backend)
    some = {k: t if op.batched is not None and k not in op.batched else t[8:11] for k, t in tensors.items()}
    (alone,) = op.run(some, options, backend)
    assert_same(alone, whole[8:11])


@each_backend
@each_case
def test_gpu_layer_replays_in_graphs(case, backend):
    op, tensors, options = made(case, torch.bfloat16)
    results(op, tensors, options, backend)  # Triton compiles, and degrees are copied, at the first call
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(op, tensors, options, backend)
    for scale in (0.5, -2.0):
        for t in tensors.values():
            t.mul_(scale)
        graph.replay()
        for a, c in zip(captured, results(op, tensors, options, backend), strict=True):
            assert_same(a, c)


@each_backend
def test_gpu_masked_linear_runs_in_graphs_that_compile_records(backend):
    """From the first call on, which copies its degrees: they are kept, and so must not lie in the graphs' memory."""
    x, weight = torch.randn(64, 9, device=DEVICE), torch.randn(7, 9, device=DEVICE)
    degrees = {"in_degrees": (5, 1, 4, 2, 8, 3, 7, 6, 0), "out_degrees": (4, 1, 6, 3, 0, 7, 5), "strict": True}

    def call(x, weight):
        return functional.masked_linear(x, weight, **degrees, backend=backend)

    compiled = torch.compile(call, mode="reduce-overhead", fullgraph=True)
    with torch.no_grad():
        outputs = [compiled(x, weight).clone() for _ in range(4)]
        expected = call(x, weight)
    for out in outputs:
        assert_same(out, expected)


@each_backend
@each_case
def test_gpu_layer_runs_on_the_current_stream(case, backend):
    op, tensors, options = made(case)
    expected = results(op, {k: t + 3 for k, t in tensors.items()}, options, backend)
    late, side = {k: torch.empty_like(t) for k, t in tensors.items()}, torch.cuda.Stream()
    for _ in range(3):
        for t in late.values():
            t.zero_()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            for k, t in late.items():
                t.copy_(tensors[k]).add_(3)
            got = results(op, late, options, backend)
        torch.cuda.synchronize()
        for a, c in zip(got, expected, strict=True):
            assert_same(a, c)


@each_backend
@each_case
def test_gpu_layer_never_waits_for_the_device(case, backend):
    op, tensors, options = made(case)
    marked, inputs = leaves(op, tensors)
    weights = [torch.randn_like(o) for o in op.run(marked, options, backend)]
    torch.autograd.grad(op.run(marked, options, backend), inputs, weights)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(op.run(marked, options, backend), inputs, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_backend
@each_case
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpu_layer_follows_the_tensors_device(case, backend):
    op, tensors, options = made(case)
    there = results(op, {k: t.to("cuda:1") for k, t in tensors.items()}, options, backend)
    assert torch.cuda.current_device() == 0
    for a, c in zip(there, results(op, tensors, options, backend), strict=True):
        assert a.device.index == 1
        assert_same(a.to("cuda:0"), c)


@each_backend
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.float32), ids=dtype_name)
def test_gpu_masked_linear_nan_reaches_only_what_it_feeds(dtype, backend):
    """At sizes of several tiles, on tensor cores; every other bit stays."""
    op, tensors, options = made("MADE 784-500", dtype)
    (clean,) = op.run(tensors, options, backend)
    live = masked_linear.live_mask(options["in_degrees"], options["out_degrees"], options["strict"], DEVICE)
    for i in range(0, 784, 97):
        spoilt = {**tensors, "input": tensors["input"].clone()}
        spoilt["input"][5, i] = torch.nan
        (out,) = op.run(spoilt, options, backend)
        reached = torch.zeros_like(clean, dtype=torch.bool)
        reached[5] = live[:, i]
        assert torch.equal(out.isnan(), reached)
        assert_same(out[~reached], clean[~reached])


@each_backend
def test_gpu_masked_linear_obeys_the_tf32_switch(backend):
    """Off: the error of float32. On: more than that, and no more than ten bits of mantissa leave."""
    op, _, options = made("MADE 784-500")
    tensors = {k: t.to(DEVICE) for k, t in CASES["MADE 784-500"][1].items()}
    ref = results(op, tensors, options, "reference")[:3]  # the bias's gradient multiplies nothing
    errors = {}
    for precision in ("ieee", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = precision
        ours = results(op, {k: t.float() for k, t in tensors.items()}, options, backend)
        errors[precision] = [((a - r).abs().max() / r.abs().max()).item() for a, r in zip(ours[:3], ref, strict=True)]
    assert max(errors["ieee"]) < 2e-6 and min(errors["tf32"]) > 1e-5 and max(errors["tf32"]) < 2e-3


@pytest.mark.slow
@each_backend
def test_gpu_layer_indices_past_two_to_the_31(backend):
    """More than 2^31 elements: the last rows equal those rows alone."""
    n, dtype = (1 << 31) // 4096 + 2, torch.bfloat16
    if torch.cuda.mem_get_info()[0] < 4 * n * 4096 * 2:
        pytest.skip("needs 18 GB of GPU memory")
    x = torch.zeros(n, 4096, dtype=dtype, device=DEVICE)
    x[-2:].normal_()
    assert_same(
        functional.gated_activation(x, backend=backend)[-2:],
        functional.gated_activation(x[-2:].clone(), backend=backend),
    )
    run = BY_NAME["sample_dot"].run
    assert_same(run({"x": x}, {}, backend)[0][-2:], run({"x": x[-2:].clone()}, {}, backend)[0])
    weight = torch.randn(16, 4096, device=DEVICE).to(dtype)
    options = {**masked_linear.options(4096, 16, 30, False), "backend": backend}
    assert_same(
        functional.masked_linear(x, weight, **options)[-2:], functional.masked_linear(x[-2:].clone(), weight, **options)
    )
