"""The Triton kernels of affine_coupling where programs end. The generic tests run the usual shapes, each within a program."""

import pytest
import torch
from registry import OPS
from rows.affine_coupling import positive, tensors
from support import TARGETS, dtype_name
from test_conformance import check_against_truth

pytest.importorskip("triton")
from pygen.kernels import _blocks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
OP = next(op for op in OPS if op.name == "affine_coupling")
TARGET = next((t for t in TARGETS if t.backend == "triton"), None)
BLOCK = _blocks.COUPLING_BLOCK


def check(shape, params=None, dtype=torch.float32, lay=lambda t: t, **options):
    there = {k: lay(t.to(TARGET.device, dtype)) for k, t in positive(tensors(shape, params)).items()}
    check_against_truth(OP, there, options, TARGET.backend)


@pytest.mark.skipif(TARGET is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonAffineCoupling:
    @pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=dtype_name)
    def test_samples_of_several_programs(self, dtype):
        """Sums over one program, over one and an element, and a rest that ends elsewhere than the transformed part."""
        for half in (BLOCK, BLOCK + 1):
            check((2, 2 * half), (2, half), dtype)
        check((2, 2 * BLOCK + 1), (2, BLOCK), dtype, inverse=True)

    def test_samples_that_share_a_program(self):
        """More of them than one program takes, the last one alone."""
        check((2 * BLOCK + 1, 2), (2 * BLOCK + 1, 1))
        check((BLOCK // 8 + 1, 12), (BLOCK // 8 + 1, 6), mask="even_odd", inverse=True)

    def test_boards_of_several_programs(self):
        """Rows of odd and even length: parity goes on over the border of programs."""
        for size in ((33, 35), (34, 32)):
            for flip in (False, True):
                check((2, 2, *size), mask="checkerboard", flip=flip, scale="tanh", bound=1.5)
        turned = (0, 2, 3, 1)
        check((1, 5, 17, 19), mask="checkerboard", lay=lambda t: t.permute(turned).contiguous().permute(0, 3, 1, 2))
