// Python arguments of reparameterize_kl and gaussian_kl -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/reparameterize_kl.h"

namespace pygen::cuda {

inline void parse_call(ReparameterizeKlCall& call, std::string dtype, std::vector<int64_t> sizes, py::tuple inputs,
                       int64_t num_samples, double free_bits, bool reduce, double kl_scale, int device,
                       std::uintptr_t stream) {
  call.dtype = std::move(dtype);
  call.shape = std::move(sizes);
  call.mu = parse_tensor(inputs[0], call.shape);
  call.logvar = parse_tensor(inputs[1], call.shape);
  call.prior_mu = parse_tensor(inputs[2], call.shape);
  call.prior_logvar = parse_tensor(inputs[3], call.shape);
  call.eps = parse_tensor(inputs[4], call.shape);
  call.seed = parse_address(inputs[5]);
  call.num_samples = num_samples;
  call.free_bits = free_bits;
  call.reduce = reduce;
  call.kl_scale = kl_scale;
  call.device = device;
  call.stream = stream;
}

inline void bind_reparameterize_kl(py::module_& m) {
  m.def("reparameterize_kl_workspace", &reparameterize_kl_workspace,
        "dtype, sizes [N, ...], reduce -> how many partial sums forward needs room for");
  m.def(
      "reparameterize_kl_forward",
      [](std::string dtype, std::vector<int64_t> sizes, py::tuple inputs, py::handle z, std::uintptr_t kl,
         int64_t num_samples, double free_bits, bool reduce, double kl_scale, int device, std::uintptr_t stream,
         py::handle workspace) {
        ReparameterizeKlForwardCall call;
        parse_call(call, std::move(dtype), std::move(sizes), inputs, num_samples, free_bits, reduce, kl_scale, device,
                   stream);
        call.z = parse_tensor(z, call.shape);
        call.kl = kl;
        call.workspace = parse_address(workspace);
        const py::gil_scoped_release release;
        reparameterize_kl_forward(call);
      },
      "dtype, sizes [N, ...], (mu, logvar, prior_mu, prior_logvar, eps, seed), z, kl, K, free_bits, reduce, kl_scale, "
      "device, "
      "stream, workspace");
  m.def(
      "reparameterize_kl_backward",
      [](std::string dtype, std::vector<int64_t> sizes, py::tuple inputs, py::handle grad_z, py::handle grad_kl,
         int64_t grad_kl_stride, py::tuple grads, py::tuple wide, int64_t num_samples, double free_bits, bool reduce,
         double kl_scale, int device, std::uintptr_t stream) {
        ReparameterizeKlBackwardCall call;
        parse_call(call, std::move(dtype), std::move(sizes), inputs, num_samples, free_bits, reduce, kl_scale, device,
                   stream);
        call.grad_z = parse_tensor(grad_z, call.shape);
        call.grad_kl = parse_address(grad_kl);
        call.grad_kl_stride = grad_kl_stride;
        for (int i = 0; i < 4; ++i) {
          call.grads[i] = parse_tensor(grads[i], call.shape);
          call.wide[i] = py::handle(wide[i]).cast<bool>();
        }
        const py::gil_scoped_release release;
        reparameterize_kl_backward(call);
      },
      "dtype, sizes, inputs as forward, grad_z, grad_kl, its stride, 4 gradients, which are wide, K, free_bits, "
      "reduce, "
      "kl_scale, device, stream");
}

}  // namespace pygen::cuda
