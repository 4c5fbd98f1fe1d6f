// What the bindings hand to the launchers of categorical_nll.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

struct CategoricalCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, channels, levels, positions;
  PositionsArgument logits, x;  // a channel of logits is a level
  bool wide_levels;             // x holds int64, else bytes
  bool reduce;
  double scale;             // of the sum, and of its gradient
  std::uintptr_t nll;       // forward, [N] or one number: float, double for float64; 0 in backward
  std::uintptr_t grad_nll;  // backward, [N] or one number of that type
  int64_t grad_nll_stride;
  PositionsArgument grad_logits;  // backward
  std::uintptr_t workspace;       // forward, [categorical_nll_workspace] of that type
};

// How many partial sums forward needs room for, at most.
int64_t categorical_nll_workspace(int64_t images, int64_t channels, int64_t levels, int64_t positions);
void categorical_nll(const CategoricalCall& call);

}  // namespace pygen::cuda
