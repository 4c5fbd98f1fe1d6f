// Python arguments of affine_coupling -> calls of the launchers.
#pragma once

#include "cuda/affine_coupling.h"
#include "cuda/arguments.h"
#include "cuda/coupling.bind.h"

namespace pygen::cuda {

// geometry: images, sizes of the live part, its weights or None, even, sizes of the rest or None.
inline AffineCouplingCall parse_coupling_call(std::string dtype, std::string scale, double bound, bool inverse,
                                              py::tuple geometry, int device, std::uintptr_t stream) {
  AffineCouplingCall call{};
  call.dtype = std::move(dtype);
  call.scale = std::move(scale);
  call.bound = bound;
  call.inverse = inverse;
  call.images = py::handle(geometry[0]).cast<int64_t>();
  call.parity = !py::handle(geometry[2]).is_none();
  call.even = py::handle(geometry[3]).cast<bool>();
  const auto read = [&](size_t item, int64_t (&to)[3]) {
    if (py::handle(geometry[item]).is_none()) return;
    const py::tuple sizes = geometry[item];
    for (size_t d = 0; d < 3; ++d) to[d] = py::handle(sizes[d]).cast<int64_t>();
  };
  read(1, call.sizes);
  read(2, call.weights);
  read(4, call.rest_sizes);
  call.device = device;
  call.stream = stream;
  return call;
}

inline void bind_affine_coupling(py::module_& m) {
  m.def(
      "affine_coupling_tiles",
      [](std::string dtype, py::tuple geometry) {
        return affine_coupling_tiles(parse_coupling_call(std::move(dtype), "none", 1.0, false, geometry, 0, 0));
      },
      "dtype, geometry (parse_coupling_call) -> how many blocks share a sample");
  m.def(
      "affine_coupling_forward",
      [](std::string dtype, std::string scale, double bound, bool inverse, py::tuple geometry, py::tuple input,
         py::tuple shift, py::handle log_scale, py::tuple output, py::handle rest_input, py::handle rest_output,
         py::handle log_det, py::handle workspace, int device, std::uintptr_t stream) {
        AffineCouplingCall call =
            parse_coupling_call(std::move(dtype), std::move(scale), bound, inverse, geometry, device, stream);
        call.from = parse_coupling_argument(input);
        call.to = parse_coupling_argument(output);
        call.shift = parse_coupling_argument(shift);
        call.log_scale = parse_coupling_argument(log_scale);
        call.rest_from = parse_coupling_argument(rest_input);
        call.rest_to = parse_coupling_argument(rest_output);
        call.log_det = parse_address(log_det);
        call.workspace = parse_address(workspace);
        const py::gil_scoped_release release;
        affine_coupling_forward(call);
      },
      "dtype, scale, bound, inverse, geometry, then (address, strides) of input, shift, log_scale or None, output "
      "(written), of the rest's input and output or None, addresses of log_det [N] and of [N, tiles] or None, device, "
      "stream");
  m.def(
      "affine_coupling_backward",
      [](std::string dtype, std::string scale, double bound, bool inverse, py::tuple geometry, py::handle grad_output,
         py::handle grad_log_det, int64_t grad_log_det_stride, py::handle input, py::handle shift, py::handle log_scale,
         py::handle grad_input, py::handle grad_shift, py::handle grad_log_scale, py::handle rest_grad_output,
         py::handle rest_grad_input, int device, std::uintptr_t stream) {
        AffineCouplingCall call =
            parse_coupling_call(std::move(dtype), std::move(scale), bound, inverse, geometry, device, stream);
        call.from = parse_coupling_argument(grad_output);
        call.to = parse_coupling_argument(grad_input);
        call.input = parse_coupling_argument(input);
        call.shift = parse_coupling_argument(shift);
        call.log_scale = parse_coupling_argument(log_scale);
        call.grad_shift = parse_coupling_argument(grad_shift);
        call.grad_log_scale = parse_coupling_argument(grad_log_scale);
        call.rest_from = parse_coupling_argument(rest_grad_output);
        call.rest_to = parse_coupling_argument(rest_grad_input);
        call.grad_log_det = parse_address(grad_log_det);
        call.grad_log_det_stride = grad_log_det_stride;
        const py::gil_scoped_release release;
        affine_coupling_backward(call);
      },
      "as forward; (address, strides) or None of the output's gradient; the address of log_det's or None and its "
      "stride; input, shift, log_scale or None; what is written or None: gradients of input, shift, log_scale; of the "
      "rest the output's gradient and the input's; device, stream");
}

}  // namespace pygen::cuda
