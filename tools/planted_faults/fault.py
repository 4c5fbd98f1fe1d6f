"""What a planted fault is, and the tests that several families name.

A fault is a piece of text of ours and what it becomes. `old` stands in its file exactly once (tests/test_mutants.py), `tests` are
pytest's arguments for what ought to see it, or tests/cuda_host/sanitize.py and its arguments.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str


def conformance(ops: str, where: str, *files: str) -> str:
    """The generic tests of these ops and these files' own, where their names have it."""
    return f"{' '.join(('tests/test_conformance.py', *files))} -k '({ops}) and {where}'"


KL_CUDA = "tests/test_cuda_host.py"
GATED_CUDA = "tests/test_cuda_host_gated_masked_conv2d.py"
PROGRAM = "pygen/models/_builder.py"
RACES = "tests/cuda_host/sanitize.py thread"
STRAY = "tests/cuda_host/sanitize.py address,undefined"
EPILOGUE_CU = "csrc/cuda/conv_epilogue.cuh"
GATED_CU = "csrc/cuda/conv_gate.cuh"
CONV_PY = "kernels/masked_conv2d.py"
LOGISTIC = "tests/test_logistic_mixture_nll.py -k 'not triton'"
LOGISTIC_H = "csrc/common/logistic_mixture_nll.h"
SOFTMAX_ROW_H = "csrc/cpu/softmax_row.h"
