// Python arguments of gan_loss -> GanLossParamsOf<Tensor>, for the bindings of either device.
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#include <string_view>

#include "common/gan_loss_call.h"

namespace pygen {
namespace py = pybind11;

inline GanForm parse_gan_form(std::string_view name) {
  if (name == "softplus") return GanForm::Softplus;
  if (name == "smoothed_softplus") return GanForm::SmoothedSoftplus;
  if (name == "hinge") return GanForm::Hinge;
  if (name == "square") return GanForm::Square;
  if (name == "linear") return GanForm::Linear;
  throw std::invalid_argument("form: got " + std::string(name));
}

// sides: (real, fake), each None or (form, sign, offset, weight, limit).
inline GanPlan parse_gan_plan(py::tuple sides, std::string_view other, double scale, std::string_view reduction) {
  GanPlan plan;
  plan.other = other == "pair" ? GanOther::Pair : other == "mean" ? GanOther::Mean : GanOther::None;
  plan.mean = reduction == "mean";
  plan.reduce = reduction != "none";
  for (int side = 0; side < 2; ++side) {
    if (py::handle(sides[side]).is_none()) continue;
    const py::tuple of = py::reinterpret_borrow<py::tuple>(py::handle(sides[side]));
    GanSide& s = plan.sides[side];
    s.present = true;
    s.form = parse_gan_form(py::handle(of[0]).cast<std::string_view>());
    s.sign = py::handle(of[1]).cast<double>();
    s.offset = py::handle(of[2]).cast<double>();
    s.weight = py::handle(of[3]).cast<double>() * scale;
    s.limit = py::handle(of[4]).cast<double>();
  }
  return plan;
}

// parse(argument, numel) -> Tensor; it sets numel where the argument is present.
template <class Tensor, class Parse>
void parse_gan_segments(GanLossParamsOf<Tensor>& p, py::tuple real, py::tuple fake, py::tuple sides,
                        std::string_view other, double scale, std::string_view reduction, Parse parse) {
  const GanPlan plan = parse_gan_plan(sides, other, scale, reduction);
  p.other = plan.other;
  const py::tuple logits[2] = {real, fake};
  const bool present[2] = {plan.sides[0].present && real.size() > 0, plan.sides[1].present && fake.size() > 0};
  p.members = static_cast<int>(real.size() > fake.size() ? real.size() : fake.size());
  p.segments.resize(p.members * (present[0] + present[1]));
  GanSegmentOf<Tensor>* s = p.segments.data();
  for (int member = 0; member < p.members; ++member) {
    for (int side = 0; side < 2; ++side) {
      if (!present[side]) continue;
      s->x = parse(logits[side][member], s->numel);
      if (p.other == GanOther::Pair) s->other = parse(fake[member], s->numel);
      set_gan_side(*s++, plan, side, member, p.members);
    }
  }
}

// What forward writes its terms to, in order.
template <class Tensor, class Parse>
void parse_gan_terms(GanLossParamsOf<Tensor>& p, py::tuple terms, Parse parse) {
  int64_t numel;
  for (size_t i = 0; i < terms.size(); ++i) p.segments[i].out = parse(terms[i], numel);
}

// What backward reads: gradients of the terms in order.
template <class Tensor, class Parse>
void parse_gan_upstream(GanLossParamsOf<Tensor>& p, py::tuple grad_terms, Parse parse) {
  int64_t numel;
  for (size_t i = 0; i < grad_terms.size(); ++i) p.segments[i].upstream = parse(grad_terms[i], numel);
}

// Where the gradients of the real logits and of the fake ones go.
template <class Tensor, class Parse>
void parse_gan_gradients(GanLossParamsOf<Tensor>& p, py::tuple grads_real, py::tuple grads_fake, Parse parse) {
  int64_t numel;
  for (GanSegmentOf<Tensor>& s : p.segments) {
    s.grad = parse((s.side == 0 ? grads_real : grads_fake)[s.member], numel);
    if (p.other == GanOther::Pair) s.other_grad = parse(grads_fake[s.member], numel);
  }
}

}  // namespace pygen
