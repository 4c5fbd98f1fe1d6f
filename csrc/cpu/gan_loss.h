// What the bindings hand to the kernels of gan_loss.
#pragma once

#include "common/gan_loss_call.h"
#include "cpu/view.h"

namespace pygen {

using GanSegment = GanSegmentOf<View>;

struct GanLossParams : GanLossParamsOf<View> {
  DType dtype;
  int threads;
};

struct GanLossForward : GanLossParams {
  void* loss;    // [], or nullptr under reduction "none", when no gradient is made either
  void* stats;   // [4] or nullptr
  void* reused;  // [members, 4] with GanOther::Mean: the means and the sums of the slopes, real and fake
};

struct GanLossBackward : GanLossParams {
  const void* grad_loss;  // [], or nullptr under reduction "none"
  const void* reused;
};

}  // namespace pygen
