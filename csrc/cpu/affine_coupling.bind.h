// Python arguments of affine_coupling -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/affine_coupling.h"
#include "cpu/arguments.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void affine_coupling_forward(const AffineCoupling&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void affine_coupling_backward(const AffineCoupling&))

// geometry: images, sizes of the live part, its weights or None, even, sizes of the rest or None.
inline AffineCoupling parse_coupling(std::string_view dtype, std::string_view scale, double bound, bool inverse,
                                     py::tuple geometry, int threads) {
  AffineCoupling p{};
  p.dtype = parse_dtype(dtype);
  p.scale = parse_coupling_scale(scale);
  p.bound = bound;
  p.inverse = inverse;
  p.images = py::handle(geometry[0]).cast<int64_t>();
  p.parity = !py::handle(geometry[2]).is_none();
  p.even = py::handle(geometry[3]).cast<bool>();
  const py::tuple sizes = geometry[1];
  for (size_t d = 0; d < 3; ++d) {
    p.sizes[d] = py::handle(sizes[d]).cast<int64_t>();
    if (p.parity) p.weights[d] = py::handle(py::tuple(geometry[2])[d]).cast<int64_t>();
  }
  p.live.count = product(sizes);
  if (!py::handle(geometry[4]).is_none()) p.rest.count = product(geometry[4]);
  p.threads = threads;
  return p;
}

inline void bind_affine_coupling(py::module_& m) {
  // Of a part of these sizes, of each image.
  const auto view = [](py::handle tensor, py::tuple geometry, size_t part) {
    if (tensor.is_none()) return View{};
    return parse_view(tensor, py::tuple(py::make_tuple(geometry[0]) + py::tuple(geometry[part])));
  };
  constexpr size_t kLive = 1, kRest = 4;
  m.def(
      "affine_coupling_forward",
      [view](std::string_view dtype, std::string_view scale, double bound, bool inverse, py::tuple geometry,
             py::tuple input, py::tuple shift, py::handle log_scale, py::tuple output, py::handle rest_input,
             py::handle rest_output, py::handle log_det, int threads) {
        AffineCoupling p = parse_coupling(dtype, scale, bound, inverse, geometry, threads);
        p.live.input = view(input, geometry, kLive);
        p.live.output = view(output, geometry, kLive);
        p.shift = view(shift, geometry, kLive);
        p.log_scale = view(log_scale, geometry, kLive);
        p.rest.input = view(rest_input, geometry, kRest);
        p.rest.output = view(rest_output, geometry, kRest);
        p.log_det = const_cast<void*>(parse_pointer(log_det));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::affine_coupling_forward) table[] = PYGEN_ISA_TABLE(affine_coupling_forward);
        table[isa_in_use()](p);
      },
      "dtype, scale, bound, inverse, geometry (parse_coupling), then (address, strides) of input, shift, log_scale or "
      "None, output (written), of the rest's input and output or None, the address of log_det [N] or None, threads");
  m.def(
      "affine_coupling_backward",
      [view](std::string_view dtype, std::string_view scale, double bound, bool inverse, py::tuple geometry,
             py::handle grad_output, py::handle grad_log_det, int64_t grad_log_det_stride, py::handle input,
             py::handle shift, py::handle log_scale, py::handle grad_input, py::handle grad_shift,
             py::handle grad_log_scale, py::handle rest_grad_output, py::handle rest_grad_input, int threads) {
        AffineCoupling p = parse_coupling(dtype, scale, bound, inverse, geometry, threads);
        p.live.input = view(grad_output, geometry, kLive);
        p.live.output = view(grad_input, geometry, kLive);
        p.input = view(input, geometry, kLive);
        p.shift = view(shift, geometry, kLive);
        p.log_scale = view(log_scale, geometry, kLive);
        p.grad_shift = view(grad_shift, geometry, kLive);
        p.grad_log_scale = view(grad_log_scale, geometry, kLive);
        p.rest.input = view(rest_grad_output, geometry, kRest);
        p.rest.output = view(rest_grad_input, geometry, kRest);
        p.grad_log_det = parse_pointer(grad_log_det);
        p.grad_log_det_stride = grad_log_det_stride;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::affine_coupling_backward) table[] = PYGEN_ISA_TABLE(affine_coupling_backward);
        table[isa_in_use()](p);
      },
      "as forward; (address, strides) or None of the output's gradient; the address of log_det's or None and its "
      "stride; input, shift, log_scale or None; what is written or None: gradients of input, shift, log_scale; of the "
      "rest the output's gradient and the input's; threads");
}

}  // namespace pygen
