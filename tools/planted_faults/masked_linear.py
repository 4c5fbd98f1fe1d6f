"""Planted faults of masked_linear."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import EPILOGUE_CU, Fault

LINEAR_CUDA = "tests/test_cuda_host_masked_linear.py"
LINEAR = "tests/test_masked_linear.py"
LINEAR_COMMON = "tests/test_masked_linear_common.py"
LINEAR_CU = "csrc/cuda/masked_linear.cuh"
LINEAR_PACK = "csrc/cpu/masked_linear_pack.h"

FAULTS = (
    Fault("masked_linear, CUDA: a tile ends with its first target", "csrc/cuda/conv_loop.cuh", "static_cast<int>(stairs.seen_by(n_live - 1))",
          "static_cast<int>(stairs.seen_by(0))", LINEAR_CUDA),
    Fault("masked_linear, CUDA: what is not finite meets dead weights", "csrc/cuda/conv_loop.cuh",
          "min(now.k + Tr::kStep, now.k_end) > seen_by_all", "now.k > seen_by_all + Tr::kStep", LINEAR_CUDA),
    Fault("masked_linear, CUDA: what is not finite is lost", "csrc/cuda/conv_products.cuh", "if (__any_sync(0xffffffffu, spoilt))",
          "if (false && __any_sync(0xffffffffu, spoilt))", LINEAR_CUDA),
    Fault("masked_linear, CUDA: infinity of a half's upper element is kept", "csrc/cuda/conv_products.cuh",
          "    if (high) word &= 0x0000ffff;\n", "", LINEAR_CUDA),
    Fault("masked_linear, CUDA: dead weights are packed", LINEAR_CU, "(p.live == nullptr || column < p.live[row])", "true", LINEAR_CUDA),
    Fault("masked_linear, CUDA: weights that a tile's last target sees are not packed", LINEAR_CU,
          "if (first_column >= p.live[min(last, p.rows - 1)]) return;", "if (first_column >= p.live[min(last, first_row)]) return;", LINEAR_CUDA),
    Fault("masked_linear, CUDA: dead entries of the gradient keep their sums", LINEAR_CU, "if (s < p.live[t]) {", "if (s <= p.live[t]) {", LINEAR_CUDA),
    Fault("masked_linear, CUDA: live tiles of the gradient are left out", "csrc/cuda/masked_conv2d_weight.cuh",
          "p.live[min(first_o + Tr::kTile, p.outs) - 1]) return;", "p.live[first_o]) return;", LINEAR_CUDA),
    Fault("masked_linear, CUDA: the order of outputs is forgotten", EPILOGUE_CU, "Tr::kByDegree && order != nullptr ? order[first + column] : first + column",
          "first + column", LINEAR_CUDA),
    Fault("masked_linear, C++: columns apart are taken to lie side by side", LINEAR_PACK, "all &= at[k] == at[0] + k;", "all &= k > 1 || at[k] == at[0] + k;",
          LINEAR),
    Fault("masked_linear, C++: a falling order is packed as a rising one", LINEAR_PACK, "const bool falls = step * along.direction < 0;",
          "const bool falls = false;", LINEAR),
    Fault("masked_linear, C++: pairs are taken for quads", "csrc/cpu/masked_linear.cpp", "quads &= side_by_side<4>(at + k);", "quads &= side_by_side<2>(at + k);",
          LINEAR),
    Fault("masked_linear, C++: lanes are sorted without what they see", "csrc/cpu/masked_linear.cpp", "        live[place] = live[place - 1];\n", "", LINEAR),
    Fault("masked_linear's short way: negated inputs are read as they lie", "csrc/cpu/masked_linear.bind.h",
          "x.shape[1] != plan->ins || is_negated(args[1]) ||", "x.shape[1] != plan->ins ||", LINEAR_COMMON),
    Fault("masked_linear's short way: a weight that was replaced is read", "csrc/cpu/masked_linear.bind.h",
          "!read_linear(args[4], g.dtype, plan->outs, plan->ins, &w)", "!read_plain(args[4], &w)", LINEAR_COMMON),
    Fault("masked_linear's short way: degrees may be bools", "pygen/ops/_linear_common.py", "or not {*map(type, degrees)} <= {int}", "", LINEAR_COMMON),
    Fault("masked_linear's short way: another backend was chosen", "pygen/ops/_linear_common.py",
          '        or (backend is None and _dispatch.resolve(op.name, _dispatch.AUTO, "cpu") != "cpu")\n', "", LINEAR_COMMON),
    Fault("masked_linear's short way: a plan may be made in a transform", "pygen/ops/_linear_common.py", "    if not _dispatch.nothing_intercepts():", "    if False:", "tests/test_programs.py -k degrees"),
    Fault("masked_linear: an order is taken to change nothing", "pygen/_degrees.py", 'return torch.equal(order, torch.arange(len(order), device="cpu"))',
          "return len(order) % 2 == 0", LINEAR_CUDA),
)  # fmt: skip
