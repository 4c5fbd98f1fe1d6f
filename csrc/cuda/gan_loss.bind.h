// Python arguments of gan_loss -> calls of the launchers.
#pragma once

#include "common/gan_loss_arguments.h"
#include "cuda/arguments.h"
#include "cuda/gan_loss.h"

namespace pygen::cuda {

// (address, numel) of one run of memory, (address, sizes, strides all 0) of one value, or None.
inline GanTensor parse_gan_tensor(py::handle arg, int64_t& numel) {
  GanTensor tensor;
  if (arg.is_none()) return tensor;
  const py::tuple parts = py::reinterpret_borrow<py::tuple>(arg);
  tensor.address = py::handle(parts[0]).cast<std::uintptr_t>();
  if (parts.size() == 2) {
    numel = py::handle(parts[1]).cast<int64_t>();
    return tensor;
  }
  const py::tuple strides = parts[2];
  for (py::handle stride : strides) {
    if (stride.cast<int64_t>() != 0) throw std::invalid_argument("gan_loss: strides: expected one run of memory");
  }
  tensor.expanded = true;
  return tensor;
}

inline void bind_gan_loss(py::module_& m) {
  m.def("gan_loss_workspace", &gan_loss_workspace, "How many doubles a call needs room for.");
  m.def(
      "gan_loss_forward",
      [](std::string dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle loss, py::tuple terms, py::handle stats, py::handle reused,
         py::tuple grads_real, py::tuple grads_fake, int device, std::uintptr_t stream, std::uintptr_t workspace) {
        GanLossForwardCall call;
        call.dtype = std::move(dtype);
        call.device = device;
        call.stream = stream;
        call.workspace = workspace;
        parse_gan_segments(call, real, fake, sides, other, scale, reduction, parse_gan_tensor);
        parse_gan_terms(call, terms, parse_gan_tensor);
        if (grads_real.size() + grads_fake.size()) parse_gan_gradients(call, grads_real, grads_fake, parse_gan_tensor);
        call.loss = parse_address(loss);
        call.stats = parse_address(stats);
        call.reused = parse_address(reused);
        const py::gil_scoped_release release;
        gan_loss_forward(call);
      },
      "dtype, real, fake, (real side, fake side), other, scale, reduction, loss, terms, stats, reused, gradients of "
      "real, of "
      "fake, device, stream, workspace");
  m.def(
      "gan_loss_backward",
      [](std::string dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle grad_loss, py::tuple grad_terms, py::handle reused,
         py::tuple grads_real, py::tuple grads_fake, int device, std::uintptr_t stream, std::uintptr_t workspace,
         py::handle slopes, bool made) {
        GanLossBackwardCall call;
        call.dtype = std::move(dtype);
        call.device = device;
        call.stream = stream;
        call.workspace = workspace;
        parse_gan_segments(call, real, fake, sides, other, scale, reduction, parse_gan_tensor);
        parse_gan_upstream(call, grad_terms, parse_gan_tensor);
        parse_gan_gradients(call, grads_real, grads_fake, parse_gan_tensor);
        call.grad_loss = parse_address(grad_loss);
        call.reused = parse_address(reused);
        call.slopes = parse_address(slopes);
        call.made = made;
        const py::gil_scoped_release release;
        gan_loss_backward(call);
      },
      "dtype, real, fake, sides, other, scale, reduction, grad_loss, grad_terms, reused, gradients of real, of fake, "
      "device, stream, workspace, slopes, made");
}

}  // namespace pygen::cuda
