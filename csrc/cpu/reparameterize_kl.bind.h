// Python arguments of reparameterize_kl and gaussian_kl -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/reparameterize_kl.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void reparameterize_kl_forward(const ReparameterizeKlForward&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void reparameterize_kl_backward(const ReparameterizeKlBackward&))

inline void parse_inputs(ReparameterizeKlParams& p, std::string_view dtype, py::tuple sizes, py::tuple inputs,
                         int64_t num_samples, double free_bits, bool reduce, double kl_scale, int threads) {
  p.dtype = parse_dtype(dtype);
  p.rows = py::handle(sizes[0]).cast<int64_t>();
  p.cols = 1;
  for (size_t d = 1; d < sizes.size(); ++d) p.cols *= py::handle(sizes[d]).cast<int64_t>();
  p.mu = parse_view(inputs[0], sizes);
  p.logvar = parse_view(inputs[1], sizes);
  p.prior_mu = parse_view(inputs[2], sizes);
  p.prior_logvar = parse_view(inputs[3], sizes);
  p.eps = parse_view(inputs[4], sizes, num_samples);
  p.seed = static_cast<const int64_t*>(parse_pointer(inputs[5]));
  p.num_samples = num_samples;
  p.free_bits = free_bits;
  p.reduce = reduce;
  p.kl_scale = kl_scale;
  p.threads = threads;
}

inline void bind_reparameterize_kl(py::module_& m) {
  m.def(
      "reparameterize_kl_forward",
      [](std::string_view dtype, py::tuple sizes, py::tuple inputs, py::handle z, uintptr_t kl, int64_t num_samples,
         double free_bits, bool reduce, double kl_scale, int threads) {
        ReparameterizeKlForward p;
        parse_inputs(p, dtype, sizes, inputs, num_samples, free_bits, reduce, kl_scale, threads);
        p.z = parse_view(z, sizes, num_samples);
        p.kl = reinterpret_cast<void*>(kl);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::reparameterize_kl_forward) table[] = PYGEN_ISA_TABLE(reparameterize_kl_forward);
        table[isa_in_use()](p);
      },
      "dtype, sizes [N, ...], (mu, logvar, prior_mu, prior_logvar, eps, seed), z, kl, K, free_bits, reduce, kl_scale, "
      "threads");
  m.def(
      "reparameterize_kl_backward",
      [](std::string_view dtype, py::tuple sizes, py::tuple inputs, py::handle grad_z, py::handle grad_kl,
         int64_t grad_kl_stride, py::tuple grads, py::tuple wide, int64_t num_samples, double free_bits, bool reduce,
         double kl_scale, int threads) {
        ReparameterizeKlBackward p;
        parse_inputs(p, dtype, sizes, inputs, num_samples, free_bits, reduce, kl_scale, threads);
        p.grad_z = parse_view(grad_z, sizes, num_samples);
        p.grad_kl = parse_pointer(grad_kl);
        p.grad_kl_stride = grad_kl_stride;
        for (int j = 0; j < 4; ++j) {
          p.grad[j] = parse_view(grads[j], sizes);
          p.wide[j] = py::handle(wide[j]).cast<bool>();
        }
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::reparameterize_kl_backward) table[] = PYGEN_ISA_TABLE(reparameterize_kl_backward);
        table[isa_in_use()](p);
      },
      "dtype, sizes, inputs as forward, grad_z, grad_kl, its stride, 4 gradients, which are wide, K, free_bits, "
      "reduce, "
      "kl_scale, threads");
}

}  // namespace pygen
