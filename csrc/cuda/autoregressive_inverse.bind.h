// Python arguments of autoregressive_inverse -> the call of its launcher.
#pragma once

#include "cuda/autoregressive_inverse.h"
#include "cuda/dense_network.bind.h"

namespace pygen::cuda {

inline void bind_autoregressive_inverse(py::module_& m) {
  m.attr("autoregressive_inverse_step_bytes") = kAutoregressiveInverseStepBytes;
  m.attr("autoregressive_inverse_solve_step_numbers") = kAutoregressiveInverseSolveStepNumbers;
  m.def(
      "autoregressive_inverse",
      [](const py::tuple& network, std::string scale, double bound, std::uintptr_t y, std::uintptr_t x,
         std::uintptr_t log, int device, std::uintptr_t stream) {
        AutoregressiveInverseCall call;
        parse_dense_call(network, device, stream, call);
        call.scale = std::move(scale);
        call.bound = bound;
        call.y = y;
        call.x = x;
        call.log = log;
        const py::gil_scoped_release release;
        autoregressive_inverse(call);
      },
      "network (parse_dense_call), scale, bound, y, x (written), f (written), device, stream");
  m.def(
      "autoregressive_inverse_solve",
      [](const py::tuple& network, std::uintptr_t grad,
         std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t> factors, std::uintptr_t gates,
         std::uintptr_t solved, int device, std::uintptr_t stream) {
        AutoregressiveInverseSolveCall call;
        parse_dense_call(network, device, stream, call);
        call.grad = grad;
        std::tie(call.root, call.slope, call.offset) = factors;
        call.gates = gates;
        call.solved = solved;
        const py::gil_scoped_release release;
        autoregressive_inverse_solve(call);
      },
      "network (parse_dense_call), gradient, (e^(-f / 2), slope, offset) or zeros, gates, the solution (written), "
      "device, stream");
}

}  // namespace pygen::cuda
