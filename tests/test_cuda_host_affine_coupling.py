"""The CUDA C++ kernels of affine_coupling, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from rows.affine_coupling import positive, tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import affine_coupling as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "affine_coupling")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", [*OP.samples(), *OP.more_samples()], ids=lambda s: s.name)
@each_dtype
def test_cuda_host_affine_coupling_values_and_gradients_are_accurate(sample, dtype):
    if sample.name == "batch 65536" and dtype is not torch.bfloat16:
        pytest.skip("one dtype shows that blocks go on the x axis")
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@each_dtype
def test_cuda_host_affine_coupling_takes_every_layout(maker, dtype):
    for name in ("odd everything", "odd half", "rows", "additive"):
        sample = OP.sample(name)
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_cuda_host_affine_coupling_takes_upstream_gradients_in_any_layout(relay):
    sample = OP.sample("odd half")
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    for a, b in zip(gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay), expected, strict=True):
        assert_same(a, b, what="gradient")


# (shape, mask): lanes of a warp and of several, one unit more than a block's four steps, whole units and broken ones.
SIZES = {
    "one thread a sample": ((300, 8), "channel"),
    "a warp a sample": ((9, 250), "channel"),
    "a block a sample": ((2, 2, 4096), "channel"),
    "two blocks a sample": ((2, 2, 4097), "channel"),
    "aligned boards": ((2, 4, 16, 24), "checkerboard"),
    "odd boards": ((2, 3, 17, 23), "checkerboard"),
    "even and odd": ((3, 2060), "even_odd"),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("inverse", (False, True))
def test_cuda_host_affine_coupling_of_any_size_in_both_layouts(case, inverse):
    shape, mask = SIZES[case]
    for dtype in (torch.float32, torch.bfloat16):
        given = {k: v.to(dtype) for k, v in positive(tensors(shape)).items()}
        check_against_truth(OP, given, {"mask": mask, "inverse": inverse}, BACKEND)
        if len(shape) == 4:
            last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in given.items()}
            check_against_truth(OP, last, {"mask": mask, "inverse": inverse, "flip": True}, BACKEND)


def test_cuda_host_affine_coupling_accesses_of_16_bytes_change_no_bit():
    """The same numbers where 128-bit accesses fit and one element beside."""
    g = torch.Generator().manual_seed(1)
    x, t, s, up = (torch.randn(n, generator=g) for n in ((4, 6, 8, 8), (4, 3, 8, 8), (4, 3, 8, 8), (4, 6, 8, 8)))
    results = []
    for move in (torch.clone, layouts.misaligned):
        a, b, c, d = (move(v) for v in (x, t, s, up))
        forward = native.forward(a, b, c, "channel", False, "tanh", 1.5, False)
        backward = native.backward(d, forward[1], a, None, c, True, "channel", False, "tanh", 1.5, False, (True,) * 3)
        results.append([*forward, *backward])
    for one, other in zip(*results, strict=True):
        assert_same(one, other)


def test_cuda_host_affine_coupling_writes_nothing_around_its_outputs():
    """Rows that end inside a unit, outputs in a larger buffer of NaN."""
    x, whole = torch.randn(1, 2, 7), torch.full((3, 2, 7), torch.nan)
    compiled, where = native.target(x)
    sums, strides = torch.full((3,), torch.nan), (14, 0, 0, 1)
    at = [(t.data_ptr() + 28 * half, strides) for t in (x, whole[1]) for half in (0, 1)]
    geometry = (1, (1, 1, 7), None, False, (1, 1, 7))
    compiled.affine_coupling_forward(
        "float32", "exp", 1.0, False, geometry, at[1], at[0], at[0], at[3], at[0], at[2], sums[1:].data_ptr(), None, *where
    )  # fmt: skip
    assert whole[0].isnan().all() and whole[2].isnan().all() and whole[1].isfinite().all()
    assert sums.isnan().tolist() == [True, False, True]


def test_cuda_host_affine_coupling_device_is_guarded(monkeypatch):
    x = torch.randn(1, 2, 3, 3)
    options = (x[:, :1], None, "channel", False, "exp", 1.0, False)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, *options)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(x, *options)
