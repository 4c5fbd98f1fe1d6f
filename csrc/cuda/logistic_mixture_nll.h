// What the bindings hand to the launchers of logistic_mixture_nll.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

struct LogisticMixtureCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, components, positions;
  int channels, num_levels;
  double min_log_scale;
  PositionsArgument params, x;
  bool wide_levels;  // x holds int64, else bytes
  bool reduce;
  double scale;             // of the sum, and of its gradient
  std::uintptr_t nll;       // forward, [N] or one number: float, double for float64; 0 in backward
  std::uintptr_t grad_nll;  // backward, [N] or one number of that type
  int64_t grad_nll_stride;
  PositionsArgument grad_params;  // backward
  std::uintptr_t workspace;       // forward, [logistic_mixture_nll_workspace] of that type
};

// How many partial sums forward needs room for.
int64_t logistic_mixture_nll_workspace(int64_t images, int64_t positions);
void logistic_mixture_nll(const LogisticMixtureCall& call);

}  // namespace pygen::cuda
