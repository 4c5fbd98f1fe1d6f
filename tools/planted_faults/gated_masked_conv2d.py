"""Planted faults of gated_masked_conv2d."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import CONV_PY, EPILOGUE_CU, GATED_CU, GATED_CUDA, Fault, conformance

GATED = conformance(
    "gated_masked_conv2d", "not triton", "tests/test_conformance_autograd.py", "tests/test_gated_masked_conv2d.py"
)
GATED_TRITON = "tests/test_triton_gated_masked_conv2d.py"
GATED_OP = "pygen/ops/gated_masked_conv2d.py"

FAULTS = (
    Fault("gated_masked_conv2d, CUDA: the second half starts where the tile's first ends", "csrc/cuda/conv_pairs.cuh",
          "return {g * (group / 2) + gated, group / 2, columns / 2, gated};", "return {g * (group / 2) + gated, columns / 2, columns / 2, gated};", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: the bias comes as it lies", EPILOGUE_CU, "from[columns.channel(n)]", "from[columns.first + n]", GATED_CUDA),
    Fault("CUDA: a side's weights are the last tap's", "csrc/cuda/conv_loop.cuh", "side ? p.side.weight + n_first * weight_pitch",
          "false ? p.side.weight + n_first * weight_pitch", GATED_CUDA),
    Fault("CUDA: a side ends with the input's channels", "csrc/cuda/conv_steps.cuh", "    k_end = p.side.k;\n", "    k_end = p.k < p.side.k ? p.k : p.side.k;\n", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: every image has the first one's cond", GATED_CU, "place.image * p.n + channel : at", "channel : at", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: in contiguous images every image has the first one's cond", GATED_CU, "cond[place.image * p.n + channel]", "cond[channel]",
          GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: whole units from any address", "csrc/cuda/masked_conv2d.cu", "(call.add | (gated != nullptr ? gated->cond : 0)) % 16 == 0", "true",
          "tests/cuda_host/sanitize.py address,undefined gated_masked_conv2d"),
    Fault("gated_masked_conv2d, CUDA: what is added is read as if it lay like the output", "pygen/native/gated_masked_conv2d.py", "to_output_layout(add, pre)", "add",
          GATED_CUDA),
    Fault("gated_masked_conv2d, Triton: the gate of what is not yet rounded", "kernels/gated_masked_conv2d.py", "return rounded.to(sums.dtype)", "return sums",
          GATED_TRITON),
    Fault("gated_masked_conv2d, Triton: colours share the first one's halves", CONV_PY, "inside = n % group_n", "inside = n % n_size", GATED_TRITON),
    Fault("gated_masked_conv2d: pre's own gradient is forgotten", GATED_OP, "(need_pre, need_cond), grad)", "(need_pre, need_cond), None)", GATED),
    Fault("gated_masked_conv2d, CUDA: pre's own gradient reaches cond", "csrc/cuda/gated_activation.cuh", "    store_both(p.grad_input);\n  });",
          "    store_both(p.grad_input);\n    store_both(p.grad_cond);\n  });", GATED_CUDA),
    Fault("gated_masked_conv2d: cond's gradient is lost where pre's is not needed", GATED_OP, "return (None,) * 5 + (grad_cond, None, None, None, None)", "return (None,) * 10", GATED),
)  # fmt: skip
