// Python arguments of masked_conv2d -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/masked_conv2d.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_conv2d_forward(const MaskedConv2d&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_conv2d_grad_input(const MaskedConv2d&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_conv2d_grad_weight(const MaskedConv2d&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, bool masked_conv2d_filters(const MaskedConv2d&))

// (address, strides) of a tensor of four dims.
inline Tensor4 parse_tensor4(py::tuple arg) {
  Tensor4 t;
  t.data = reinterpret_cast<void*>(py::handle(arg[0]).cast<uintptr_t>());
  const py::tuple strides = arg[1];
  for (int d = 0; d < 4; ++d) t.strides[d] = py::handle(strides[d]).cast<int64_t>();
  return t;
}

template <class Table>
void bind_masked_conv2d(py::module_& m, const char* name, const Table& table, const char* doc) {
  m.def(
      name,
      [table](std::string_view dtype, py::tuple input_sizes, py::tuple weight_sizes, py::tuple taps,
              int64_t color_groups, bool strict, int64_t dilation, py::tuple input, py::tuple output, py::tuple weight,
              py::handle bias, int threads) {
        MaskedConv2d p;
        const auto size = [](py::tuple sizes, int d) { return py::handle(sizes[d]).cast<int64_t>(); };
        p.dtype = parse_dtype(dtype);
        p.batch = size(input_sizes, 0);
        p.in_channels = size(input_sizes, 1);
        p.height = size(input_sizes, 2);
        p.width = size(input_sizes, 3);
        p.out_channels = size(weight_sizes, 0);
        p.kernel_height = size(weight_sizes, 2);
        p.kernel_width = size(weight_sizes, 3);
        for (py::handle tap : taps) p.taps.push_back(tap.cast<int64_t>());
        p.color_groups = color_groups;
        p.strict = strict;
        p.dilation = dilation;
        p.input = parse_tensor4(input);
        p.output = parse_tensor4(output);
        p.weight = parse_tensor4(weight);
        p.bias = const_cast<void*>(parse_pointer(bias));
        p.threads = threads;
        const py::gil_scoped_release release;
        return table[isa_in_use()](p);
      },
      doc);
}

inline void bind_masked_conv2d(py::module_& m) {
  using Table = std::array<void (*)(const MaskedConv2d&), kNumIsas>;
  using Question = std::array<bool (*)(const MaskedConv2d&), kNumIsas>;
  bind_masked_conv2d(
      m, "masked_conv2d_forward", Table PYGEN_ISA_TABLE(masked_conv2d_forward),
      "dtype, sizes of input and weight, taps, color_groups, strict, dilation, (address, strides) of input, output "
      "(written) and weight, address of bias or None, threads");
  bind_masked_conv2d(m, "masked_conv2d_grad_input", Table PYGEN_ISA_TABLE(masked_conv2d_grad_input),
                     "as forward; input is written, output is its gradient, bias None");
  bind_masked_conv2d(m, "masked_conv2d_grad_weight", Table PYGEN_ISA_TABLE(masked_conv2d_grad_weight),
                     "as forward; weight and bias (contiguous) are written, output is its gradient");
  bind_masked_conv2d(m, "does_masked_conv2d_filter", Question PYGEN_ISA_TABLE(masked_conv2d_filters),
                     "as forward, nothing is read or written -> whether forward filters along rows (Winograd)");
}

}  // namespace pygen
