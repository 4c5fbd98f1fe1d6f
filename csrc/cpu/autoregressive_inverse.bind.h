// Python arguments of autoregressive_inverse -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/autoregressive_inverse.h"
#include "cpu/dense_network.bind.h"
#include "cpu/interrupt.bind.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void autoregressive_inverse(const AutoregressiveInverse&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void autoregressive_inverse_solve(const AutoregressiveInverseSolve&))

inline void bind_autoregressive_inverse(py::module_& m) {
  using Inverse = void (*)(const AutoregressiveInverse&);
  static constexpr std::array<Inverse, kNumIsas> inverse PYGEN_ISA_TABLE(autoregressive_inverse);
  m.def(
      "autoregressive_inverse",
      [](std::string_view dtype, py::tuple network, std::string_view scale, double bound, py::handle y, py::handle x,
         py::handle log_det, int64_t batch, int threads) {
        AutoregressiveInverse p{};
        p.dtype = parse_dtype(dtype);
        p.network = parse_dense_network(network[0], network[1], network[2], network[3], batch);
        p.scale = parse_coupling_scale(scale);
        p.bound = bound;
        p.y = parse_pointer(y);
        p.x = const_cast<void*>(parse_pointer(x));
        p.log_det = static_cast<double*>(const_cast<void*>(parse_pointer(log_det)));
        p.threads = threads;
        Signals signals;
        p.interrupt = &signals;
        run_interruptibly(signals, [&] { inverse[isa_in_use()](p); });
      },
      "dtype, network (parse_dense_network), scale, bound, addresses of y, x (written), log_det (float64, written), n, "
      "threads");
  using Solve = void (*)(const AutoregressiveInverseSolve&);
  static constexpr std::array<Solve, kNumIsas> solve PYGEN_ISA_TABLE(autoregressive_inverse_solve);
  m.def(
      "autoregressive_inverse_solve",
      [](std::string_view dtype, py::tuple network, py::handle grad, py::tuple factors, py::tuple hidden,
         py::handle solved, int64_t batch, int threads) {
        AutoregressiveInverseSolve p{};
        p.dtype = parse_dtype(dtype);
        p.network = parse_dense_network(network[0], network[1], network[2], network[3], batch);
        p.grad = parse_pointer(grad);
        p.root = parse_pointer(factors[0]);
        p.slope = parse_pointer(factors[1]);
        p.offset = parse_pointer(factors[2]);
        for (py::handle units : hidden) p.hidden.push_back(parse_pointer(units));
        p.solved = const_cast<void*>(parse_pointer(solved));
        p.threads = threads;
        Signals signals;
        p.interrupt = &signals;
        run_interruptibly(signals, [&] { solve[isa_in_use()](p); });
      },
      "dtype, network (parse_dense_network), addresses of the gradient, (e^(-f / 2), slope, offset) or None each, the "
      "units' values of each layer that the network makes, the solution (written), n, threads");
}

}  // namespace pygen
