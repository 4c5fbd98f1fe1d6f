// Python arguments of autoregressive_inverse -> the call of its launcher.
#pragma once

#include <array>

#include "common/rational_quadratic_spline_arguments.h"
#include "cuda/autoregressive_inverse.h"
#include "cuda/dense_network.bind.h"

namespace pygen::cuda {

using InverseTensors = std::array<std::uintptr_t, 3>;

inline void parse_inverse_call(const py::tuple& network, std::string activation, const InverseTensors& tensors,
                               int device, std::uintptr_t stream, AutoregressiveInverseCall& call) {
  parse_dense_call(network, device, stream, call);
  call.activation = std::move(activation);
  call.y = tensors[0];
  call.x = tensors[1];
  call.log = tensors[2];
}

inline void bind_autoregressive_inverse(py::module_& m) {
  m.attr("autoregressive_inverse_step_bytes") = kAutoregressiveInverseStepBytes;
  m.attr("autoregressive_inverse_solve_step_numbers") = kAutoregressiveInverseSolveStepNumbers;
  m.def(
      "autoregressive_inverse",
      [](const py::tuple& network, std::string activation, std::string scale, double bound,
         const InverseTensors& tensors, int device, std::uintptr_t stream) {
        AutoregressiveAffineInverseCall call;
        parse_inverse_call(network, std::move(activation), tensors, device, stream, call);
        call.scale = std::move(scale);
        call.bound = bound;
        const py::gil_scoped_release release;
        autoregressive_inverse(call);
      },
      "network (parse_dense_call), activation, scale, bound, (y, x, log-derivatives; the last two written), device, "
      "stream");
  m.def(
      "autoregressive_spline_inverse",
      [](const py::tuple& network, std::string activation, const py::tuple& options, const InverseTensors& tensors,
         int device, std::uintptr_t stream) {
        AutoregressiveSplineInverseCall call;
        parse_inverse_call(network, std::move(activation), tensors, device, stream, call);
        call.options = parse_spline_options(options);
        const py::gil_scoped_release release;
        autoregressive_spline_inverse(call);
      },
      "network (parse_dense_call), activation, options (parse_spline_options), (y, x, log-derivatives; the last two "
      "written), "
      "device, stream");
  m.def(
      "autoregressive_inverse_solve",
      [](const py::tuple& network, std::uintptr_t grad,
         std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t, int64_t> factors, std::uintptr_t gates,
         std::uintptr_t solved, int device, std::uintptr_t stream) {
        AutoregressiveInverseSolveCall call;
        parse_dense_call(network, device, stream, call);
        call.grad = grad;
        std::tie(call.root, call.slope, call.offset, call.factors) = factors;
        call.gates = gates;
        call.solved = solved;
        const py::gil_scoped_release release;
        autoregressive_inverse_solve(call);
      },
      "network (parse_dense_call), gradient, (root, slope, offset, or zeros, factors), gates, the solution (written), "
      "device, stream");
}

}  // namespace pygen::cuda
