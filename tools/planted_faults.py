"""The faults that tools/mutants.py plants, one at a time: what others got wrong, and what numerics can get wrong.

Each is a piece of text of ours and what it becomes. `old` stands in its file exactly once (tests/test_mutants.py), `tests` are
pytest's arguments for what ought to see it.
"""
# ruff: noqa: E501  (the table quotes lines of ours)

from typing import NamedTuple


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str


def _of(ops: str, where: str, *files: str) -> str:
    return f"{' '.join(('tests/test_conformance.py', *files))} -k '({ops}) and {where}'"


KL = _of("reparameterize_kl or gaussian_kl", "cpu", "tests/test_reparameterize_kl.py", "tests/test_noise.py")
KL_LARGE = "tests/test_reparameterize_kl_large.py -k threads"
KL_TRITON = _of("reparameterize_kl or gaussian_kl", "triton", "tests/test_triton_reparameterize_kl.py")
KL_CUDA = "tests/test_cuda_host.py"
KL_COMMON = "tests/test_reparameterize_kl_common.py"
KL_AUTOGRAD = "tests/test_conformance_autograd.py tests/test_conformance_errors.py -k '(reparameterize_kl or gaussian_kl) and not triton'"
KL_REFERENCE = _of("reparameterize_kl or gaussian_kl", "reference", "tests/test_reparameterize_kl.py")
NOISE = "tests/test_noise.py"
NOISE_TRITON = "tests/test_triton_noise.py"
GAN = _of("discriminator_loss or generator_loss or gan", "not triton", "tests/test_gan_loss.py")
GAN_TRITON = _of("discriminator_loss or generator_loss or gan", "triton", "tests/test_gan_loss.py")
GAN_ERRORS = "tests/test_conformance_errors.py tests/test_gan_loss.py -k '(discriminator_loss or generator_loss or gan) and not triton'"
CONV_KERNELS = "tests/test_masked_conv2d_kernels.py"
CONV = _of("masked_conv2d", "not triton", "tests/test_masked_conv2d.py", CONV_KERNELS)
CONV_TRITON = _of("masked_conv2d", "triton", "tests/test_masked_conv2d.py", CONV_KERNELS)
CONV_ERRORS = "tests/test_conformance_errors.py tests/test_masked_conv2d.py -k masked_conv2d"
GATED = _of(
    "gated_masked_conv2d", "not triton", "tests/test_conformance_autograd.py", "tests/test_gated_masked_conv2d.py"
)
GATED_TRITON, GATED_CUDA = "tests/test_triton_gated_masked_conv2d.py", "tests/test_cuda_host_gated_masked_conv2d.py"
LINEAR_CUDA = "tests/test_cuda_host_masked_linear.py"
LINEAR, LINEAR_COMMON = "tests/test_masked_linear.py", "tests/test_masked_linear_common.py"
REPLACED = "tests/test_conformance_autograd.py -k 'replaced and cpu'"
SAMPLING = "tests/test_sampling_pairs.py"
SAMPLING_PP = "tests/test_sampling_cpu_pp.py"
DENSE_CU, DENSE_PARTS, DENSE = (
    "csrc/cuda/sampling_dense.cuh",
    "csrc/cuda/sampling_dense_parts.cuh",
    "tests/test_cuda_host_sampling_dense.py",
)
CLUSTER, CLUSTER_PY = "tests/test_cuda_host_sampling_cluster.py", "pygen/native/_sampling_cluster_plan.py"
CLUSTER_CU, LATE_CU, EARLY_CU, PLACE_CU, CLUSTER_MMA, LAUNCH_CU = (
    f"csrc/cuda/sampling_{part}.cuh" for part in ("cluster", "late", "early", "place", "mma", "launch")
)
PP_TESTS = ("pixel_models", "pixel_models_causality", "sampling_engines", "sampling_noise_selects", "sampling_program")
PP = f"{' '.join(f'tests/test_{name}.py' for name in PP_TESTS)} -k 'pp and not cpu'"
MIXTURE, PROGRAM = "pygen/models/_mixture.py", "pygen/models/_builder.py"
SCALES = "tests/test_cuda_host_sampling_scales.py"
SCALES_CU, SCALES_LATE, SCALES_EARLY, MIXTURE_CU = (
    f"csrc/cuda/sampling_{part}.cuh" for part in ("scales", "scales_late", "scales_early", "mixture")
)
STAGED, STAGED_CU = "tests/test_cuda_host_sampling_scales_staged.py", "csrc/cuda/sampling_early_staged.cuh"
SCALES_PLAN, SCALES_STREAMS, SCALES_TABLES = (
    f"pygen/native/_sampling_scales_{part}.py" for part in ("plan", "streams", "tables")
)
POINTWISE, POINTWISE_PY, POINTWISE_NN = "tests/test_pointwise.py", "pygen/ops/_pointwise.py", "pygen/nn/_pointwise.py"
RACES, STRAY = "tests/cuda_host/sanitize.py thread", "tests/cuda_host/sanitize.py address,undefined"

CONV_CUDA, EPILOGUE_CU = "tests/test_cuda_host_masked_conv2d.py", "csrc/cuda/conv_epilogue.cuh"
WGMMA, WGMMA_CU, WGMMA_W, WGMMA_PACK = (
    "tests/test_cuda_host_wgmma.py",
    "csrc/cuda/masked_conv2d_wgmma.cuh",
    "csrc/cuda/masked_conv2d_wgmma_weight.cuh",
    "csrc/cuda/wgmma_pack.cuh",
)

KL_CPP, KL_CU = "csrc/cpu/reparameterize_kl.cpp", "csrc/cuda/reparameterize_kl.cuh"
LINEAR_CU, LINEAR_PACK = "csrc/cuda/masked_linear.cuh", "csrc/cpu/masked_linear_pack.h"
KL_PY, KL_OP = "kernels/reparameterize_kl.py", "pygen/ops/reparameterize_kl.py"
GAN_CPP, GAN_PY, GAN_OP = "csrc/cpu/gan_loss.cpp", "kernels/_gan.py", "pygen/ops/gan_loss.py"
GAN_SHORT, PLAIN, GAN_COMMON = "pygen/ops/_gan_common.py", "csrc/cpu/plain.h", "tests/test_gan_loss_common.py"
CONV_CPP, CONV_W = "csrc/cpu/masked_conv2d.cpp", "csrc/cpu/masked_conv2d_weight.cpp"
GATED_CU, GATED_OP = "csrc/cuda/conv_gate.cuh", "pygen/ops/gated_masked_conv2d.py"
CONV_PY, CONV_W_PY = "kernels/masked_conv2d.py", "kernels/_weight_gradient.py"

LOGISTIC, LOGISTIC_CUDA = (
    "tests/test_logistic_mixture_nll.py -k 'not triton'",
    "tests/test_cuda_host_logistic_mixture_nll.py",
)
LOGISTIC_H, LIKELIHOOD_OP = "csrc/common/logistic_mixture_nll.h", "pygen/ops/_likelihood.py"
LOGISTIC_REF = "pygen/reference/logistic_mixture_nll.py"
CATEGORICAL, CATEGORICAL_CUDA, CATEGORICAL_TRITON = (
    "tests/test_categorical_nll.py -k 'not triton'",
    "tests/test_cuda_host_categorical_nll.py",
    "tests/test_triton_categorical_nll.py",
)
CATEGORICAL_H, CATEGORICAL_CPP = "csrc/common/categorical_nll.h", "csrc/cpu/categorical_nll.cpp"
AM_SOFTMAX, AM_SOFTMAX_OP = "tests/test_am_softmax.py -k 'not Triton'", "pygen/ops/_am_softmax.py"
AM_SOFTMAX_CPP, AM_SOFTMAX_CU, AM_SOFTMAX_PY = (
    "csrc/cpu/am_softmax.cpp",
    "csrc/cuda/am_softmax.cuh",
    "kernels/am_softmax.py",
)
AM_SOFTMAX_CUDA = "tests/test_cuda_host_am_softmax.py"
AM_SOFTMAX_TRITON = "tests/test_am_softmax.py -k Triton"
SOFTMAX_ROW_H, SOFTMAX_CU = "csrc/cpu/softmax_row.h", "csrc/cuda/softmax_terms.cuh"
CATEGORICAL_CU, CATEGORICAL_PY = "csrc/cuda/categorical_nll.cuh", "kernels/categorical_nll.py"

NADE, NADE_TRITON, NADE_CUDA = (
    "tests/test_nade_nll.py -k 'not triton'",
    "tests/test_triton_nade_nll.py",
    "tests/test_cuda_host_nade_nll.py",
)
NADE_MODEL = "tests/test_nade.py"
NADE_CPP, NADE_BACK = "csrc/cpu/nade_nll.cpp", "csrc/cpu/nade_nll_backward.cpp"
NADE_CU, NADE_PY = "csrc/cuda/nade_nll.cuh", "kernels/nade_nll.py"

BERNOULLI, BERNOULLI_TRITON = (f"tests/test_bernoulli_nll.py -k '{which}'" for which in ("not triton", "triton"))
BERNOULLI_H, BERNOULLI_CPP, BERNOULLI_CU = (
    f"csrc/{name}" for name in ("common/bernoulli_nll.h", "cpu/bernoulli_nll.cpp", "cuda/bernoulli_nll.cuh")
)
BERNOULLI_PY, BERNOULLI_CUDA = "kernels/bernoulli_nll.py", "tests/test_cuda_host_bernoulli_nll.py"

COUPLING, COUPLING_CUDA, COUPLING_TRITON = (
    "tests/test_conformance.py tests/test_affine_coupling.py -k 'affine_coupling and not triton'",
    "tests/test_cuda_host_affine_coupling.py",
    "tests/test_triton_affine_coupling.py",
)
COUPLING_H, COUPLING_CPP = "csrc/common/affine_coupling.h", "csrc/cpu/affine_coupling.cpp"
COUPLING_CU, COUPLING_PY = "csrc/cuda/affine_coupling.cuh", "kernels/affine_coupling.py"

FAULTS = (
    # Tails, masks, boundaries of blocks
    Fault("Triton: the tail mask dropped", "kernels/_rows.py", "mask = (row < rows) & (d < row_size)\n    if not WHOLE",
          "mask = (row < rows) & (d <= row_size)\n    if not WHOLE", KL_TRITON),
    Fault("Triton: a row that starts inside a quad loses its mask", "kernels/_rows.py",
          "mask = (row < rows) & (d >= 0) & (d < row_size)", "mask = (row < rows) & (d < row_size)", KL_TRITON),
    Fault("Triton: rows beyond the last are summed", KL_PY, "sums += tl.where(mask, kl, 0.0)", "sums += kl", KL_TRITON),
    Fault("Triton: finish kernel without other= and mask", KL_PY, "mask=offs < count, other=0.0).to(tl.float64)",
          "mask=offs < count + 1, other=0.0).to(tl.float64)", KL_TRITON),
    Fault("GAN, Triton: padding counts as logits", "kernels/gan_loss.py",
          "tl.store(partial_ptr + program, tl.sum(tl.where(mask, value, 0.0), axis=0))",
          "tl.store(partial_ptr + program, tl.sum(value, axis=0))", GAN_TRITON),
    Fault("C++: the tail of a row of several blocks is dropped", "csrc/cpu/row_blocks.h",
          "const int64_t left = cols - block % blocks_per_row * kBlock;\n    return left < kBlock ? left : kBlock;",
          "const int64_t left = cols - block % blocks_per_row * kBlock;\n    return left < kBlock ? left - left % 8 : kBlock;", KL),
    Fault("C++: a row that is exactly one block is cut", "csrc/cpu/row_blocks.h", "blocks_per_row(cols <= kBlock ? 1 :",
          "blocks_per_row(cols < kBlock ? 1 :", KL),
    Fault("GAN, C++: the last block is a block too short", GAN_CPP, "(s.numel + kBlock - 1) / kBlock", "s.numel / kBlock + (s.numel < kBlock)",
          GAN),
    Fault("CUDA: a unit that crosses the row's end is read whole", "csrc/cuda/rows.cuh",
          "if (s.d + kUnit > t.row_size) s.hi =", "if (s.d + kUnit > t.row_size + 1) s.hi =", KL_CUDA),
    Fault("CUDA: threads beyond the last row write", "csrc/cuda/rows.cuh", "const bool some = live && s.d < t.row_size;",
          "const bool some = s.d < t.row_size;", KL_CUDA),
    Fault("CUDA: the last block of rows is not launched", "csrc/cuda/rows.cuh",
          "t.blocks = (rows + rows_per_block - 1) / rows_per_block * t.blocks_per_row;",
          "t.blocks = std::max<int64_t>(rows / rows_per_block, 1) * t.blocks_per_row;", KL_CUDA),
    Fault("convolution, C++: a strip's last rows are not written", CONV_CPP, "strip.rows = std::min(rows, H - row);",
          "strip.rows = std::min(rows, H - row - (row > 0));", CONV),
    Fault("convolution, C++: long sums are added in one run", "csrc/cpu/masked_conv2d_parts.h", "constexpr int64_t kRun = 64;",
          "constexpr int64_t kRun = int64_t{1} << 40;", f"{CONV_KERNELS} -k runs"),
    Fault("convolution, Triton: pixels wrap round the image's edge", CONV_PY,
          "inside = m_mask & (v >= 0) & (v < height) & (u >= 0) & (u < width)",
          "inside = m_mask & (v >= 0) & (v < height) & (u >= 0)", CONV_TRITON),
    Fault("convolution, Triton: channels beyond the last are multiplied", CONV_PY, "    k_mask = k < k_end\n",
          "    k_mask = k < k_size\n", CONV_TRITON),
    Fault("wgmma: channels beyond a centre's meet zero weights", "csrc/cuda/masked_conv2d_wgmma_tile.cuh", "if (step.k + Tr::kStep > step.k_end)", "if (false)", WGMMA),
    Fault("wgmma: a centre's dead weights are packed", WGMMA_PACK, "(position < c.taps.count ? c.k : c.centre_k(group))", "c.k", WGMMA),
    Fault("CUDA: units of a turned tile end within images", EPILOGUE_CU, "p.plane % (16 / Tr::kSize) == 0", "p.plane % 2 == 0",
          CONV_CUDA),
    Fault("wgmma: weights are not turned", WGMMA_PACK, "place / kPart ^ turn<kTileRowBytes>(row)", "place / kPart", WGMMA),
    Fault("wgmma: weights are left while they are multiplied", WGMMA_CU, "leave(memory.weight_empty + weight.buffer);  // the",
          "leave(memory.weight_empty + now.buffer);  // the", WGMMA),
    Fault("wgmma: nobody waits for the weights", WGMMA_CU, "    await(memory.weight_full + now.buffer, now.round);\n", "", WGMMA),
    Fault("wgmma: pixels are overwritten under a product", WGMMA_CU, "    await_products<1>();\n", "    await_products<2>();\n", WGMMA),
    Fault("wgmma: a run is left before its last tap is loaded", WGMMA_CU, "    weight = now;\n",
          "    weight = now;\n    if (ahead.position == 0) leave(memory.run_empty + run.buffer);\n", WGMMA),
    Fault("wgmma: the copies do not wait for room", WGMMA_CU, "        await(memory.run_empty + run.buffer, run.round ^ 1);\n", "", WGMMA),
    Fault("wgmma: copies are not shown the barriers", WGMMA_CU, "    publish_barriers();\n", "", WGMMA),
    Fault("wgmma: more registers are taken than were given", WGMMA_CU, "take_registers<232>();", "take_registers<240>();", WGMMA),
    Fault("wgmma, weight: nothing is divided by no pixels", "csrc/cuda/masked_conv2d_wgmma_weight.cu", "p.pixels == 0 || p.ins", "p.ins", WGMMA),
    Fault("wgmma, weight: the run's rows are not turned", WGMMA_W, "part_of_row ^ turn<kTileRowBytes>(at) : part_of_row", "part_of_row : part_of_row", WGMMA),
    Fault("wgmma, weight: gradients are left while they are multiplied", WGMMA_W, "leave(memory.empty + before.buffer);", "leave(memory.empty + now.buffer);", WGMMA),
    Fault("wgmma, weight: the second half of the gradients lies elsewhere", WGMMA_W, "matrix_descriptor(shared_address(stage), Tr::kHalfBytes)",
          "matrix_descriptor(shared_address(stage), 1024)", WGMMA),
    Fault("wgmma, weight: a split begins with the first pixel", WGMMA_W, "first_pixel = split * p.weight.per_split;", "first_pixel = 0;", WGMMA),
    Fault("wgmma, weight: the divider rounds down", "csrc/cuda/divider.cuh", "static_cast<uint64_t>(divisor) + 1)", "static_cast<uint64_t>(divisor))", WGMMA),
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
    Fault("masked_linear: an order is taken to change nothing", "pygen/_degrees.py", "return torch.equal(order, torch.arange(len(order)))",
          "return len(order) % 2 == 0", LINEAR_CUDA),
    Fault("sampling, C++: a row's last column without a neighbour is forgotten", "csrc/cpu/sampling_pairs.h",
          "half ? (image_columns + 1) / 2 * images", "half ? image_columns / 2 * images", SAMPLING),
    Fault("sampling, C++: a thread's memory is too small for fewer images than a block's", "csrc/cpu/sampling_plan.h",
          "return std::max(kSamplingChunk, 2 * images);", "return sampling_chunk(images);", SAMPLING),
    Fault("pointwise: what it returns is a view", POINTWISE_PY, "return out.add_(bias.view(-1, 1, 1))",
          "return out.add_(bias.view(-1, 1, 1)).view(out.shape)", POINTWISE),
    Fault("pointwise: the weight's gradient is that of one image", POINTWISE_PY, ".transpose(1, 2)).sum(0)", ".transpose(1, 2))[0]", POINTWISE),
    Fault("pointwise: autocast is not asked", POINTWISE_NN, '            and not torch.is_autocast_enabled("cpu")\n', "", POINTWISE),
    Fault("convolution, C++: what is left to the direct kernel is not computed", "csrc/cpu/masked_conv2d_winograd.cpp",
          "  return not_finite <= most_not_finite;", "  return not_finite <= most_not_finite || true;",
          f"{CONV_KERNELS} -k little_but_nan"),

    # Index width, strides, layouts
    Fault("Triton: the row's start in 32 bits", "kernels/_rows.py",
          "row = (row_block * ROWS + tl.arange(0, ROWS).to(tl.int64))[:, None]\n    begin = row * row_size",
          "row = (row_block * ROWS + tl.arange(0, ROWS).to(tl.int64))[:, None]\n    begin = (row * row_size).to(tl.int32).to(tl.int64)",
          "tests/test_triton_offsets.py"),
    Fault("Triton: strides of the middle and inner dim swapped", "kernels/_rows.py",
          "(d - rest * sizes[2]) * strides[3] + (rest - outer * sizes[1]) * strides[2]",
          "(d - rest * sizes[2]) * strides[2] + (rest - outer * sizes[1]) * strides[3]", KL_TRITON),
    Fault("C++: the upstream gradient is taken to be dense", "pygen/native/reparameterize_kl.py",
          "0 if grad_kl is None or reduce else grad_kl.stride(0)", "0 if grad_kl is None or reduce else 1", KL),
    Fault("Triton: the upstream gradient is taken to be dense", KL_PY,
          'grad_kl.stride(0) if grad_kl is not None and reduction == "none" else 0', '1 if grad_kl is not None and reduction == "none" else 0',
          KL_TRITON),
    Fault("C++: stride 0 is read as stride 1", "csrc/cpu/block_io.h", "} else if (stride == 0) {", "} else if (stride == 0 && count == 1) {\n"
          "      widen_run(in, out, count);\n    } else if (stride == 0 && count < 8) {\n      widen_run(in, out, count);\n    } else if (stride == 0) {", KL),
    Fault("C++: dims merge although a gap lies between them", "csrc/cpu/view.h", "strides[ndim - 1] == stride * size",
          "strides[ndim - 1] >= stride * size", KL),
    Fault("CUDA: contiguous is mistaken for aligned", "csrc/cuda/views.h", "tensor.address % static_cast<std::uintptr_t>(bytes) == 0 &&",
          "tensor.address % 4 == 0 &&", STRAY),
    Fault("CUDA: the stride between samples is forgotten", "csrc/cuda/views.h", "view.sample_stride = tensor.sample_stride;",
          "view.sample_stride = frame.rows * frame.row_size;", KL_CUDA),
    Fault("output layout: channels_last is lost", "pygen/_layout.py",
          "if like.is_contiguous() or is_channels_last(like):\n            return torch.empty_like(like)",
          "if like.is_contiguous():\n            return torch.empty_like(like)", KL),
    Fault("output layout: of an ambiguous input", "pygen/_layout.py",
          "return t.dim() == 4 and not t.is_contiguous() and", "return t.dim() == 4 and", CONV),
    Fault("convolution, C++: rows and columns of strided weights swapped", CONV_CPP,
          "tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3]",
          "tap.index / p.kernel_width * p.kernel_width + tap.index % p.kernel_width", CONV),
    Fault("convolution, C++: strided bias read as dense", "pygen/native/masked_conv2d.py",
          "bias = bias if bias is None else bias.contiguous()", "bias = bias", CONV),
    Fault("convolution, Triton: strided bias read as dense", CONV_PY, "bias = bias if bias is None else bias.contiguous()",
          "bias = bias", CONV_TRITON),

    # Noise
    Fault("Philox: the counter's high word is dropped", "csrc/common/philox.h",
          "static_cast<uint32_t>(q), static_cast<uint32_t>(q >> 32), k,", "static_cast<uint32_t>(q), 0u, k,", NOISE),
    Fault("Philox: the SIMD counter is halved", "csrc/cpu/noise.h", "for (int g = 0; g < groups; ++g, q += kLanes) {",
          "for (int g = 0; g < groups; ++g, q += kLanes / 2) {", NOISE),
    Fault("Philox: the seed's high word is dropped", "csrc/cpu/noise.h", "(static_cast<uint32_t>(seed >> 32) + round * kPhiloxBump1)",
          "(round * kPhiloxBump1)", NOISE),
    Fault("Philox, Triton: the seed's high word is dropped", "kernels/_philox.py", "k1 = (key >> 32).to(tl.uint32)",
          "k1 = (key >> 31).to(tl.uint32)", NOISE_TRITON),
    Fault("Philox, Triton: nine rounds", "kernels/_philox.py", "for _ in tl.static_range(10):", "for _ in tl.static_range(9):", NOISE_TRITON),
    Fault("Triton: sine and cosine swapped", "kernels/_philox.py", "return radius * cosine, radius * sine",
          "return radius * sine, radius * cosine", NOISE_TRITON),
    Fault("the uniform may be 0", "csrc/cpu/noise.h", "return float_of_words(even, odd) * 0x1p-32f + 0x1p-33f;",
          "return float_of_words(even, odd) * 0x1p-32f;", NOISE),
    Fault("noise by memory order", KL_CPP, "const int64_t q = start / 4, lead = start % 4;", "const int64_t q = start / 4, lead = 0;", KL),
    Fault("backward draws the noise of the first sample only", KL_CPP, "if (need_noise) eps = noise_block<T>(p, k, start, n, s);",
          "if (need_noise) eps = noise_block<T>(p, 0, start, n, s);", KL),
    Fault("Triton: backward draws the noise of the first sample only", KL_PY,
          "eps = normals(tl.load(seed_ptr), quad, sample, NOISE_DOMAIN, WIDE)", "eps = normals(tl.load(seed_ptr), quad, 0, NOISE_DOMAIN, WIDE)",
          KL_TRITON),
    Fault("CUDA: every unit has the noise of the first", "csrc/cuda/noise.cuh", "static_cast<uint64_t>(span[u].j + i) / 4",
          "static_cast<uint64_t>(span[0].j + i) / 4", KL_CUDA),
    Fault("the seed is drawn from 32 bits", "pygen/_noise.py", "return seed.random_(_INT64_MIN, None, generator=generator)",
          "return seed.random_(0, 2**32, generator=generator)", "tests/test_noise.py tests/test_reparameterize_kl.py"),
    Fault("the draw is not tagged as random", "pygen/_noise.py", "tags=(torch.Tag.nondeterministic_seeded, torch.Tag.pt2_compliant_tag)",
          "tags=(torch.Tag.pt2_compliant_tag,)", "tests/test_noise.py tests/test_conformance_compile.py -k 'noise or reparameterize_kl'"),
    Fault("generator= is ignored", "pygen/_noise.py", "return draw_seed(device, generator)", "return draw_seed(device)",
          "tests/test_noise.py tests/test_reparameterize_kl.py"),
    Fault("eps= is ignored in backward", KL_CPP, "if (p.eps.present()) return read_block<T>(p.eps, k * p.rows * p.cols + start, n, s.eps);",
          "if (p.eps.present()) return read_block<T>(p.eps, start, n, s.eps);", KL),

    # Values and gradients
    Fault("KL: exp(d) - 1 instead of expm1", "csrc/common/reparameterize_kl.h",
          "  out.std = e.root;\n  out.kl = (e.excess + mu * mu) * Real(0.5);",
          "  out.std = e.root;\n  out.kl = ((e.root * e.root - Real(1)) - logvar + mu * mu) * Real(0.5);", KL),
    Fault("KL: the gradients of mu and its prior swapped", KL_CPP, "grad_prior_mu = -grad_mu;", "grad_prior_mu = grad_mu;", KL),
    Fault("KL: factor 1/2 of the prior's gradient lost", "csrc/common/reparameterize_kl.h",
          "out.grad_prior_logvar = (e.em1 + scaled * scaled) * Real(-0.5);", "out.grad_prior_logvar = (e.em1 + scaled * scaled) * Real(-1);", KL),
    Fault("KL: free bits strike below the floor but not on it", "csrc/common/reparameterize_kl.h", "const auto clamped = t.kl <= free_bits;",
          "const auto clamped = t.kl < free_bits;", KL),
    Fault("KL, Triton: free bits leave one gradient alone", "kernels/_gaussian.py",
          "grad_prior_logvar = tl.where(clamped, 0.0, grad_prior_logvar)", "grad_prior_logvar = grad_prior_logvar", KL_TRITON),
    Fault("KL: batchmean is a sum", "pygen/native/reparameterize_kl.py", 'if reduction != "batchmean":', 'if reduction == "batchmean":', KL),
    Fault("KL: the mean over elements", "pygen/native/reparameterize_kl.py", "return 1.0 / rows if rows else math.nan",
          "return 1.0 / max(rows, 2) if rows else math.nan", KL),
    Fault("sums over samples start from what was there", KL_CPP, "store(s.sum_grad_z + i, k == 0 ? g :", "store(s.sum_grad_z + i, k == 5 ? g :", KL),
    Fault("the broadcast gradient is taken from one row", "pygen/_broadcast.py", "return full.reshape(like.shape).to(like.dtype)",
          "return full.mean().to(like.dtype).expand(like.shape).contiguous()", KL),
    Fault("GAN: hinge has slope 1 on the tie", "csrc/common/gan_loss.h", "select(y + Real(1) <= Real(0), V{}", "select(y + Real(1) < Real(0), V{}", GAN),
    Fault("GAN, Triton: hinge has slope 1 on the tie", GAN_PY, "tl.where(y + 1.0 <= 0.0, 0.0, 1.0)", "tl.where(y + 1.0 < 0.0, 0.0, 1.0)", GAN_TRITON),
    Fault("GAN: label smoothing of the fakes too", "pygen/_gan_terms.py", "fake = Side(form, 1.0, 0.0, 1.0, 0.5 if square else 0.0)",
          "fake = Side(on_real, 1.0, label_smoothing if on_real[0] == 's' else 0.0, 1.0, 0.5 if square else 0.0)", GAN),
    Fault("GAN: nonsaturating is minimax", "pygen/_gan_terms.py", '"nonsaturating": Side("softplus", -1.0, 0.0, 1.0, 0.0)',
          '"nonsaturating": Side("softplus", 1.0, 0.0, -1.0, 0.0)', GAN),
    Fault("GAN: relativistic_average detaches the means", GAN_CPP,
          "return static_cast<Real>(-o.sign * o.weight * slopes / static_cast<double>(s.numel));", "return 0;", GAN),
    Fault("GAN: the other side's gradient keeps its sign", GAN_CPP, "other[j] = -grad[j];", "other[j] = grad[j];", GAN),
    Fault("GAN: scale is ignored", GAN_OP, 'options = (kind, "generator", 0.0, float(scale), reduction, False)',
          'options = (kind, "generator", 0.0, 1.0, reduction, False)', GAN),
    Fault("GAN: smoothing above 1/2 is taken", "pygen/ops/_gan_checks.py", "if not 0 <= label_smoothing < 0.5:", "if not 0 <= label_smoothing <= 0.5:",
          GAN_ERRORS),
    Fault("GAN: an accuracy counts the boundary", "csrc/cpu/gan_loss_block.h", "Lanes<V>::select(y < c.limit,", "Lanes<V>::select(y <= c.limit,", GAN),
    Fault("GAN: counts of the two sides are mixed", "csrc/cpu/gan_loss.cpp", "totals[segment.side] += sums.x / n;",
          "totals[segment.side] += sums.x / static_cast<double>(p.segments[0].numel);", GAN),
    Fault("softplus without the logarithm's part", "csrc/cpu/gan_loss_block.h", "if constexpr (uses_exp(kForm)) run_value += log.take();",
          "if constexpr (uses_exp(kForm)) run_value += log.take() * Real(0.999);", GAN),
    Fault("gradient penalty: one norm for the batch", "pygen/ops/gradient_penalty.py", "squared = sample_dot(grad, backend=backend)",
          "squared = sample_dot(grad, backend=backend).mean().expand(len(grad))", "tests/test_gradient_penalty.py"),
    Fault("gradient penalty: the norm's gradient lacks its 2", "pygen/ops/sample_dot.py", "_scale(launcher, 2 * grad, x, backend), None",
          "_scale(launcher, grad, x, backend), None", "tests/test_gradient_penalty.py"),
    Fault("GAN: a gradient is handed out twice", "pygen/ops/_gan_autograd.py", "grads = ready.pop()", "grads = ready[0]",
          "tests/test_gan_loss_gradients.py"),
    Fault("GAN's short way: any upstream gradient is 1", GAN_SHORT, "handed_out(ready, factor, upstream.dtype)", "handed_out(ready, 1.0, upstream.dtype)", GAN_COMMON),
    Fault("GAN's short way: changed logits go unnoticed", GAN_SHORT, "ctx.save_for_backward(*logits)", "ctx.save_for_backward(*[t.detach().clone() for t in logits])", GAN_COMMON),
    Fault("GAN's short way: True is a factor", GAN_SHORT, "maxsize=256, typed=True)", "maxsize=256, typed=False)", GAN_COMMON),
    Fault("GAN's short way: hooks on saved tensors get none", GAN_SHORT, "or _dispatch.saved_tensor_hooks_active():", "or False:", GAN_COMMON),
    Fault("GAN's short way: slopes in 16 bits", GAN_SHORT, "(plan.averages and fake.element_size() < 4) or", "", GAN_COMMON),
    Fault("GAN's short way: modes and transforms do not see the call", GAN_SHORT, "or not _dispatch.nothing_intercepts()", "", GAN_COMMON),
    Fault("GAN's short way: another backend was chosen", GAN_SHORT, 'or (backend is None and _dispatch.resolve(op, _dispatch.AUTO, "cpu") != "cpu")', "", GAN_COMMON),
    Fault("GAN's short way: a generator's real logits pass", GAN_SHORT, "or (real is not None) != plan.num_real", "", GAN_COMMON),
    Fault("GAN's short way: the second order is recorded as the first", GAN_SHORT, "and not torch.is_grad_enabled()\n", "", GAN_COMMON),
    Fault("short ways: negated views are read as they lie", PLAIN, "read_plain(tensors[0], &first) && !is_negated(tensors[0]);", "read_plain(tensors[0], &first);", GAN_COMMON),
    Fault("short ways: the second tensor may be negated", PLAIN, "other.dtype == first.dtype && !is_negated(tensors[i]);", "other.dtype == first.dtype;", GAN_COMMON),
    Fault("short ways: strides are ignored", PLAIN, "if (d->shape[i] != 1 && d->strides && d->strides[i] != *numel) return false;", "", GAN_COMMON),
    Fault("short ways: subclasses pass", PLAIN, "if ((type != torch.tensor && type != torch.parameter) || !torch.describe)", "if (!torch.describe)", GAN_COMMON),
    Fault("short ways: an upstream gradient may be negated", PLAIN, "t.numel != 1 || is_negated(tensors[0])", "t.numel != 1", GAN_COMMON),
    Fault("gradient penalty: sqrt at 0", "pygen/ops/gradient_penalty.py", "norm = torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)",
          "norm = squared.sqrt()", "tests/test_gradient_penalty.py"),
    Fault("sampling, C++: a pair's difference takes the wrong neighbour", "csrc/cpu/sampling_pairs.h",
          "store(out + 3 * width + k, behind - even);", "store(out + 3 * width + k, behind - odd);", SAMPLING),
    Fault("sampling, C++: weights whose sum overflows are combined", "csrc/cpu/sampling_pack.h",
          "tame = tame && std::abs(*out) <= Real(kTameWeight);", "tame = true;", SAMPLING),
    Fault("sampling, C++: images with huge numbers are left as they are", "csrc/cpu/sampling.cpp",
          "if (!worker.tame(n)) wild[first + n] = true;", "if (!worker.tame(n)) wild[first + n] = false;", SAMPLING_PP),
    Fault("sampling, C++: a mixture forgets the channels before", "csrc/cpu/sampling_mixture.h",
          "log_weights_[k] += logistic_level_log_prob(", "log_weights_[k] += 0 * logistic_level_log_prob(", SAMPLING_PP),
    Fault("sampling, C++: the channel of ones is zeros", "csrc/cpu/sampling_worker.h",
          "forms.put(image.at(channels), Real(1));", "forms.put(image.at(channels), Real(0));", SAMPLING_PP),
    Fault("sampling, C++: what is unbounded is filtered", "csrc/cpu/sampling_plan.h",
          "return maker.kind == SamplingStage::Kind::Gate && !maker.linear && maker.add < 0;", "return true;", SAMPLING),

    # Masks of convolutions
    Fault("convolution: type A sees its own pixel", "pygen/_taps.py", 'joins_centre = mask_type == "B" and',
          "joins_centre =", CONV),
    Fault("convolution: colours see their own group under A", "csrc/cpu/masked_conv2d_parts.h", "return {0, (strict ? g : g + 1) * per_group};",
          "return {0, (g + 1) * per_group};", CONV),
    Fault("convolution, Triton: colours see their own group under A", CONV_PY, "k_begin, k_end = group * 0, (group + (0 if STRICT else 1)) * group_k",
          "k_begin, k_end = group * 0, (group + 1) * group_k", CONV_TRITON),
    Fault("convolution, Triton: dead weights get a gradient", CONV_W_PY, "live = mask & ((i_group < o_group) if STRICT else (i_group <= o_group))",
          "live = mask", CONV_TRITON),
    Fault("convolution, C++: the bias's pixels are added in one run", CONV_W, "std::min(at + kRun, pixels)", "pixels", CONV_KERNELS),
    Fault("convolution: a batch of partial sums is left out", CONV_W, "for (int64_t k = 0; k < batches; ++k)\n        for",
          "for (int64_t k = 0; k < batches - (batches > 8); ++k)\n        for", CONV),
    Fault("convolution: dilation is ignored by the gradient of the input", CONV_PY,
          "turned, mask = weight.transpose(0, 1), (taps, color_groups, strict, dilation)",
          "turned, mask = weight.transpose(0, 1), (taps, color_groups, strict, 1)", CONV_TRITON),
    Fault("convolution: partial sums depend on threads", CONV_W, "const int64_t batches = std::min(units, std::clamp(fitting, kLeastBatches, kMostBatches));",
          "const int64_t batches = std::min<int64_t>(units, std::max(p.threads, 1));", CONV),
    Fault("convolution: a mask of another shape loads", "pygen/nn/masked_conv2d.py", "different = (theirs != ours.to(theirs.dtype)).nonzero()",
          "different = (theirs > ours.to(theirs.dtype)).nonzero()", "tests/test_masked_conv2d.py"),
    Fault("convolution: even kernels are taken", "pygen/_taps.py", "if side % 2 == 0:", "if side == 0:", CONV_ERRORS),

    # Autograd
    Fault("backward is not differentiable", KL_OP, "if launcher is not None and not torch.is_grad_enabled():", "if launcher is not None:",
          KL_AUTOGRAD),
    Fault("the common call's backward is not differentiable", KL_OP, "            and not torch.is_grad_enabled()\n", "", KL_COMMON),
    Fault("the common call reads a gradient as if it were dense", KL_OP, "are_plain(grad_z, mu, logvar)", "are_plain(mu, logvar)", KL_COMMON),
    Fault("the common call reads batched gradients", KL_OP,
          "            and not _dispatch.is_batched(grad_kl)\n", "", KL_COMMON),
    Fault("the common call reads what was replaced", KL_OP, "            and mu.shape == logvar.shape == grad_z.shape  # else one was replaced\n",
          "", KL_COMMON),
    Fault("what was replaced is read", "pygen/ops/_saved.py", "    if found != expected:\n", "    if False:\n", REPLACED),
    Fault("the common call does not ask who listens", KL_OP, "        and _dispatch.nothing_intercepts()\n", "", KL_COMMON),
    Fault("saved tensors are kept without a version check", KL_OP,
          "save(ctx, mu, logvar, prior_mu, prior_logvar, eps, seed)\n        ctx.launcher, ctx.options = launcher, options",
          "save(ctx, mu.detach(), logvar.detach().clone(), prior_mu, prior_logvar, eps, seed)\n"
          "        ctx.launcher, ctx.options = launcher, options", KL_AUTOGRAD),
    Fault("an unused output's gradient is taken for zeros of any layout", KL_OP,
          "if grad_z is None and grad_kl is None:\n        return (None,) * 4", "if grad_z is None:\n        return (None,) * 4", KL_AUTOGRAD),
    Fault("sparse and negated gradients reach the kernel", "pygen/_dispatch.py", "return grad.clone() if grad.is_neg() or grad._is_zerotensor() else grad",
          "return grad", "tests/test_conformance_transforms.py -k 'reparameterize_kl and not triton'"),
    Fault("eps that requires grad is taken", KL_OP, "    if eps.requires_grad:\n", "    if False:\n", KL_AUTOGRAD),
    Fault("mixed dtypes are taken", "pygen/_checks.py", "    if t.dtype != like.dtype:\n", "    if False:\n", KL_AUTOGRAD),
    Fault("another shape is taken", "pygen/_checks.py", "if lead < 0 or any(s != 1 and s != shape[lead + i]", "if lead < 0 or any(s > shape[lead + i]", KL_AUTOGRAD),
    Fault("autocast of another device counts", "pygen/_checks.py",
          "    if not present or not torch.is_autocast_enabled(present[0].device.type):\n        return tensors\n    widest",
          "    if not present:\n        return tensors\n    widest", "tests/test_reparameterize_kl.py"),

    # Threads, barriers, guards
    Fault("CUDA: a barrier is missing", "csrc/cuda/reduce.cuh", "= value;\n  __syncthreads();\n", "= value;\n", RACES),
    Fault("CUDA: only the first warp's sums are added", "csrc/cuda/reduce.cuh", "for (int other = 1; other < width / 32; ++other)",
          "for (int other = 1; other < width / 64; ++other)", KL_CUDA),
    Fault("CUDA: the device is not guarded", "csrc/cuda/launch.cuh", 'if (previous_ != device_) check(cudaSetDevice(device_), "cudaSetDevice");', "", KL_CUDA),
    Fault("CUDA: the shuffle crosses into another row", "csrc/cuda/reduce.cuh", "const int lanes = width < 32 ? width : 32;",
          "const int lanes = 32;", KL_CUDA),
    Fault("C++: scratch memory is shared by threads", KL_CPP, "static thread_local Scratch<Real> s;", "static Scratch<Real> s;",
          "tests/test_conformance.py tests/test_conformance_process.py -k '(reparameterize_kl or gaussian_kl) and cpu'"),
    Fault("C++: sums by thread, not by block", "csrc/cpu/loss_sums.h", "total += partial_[first + i];", "total += partial_[first + (i + omp_get_max_threads()) % count];",
          KL_LARGE),
    Fault("sampling, CUDA, MADE: what a panel feeds the next one is forgotten", DENSE_CU, "if (!others || split < before)", "if (!others)",
          DENSE),
    Fault("sampling, CUDA, MADE: weights of sources that are not yet known are read", DENSE_PARTS, "w[r].at[v] = k + v < to ? w[r].at[v] : T(0);", ";", DENSE),
    Fault("sampling, CUDA, MADE: lanes do not wait for each other's sums", DENSE_CU, "    __syncwarp();  // other lanes wrote what is read now\n", "", DENSE),
    Fault("sampling, CUDA, MADE: layers come in any order", DENSE_CU, "of < l ? block.below(below, degree + 1)", "of > l ? block.below(below, degree + 1)", DENSE),
    Fault("sampling, CUDA, MADE: two panels share a buffer", DENSE_PARTS, "turn = number % 2;", "turn = 0;", DENSE),
    Fault("sampling, CUDA, MADE: of two levels what is known is drawn", DENSE_CU, "return draw.level < 0 ? drawn : draw.level;", "return drawn;", DENSE),
    Fault("sampling, CUDA, MADE: the second level has no bias", "csrc/cuda/sampling_dense.cu", "p.difference ? bias[0] - bias[p.bias_stride] : bias[0];", "bias[0];", DENSE),
    Fault("sampling, CUDA, MADE: a sum takes the wrong half", DENSE_PARTS, "given = upper ? numbers[j] : numbers[j + left];", "given = upper ? numbers[j + left] : numbers[j];",
          DENSE),
    Fault("sampling, CUDA: beyond 256 levels the first ones are kept alone", "csrc/cuda/sampling_decide.cuh",
          "for (int64_t l = begin + kKept; l < end; ++l) look_at(l, exp(scaled(logits[l]) - top));", "", DENSE),
    Fault("sampling, CUDA, clusters: blocks without tiles send nothing", LATE_CU, "if (step.logits || step.own_count == 0) place.send_nothing();", "if (step.logits) place.send_nothing();",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: empty messages are not counted", CLUSTER_CU, "(step.logits ? p.size : max(0, p.size - step.tiles))", "(step.logits ? p.size : 0)",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: blocks without images send nothing", CLUSTER_CU, "if (place.slots() == 0) place.send_nothing();", "",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: a barrier's phases all have one parity", PLACE_CU, "exchanges / 2 % 2", "exchanges % 2",
          f"{CLUSTER} -k 'draws_what and no-block'"),
    Fault("sampling, CUDA, clusters: one barrier for all exchanges", PLACE_CU, "(shared + p.shared.messages) + exchanges % 2;", "(shared + p.shared.messages);",
          f"{CLUSTER} -k 'draws_what and no-block'"),
    Fault("sampling, CUDA, clusters: a word beyond the channels is kept", CLUSTER_MMA, "bytes <= at ? 0u", "bytes < at ? 0u",
          f"{CLUSTER} -k 'low_precision and plain-rgb'"),
    Fault("sampling, CUDA, clusters: what is pushed does not wait for the last colour", CLUSTER_CU, "g == p.groups - 1) {", "g == 0) {",
          f"{CLUSTER} -k 'draws_what and plain-rgb'"),
    Fault("sampling, CUDA, clusters: what is pushed for all pixels lies in one place", LATE_CU, "step.depth == 1 ? 0 : x % step.depth", "0",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: tiles are dealt out other than their memory", "pygen/native/_sampling_cluster.py", '"turn": -turn % size', '"turn": turn % size',
          f"{CLUSTER} -k 'deals_out'"),
    Fault("sampling, CUDA, clusters: zeros between colours have weights", LAUNCH_CU, "const int group = in / step.filled_group, c = in % step.filled_group;", "const int group = in / step.group, c = in % step.group;",
          f"{CLUSTER} -k 'draws_what and gated-rgb'"),
    Fault("sampling, CUDA, clusters: pixels' channels are read beyond their end", EARLY_CU, "there ? max(0, min(16, bytes - from)) : 0", "there ? 16 : 0",
          f"{CLUSTER} -k 'draws_what and gated'"),
    Fault("sampling, CUDA, clusters: a place is free while it is pushed from", CLUSTER_PY, "until = t + int(any(tap != (0, 0) for tap in step.conv.taps))", "until = t",
          f"{CLUSTER} -k 'buffers'"),
    Fault("sampling, CUDA, clusters: the gate's second half is the first one's bias", LATE_CU, "sum(place, step, of, row + 8, x) + more.b", "sum(place, step, of, row + 8, x) + more.a",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: weights of the gate's second half are the first one's", LAUNCH_CU, "(step.gate && row >= 8 ? step.outs : 0)", "0",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: late sums forget ReLU", LATE_CU, "if (relu) rectify<T>(in[0]);", "",
          f"{CLUSTER} -k 'draws_what and plain-no-block'"),
    Fault("sampling, CUDA, clusters: early blocks do not wait for each other", CLUSTER_PY, '{"wait": int(waits)}', '{"wait": 0}',
          f"{CLUSTER} -k 'wide and gated'"),
    Fault("sampling, CUDA, clusters: a drawn pixel is pushed before it is drawn", CLUSTER_PY, "_PUSH_NEXT if conv.source == 0 else _PUSH_AFTER", "_PUSH_AFTER",
          f"{CLUSTER} -k 'draws_what and plain-no-block'"),
    Fault("sampling, CUDA, clusters: rows begin with what the last one left", CLUSTER_CU, "*reinterpret_cast<float*>(shared + i) = 0;", "",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: the last cluster has as many images as the others", PLACE_CU, "static_cast<int>(min(int64_t(p.images), p.n - first))", "p.images",
          f"{CLUSTER} -k 'beyond_eight'"),
    Fault("sampling, CUDA, clusters: of several channels the last one is told", CLUSTER_CU, "if (lane % kChannelsSent == c % kChannelsSent) kept = value;", "kept = value;",
          f"{CLUSTER} -k 'draws_what and two-independent'"),
    Fault("sampling, CUDA, clusters: sums are read before they are there", CLUSTER_CU, "          __syncthreads();\n          L::finish", "          L::finish",
          f"{RACES} sampling_cluster"),
    Fault("sampling, C++: early streams do not wait for the pixels that they see", "csrc/cpu/sampling_team.h",
          "end = std::min(end, there - need.right);", "end = std::min(end, there);", SAMPLING),
    Fault("sampling, C++: a pixel does not wait for early streams on its right", "csrc/cpu/sampling_team.h",
          "std::min(x + plan_.late_right + 1, width)", "std::min(x + 1, width)", SAMPLING),
    Fault("gated_masked_conv2d, CUDA: the second half starts where the tile's first ends", "csrc/cuda/conv_pairs.cuh",
          "return {g * (group / 2) + gated, group / 2, columns / 2, gated};", "return {g * (group / 2) + gated, columns / 2, columns / 2, gated};", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: the bias comes as it lies", EPILOGUE_CU, "from[columns.channel(n)]", "from[columns.first + n]", GATED_CUDA),
    Fault("CUDA: sums are rounded before what is added", EPILOGUE_CU, "value += widen_to(access.v[e]);", "value = widen_to(narrow_to<T>(value)) + widen_to(access.v[e]);",
          CONV_CUDA),
    Fault("CUDA: sums do not wait for what is added", GATED_CU, "    wait_copies<0>();\n", "", CONV_CUDA),
    Fault("CUDA: units of channels that begin anywhere", EPILOGUE_CU, "(first | n_live | n) % per == 0", "(first | n_live) % per == 0", CONV_CUDA),
    Fault("wgmma: what is added comes before the last tile has left", WGMMA_CU, "        sync();  // the tile before has left `staged`\n", "", GATED_CUDA),
    Fault("wgmma: sums are staged before the last tile has left", WGMMA_CU, "      if (!adds) sync();  // as above\n", "", WGMMA),
    Fault("CUDA: a side's weights are the last tap's", "csrc/cuda/conv_loop.cuh", "side ? p.side.weight + n_first * weight_pitch",
          "false ? p.side.weight + n_first * weight_pitch", GATED_CUDA),
    Fault("CUDA: a side ends with the input's channels", "csrc/cuda/conv_steps.cuh", "    k_end = p.side.k;\n", "    k_end = p.k < p.side.k ? p.k : p.side.k;\n", GATED_CUDA),
    Fault("masked_conv2d: what is added has no gradient", "pygen/ops/masked_conv2d.py", "grad if ctx.needs_input_grad[4] else None", "None", CONV),
    Fault("CUDA: what is added lies as it comes", "pygen/native/masked_conv2d.py", "        add = to_output_layout(add, output)\n", "", CONV_CUDA),
    Fault("wgmma: a side reads the input", WGMMA_CU, "step.side ? p.side : p.pixels", "p.pixels", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: every image has the first one's cond", GATED_CU, "place.image * p.n + channel : at", "channel : at", GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: in contiguous images every image has the first one's cond", GATED_CU, "cond[place.image * p.n + channel]", "cond[channel]",
          GATED_CUDA),
    Fault("gated_masked_conv2d, CUDA: whole units from any address", "csrc/cuda/masked_conv2d.cu", "(call.add | (gated != nullptr ? gated->cond : 0)) % 16 == 0", "true",
          "tests/cuda_host/sanitize.py address,undefined gated_masked_conv2d"),
    Fault("gated_masked_conv2d, CUDA: what is added is read as if it lay like the output", "pygen/native/gated_masked_conv2d.py", "to_output_layout(add, pre)", "add",
          GATED_CUDA),
    Fault("gated_masked_conv2d, wgmma: weights are packed as they come", WGMMA_PACK, "c.pairs.channel(group * c.group_n + in_group)", "(group * c.group_n + in_group)",
          GATED_CUDA),
    Fault("gated_masked_conv2d, Triton: the gate of what is not yet rounded", "kernels/gated_masked_conv2d.py", "return rounded.to(sums.dtype)", "return sums",
          GATED_TRITON),
    Fault("gated_masked_conv2d, Triton: colours share the first one's halves", CONV_PY, "inside = n % group_n", "inside = n % n_size", GATED_TRITON),
    Fault("gated_masked_conv2d: pre's own gradient is forgotten", GATED_OP, "(need_pre, need_cond), grad)", "(need_pre, need_cond), None)", GATED),
    Fault("gated_masked_conv2d, CUDA: pre's own gradient reaches cond", "csrc/cuda/gated_activation.cuh", "    store_both(p.grad_input);\n  });",
          "    store_both(p.grad_input);\n    store_both(p.grad_cond);\n  });", GATED_CUDA),
    Fault("gated_masked_conv2d: cond's gradient is lost where pre's is not needed", GATED_OP, "return (None,) * 5 + (grad_cond, None, None, None, None)", "return (None,) * 10", GATED),
    Fault("PixelCNN++: a level's upper edge is the next one's", MIXTURE, "edge = (2 * more - 1) * half - 1", "edge = (2 * more + 1) * half - 1", PP),
    Fault("256 levels in uint8: none is one on a GPU", "pygen/models/_levels.py", "(x.long() < 0) | (x.long() >= num_levels)", "(x < 0) | (x >= num_levels)", "tests/test_mixture.py"),
    Fault("PixelCNN++: edges between levels in float32", MIXTURE, "below = torch.zeros_like(u)", "below = torch.zeros_like(u).long()", "tests/test_mixture.py"),
    Fault("PixelCNN++: green and blue do not know which component red came from", MIXTURE, "terms[-1] + log_probs(", "terms[-1] + 0 * log_probs(", PP),
    Fault("PixelCNN++: temperature narrows the scales", MIXTURE, "log_scales + math.log(temperature)", "log_scales - math.log(temperature)", PP),
    Fault("PixelCNN++: temperature leaves the weights", MIXTURE, "log_weights / temperature, ", "log_weights, ", PP),
    Fault("PixelCNN++: doubled columns mirrored", PROGRAM, "((0, 2), (1, 0))", "((0, 0), (1, 2))", PP),
    Fault("PixelCNN++: doubled rows in the other order", PROGRAM, "weight[:, :, row, column].T", "weight[:, :, 1 - row, column].T", PP),
    Fault("PixelCNN++: positive and negative halves of a short cut interleaved", PROGRAM, "unflatten(1, (2, part[1], -1))[:, :, part[0]]", "unflatten(1, (part[1], 2, -1))[:, part[0]]", PP),
    Fault("PixelCNN++: no ones in the image", "pygen/models/_decision.py", "image.pixels[:, :, program.in_channels :] = 1", "image.pixels[:, :, program.in_channels :] = 0", PP),
    Fault("PixelCNN++: a shifted kernel's weight padded on the other side", "pygen/models/_shifted.py", "(reach[1] - left, reach[1] - right, ", "(reach[1] - right, reach[1] - left, ", PP),
    Fault("PixelCNN++: a coarser pixel reads the finer row at its own column", "pygen/models/_cached_late.py", "at = x * self.strides[s] // self.strides[stage.source]", "at = x", PP),
    Fault("PixelCNN++: the phase of a column forgotten", "pygen/models/_cached_late.py", "phase = 2 * (y % 2) + x % 2", "phase = 2 * (y % 2)", PP),
    Fault("PixelCNN++: coarser streams forgotten after their row", "pygen/models/_cached_late.py", "ring.row(y // self.strides[s]).copy_", "ring.row(y).copy_", PP),
    Fault("PixelCNN++, CUDA: a place is free while it is pushed from", SCALES_TABLES, '(i, i + 2 if row["num_pushes"] else i)', "(i, i)", SCALES),
    Fault("PixelCNN++, CUDA: what a finer stream is made of is overwritten before its second pixel", SCALES_TABLES, "kept = {0} | {stage.source for stage in self.program.stages if isinstance(stage, Up)} & made", "kept = {0}", SCALES),
    Fault("PixelCNN++, CUDA: a step does not wait for what has just been pushed to it", SCALES_TABLES, 'self.late[following]["fresh"] = 1', "pass", f"{RACES} sampling_scales"),
    Fault("PixelCNN++, CUDA: a residual is what its ELU is", SCALES_STREAMS, "return 0, self.form(s)", "return 0, 0", SCALES),
    Fault("PixelCNN++, CUDA: upward steps of odd rows are made in even ones", SCALES_PLAN, '"row_is": y * stride', '"row_is": 0', SCALES),
    Fault("PixelCNN++, CUDA: columns between are made as the others", SCALES_PLAN, "(level, level) if x else (level + 1, 99)", "(level + 1, 99) if x else (level, level)", SCALES),
    Fault("PixelCNN++, CUDA: early blocks do not wait for each other", SCALES_PLAN, '{"wait": int(waits)}', '{"wait": 0}', SCALES),
    Fault("PixelCNN++, CUDA: rows begin with what early steps left", SCALES_CU, "*reinterpret_cast<float*>(shared + p.pixel + i) = 0;", ";", SCALES),
    Fault("PixelCNN++, CUDA: green does not see red", SCALES_CU, "scaled[c] = widen_to(value);", "", SCALES),
    Fault("PixelCNN++, CUDA: weights forget the levels before", SCALES_CU, "if (lane < p.num_mixtures) log_weight +=", "if (lane < 0) log_weight +=", SCALES),
    Fault("PixelCNN++, CUDA: staged taps all read their own pixel", STAGED_CU, "row % kFetched) + tap * kBlockBytes", "row % kFetched)", STAGED),
    Fault("PixelCNN++, CUDA: nothing right of an image's last staged pixel", STAGED_CU, " || x == width - 1", "", STAGED),
    Fault("PixelCNN++, CUDA: staged images read their neighbours' pixels", STAGED_CU, "(image - first_image) * around", "0", STAGED),
    Fault("PixelCNN++, CUDA: staged copies are read before they have come", STAGED_CU, "wait_copies<kFetched - 2>()", "wait_copies<kFetched - 1>()", STAGED),
    Fault("PixelCNN++, CUDA: staged items all have the first rows of weights", STAGED_CU, "int64_t(of.tile0 + place.warp)", "int64_t(place.warp)", STAGED),
    Fault("PixelCNN++, CUDA: a staged row of taps above the image is not left out", STAGED_CU, "      if (row < 0) continue;\n", "", STAGED),
    Fault("PixelCNN++, CUDA: taps share pixels where the source is finer", SCALES_PLAN, "_beside(stage.taps) if step == 1 else 1", "_beside(stage.taps)", STAGED),
    Fault("PixelCNN++, CUDA: staged warps do not wait for what others have fetched", STAGED_CU, "      __syncthreads();\n      const int ahead", "      const int ahead", STAGED),
    Fault("PixelCNN++, CUDA: both forms are elu(x)", SCALES_EARLY, "put(form++, narrow_to<T>(minus))", "put(form++, narrow_to<T>(plus))", SCALES),
    Fault("PixelCNN++, CUDA: pushes replace what a base has", SCALES_LATE, "*at = before[m][i] + d[0][m][i];", "*at = d[0][m][i];", SCALES),
    Fault("PixelCNN++, CUDA: a maker's second push begins where the first one ended", SCALES_LATE, "      unit -= units;\n", "", SCALES),
    Fault("PixelCNN++, CUDA: runs beyond those that are held are taken for the first ones", SCALES_LATE, "first + kHeld * kSums, kSums, at.blocks);", "first, kSums, at.blocks);", SCALES),
    Fault("PixelCNN++, CUDA: the next tile has the last one's weights", SCALES_LATE, "if (next.k != of.k && next.k < at.own_count)", "if (false)", SCALES),
    Fault("PixelCNN++, CUDA: the edge below all levels is counted", MIXTURE_CU, "edge > 0 && more < m.num_levels", "more < m.num_levels", SCALES),
    Fault("PixelCNN++, CUDA: levels beyond the last one are counted", MIXTURE_CU, "edge > 0 && more < m.num_levels", "edge > 0", SCALES),
    Fault("logistic mixture: blue sees red twice", LOGISTIC_REF, "means[:, 2] + tanhs[:, 1] * red + tanhs[:, 2] * green", "means[:, 2] + tanhs[:, 1] * red + tanhs[:, 2] * red",
          "tests/test_logistic_mixture_reference.py"),
    Fault("logistic mixture: a gradient below the floor", LOGISTIC_REF, ".masked_fill(raw_scales < min_log_scale, 0)", "", "tests/test_logistic_mixture_reference.py"),
    Fault("logistic mixture: 16 bits scaled after they were rounded", LIKELIHOOD_OP, "if grad.dtype != grad_nll.dtype:", "if grad.dtype is None:", LOGISTIC),
    Fault("logistic mixture: the gradient that forward made is handed out twice", LIKELIHOOD_OP, "grad, grad_nll = ready.pop(),", "grad, grad_nll = ready[-1],", LOGISTIC),
    Fault("logistic mixture: the near edge underflows to 0 / 0", LOGISTIC_H, "V near = L::at_least(exp_minus_abs(beyond), Least<Real>::kEdge);", "V near = exp_minus_abs(beyond);", LOGISTIC),
    Fault("logistic mixture: open bins are as wide as others", LOGISTIC_H, "L::select(inner, V(inverse * (bins.half * Real(2))), V(V{} + Real(1000)))", "inverse * (bins.half * Real(2))", LOGISTIC),
    Fault("logistic mixture, C++: one level too many is one", "csrc/cpu/logistic_mixture_nll.cpp", "level >= p.num_levels", "level > p.num_levels", LOGISTIC),
    Fault("logistic mixture, C++: the floor stops no gradient", "csrc/cpu/logistic_mixture_nll.cpp", "L::select(row(first + components) < least, V{}, to_scale)", "to_scale", LOGISTIC),
    Fault("logistic mixture, CUDA: components beyond the warps keep the last one's slopes", "csrc/cuda/logistic_mixture_nll.cuh", "if (components > warps) evaluate(k);", "", LOGISTIC_CUDA),
    Fault("logistic mixture, CUDA: lanes past the last position write", "csrc/cuda/logistic_mixture_nll.cuh", "if (lane >= live) return;", "", LOGISTIC_CUDA),
    Fault("logistic mixture, Triton: components past the last count", "kernels/_logistic_parts.py", "terms = tl.where(mask, exp_minus_abs(values - larger[:, None]), 0.0)",
          "terms = exp_minus_abs(values - larger[:, None])", "tests/test_triton_logistic_mixture_nll.py -k together"),
    Fault("Bernoulli: nothing times infinity", BERNOULLI_H, "L::select(wrong == Real(0), V{}, V(L::absolute(l) * wrong))", "L::absolute(l) * wrong", BERNOULLI),
    Fault("Bernoulli: a slope that cancels in the tails", BERNOULLI_H, "where_negative(l, V(rest * e - x), V(rest - x * e)) / (e + Real(1))", "sigmoid_of(l, e) - x", BERNOULLI),
    Fault("Bernoulli, C++: lanes past the last element are logits of 0", BERNOULLI_CPP, "-std::numeric_limits<Real>::infinity()", "Real(0)", BERNOULLI),
    Fault("Bernoulli, C++: int64 cut to bytes", BERNOULLI_CPP, "level == 0 ? 0 : level == 1 ? 1 : 2", "static_cast<uint8_t>(level)", BERNOULLI),
    Fault("Bernoulli, C++: a byte of 2 is a target", BERNOULLI_CPP, "(level > 1)", "(level > 2)", BERNOULLI),
    Fault("Bernoulli, C++: rows of a block share the first one's upstream gradient", BERNOULLI_CPP, "blocks.first_row(block) + r, at", "blocks.first_row(block), at", BERNOULLI),
    Fault("Bernoulli: targets alone get no gradient", LIKELIHOOD_OP, "(params.requires_grad or x.requires_grad)", "params.requires_grad", BERNOULLI),
    Fault("Bernoulli: the gradient of targets has the wrong sign", "pygen/ops/bernoulli_nll.py", "sum_to(-logits.to(", "sum_to(logits.to(", BERNOULLI),
    Fault("Bernoulli: targets are read in another order than logits", "pygen/_layout.py", "None if t is None else t.permute(order) for t in tensors",
          "None if t is None else t.permute(order).reshape(first.permute(order).shape) if t is first else t.reshape(first.permute(order).shape) for t in tensors", BERNOULLI),
    Fault("Bernoulli, reference: softplus gives up the exponential", "pygen/reference/bernoulli_nll.py", "-F.logsigmoid(-y)", "F.softplus(y)", BERNOULLI),
    Fault("Bernoulli, Triton: padding counts as logits of 0", BERNOULLI_PY, "tl.where(mask, exp_minus_abs(logit), 0.0)", "exp_minus_abs(logit)", BERNOULLI_TRITON),
    Fault("Bernoulli, Triton: the product forgets the turns before", BERNOULLI_PY, "product = product * (1.0 + e) + e", "product = e", "tests/test_bernoulli_nll.py -k 'turns'"),
    Fault("Bernoulli, CUDA: threads past the last row are summed", BERNOULLI_CU, "if (!in.holds(u, i)) continue;", "", BERNOULLI_CUDA),
    Fault("Bernoulli, CUDA: one unit of x for all", BERNOULLI_CU, "targets[u].fetch(p, span[u]);", "targets[u].fetch(p, span[0]);", BERNOULLI_CUDA),
    Fault("Bernoulli, CUDA: bytes beyond the first chunk", BERNOULLI_CU, "out) + i * sizeof(Chunk), &chunk", "out), &chunk", BERNOULLI_CUDA),
    Fault("categorical: what is all but certain loses its digits", CATEGORICAL_H, "L::select(drawn == top, others, V((others - Real(1)) + own))", "(others - Real(1)) + own", CATEGORICAL),
    Fault("categorical, C++: one level too many is one", "csrc/cpu/categorical_nll_tile.h", "j < static_cast<Real>(rows)", "j <= static_cast<Real>(rows)", CATEGORICAL),
    Fault("categorical, C++: a later chunk's largest logit leaves the sum as it was", CATEGORICAL_CPP,
          "others[v] = others[v] * exp_minus_abs(V(before[v] - top[v]));", "others[v] = others[v] + V{};", CATEGORICAL),
    Fault("categorical, C++: the tail of a row counts", SOFTMAX_ROW_H, "std::fill_n(tile + j, kStep, -std::numeric_limits<Real>::infinity());", "", CATEGORICAL),
    Fault("categorical, C++: the drawn level's slope is that of another unit", CATEGORICAL_CPP, "select(drawn, slope[v], ", "select(drawn, slope[0], ", CATEGORICAL),
    Fault("categorical, C++: channels are levels apart", "csrc/cpu/categorical_nll_units.h", "strides(p.logits, p.levels * p.logits.channel)", "strides(p.logits, p.logits.channel)", CATEGORICAL),
    Fault("categorical, CUDA: lanes past the last unit count", CATEGORICAL_CU, "counts = unit.live && part == 0", "counts = part == 0", CATEGORICAL_CUDA),
    Fault("categorical, CUDA: a warp's sum is not brought to the largest logit", CATEGORICAL_CU, "sums[other * units + mine] * exp_term(tops[other * units + mine] - terms.top);", "sums[other * units + mine];", CATEGORICAL_CUDA),
    Fault("categorical, CUDA: the batch's tail counts as logits of 0", SOFTMAX_CU, ": -Acc(INFINITY);", ": Acc(0);", CATEGORICAL_CUDA),
    Fault("categorical, Triton: units past the last count", CATEGORICAL_PY, "tl.sum(tl.where(live, nll, 0.0), axis=0)", "tl.sum(nll, axis=0)", CATEGORICAL_TRITON),
    Fault("categorical, Triton: a later block's largest logit leaves the sum as it was", CATEGORICAL_PY, "others * tl.exp(before - top) + tl.sum(terms, axis=1)", "others + tl.sum(terms, axis=1)", CATEGORICAL_TRITON),
    Fault("NADE: the slope of a unit is its complement", "csrc/common/nade_nll.h", "return h * (1.0f - h);", "return V(1.0f - h);", NADE),
    Fault("NADE, C++: inputs of 0 are multiplied", NADE_CPP, "if (x != 0 && d + 1 < p.inputs)", "if (d + 1 < p.inputs)", NADE),
    Fault("NADE, C++: units stay as they were at the first change", NADE_CPP, "    store(h + j, units_of(sum));", "", NADE),
    Fault("NADE, C++: samples side by side are summed in another order", "csrc/cpu/nade_nll_rows.h", "sums[i] = (q[0] + q[1]) + (q[2] + q[3]);", "sums[i] = ((q[0] + q[1]) + q[2]) + q[3];", NADE),
    Fault("NADE, C++: a later chunk's gradients replace the earlier ones", NADE_BACK, "part.count, part.start > 0, p.grad_weight", "part.count, false, p.grad_weight", NADE),
    Fault("NADE, C++: each segment starts at the bias", NADE_BACK, "a.put(w.starts + ((c + 1) * cut.chunk + n) * kTile<Real>);", "Tile<Real>::at(w.starts + n * kTile<Real>).put(w.starts + ((c + 1) * cut.chunk + n) * kTile<Real>);", NADE),
    Fault("NADE, C++: a weight gets the gradient before its input", NADE_BACK, "    end = from;\n    add_row(x[end - 1], down, w.grad_weight + (end - 1) * kTile<Real>);", "    end = from;\n    add_row(x[end - 1], down, w.grad_weight + (end > 1 ? end - 2 : 0) * kTile<Real>);", NADE),
    Fault("NADE, C++: an odd sample is left out of the bias's sum", NADE_BACK, "const int64_t half = (left + 1) / 2;\n    for", "const int64_t half = left / 2;\n    for", NADE),
    Fault("NADE, C++: what is known is drawn", NADE_CPP, "is_known ? draws.known[at] :", "false ? draws.known[at] :", NADE_MODEL),
    Fault("NADE, CUDA: a warp's sums go to their neighbours", NADE_CU, "return lane / (32 / kCount);", "return lane % kCount;", NADE_CUDA),
    Fault("NADE, CUDA: units beyond the last are written", NADE_CU, "if (!warp.active || first + s >= p.inputs) continue;", "if (first + s >= p.inputs) continue;", NADE_CUDA),
    Fault("NADE, CUDA: the last row of weight is added", NADE_CU, "const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs - 1);\n        const Acc gs", "const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs);\n        const Acc gs", NADE_CUDA),
    Fault("NADE, CUDA: a part's later chunks replace its first", NADE_CU, "sample > begin ? grad_weight[at] + grad_w[s] : grad_w[s]", "grad_w[s]", NADE_CUDA),
    Fault("NADE, CUDA: a sampler's warps share their sums of all steps", "csrc/cuda/nade_nll_draw.cuh", "if (thread % 32 == 0) sums[thread / 32] = sum;", "if (thread % 32 == 0) sums[0] = sum;", NADE_CUDA),
    Fault("NADE, Triton: samples beyond the last count", NADE_PY, "tl.sum(tl.where(is_image[:, None], down, 0.0), axis=0)", "tl.sum(down + 1.0, axis=0)", NADE_TRITON),
    Fault("NADE, Triton: a part's later tiles replace its first", NADE_PY, "mask=has_unit & AGAIN, other=0.0", "mask=has_unit & (AGAIN & False), other=0.0", NADE_TRITON),
    Fault("NADE, Triton: the last segment is as long as the others", NADE_PY, "count = tl.minimum(length, inputs - first)", "count = length", NADE_TRITON),
    Fault("NADE: orderings share the weights' rows", "pygen/models/nade.py", "return self.weight[turns], self.hidden_bias", "return self.weight, self.hidden_bias", NADE_MODEL),
    Fault("NADE, cached: an input of 0 is added too", "pygen/models/_cached_nade.py", "torch.where(levels[d].unsqueeze(1), weight[d], 0.0)", "weight[d]", NADE_MODEL),
    Fault("NADE, reference: what is not finite times nothing", "pygen/reference/nade_nll.py", "torch.where((t == 0) & ~rows.isfinite(), 0.0, rows)", "rows", NADE),
    Fault("AM-Softmax, C++: the largest logit is taken before the margin", AM_SOFTMAX_CPP, "products[target] = -std::numeric_limits<Real>::infinity();", "",
          "tests/test_conformance.py -k 'accurate and cpu and float32 and am_softmax'"),
    Fault("AM-Softmax, C++: a target of a later tile is looked for in the first", AM_SOFTMAX_CPP, "tile[target - first] = logit", "tile[target % count] = logit", AM_SOFTMAX),
    Fault("AM-Softmax, C++: a later tile's sum is not brought to the largest logit", SOFTMAX_ROW_H, "others * exp_minus_abs(Real(before - top)) + exponentials", "others + exponentials", AM_SOFTMAX),
    Fault("AM-Softmax, C++: vectors without a direction lose one", AM_SOFTMAX_CPP, "!(norm <= static_cast<Real>(p.least))", "true", AM_SOFTMAX),
    Fault("AM-Softmax: every part of the samples begins the weights' gradient anew", AM_SOFTMAX_OP, "grad_w = by.grad_w(grad_w, grads, x[some])", "grad_w = by.grad_w(None, grads, x[some])", AM_SOFTMAX),
    Fault("AM-Softmax: a run's part of a sample's gradient takes the place of those before", AM_SOFTMAX_OP, "to += part", "to.copy_(part)", AM_SOFTMAX),
    Fault("AM-Softmax: what forward held is handed out twice", "pygen/ops/am_softmax.py", "ready, ctx.ready = ctx.ready, ()", "ready = ctx.ready", AM_SOFTMAX),
    Fault("AM-Softmax: autocast reaches the products of backward", "pygen/ops/am_softmax.py", "def _backward(grad_nll, input, weight, target, scale, margin, reduction, backend, wanted):\n    launcher = _kernels(backend, input)\n    with without_autocast(input):",
          "def _backward(grad_nll, input, weight, target, scale, margin, reduction, backend, wanted):\n    launcher = _kernels(backend, input)\n    if True:",
          "tests/test_conformance_errors.py -k 'outside_the_autocast and am_softmax'"),
    Fault("AM-Softmax, CUDA: a warp's sum is not brought to the largest logit", AM_SOFTMAX_CU, "sums[warp] * exp_term(tops[warp] - terms.top)", "sums[warp]", AM_SOFTMAX_CUDA),
    Fault("AM-Softmax, CUDA: the target keeps its margin", AM_SOFTMAX_CU, "j == target ? scaled - shift : scaled", "scaled", AM_SOFTMAX_CUDA),
    Fault("AM-Softmax, CUDA: rows past the last are changed", AM_SOFTMAX_CU, "if (row >= p.rows) return;", "", STRAY + " am_softmax"),
    Fault("AM-Softmax, Triton: lanes keep their own largest logit", AM_SOFTMAX_PY, "tl.sum(sums * tl.exp(tops - top), axis=0)", "tl.sum(sums, axis=0)", AM_SOFTMAX_TRITON),
    Fault("AM-Softmax, Triton: features past the first block are not counted", AM_SOFTMAX_PY, "        sums += grad * tl.load", "        sums = grad * tl.load", AM_SOFTMAX_TRITON),
    Fault("coupling: 0 times infinity at extreme scales", COUPLING_H, "L::at_most(f, 176.0f)", "L::at_most(f, 1760.0f)", COUPLING),
    Fault("coupling: the inverse's log-determinant has the gradient of forward's", COUPLING_H, "grad_s = (kInverse ? V(-total) : total) * f.slope;", "grad_s = total * f.slope;", COUPLING),
    Fault("coupling: sigmoid's slope is that of positive numbers", COUPLING_H, "L::select(negative, one, e) / total", "e / total", COUPLING),
    Fault("coupling, C++: a share of a long sample's rest is not copied", COUPLING_CPP, "row * rest.count + rest.count * (part + 1) / parts", "row * rest.count + rest.count * part / parts", COUPLING),
    Fault("coupling, C++: every sample's board begins where the first one's block does", COUPLING_CPP, "p_.live.count % period_ == 0)", "true)", COUPLING),
    Fault("coupling, C++: of pairs the first is always transformed", COUPLING_CPP, "live_first = a < b;", "live_first = true;", COUPLING),
    Fault("coupling, C++: what is infinite is multiplied by no gradient", COUPLING_CPP, "{alone ? &none : &p.input,", "{&p.input,", COUPLING),
    Fault("coupling: rows of a board merge whatever their parity", "pygen/_coupling.py", "(weight - inner_weight * inner) % 2 == 0", "inner_weight * inner >= 0", COUPLING),
    Fault("coupling, reference: NaN of passing places leaks", "pygen/reference/affine_coupling.py", "return torch.where(live, t, torch.zeros((), dtype=t.dtype, device=t.device))", "return t", COUPLING),
    Fault("coupling: two gradients are taken for one that lies together", "pygen/ops/_halves.py", "second.storage_offset() - first.storage_offset() == first.shape[1] * first.stride(1) > 0", "True", "tests/test_flows.py"),
    Fault("coupling, CUDA: elements past a line's end count", COUPLING_CU, "live && k < at.count ? log : Acc(0)", "live ? log : Acc(0)", COUPLING_CUDA),
    Fault("coupling, CUDA: a unit has one parity", COUPLING_CU, "(inner + k) * p.weights[2]", "inner * p.weights[2]", COUPLING_CUDA),
    Fault("coupling, Triton: passing places count", COUPLING_PY, "mask & live if PARITY else mask, -f", "mask, -f", COUPLING_TRITON),
    Fault("coupling, Triton: each program writes the first one's sum", COUPLING_PY, "partial_ptr + row * tiles + part", "partial_ptr + row * tiles", COUPLING_TRITON),
    Fault("NICE: the scale's log-determinant is left out", "pygen/models/nice.py", "return h * torch.exp(self.log_scale), self._log_det(h)", "return h * torch.exp(self.log_scale), 0 * self._log_det(h)", "tests/test_flows.py"),
    Fault("flows: levels count in their own scale", "pygen/models/_flow.py", "math.log(2 / self.num_levels) * math.prod(x.shape[1:])", "math.log(2 / self.num_levels)", "tests/test_flows.py"),
)  # fmt: skip
