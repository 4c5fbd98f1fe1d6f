// Python arguments of masked_conv2d -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/masked_conv2d.h"

namespace pygen::cuda {

inline MaskedConv2dCall parse_masked_conv2d(std::string dtype, const std::vector<int64_t>& sizes,
                                            const std::vector<int64_t>& weight_sizes, std::vector<int64_t> taps,
                                            int64_t color_groups, bool strict, int64_t dilation, py::tuple input,
                                            py::tuple output, py::tuple weight, py::handle bias, int device,
                                            std::uintptr_t stream, bool tf32, py::handle workspace) {
  MaskedConv2dCall call;
  call.device = device;
  call.stream = stream;
  call.dtype = std::move(dtype);
  call.batch = sizes[0];
  call.in_channels = sizes[1];
  call.height = sizes[2];
  call.width = sizes[3];
  call.out_channels = weight_sizes[0];
  call.kernel_height = weight_sizes[2];
  call.kernel_width = weight_sizes[3];
  call.dilation = dilation;
  call.taps = std::move(taps);
  call.color_groups = color_groups;
  call.strict = strict;
  call.tf32 = tf32;
  call.input = parse_tensor(input, sizes);
  call.output = parse_tensor(output, sizes);
  call.weight = parse_tensor(weight, weight_sizes);
  call.bias = parse_address(bias);
  call.workspace = parse_address(workspace);
  return call;
}

inline void bind_masked_conv2d(py::module_& m, const char* name, int64_t (*launch)(const MaskedConv2dCall&),
                               const char* doc) {
  m.def(
      name,
      [launch](std::string dtype, std::vector<int64_t> sizes, std::vector<int64_t> weight_sizes,
               std::vector<int64_t> taps, int64_t color_groups, bool strict, int64_t dilation, py::tuple input,
               py::tuple output, py::tuple weight, py::handle bias, int device, std::uintptr_t stream, bool tf32,
               py::handle workspace) {
        const MaskedConv2dCall call =
            parse_masked_conv2d(std::move(dtype), sizes, weight_sizes, std::move(taps), color_groups, strict, dilation,
                                input, output, weight, bias, device, stream, tf32, workspace);
        const py::gil_scoped_release release;
        return launch(call);
      },
      doc);
}

inline void bind_masked_conv2d_add(py::module_& m) {
  m.def(
      "masked_conv2d_add_forward",
      [](std::string dtype, std::vector<int64_t> sizes, std::vector<int64_t> weight_sizes, std::vector<int64_t> taps,
         int64_t color_groups, bool strict, int64_t dilation, py::tuple input, py::tuple output, py::tuple weight,
         py::handle bias, py::handle add, int device, std::uintptr_t stream, bool tf32, py::handle workspace) {
        MaskedConv2dCall call =
            parse_masked_conv2d(std::move(dtype), sizes, weight_sizes, std::move(taps), color_groups, strict, dilation,
                                input, output, weight, bias, device, stream, tf32, workspace);
        call.add = parse_address(add);
        const py::gil_scoped_release release;
        return masked_conv2d_forward(call);
      },
      "as masked_conv2d_forward; behind bias the address of what is added, laid out as the output");
}

inline void bind_masked_conv2d(py::module_& m) {
  bind_masked_conv2d(
      m, "masked_conv2d_forward", &masked_conv2d_forward,
      "dtype, sizes of input and weight, taps, color_groups, strict, dilation, (address, strides) of input, output "
      "(written) and weight, address of bias or None, device, stream, tf32, address of the workspace or None -> its "
      "bytes");
  bind_masked_conv2d(m, "masked_conv2d_grad_input", &masked_conv2d_grad_input,
                     "as forward; input is written, output is its gradient, bias None");
  bind_masked_conv2d(m, "masked_conv2d_grad_weight", &masked_conv2d_grad_weight,
                     "as forward; weight and bias (contiguous) are written, output is its gradient");
  bind_masked_conv2d_add(m);
  m.def("use_wgmma", &use_wgmma, "Whether Hopper's warpgroups may multiply, for tests; returns what held before.");
}

}  // namespace pygen::cuda
