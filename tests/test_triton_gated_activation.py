"""The Triton kernels of gated_activation where blocks end, on outputs that hold NaN. The generic tests run the usual shapes."""

import pytest
import torch
from registry import OPS
from special_checks import check_gate, check_gate_of_float32
from support import TARGETS, dtype_name
from test_conformance import check_against_truth

pytest.importorskip("triton")
from pygen.kernels import _blocks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
OP = next(op for op in OPS if op.name == "gated_activation")
TARGET = next((t for t in TARGETS if t.backend == "triton"), None)


def check(shape, cond=None, dtype=torch.float32, groups=1, lay=lambda t: t):
    g = torch.Generator().manual_seed(3)
    tensors = {"input": lay(torch.randn(shape, generator=g).to(dtype))}
    if cond is not None:
        tensors["cond"] = torch.randn(cond, generator=g).to(dtype)
    there = {k: t.to(TARGET.device) for k, t in tensors.items()}
    check_against_truth(OP, there, {"color_groups": groups}, TARGET.backend)


@pytest.mark.skipif(TARGET is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonGatedActivation:
    @pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=dtype_name)
    def test_sums_over_several_blocks_of_pixels(self, dtype):
        for pixels in (_blocks.GATE_BLOCK, _blocks.GATE_BLOCK + 1):
            check((2, 4, pixels), (2, 4), dtype)

    def test_channels_that_lie_together(self):
        """More of them than a block takes, and as many pixels as fill several."""
        last = _blocks.GATE_LAST_CHANNELS
        check((2, 2 * last + 2, 5, 7), (2, 2 * last + 2), lay=lambda t: t.contiguous(memory_format=torch.channels_last))

    def test_more_dims_than_strides(self):
        """Five dims that no three strides describe go through contiguous copies, and their gradients back."""
        turn = (0, 1, 5, 3, 4, 2)
        check(
            (1, 4, 2, 3, 2, 3), (1, 4, 2, 3, 2, 3), groups=2, lay=lambda t: t.permute(turn).contiguous().permute(turn)
        )

    @pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=dtype_name)
    def test_gates_in_16_bits_are_rounded_as_if_they_were_exact(self, dtype):
        check_gate(dtype, TARGET.backend, TARGET.device)

    def test_the_gate_of_float32_keeps_its_digits(self):
        check_gate_of_float32(TARGET.backend, TARGET.device)
