"""The Triton kernels of logistic_mixture_nll where blocks end, on outputs that hold NaN; generic tests run the usual shapes."""

import pytest
import torch
from registry import OPS
from rows.logistic_mixture_nll import tensors
from support import TARGETS, dtype_name
from test_conformance import check_against_truth

pytest.importorskip("triton")
from pygen.kernels import _blocks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
OP = next(op for op in OPS if op.name == "logistic_mixture_nll")
TARGET = next((t for t in TARGETS if t.backend == "triton"), None)


def check(n, channels, components, spatial, dtype=torch.float32, reduction="none", last=False):
    t = tensors(n, channels, components, spatial)
    given = {"params": t["params"].to(dtype), "x": t["x"]}
    if last:
        given = {k: v.contiguous(memory_format=torch.channels_last) for k, v in given.items()}
    check_against_truth(
        OP, {k: v.to(TARGET.device) for k, v in given.items()}, {"reduction": reduction}, TARGET.backend
    )


@pytest.mark.skipif(TARGET is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonLogisticMixtureNll:
    @pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=dtype_name)
    @pytest.mark.parametrize("more", (-1, 0, 1))
    def test_positions_that_fill_a_block_and_one_more_or_less(self, dtype, more):
        block, kinds = _blocks.mixture_tile(dtype, 3)
        assert kinds == 4
        check(2, 3, 3, (block + more,), dtype)

    @pytest.mark.parametrize("components", (_blocks.MIXTURE_COMPONENTS, _blocks.MIXTURE_COMPONENTS + 1, 71))
    @pytest.mark.parametrize("channels", (1, 3))
    def test_more_components_than_fit_at_once(self, components, channels):
        check(2, channels, components, (5,), reduction="batchmean")

    @pytest.mark.parametrize("reduction", ("none", "sum"))
    def test_samples_of_one_position(self, reduction):
        check(37, 3, 2, (), reduction=reduction)
        check(37, 1, 5, (1, 1), reduction=reduction)

    def test_channels_that_lie_together(self):
        check(2, 3, 5, (7, 9), last=True)
        check(2, 1, 40, (3, 5), last=True, dtype=torch.float16)
