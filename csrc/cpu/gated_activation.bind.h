// Python arguments of gated_activation -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/gated_activation.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gated_activation_forward(const GatedActivation&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gated_activation_backward(const GatedActivation&))

// Views of tensors [N, C, pixels ...] of one call, C = blocks * halves * channels.
struct GateViews {
  py::tuple sizes;  // of the input
  int64_t blocks, channels;
  bool channels_inner;
  size_t item;

  // One half of each block of channels of (address, strides); without strides over pixels these are 0, or with
  // `of_sums` no dims at all.
  View half(py::tuple tensor, int halves, int which, bool of_sums) const {
    View v;
    const py::tuple strides = py::reinterpret_borrow<py::tuple>(tensor[1]);
    const auto stride = [&](size_t d) { return d < strides.size() ? py::handle(strides[d]).cast<int64_t>() : 0; };
    const auto add_pixels = [&] {
      for (size_t d = 2; d < sizes.size() && !of_sums; ++d) v.append(py::handle(sizes[d]).cast<int64_t>(), stride(d));
    };
    v.data = reinterpret_cast<char*>(py::handle(tensor[0]).cast<uintptr_t>()) + which * channels * stride(1) * item;
    v.append(py::handle(sizes[0]).cast<int64_t>(), stride(0));
    v.append(blocks, halves * channels * stride(1));
    if (channels_inner) add_pixels();
    v.append(channels, stride(1));
    if (!channels_inner) add_pixels();
    v.finish();
    return v;
  }
  Halves both(py::handle tensor, bool of_sums = false) const {
    if (tensor.is_none()) return {};
    const py::tuple t = py::reinterpret_borrow<py::tuple>(tensor);
    return {half(t, 2, 0, of_sums), half(t, 2, 1, of_sums)};
  }
};

inline void bind_gated_activation(py::module_& m) {
  const auto parse = [](GatedActivation& p, std::string_view dtype, py::tuple sizes, int64_t blocks,
                        bool channels_inner, py::handle input, py::handle cond, py::tuple output, int threads) {
    p.dtype = parse_dtype(dtype);
    p.images = py::handle(sizes[0]).cast<int64_t>();
    p.blocks = blocks;
    p.channels = py::handle(sizes[1]).cast<int64_t>() / (2 * blocks);
    p.pixels = 1;
    for (size_t d = 2; d < sizes.size(); ++d) p.pixels *= py::handle(sizes[d]).cast<int64_t>();
    p.channels_inner = channels_inner;
    p.threads = threads;
    const size_t item = p.dtype == DType::Float64 ? 8 : p.dtype == DType::Float32 ? 4 : 2;
    const GateViews views{sizes, blocks, p.channels, channels_inner, item};
    p.input = views.both(input);
    p.cond = views.both(cond);
    p.output = views.half(output, 1, 0, false);
    return views;
  };
  m.def(
      "gated_activation_forward",
      [parse](std::string_view dtype, py::tuple sizes, int64_t blocks, bool channels_inner, py::tuple input,
              py::handle cond, py::tuple output, int threads) {
        GatedActivation p;
        parse(p, dtype, sizes, blocks, channels_inner, input, cond, output, threads);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gated_activation_forward) table[] = PYGEN_ISA_TABLE(gated_activation_forward);
        table[isa_in_use()](p);
      },
      "dtype, sizes, blocks, whether channels are walked innermost, (address, strides) of input, of cond or None (a "
      "cond [N, C] has two strides) and of output (written), threads");
  m.def(
      "gated_activation_backward",
      [parse](std::string_view dtype, py::tuple sizes, int64_t blocks, bool channels_inner, py::tuple input,
              py::handle cond, py::tuple grad, py::handle grad_input, py::handle grad_cond, bool sum_cond,
              int threads) {
        GatedActivation p;
        const GateViews views = parse(p, dtype, sizes, blocks, channels_inner, input, cond, grad, threads);
        p.grad_input = views.both(grad_input);
        (sum_cond ? p.cond_sums : p.grad_cond) = views.both(grad_cond, sum_cond);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gated_activation_backward) table[] = PYGEN_ISA_TABLE(gated_activation_backward);
        table[isa_in_use()](p);
      },
      "as forward; the output's gradient, then what is written: gradients of input and cond or None, whether cond's is "
      "[N, C]; threads");
}

}  // namespace pygen
