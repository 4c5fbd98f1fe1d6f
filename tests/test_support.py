"""The comparator is itself tested: each planted fault is seen, and what is right passes."""

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

import layouts
import pytest
import torch
from support import (
    DTYPES,
    OWN_EPS,
    assert_accurate,
    assert_same,
    dtype_name,
    isas,
    live_tensors,
    mixed_weights,
    no_leak,
    poisoned_memory,
    ulps,
)
from torch.utils._device import _device_constructors

ROOT = Path(__file__).resolve().parent.parent
REF = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], dtype=torch.float64)
BASE = REF.float()


def ours() -> torch.Tensor:
    return BASE.clone()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_comparator_accepts_the_rounded_truth(dtype):
    ref = torch.randn(7, 5, dtype=torch.float64) / 3
    assert assert_accurate(ref.to(dtype), ref, ref.to(dtype)) <= 1


def replaced(at, value):
    x = ours()
    x[at] = value
    return x


FAULTS = {
    "nan": lambda: replaced((0, 1), float("nan")),
    "infinity": lambda: replaced((1, 2), float("-inf")),
    "sign": lambda: -ours(),
    "one sign": lambda: replaced((1, 2), 6.0),
    "one element": lambda: replaced((1, 1), 5.00002),
    "shape": lambda: ours().reshape(3, 2),
    "missing dim": lambda: ours()[0],
    "broadcast": lambda: ours()[:1],
    "dtype": lambda: ours().double(),
    "zeros": lambda: torch.zeros_like(ours()),
    "swapped rows": lambda: ours().flip(0),
    "not a tensor": lambda: ours().tolist(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_comparator_sees_a_planted_fault(fault):
    assert_accurate(ours(), REF, BASE)
    with pytest.raises(AssertionError, match="result: "):
        assert_accurate(FAULTS[fault](), REF, BASE)


def test_comparator_bound_is_the_rule():
    # Without an error of plain PyTorch: 4 eps of the largest value.
    step = OWN_EPS * torch.finfo(torch.float32).eps * 6
    assert_accurate((REF + 0.9 * step).float(), REF, BASE)
    with pytest.raises(AssertionError, match="error"):
        assert_accurate((REF + 1.2 * step).float(), REF, BASE)
    # And its error counts twice.
    error = torch.zeros_like(REF)
    error[0, 0] = 1e-3
    assert_accurate((REF + 1.9 * error).float(), REF, (REF + error).float())
    with pytest.raises(AssertionError, match="error"):
        assert_accurate((REF + 2.1 * error).float(), REF, (REF + error).float())


def test_comparator_wants_nan_and_infinities_where_the_truth_has_them():
    special = [float("nan"), float("inf"), float("-inf"), 1.0]
    ref = torch.tensor(special, dtype=torch.float64)
    assert_accurate(ref.float(), ref, ref.float())
    for i in range(3):
        for wrong in [x for j, x in enumerate(special) if j != i]:
            x = ref.float()
            x[i] = wrong
            with pytest.raises(AssertionError, match="NaN or infinity in 1 of 4"):
                assert_accurate(x, ref, ref.float())


def test_comparator_excuses_nothing_where_plain_pytorch_overflows():
    ref = torch.tensor([2.0, 3.0], dtype=torch.float64)
    for bad in (float("inf"), float("nan")):
        base = torch.tensor([2.0, bad])
        assert_accurate(ref.float(), ref, base)
        with pytest.raises(AssertionError, match="error"):
            assert_accurate(torch.tensor([2.0, 3.5]), ref, base)
        with pytest.raises(AssertionError, match="NaN or infinity"):
            assert_accurate(base, ref, base)


def test_comparator_rounds_the_truth_to_the_dtype_before_it_asks_for_infinities():
    ref = torch.tensor([1e5, 1.0], dtype=torch.float64)  # beyond float16
    half = ref.half()
    assert half[0].isinf()
    assert_accurate(half, ref, half)
    with pytest.raises(AssertionError, match="NaN or infinity"):
        assert_accurate(torch.tensor([65504.0, 1.0]).half(), ref, half)


def test_comparator_refuses_a_truth_that_is_not_float64():
    with pytest.raises(AssertionError, match="must be float64"):
        assert_accurate(ours(), BASE, BASE)


def test_comparator_sees_strides():
    x = ours()
    assert_accurate(x, REF, BASE, strides=(3, 1))
    with pytest.raises(AssertionError, match="strides"):
        assert_accurate(x.t().contiguous().t(), REF, BASE, strides=(3, 1))
    # A dim of size 1 may have any stride.
    one = torch.ones(2, 1)
    assert_accurate(one.as_strided((2, 1), (1, 77)), one.double(), one, strides=(1, 1))


def test_comparator_accepts_empty_tensors_of_the_right_shape_only():
    empty = torch.empty(0, 3)
    assert assert_accurate(empty, empty.double(), empty) == 0
    with pytest.raises(AssertionError, match="shape"):
        assert_accurate(torch.empty(3, 0), empty.double(), empty)


def test_assert_same_sees_one_bit_and_none():
    x = torch.tensor([1.0, float("nan"), float("inf")])
    assert_same(x, x.clone())
    assert_same(None, None)
    for other in (x + torch.tensor([1e-7 * 2, 0, 0]), x.double(), x[:2], None, torch.tensor([1.0, 2.0, float("inf")])):
        with pytest.raises(AssertionError):
            assert_same(x, other)


def test_ulps_of_neighbouring_floats_is_one():
    x = torch.tensor([1.0, 1.5, 3e-20, -7.25, 1.9999999])
    up = torch.nextafter(x, torch.full_like(x, float("inf")))
    assert ulps(up, x.double()).tolist() == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("shape", [(1,), (3,), (7, 33), (2, 5, 64)])
def test_mixed_weights_have_both_signs_no_zero_and_are_exact(shape):
    w = mixed_weights(shape, torch.float64)
    assert (w != 0).all() and w.abs().max() <= 1.5
    assert w.numel() < 3 or (w.min() < 0 < w.max())
    for dtype in DTYPES:
        assert torch.equal(mixed_weights(shape, dtype).double(), w)
    if len(shape) > 1 and shape[0] > 1:
        assert not torch.equal(w[0], w[1])


def test_poisoned_memory_shows_what_was_not_written():
    with poisoned_memory():
        made = [torch.empty(3), torch.empty_like(torch.ones(2, 2).half()), torch.empty_strided((2, 2), (1, 2))]
        assert all(t.isnan().all() for t in made)
        assert torch.empty(2, dtype=torch.int64).eq(2**63 - 1).all()
        assert torch.empty((), device="meta").device.type == "meta"
    assert "poison" not in repr(torch.empty)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 7), (2, 3, 5, 4), (0, 3), (2, 0, 3)], ids=str)
def test_layouts_keep_shape_and_dtype_and_are_what_they_say(maker, shape):
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    y = maker(x)
    assert y.shape == x.shape and y.dtype == x.dtype
    if maker not in (layouts.expanded, layouts.overlapping):
        assert torch.equal(x, y)
    assert y.isfinite().all()
    if x.numel() > 1:
        assert maker.what_for(y), f"{maker.__name__} made {y.stride()} of {shape}, {y.data_ptr() % 64}"


def test_what_is_tested_on_each_target_runs_on_its_device():
    """Else a test of the kernels passes CPU tensors to them, which nobody sees where there is no GPU."""
    forgetful = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        source = path.read_text()
        for f in ast.walk(ast.parse(source)):
            if isinstance(f, ast.FunctionDef) and "target" in [a.arg for a in f.args.args]:
                body = ast.get_source_segment(source, f) or ""
                uses = ("target.device", "target=target", ", target)", ", target, ", "on(target, ", "draw(target, ")
                if not any(use in body for use in uses):
                    forgetful.append(f"{path.name}: {f.name}")
    assert not forgetful


def test_live_tensors_counts_a_kept_tensor():
    gc.collect()
    gc.freeze()  # as no_leak does
    before = live_tensors()
    kept = [torch.ones(1)]
    assert live_tensors() == before + 1
    kept.clear()
    assert live_tensors() == before


def test_no_leak_notices_a_tensor_in_a_list():
    kept = []
    with pytest.raises(AssertionError, match="1 tensors outlive the block"), no_leak():
        kept.append(torch.ones(1))
    with no_leak():
        kept.append(torch.ones(1))
        kept.pop()


def test_instruction_sets_end_with_the_baseline():
    assert not isas() or isas()[-1] == "baseline"


def test_default_devices_outlive_poisoned_memory():
    """Though the first of a process came while memory was poisoned."""
    _device_constructors.cache_clear()
    with poisoned_memory(), torch.device("meta"):
        torch.zeros(2)
    with torch.device("meta"):
        assert torch.empty(2).is_meta


def test_a_worker_whose_gpu_answers_no_more_is_replaced(tmp_path):
    """A kernel that reads where it must not spoils its process, but not the tests that come after."""
    program = tmp_path / "test_gone.py"
    program.write_text(
        "import torch\n"
        "def gone(): raise RuntimeError('an illegal memory access')\n"
        "def test_a(): torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), gone; raise ValueError\n"
        "def test_b(): assert torch.cuda.synchronize is not gone\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = os.pathsep.join((str(ROOT / "tests"), str(ROOT)))
    options = ["-p", "conftest", "-n", "1", "-q", "--rootdir", tmp_path, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, program], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "ValueError" in done.stdout and "1 passed" in done.stdout, done.stdout + done.stderr
