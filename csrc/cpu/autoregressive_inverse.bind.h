// Python arguments of autoregressive_inverse -> params -> the kernel of the instruction set in use.
#pragma once

#include "common/rational_quadratic_spline_arguments.h"
#include "cpu/autoregressive_inverse.h"
#include "cpu/dense_network.bind.h"
#include "cpu/interrupt.bind.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void autoregressive_inverse(const AutoregressiveAffineInverse&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void autoregressive_spline_inverse(const AutoregressiveSplineInverse&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void autoregressive_inverse_solve(const AutoregressiveInverseSolve&))

// tensors: addresses of y, x (written) and log_det (float64, written).
inline void parse_inverse(std::string_view dtype, py::tuple network, std::string_view activation, py::tuple tensors,
                          int64_t batch, int threads, AutoregressiveInverse& p) {
  p.dtype = parse_dtype(dtype);
  p.network = parse_dense_network(network[0], network[1], network[2], network[3], batch);
  p.activation = parse_activation(activation);
  p.y = parse_pointer(tensors[0]);
  p.x = const_cast<void*>(parse_pointer(tensors[1]));
  p.log_det = static_cast<double*>(const_cast<void*>(parse_pointer(tensors[2])));
  p.threads = threads;
}

template <class Params>
void run_interruptibly(void (*kernel)(const Params&), Params& p) {
  Signals signals;
  p.interrupt = &signals;
  run_interruptibly(signals, [&] { kernel(p); });
}

inline void bind_autoregressive_inverse(py::module_& m) {
  m.def(
      "autoregressive_inverse",
      [](std::string_view dtype, py::tuple network, std::string_view activation, std::string_view scale, double bound,
         py::tuple tensors, int64_t batch, int threads) {
        AutoregressiveAffineInverse p{};
        parse_inverse(dtype, network, activation, tensors, batch, threads, p);
        p.scale = parse_coupling_scale(scale);
        p.bound = bound;
        static constexpr decltype(&baseline::autoregressive_inverse) table[] = PYGEN_ISA_TABLE(autoregressive_inverse);
        run_interruptibly(table[isa_in_use()], p);
      },
      "dtype, network (parse_dense_network), activation, scale, bound, addresses (parse_inverse), n, threads");
  m.def(
      "autoregressive_spline_inverse",
      [](std::string_view dtype, py::tuple network, std::string_view activation, py::tuple options, py::tuple tensors,
         int64_t batch, int threads) {
        AutoregressiveSplineInverse p{};
        parse_inverse(dtype, network, activation, tensors, batch, threads, p);
        p.options = parse_spline_options(options);
        static constexpr decltype(&baseline::autoregressive_spline_inverse) table[] =
            PYGEN_ISA_TABLE(autoregressive_spline_inverse);
        run_interruptibly(table[isa_in_use()], p);
      },
      "dtype, network (parse_dense_network), activation, options (parse_spline_options), addresses (parse_inverse), n, "
      "threads");
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
        p.factors = py::handle(factors[3]).cast<int64_t>();
        for (py::handle units : hidden) p.hidden.push_back(parse_pointer(units));
        p.solved = const_cast<void*>(parse_pointer(solved));
        p.threads = threads;
        static constexpr decltype(&baseline::autoregressive_inverse_solve) table[] =
            PYGEN_ISA_TABLE(autoregressive_inverse_solve);
        run_interruptibly(table[isa_in_use()], p);
      },
      "dtype, network (parse_dense_network), addresses of the gradient, (root, slope, offset, or None each, factors), "
      "the units' derivatives of each layer that the network makes, the solution (written), n, threads");
}

}  // namespace pygen
