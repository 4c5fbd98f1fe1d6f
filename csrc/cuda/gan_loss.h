// What the bindings hand to the launchers of gan_loss.cu: addresses and counts, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "common/gan_loss_call.h"

namespace pygen::cuda {

// One run of memory [numel], or one value for all of them.
struct GanTensor {
  std::uintptr_t address = 0;  // 0: absent
  bool expanded = false;       // upstream gradients only
};

using GanSegment = GanSegmentOf<GanTensor>;

struct GanLossCall : GanLossParamsOf<GanTensor> {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  std::uintptr_t workspace;  // [gan_loss_workspace()] double; of a backward only with slopes
};

struct GanLossForwardCall : GanLossCall {
  std::uintptr_t loss;    // [], or 0 under reduction "none"; float, double for float64, as the next two
  std::uintptr_t stats;   // [4] or 0
  std::uintptr_t reused;  // [members, 4] with GanOther::Mean: the means and the sums of the slopes, real and fake
};

struct GanLossBackwardCall : GanLossCall {
  std::uintptr_t grad_loss;  // [], or 0 under reduction "none"
  std::uintptr_t reused;
  std::uintptr_t slopes;  // [members, 4] to write sums of slopes times upstream to: Mean under reduction "none"; else 0
  bool made;              // the gradients hold what forward made: with grad_loss 1 they stay
};

// How many doubles a call needs room for, whatever its tensors.
int64_t gan_loss_workspace();
void gan_loss_forward(const GanLossForwardCall& call);
void gan_loss_backward(const GanLossBackwardCall& call);

}  // namespace pygen::cuda
