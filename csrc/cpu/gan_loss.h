// What the bindings hand to the kernels of gan_loss.
#pragma once

#include <vector>

#include "common/gan_loss.h"
#include "cpu/view.h"

namespace pygen {

enum class GanOther : int { None, Pair, Mean };

// One side of one member: logits x [numel] and their terms.
struct GanSegment {
  View x;
  View other;       // with GanOther::Pair the other side's logits, in x's shape
  View upstream;    // backward of reduction "none": gradients of the terms; absent means zero
  View out;         // forward: the terms, or absent; backward: x's gradient, or absent
  View other_grad;  // backward with GanOther::Pair: the other side's gradient, or absent
  int64_t numel;
  GanForm form;
  double sign, offset, limit;
  double weight;     // forward: of each term in the loss (or of each term); backward: of each term, without upstream
  int opposite;      // with GanOther::Mean the segment whose mean is subtracted
  int member, side;  // side: 0 real, 1 fake
};

struct GanLossParams {
  DType dtype;
  GanOther other;
  std::vector<GanSegment> segments;
  int members;
  int threads;
};

struct GanLossForward : GanLossParams {
  void* loss;    // [], or nullptr under reduction "none"
  void* stats;   // [4] or nullptr
  void* reused;  // [members, 4] with GanOther::Mean: the means and the sums of the slopes, real and fake
};

struct GanLossBackward : GanLossParams {
  const void* grad_loss;  // [], or nullptr under reduction "none"
  const void* reused;
};

}  // namespace pygen
