"""The Triton kernels of categorical_nll where blocks end, on outputs that hold NaN; generic tests run the usual shapes."""

import pytest
import torch
from registry import OPS
from rows.categorical_nll import tensors
from support import TARGETS, dtype_name
from test_conformance import check_against_truth

pytest.importorskip("triton")
from pygen.kernels import _blocks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
OP = next(op for op in OPS if op.name == "categorical_nll")
TARGET = next((t for t in TARGETS if t.backend == "triton"), None)


def check(n, channels, levels, spatial, dtype=torch.float32, reduction="none", last=False):
    t = tensors(n, channels, levels, spatial, torch.int64)
    given = {"logits": t["logits"].to(dtype), "x": t["x"]}
    if last:
        given = {k: v.contiguous(memory_format=torch.channels_last) for k, v in given.items()}
    check_against_truth(
        OP, {k: v.to(TARGET.device) for k, v in given.items()}, {"reduction": reduction}, TARGET.backend
    )


@pytest.mark.skipif(TARGET is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonCategoricalNll:
    @pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=dtype_name)
    @pytest.mark.parametrize("more", (-1, 0, 1))
    def test_units_that_fill_a_block_and_one_more_or_less(self, dtype, more):
        block, at_once = _blocks.categorical_tile(dtype, 50, False)
        assert at_once == 64
        check(2, 1, 50, (block + more,), dtype)

    @pytest.mark.parametrize("levels", (_blocks.CATEGORICAL_LEVELS, _blocks.CATEGORICAL_LEVELS + 1, 700))
    def test_more_levels_than_fit_at_once(self, levels):
        check(2, 2, levels, (5,), reduction="batchmean")

    def test_two_levels_and_more_units_than_a_program_takes(self):
        assert _blocks.categorical_tile(torch.float32, 2, False) == (_blocks.CATEGORICAL_UNITS, 2)
        check(2, 3, 2, (_blocks.CATEGORICAL_UNITS // 3 + 1,))
        check(3, _blocks.CATEGORICAL_UNITS + 1, 2, (), reduction="sum")

    @pytest.mark.parametrize("reduction", ("none", "sum"))
    def test_samples_of_one_unit(self, reduction):
        check(37, 1, 5, (), reduction=reduction)
        check(1030, 1, 3, (1, 1), reduction=reduction)

    @pytest.mark.parametrize(
        "levels", (33, _blocks.CATEGORICAL_LEVELS_TOGETHER, _blocks.CATEGORICAL_LEVELS_TOGETHER + 1)
    )
    def test_levels_that_lie_together(self, levels):
        check(2, 1, levels, (3, 5), last=True)
        check(9, 1, levels, (), dtype=torch.float16)
