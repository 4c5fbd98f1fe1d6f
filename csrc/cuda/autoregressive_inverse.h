// What the bindings hand to the launcher of autoregressive_inverse.cu.
#pragma once

#include "cuda/dense_network.h"

namespace pygen::cuda {

// Solves y = x e^f + t for x, where t and f of an input are the network's outputs for it, made of the inputs before it.
struct AutoregressiveInverseCall : DenseCall {  // outs: shift and log_scale, or the shift alone
  std::string scale;
  double bound;
  std::uintptr_t y, x, log;  // [n, inputs]; the last two written: x, and f
};

void autoregressive_inverse(const AutoregressiveInverseCall& call);

}  // namespace pygen::cuda
