// Python arguments of gan_loss -> params -> the kernel of the instruction set in use.
#pragma once

#include "common/gan_loss_arguments.h"
#include "cpu/arguments.h"
#include "cpu/gan_loss.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gan_loss_forward(const GanLossForward&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gan_loss_backward(const GanLossBackward&))

// (address, numel) of a contiguous tensor, (address, sizes, strides) of another, or None.
inline View parse_logits(py::handle arg, int64_t& numel) {
  View view;
  if (arg.is_none()) return view;
  const py::tuple parts = py::reinterpret_borrow<py::tuple>(arg);
  view.data = reinterpret_cast<void*>(py::handle(parts[0]).cast<uintptr_t>());
  if (parts.size() == 2) {
    numel = py::handle(parts[1]).cast<int64_t>();
    view.set_contiguous(numel);
    return view;
  }
  const py::tuple sizes = parts[1], strides = parts[2];
  numel = product(sizes);
  for (size_t d = 0; d < sizes.size(); ++d)
    view.append(py::handle(sizes[d]).cast<int64_t>(), py::handle(strides[d]).cast<int64_t>());
  view.finish();
  return view;
}

inline void bind_gan_loss(py::module_& m) {
  m.def(
      "gan_loss_forward",
      [](std::string_view dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle loss, py::tuple terms, py::handle stats, py::handle reused,
         py::tuple grads_real, py::tuple grads_fake, int threads) {
        GanLossForward p;
        p.dtype = parse_dtype(dtype);
        p.threads = threads;
        parse_gan_segments(p, real, fake, sides, other, scale, reduction, parse_logits);
        parse_gan_terms(p, terms, parse_logits);
        if (grads_real.size() + grads_fake.size()) parse_gan_gradients(p, grads_real, grads_fake, parse_logits);
        p.loss = const_cast<void*>(parse_pointer(loss));
        p.stats = const_cast<void*>(parse_pointer(stats));
        p.reused = const_cast<void*>(parse_pointer(reused));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gan_loss_forward) table[] = PYGEN_ISA_TABLE(gan_loss_forward);
        table[isa_in_use()](p);
      },
      "dtype, real, fake, (real side, fake side), other, scale, reduction, loss, terms, stats, reused, gradients of "
      "real, "
      "of fake (of the loss with upstream 1; both empty: not wanted), threads");
  m.def(
      "gan_loss_backward",
      [](std::string_view dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle grad_loss, py::tuple grad_terms, py::handle reused,
         py::tuple grads_real, py::tuple grads_fake, int threads) {
        GanLossBackward p;
        p.dtype = parse_dtype(dtype);
        p.threads = threads;
        parse_gan_segments(p, real, fake, sides, other, scale, reduction, parse_logits);
        parse_gan_upstream(p, grad_terms, parse_logits);
        parse_gan_gradients(p, grads_real, grads_fake, parse_logits);
        p.grad_loss = parse_pointer(grad_loss);
        p.reused = parse_pointer(reused);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gan_loss_backward) table[] = PYGEN_ISA_TABLE(gan_loss_backward);
        table[isa_in_use()](p);
      },
      "dtype, real, fake, sides, other, scale, reduction, grad_loss, grad_terms, reused, gradients of real, of fake, "
      "threads");
}

}  // namespace pygen
