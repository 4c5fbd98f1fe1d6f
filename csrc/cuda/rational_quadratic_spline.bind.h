// Python arguments of rational_quadratic_spline -> calls of the launchers.
#pragma once

#include "common/rational_quadratic_spline_arguments.h"
#include "cuda/coupling.bind.h"
#include "cuda/rational_quadratic_spline.h"

namespace pygen::cuda {

// images, sizes of the live part, sizes of the rest or None.
inline void parse_spline_geometry(py::tuple geometry, RationalQuadraticSplineCall& call) {
  call.images = py::handle(geometry[0]).cast<int64_t>();
  const auto read = [&](size_t item, int64_t (&to)[3]) {
    if (py::handle(geometry[item]).is_none()) return;
    const py::tuple sizes = geometry[item];
    for (size_t d = 0; d < 3; ++d) to[d] = py::handle(sizes[d]).cast<int64_t>();
  };
  read(1, call.sizes);
  read(2, call.rest_sizes);
}

inline RationalQuadraticSplineCall parse_spline_call(std::string dtype, py::tuple options, bool inverse,
                                                     py::tuple geometry, int device, std::uintptr_t stream) {
  RationalQuadraticSplineCall call{};
  call.dtype = std::move(dtype);
  call.options = parse_spline_options(options);
  call.inverse = inverse;
  parse_spline_geometry(geometry, call);
  call.device = device;
  call.stream = stream;
  return call;
}

inline void bind_rational_quadratic_spline(py::module_& m) {
  m.def(
      "rational_quadratic_spline_tiles",
      [](py::tuple geometry) {
        RationalQuadraticSplineCall call{};
        parse_spline_geometry(geometry, call);
        return rational_quadratic_spline_tiles(call);
      },
      "geometry (parse_spline_geometry) -> how many blocks share a sample");
  m.def(
      "rational_quadratic_spline_forward",
      [](std::string dtype, py::tuple options, bool inverse, py::tuple geometry, py::tuple input, py::tuple params,
         int64_t step, py::tuple output, py::handle rest_input, py::handle rest_output, std::uintptr_t log_det,
         py::handle workspace, int device, std::uintptr_t stream) {
        RationalQuadraticSplineCall call =
            parse_spline_call(std::move(dtype), options, inverse, geometry, device, stream);
        call.from = parse_coupling_argument(input);
        call.to = parse_coupling_argument(output);
        call.params = parse_coupling_argument(params);
        call.step = step;
        call.rest_from = parse_coupling_argument(rest_input);
        call.rest_to = parse_coupling_argument(rest_output);
        call.log_det = log_det;
        call.workspace = parse_address(workspace);
        const py::gil_scoped_release release;
        rational_quadratic_spline_forward(call);
      },
      "dtype, numbers (parse_spline_call), whether tails are linear, inverse, bins, geometry, then (address, strides) "
      "of input, of params' first numbers, how far apart a place's numbers are, of output (written), of the rest's "
      "input and output or None, addresses of log_det [N] and of [N, tiles] or None, device, stream");
  m.def(
      "rational_quadratic_spline_backward",
      [](std::string dtype, py::tuple options, bool inverse, py::tuple geometry, py::handle grad_output,
         py::handle grad_log_det, int64_t grad_log_det_stride, py::tuple input, py::tuple params, int64_t step,
         py::handle grad_input, py::handle grad_params, int64_t grad_step, py::handle rest_grad_output,
         py::handle rest_grad_input, int device, std::uintptr_t stream) {
        RationalQuadraticSplineCall call =
            parse_spline_call(std::move(dtype), options, inverse, geometry, device, stream);
        call.from = parse_coupling_argument(grad_output);
        call.to = parse_coupling_argument(grad_input);
        call.input = parse_coupling_argument(input);
        call.params = parse_coupling_argument(params);
        call.step = step;
        call.grad_params = parse_coupling_argument(grad_params);
        call.grad_step = grad_step;
        call.rest_from = parse_coupling_argument(rest_grad_output);
        call.rest_to = parse_coupling_argument(rest_grad_input);
        call.grad_log_det = parse_address(grad_log_det);
        call.grad_log_det_stride = grad_log_det_stride;
        const py::gil_scoped_release release;
        rational_quadratic_spline_backward(call);
      },
      "as forward; (address, strides) or None of the output's gradient, the address of log_det's or None, its stride; "
      "input, params, how far apart; gradients of input and of params' first numbers or None, how far apart; of the "
      "rest the output's gradient and the input's or None; device, stream");
}

}  // namespace pygen::cuda
