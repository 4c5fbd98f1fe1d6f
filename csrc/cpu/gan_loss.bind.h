// Python arguments of gan_loss -> params -> the kernel of the instruction set in use.
#pragma once

#include "common/gan_loss_arguments.h"
#include "cpu/arguments.h"
#include "cpu/gan_loss.h"
#include "cpu/isa.h"
#include "cpu/plain.h"

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

// gan_loss_plain(plan, threads, loss, reused, real, fake, grad_real, grad_fake): forward of one plain tensor a side
// under "mean" or "sum", with the gradients where these are not None.
inline PyObject* gan_loss_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  const auto* plan = static_cast<const GanPlan*>(PyCapsule_GetPointer(args[0], "pygen.GanPlan"));
  if (!plan) return nullptr;
  GanLossForward p;
  p.threads = static_cast<int>(PyLong_AsLong(args[1]));
  p.other = plan->other;
  p.members = 1;
  p.segments.resize(plan->sides[0].present + plan->sides[1].present);
  Plain loss{}, reused{}, t{};
  bool plain = read_plain(args[2], &loss) && (args[3] == Py_None || read_plain(args[3], &reused));
  GanSegment* s = p.segments.data();
  for (int side = 0; side < 2; ++side) {
    if (!plan->sides[side].present) continue;
    plain = plain && read_plain(args[4 + side], &t);
    p.dtype = t.dtype;
    s->numel = t.numel;
    s->x.data = t.data;
    s->x.set_contiguous(t.numel);
    set_gan_side(*s, *plan, side, 0, 1);
    if (args[6 + side] != Py_None) {
      plain = plain && read_plain(args[6 + side], &t);
      s->grad.data = t.data;
      s->grad.set_contiguous(t.numel);
    }
    ++s;
  }
  if (!plain) {
    PyErr_SetString(PyExc_RuntimeError, "gan_loss_plain: expected plain tensors");
    return nullptr;
  }
  p.loss = loss.data;
  p.stats = nullptr;
  p.reused = reused.data;
  {
    const py::gil_scoped_release release;
    constexpr decltype(&baseline::gan_loss_forward) table[] = PYGEN_ISA_TABLE(gan_loss_forward);
    table[isa_in_use()](p);
  }
  Py_RETURN_NONE;
}

inline void bind_gan_loss(py::module_& m) {
  m.def(
      "gan_loss_plan",
      [](py::tuple sides, std::string_view other, double scale, std::string_view reduction) {
        return py::capsule(new GanPlan(parse_gan_plan(sides, other, scale, reduction)), "pygen.GanPlan",
                           [](PyObject* c) { delete static_cast<GanPlan*>(PyCapsule_GetPointer(c, "pygen.GanPlan")); });
      },
      "(real side, fake side), other, scale, reduction: what gan_loss_plain takes first.");
  define<gan_loss_plain>(
      m, "gan_loss_plain",
      "plan, threads, loss, reused, real, fake, gradient of real, of fake: tensors, or None where there is none.");
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
