// Python arguments of gan_loss -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/gan_loss.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gan_loss_forward(const GanLossForward&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void gan_loss_backward(const GanLossBackward&))

inline GanForm parse_gan_form(std::string_view name) {
  if (name == "softplus") return GanForm::Softplus;
  if (name == "smoothed_softplus") return GanForm::SmoothedSoftplus;
  if (name == "hinge") return GanForm::Hinge;
  if (name == "square") return GanForm::Square;
  if (name == "linear") return GanForm::Linear;
  throw std::invalid_argument("form: got " + std::string(name));
}

// (address, numel) of a contiguous tensor, (address, sizes, strides) of another, or None.
inline View parse_logits(py::handle arg) {
  View view;
  if (arg.is_none()) return view;
  const py::tuple parts = py::reinterpret_borrow<py::tuple>(arg);
  view.data = reinterpret_cast<void*>(py::handle(parts[0]).cast<uintptr_t>());
  if (parts.size() == 2) {
    view.set_contiguous(py::handle(parts[1]).cast<int64_t>());
    return view;
  }
  const py::tuple sizes = parts[1], strides = parts[2];
  for (size_t d = 0; d < sizes.size(); ++d)
    view.append(py::handle(sizes[d]).cast<int64_t>(), py::handle(strides[d]).cast<int64_t>());
  view.finish();
  return view;
}

inline int64_t numel(const View& view) {
  int64_t n = 1;
  for (int d = 0; d < view.ndim; ++d) n *= view.sizes[d];
  return n;
}

// sides: (real, fake), each None or (form, sign, offset, weight, limit).
inline void parse_segments(GanLossParams& p, std::string_view dtype, py::tuple real, py::tuple fake, py::tuple sides,
                           std::string_view other, double scale, std::string_view reduction, int threads) {
  p.dtype = parse_dtype(dtype);
  p.other = other == "pair" ? GanOther::Pair : other == "mean" ? GanOther::Mean : GanOther::None;
  p.threads = threads;
  const py::tuple logits[2] = {real, fake};
  const bool present[2] = {!py::handle(sides[0]).is_none() && real.size() > 0,
                           !py::handle(sides[1]).is_none() && fake.size() > 0};
  p.members = static_cast<int>(real.size() > fake.size() ? real.size() : fake.size());
  p.segments.resize(p.members * (present[0] + present[1]));
  GanSegment* s = p.segments.data();
  for (int member = 0; member < p.members; ++member) {
    for (int side = 0; side < 2; ++side) {
      if (!present[side]) continue;
      const py::tuple of = py::reinterpret_borrow<py::tuple>(py::handle(sides[side]));
      s->x = parse_logits(logits[side][member]);
      if (p.other == GanOther::Pair) s->other = parse_logits(fake[member]);
      s->numel = numel(s->x);
      s->form = parse_gan_form(py::handle(of[0]).cast<std::string_view>());
      s->sign = py::handle(of[1]).cast<double>();
      s->offset = py::handle(of[2]).cast<double>();
      s->weight = py::handle(of[3]).cast<double>() * scale;
      s->limit = py::handle(of[4]).cast<double>();
      if (reduction == "mean") s->weight /= static_cast<double>(s->numel);
      if (reduction != "none") s->weight /= p.members;
      s->opposite = 2 * member + 1 - side;
      s->member = member;
      s->side = side;
      ++s;
    }
  }
}

inline void bind_gan_loss(py::module_& m) {
  m.def(
      "gan_loss_forward",
      [](std::string_view dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle loss, py::tuple terms, py::handle stats, py::handle reused,
         int threads) {
        GanLossForward p;
        parse_segments(p, dtype, real, fake, sides, other, scale, reduction, threads);
        for (size_t i = 0; i < terms.size(); ++i) p.segments[i].out = parse_logits(terms[i]);
        p.loss = const_cast<void*>(parse_pointer(loss));
        p.stats = const_cast<void*>(parse_pointer(stats));
        p.reused = const_cast<void*>(parse_pointer(reused));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gan_loss_forward) table[] = PYGEN_ISA_TABLE(gan_loss_forward);
        table[isa_in_use()](p);
      },
      "dtype, real, fake, (real side, fake side), other, scale, reduction, loss, terms, stats, reused, threads");
  m.def(
      "gan_loss_backward",
      [](std::string_view dtype, py::tuple real, py::tuple fake, py::tuple sides, std::string_view other, double scale,
         std::string_view reduction, py::handle grad_loss, py::tuple grad_terms, py::handle reused,
         py::tuple grads_real, py::tuple grads_fake, int threads) {
        GanLossBackward p;
        parse_segments(p, dtype, real, fake, sides, other, scale, reduction, threads);
        for (size_t i = 0; i < grad_terms.size(); ++i) p.segments[i].upstream = parse_logits(grad_terms[i]);
        p.grad_loss = parse_pointer(grad_loss);
        p.reused = parse_pointer(reused);
        for (GanSegment& s : p.segments) {
          s.out = parse_logits((s.side == 0 ? grads_real : grads_fake)[s.member]);
          if (p.other == GanOther::Pair) s.other_grad = parse_logits(grads_fake[s.member]);
        }
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::gan_loss_backward) table[] = PYGEN_ISA_TABLE(gan_loss_backward);
        table[isa_in_use()](p);
      },
      "dtype, real, fake, sides, other, scale, reduction, grad_loss, grad_terms, reused, gradients of real, of fake, "
      "threads");
}

}  // namespace pygen
