"""Planted faults of masked_conv2d and pointwise convolutions."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import CONV_PY, EPILOGUE_CU, GATED_CU, Fault, conformance

CONV_KERNELS = "tests/test_masked_conv2d_kernels.py"
CONV = conformance("masked_conv2d", "not triton", "tests/test_masked_conv2d.py", CONV_KERNELS)
CONV_TRITON = conformance("masked_conv2d", "triton", "tests/test_masked_conv2d.py", CONV_KERNELS)
CONV_ERRORS = "tests/test_conformance_errors.py tests/test_masked_conv2d.py -k masked_conv2d"
POINTWISE = "tests/test_pointwise.py"
POINTWISE_PY = "pygen/ops/_pointwise.py"
POINTWISE_NN = "pygen/nn/_pointwise.py"
CONV_CUDA = "tests/test_cuda_host_masked_conv2d.py"
CONV_CPP = "csrc/cpu/masked_conv2d_direct.h"
CONV_W = "csrc/cpu/masked_conv2d_weight.h"
CONV_PAIRS = "tests/test_masked_conv2d_pairs.py"
CONV_W_PY = "kernels/_weight_gradient.py"

FAULTS = (
    Fault("convolution, C++: a strip's last rows are not written", CONV_CPP, "strip.rows = std::min(rows, H - row);",
          "strip.rows = std::min(rows, H - row - (row > 0));", CONV),
    Fault("convolution, C++: long sums are added in one run", "csrc/cpu/masked_conv2d_parts.h", "constexpr int64_t kRun = 64;",
          "constexpr int64_t kRun = int64_t{1} << 40;", f"{CONV_KERNELS} -k runs"),
    Fault("convolution, Triton: pixels wrap round the image's edge", CONV_PY,
          "inside = m_mask & (v >= 0) & (v < height) & (u >= 0) & (u < width)",
          "inside = m_mask & (v >= 0) & (v < height) & (u >= 0)", CONV_TRITON),
    Fault("convolution, Triton: channels beyond the last are multiplied", CONV_PY, "    k_mask = k < k_end\n",
          "    k_mask = k < k_size\n", CONV_TRITON),
    Fault("CUDA: units of a turned tile end within images", EPILOGUE_CU, "p.plane % (16 / Tr::kSize) == 0", "p.plane % 2 == 0",
          CONV_CUDA),
    Fault("pointwise: what it returns is a view", POINTWISE_PY, "return out.add_(bias.view(-1, 1, 1))",
          "return out.add_(bias.view(-1, 1, 1)).view(out.shape)", POINTWISE),
    Fault("pointwise: the weight's gradient is that of one image", POINTWISE_PY, ".transpose(1, 2)).sum(0)", ".transpose(1, 2))[0]", POINTWISE),
    Fault("pointwise: the kernel is asked for a graph", POINTWISE_PY, "if not (torch.is_grad_enabled() or _dispatch.is_batched(grad)) and _by_kernel(",
          "if not _dispatch.is_batched(grad) and _by_kernel(", POINTWISE),
    Fault("pointwise: autocast is not asked", POINTWISE_NN, '            and not torch.is_autocast_enabled("cpu")\n', "", POINTWISE),
    Fault("convolution, C++: what is left to the direct kernel is not computed", "csrc/cpu/masked_conv2d_winograd.cpp",
          "  return not_finite <= most_not_finite;", "  return not_finite <= most_not_finite || true;",
          f"{CONV_KERNELS} -k little_but_nan"),
    Fault("output layout: of an ambiguous input", "pygen/reference/_layout.py",
          "t.dim() != 4 or t.is_contiguous() or", "t.dim() != 4 or", CONV),
    Fault("convolution, C++: rows and columns of strided weights swapped", CONV_CPP,
          "tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3]",
          "tap.index / p.kernel_width * p.kernel_width + tap.index % p.kernel_width", CONV),
    Fault("convolution, C++: strided bias read as dense", "pygen/native/masked_conv2d.py",
          "bias = bias if bias is None else contiguous(bias)", "bias = bias", CONV),
    Fault("convolution, Triton: strided bias read as dense", CONV_PY, "bias = bias if bias is None else bias.contiguous()",
          "bias = bias", CONV_TRITON),
    Fault("convolution: type A sees its own pixel", "pygen/_taps.py", 'joins_centre = mask_type == "B" and',
          "joins_centre =", CONV),
    Fault("convolution: colours see their own group under A", "csrc/cpu/masked_conv2d_parts.h", "return {0, (strict ? g : g + 1) * per_group};",
          "return {0, (g + 1) * per_group};", CONV),
    Fault("convolution, Triton: colours see their own group under A", CONV_PY, "k_begin, k_end = group * 0, (group + (0 if STRICT else 1)) * group_k",
          "k_begin, k_end = group * 0, (group + 1) * group_k", CONV_TRITON),
    Fault("convolution, Triton: dead weights get a gradient", CONV_W_PY, "live = mask & ((i_group < o_group) if STRICT else (i_group <= o_group))",
          "live = mask", CONV_TRITON),
    Fault("convolution, C++: the bias's pixels are added in one run", CONV_W, "std::min(at + kRun / Product::kTerms, elements)", "elements", CONV_KERNELS),
    Fault("convolution, C++: half an element of an odd row is multiplied with what lies behind", CONV_W,
          "return Product::first_at(x + at);", "return Product::at(x + at);", CONV_PAIRS),
    Fault("convolution, C++: a pair's empty half takes the next group's weight", CONV_CPP, "there > 1 ? at[next] : T{}", "at[next]", CONV_PAIRS),
    Fault("convolution, C++: a pair's empty half takes the next group's channel", "csrc/cpu/masked_conv2d_fill.h", "Product::of(in[x * rows.pixel], {});",
          "Product::of(in[x * rows.pixel], other[x * rows.pixel]);", CONV_PAIRS),
    Fault("convolution, C++: the last pixel of an odd row has no gradient", CONV_W, "k * channel + width - 1], {}", "k * channel + width - 2], {}", CONV_PAIRS),
    Fault("convolution, C++: channels side by side, a row of pixels ends where the next begins", "csrc/cpu/masked_conv2d_lanes.h",
          "pixels + (y * strip.pitch + x) * wide;", "pixels + (y * W + x) * wide;", CONV_PAIRS),
    Fault("convolution, C++: channels side by side, an odd one is paired with the next weight", "csrc/cpu/masked_conv2d_lanes.h", "to_source, plan.sources - c)",
          "to_source, 2)", CONV_PAIRS),
    Fault("convolution, C++: channels side by side, the last tile goes beyond the strip", "csrc/cpu/masked_conv2d_lanes.h", "std::min(at + k, count - 1)",
          "at + k", CONV_PAIRS),
    Fault("convolution, C++: words left over of four are not turned", "csrc/cpu/turn_words.h", "for (; i < n; ++i)\n    for (int k = 0; k < 4; ++k) std::memcpy(out + i * step",
          "for (; i + 1 < n; ++i)\n    for (int k = 0; k < 4; ++k) std::memcpy(out + i * step", CONV),
    Fault("convolution, C++: a run's last vector begins where it ends", "csrc/cpu/block_io.h", "store_as(out + n - kLanes, load<VecF>(in + n - kLanes));",
          "store_as(out + n - kLanes, load<VecF>(in + i));", CONV),
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
    Fault("CUDA: sums are rounded before what is added", EPILOGUE_CU, "value += widen_to(access.v[e]);", "value = widen_to(narrow_to<T>(value)) + widen_to(access.v[e]);",
          CONV_CUDA),
    Fault("CUDA: sums do not wait for what is added", GATED_CU, "    wait_copies<0>();\n", "", CONV_CUDA),
    Fault("CUDA: units of channels that begin anywhere", EPILOGUE_CU, "(first | n_live | n) % per == 0", "(first | n_live) % per == 0", CONV_CUDA),
    Fault("masked_conv2d: what is added has no gradient", "pygen/ops/masked_conv2d.py", "grad if ctx.needs_input_grad[4] else None", "None", CONV),
    Fault("CUDA: what is added lies as it comes", "pygen/native/masked_conv2d.py", "        add = to_output_layout(add, output)\n", "", CONV_CUDA),
)  # fmt: skip
