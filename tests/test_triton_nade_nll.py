"""The Triton kernels of nade_nll where tiles, segments and parts end; generic tests run the usual shapes."""

import pytest
import torch
from registry import OPS
from rows.nade_nll import tensors
from support import TARGETS, dtype_name
from test_conformance import check_against_truth

pytest.importorskip("triton")
from pygen.kernels import _blocks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
OP = next(op for op in OPS if op.name == "nade_nll")
TARGET = next((t for t in TARGETS if t.backend == "triton"), None)
SAMPLES, UNITS, PARTS = _blocks.NADE_SAMPLES, _blocks.NADE_UNITS, _blocks.NADE_PARTS


@pytest.mark.skipif(TARGET is None, reason="Triton runs neither here nor under its interpreter")
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
@pytest.mark.parametrize(
    "size",
    (
        (SAMPLES, 2, UNITS),
        (SAMPLES + 1, 4, UNITS - 1),
        (2 * SAMPLES - 1, 5, UNITS + 1),
        (3, 10, 2),  # segments of 4, the last one of 2
        (SAMPLES * PARTS + 1, 2, 1),  # a part has two tiles
    ),
    ids=str,
)
def test_triton_nade_nll_of_any_size(size, dtype):
    t = {k: v.to(TARGET.device, dtype if v.is_floating_point() else None) for k, v in tensors(*size).items()}
    check_against_truth(OP, t, {"reduction": "batchmean"}, TARGET.backend)
