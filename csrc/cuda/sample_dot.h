// What the bindings hand to the launchers of sample_dot.cu: addresses, sizes and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/tensor_argument.h"

namespace pygen::cuda {

struct SampleDotCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  std::vector<int64_t> shape;  // [N >= 1, ...]
  Tensor x, y;                 // [N, ...]; y absent: x
  std::uintptr_t sums;         // forward, [N]: float, double for float64
  std::uintptr_t workspace;    // forward, [sample_dot_workspace] of that type
  std::uintptr_t factor;       // backward, [N] of that type
  int64_t factor_stride;
  Tensor out;  // backward, [N, ...]
};

// How many partial sums forward needs room for.
int64_t sample_dot_workspace(const std::string& dtype, const std::vector<int64_t>& shape);
void sample_dot_forward(const SampleDotCall& call);
void sample_dot_backward(const SampleDotCall& call);

}  // namespace pygen::cuda
