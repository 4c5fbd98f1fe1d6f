"""The CUDA C++ kernels of rational_quadratic_spline, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from rows.rational_quadratic_spline import tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import rational_quadratic_spline as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "rational_quadratic_spline")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
OPTIONS = ("all", False, "linear", -3.0, 3.0, 1e-3, 1e-3, 1e-3, 1.0, False)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


# 65536 samples of one element make 512 blocks, and 11 seconds.
SAMPLES = [s for s in (*OP.samples(), *OP.more_samples()) if s.name != "batch 65536"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
@each_dtype
def test_cuda_host_rational_quadratic_spline_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_rational_quadratic_spline_takes_every_layout(maker):
    for name, dtype in (("odd everything", torch.float32), ("map", torch.float64), ("box", torch.float32)):
        sample = OP.sample(name)
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_cuda_host_rational_quadratic_spline_takes_upstream_gradients_in_any_layout(relay):
    sample = OP.sample("odd everything")
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    for a, b in zip(gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay), expected, strict=True):
        assert_same(a, b, what="gradient")


# Lanes of a warp and of several, one element more than a block's four steps, many samples of a block.
SIZES = {
    "a thread a sample": (300, 1),
    "a warp": (9, 31),
    "a block": (2, 512),
    "two blocks": (2, 513),
    "map": (3, 4, 17, 9),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("inverse", (False, True))
def test_cuda_host_rational_quadratic_spline_of_any_size(case, inverse):
    mask = "even_odd" if SIZES[case][1] > 1 else None
    given = tensors(SIZES[case], 3, {"mask": mask}, seed=1)
    for dtype in (torch.float32, torch.bfloat16):
        check_against_truth(OP, {k: v.to(dtype) for k, v in given.items()}, {"mask": mask, "inverse": inverse}, BACKEND)


@pytest.mark.parametrize("bins", (1, 31, 32, 33))
def test_cuda_host_rational_quadratic_spline_of_so_many_bins(bins):
    """Beside each other and planes; from 32 on their numbers find no room in shared memory, in float64 from 16 on."""
    for shape, mask in (((5, 7), "even_odd"), ((2, 3, 2, 3), None)):
        given = tensors(shape, bins, {"mask": mask}, seed=2)
        for dtype, most in ((torch.float32, 2e-3), (torch.float64, 1e-10)):
            for inverse in (False, True):
                options = {"mask": mask, "inverse": inverse}
                results = []
                for run, wide in ((BACKEND, dtype), ("reference", torch.float64)):
                    marked, inputs = leaves(OP, {k: v.to(dtype).to(wide) for k, v in given.items()})
                    outputs = OP.run(marked, options, run)
                    results.append([*outputs, *gradients(outputs, inputs)])
                for a, b in zip(*results, strict=True):
                    torch.testing.assert_close(a.double(), b, rtol=most, atol=most)


def test_cuda_host_rational_quadratic_spline_nothing_leaks_from_outside():
    """NaN among the parameters of what lies outside: gradients exactly 0, written all the same."""
    x = torch.tensor([[3.5, 0.5], [float("-inf"), -3.0]])
    p = torch.full((2, 10), torch.nan)
    p[0, 5:] = 0.25
    for inverse in (False, True):
        options = (*OPTIONS[:-1], inverse)
        y, log_det = native.forward(x, p, *options)
        grad_x, grad_p = native.backward(torch.full_like(y, 2.0), log_det, x, p, *options, (True, True))
        assert y.isfinite()[0].all() and torch.equal(y[1], x[1]) and log_det.isfinite().all() and log_det[1] == 0
        assert (grad_x[1] == 2).all() and (grad_p[0, :5] == 0).all() and (grad_p[1] == 0).all() and grad_p[0, 5:].any()


def test_cuda_host_rational_quadratic_spline_device_is_guarded(monkeypatch):
    x, p = torch.randn(1, 2), torch.randn(1, 10)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, p, *OPTIONS)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(x, p, *OPTIONS)
