// A call of gan_loss as the bindings hand it to the kernels of either device; Tensor is how that device describes one.
#pragma once

#include <cstdint>
#include <vector>

#include "common/gan_loss.h"

namespace pygen {

enum class GanOther : int { None, Pair, Mean };

// One side of one member: logits x [numel] and their terms.
template <class Tensor>
struct GanSegmentOf {
  Tensor x;
  Tensor other;       // with GanOther::Pair the other side's logits, in x's shape
  Tensor upstream;    // backward of reduction "none": gradients of the terms; absent means zero
  Tensor out;         // forward: the terms, or absent
  Tensor grad;        // x's gradient, or absent: of backward, and of a forward that makes it in the same pass
  Tensor other_grad;  // with GanOther::Pair the other side's gradient, or absent
  int64_t numel;
  GanForm form;
  double sign, offset, limit;
  double weight;     // of each term in the loss, or of each term; without upstream
  int opposite;      // with GanOther::Mean the segment whose mean is subtracted
  int member, side;  // side: 0 real, 1 fake
  GanSegmentOf() {}  // else a vector of them would first be cleared, kilobytes of dims each
};

// What the options of a call come to: the terms of either side.
struct GanSide {
  bool present = false;
  GanForm form;
  double sign, offset, weight, limit;
};
struct GanPlan {
  GanSide sides[2];  // real, fake
  GanOther other;
  bool mean, reduce;
};

// All of a segment but its tensors; numel is set.
template <class Tensor>
void set_gan_side(GanSegmentOf<Tensor>& s, const GanPlan& plan, int side, int member, int members) {
  const GanSide& of = plan.sides[side];
  s.form = of.form;
  s.sign = of.sign;
  s.offset = of.offset;
  s.weight = of.weight;
  s.limit = of.limit;
  if (plan.mean) s.weight /= static_cast<double>(s.numel);
  if (plan.reduce) s.weight /= members;
  s.opposite = 2 * member + 1 - side;
  s.member = member;
  s.side = side;
}

template <class Tensor>
struct GanLossParamsOf {
  GanOther other;
  std::vector<GanSegmentOf<Tensor>> segments;
  int members;
};

}  // namespace pygen
