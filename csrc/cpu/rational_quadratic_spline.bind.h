// Python arguments of rational_quadratic_spline -> params -> the kernel of the instruction set in use.
#pragma once

#include "common/rational_quadratic_spline_arguments.h"
#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/rational_quadratic_spline.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void rational_quadratic_spline_forward(const RationalQuadraticSpline&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void rational_quadratic_spline_backward(const RationalQuadraticSpline&))

// geometry: images, sizes of the live part, sizes of the rest or None.
inline RationalQuadraticSpline parse_spline(std::string_view dtype, py::tuple options, bool inverse, py::tuple geometry,
                                            int threads) {
  RationalQuadraticSpline p{};
  p.dtype = parse_dtype(dtype);
  p.options = parse_spline_options(options);
  p.inverse = inverse;
  p.images = py::handle(geometry[0]).cast<int64_t>();
  p.live.count = product(geometry[1]);
  if (!py::handle(geometry[2]).is_none()) p.rest.count = product(geometry[2]);
  p.threads = threads;
  return p;
}

inline void bind_rational_quadratic_spline(py::module_& m) {
  // Of a part of these sizes, of each image.
  const auto view = [](py::handle tensor, py::tuple geometry, size_t part) {
    if (tensor.is_none()) return View{};
    return parse_view(tensor, py::tuple(py::make_tuple(geometry[0]) + py::tuple(geometry[part])));
  };
  constexpr size_t kLive = 1, kRest = 2;
  m.def(
      "rational_quadratic_spline_forward",
      [view](std::string_view dtype, py::tuple options, bool inverse, py::tuple geometry, py::tuple input,
             py::tuple params, int64_t step, py::tuple output, py::handle rest_input, py::handle rest_output,
             py::handle log_det, int threads) {
        RationalQuadraticSpline p = parse_spline(dtype, options, inverse, geometry, threads);
        p.live.input = view(input, geometry, kLive);
        p.live.output = view(output, geometry, kLive);
        p.params = view(params, geometry, kLive);
        p.step = step;
        p.rest.input = view(rest_input, geometry, kRest);
        p.rest.output = view(rest_output, geometry, kRest);
        p.log_det = const_cast<void*>(parse_pointer(log_det));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::rational_quadratic_spline_forward) table[] =
            PYGEN_ISA_TABLE(rational_quadratic_spline_forward);
        table[isa_in_use()](p);
      },
      "dtype, options (parse_spline_options), inverse, geometry, then (address, strides) of "
      "input, of params' first numbers, how far apart a place's numbers are, of output (written), of the rest's input "
      "and output or None, the address of log_det [N], threads");
  m.def(
      "rational_quadratic_spline_backward",
      [view](std::string_view dtype, py::tuple options, bool inverse, py::tuple geometry, py::handle grad_output,
             py::handle grad_log_det, int64_t grad_log_det_stride, py::tuple input, py::tuple params, int64_t step,
             py::handle grad_input, py::handle grad_params, int64_t grad_step, py::handle rest_grad_output,
             py::handle rest_grad_input, int threads) {
        RationalQuadraticSpline p = parse_spline(dtype, options, inverse, geometry, threads);
        p.live.input = view(grad_output, geometry, kLive);
        p.live.output = view(grad_input, geometry, kLive);
        p.input = view(input, geometry, kLive);
        p.params = view(params, geometry, kLive);
        p.step = step;
        p.grad_params = view(grad_params, geometry, kLive);
        p.grad_step = grad_step;
        p.rest.input = view(rest_grad_output, geometry, kRest);
        p.rest.output = view(rest_grad_input, geometry, kRest);
        p.grad_log_det = parse_pointer(grad_log_det);
        p.grad_log_det_stride = grad_log_det_stride;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::rational_quadratic_spline_backward) table[] =
            PYGEN_ISA_TABLE(rational_quadratic_spline_backward);
        table[isa_in_use()](p);
      },
      "as forward; (address, strides) or None of the output's gradient, the address of log_det's or None, its stride; "
      "input, params, how far apart; gradients of input and of params' first numbers or None, how far apart; of the "
      "rest the output's gradient and the input's or None; threads");
}

}  // namespace pygen
