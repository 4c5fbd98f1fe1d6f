// What the bindings hand to the launchers of nade_nll.cu: addresses and sizes. Tensors are contiguous; of the
// parameters' dtype, or, where it says Acc, of float, double for float64.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

struct NadeCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, inputs, hidden;                     // N, D, H
  std::uintptr_t x;                                   // [N, D] Acc
  std::uintptr_t weight, hidden_bias, output_weight;  // [D, H], [H], [D, H]
  std::uintptr_t logits;                              // forward: [tiles, N, D] Acc, written: partial sums
  std::uintptr_t grad_logits;                         // backward: [N, D] Acc
  std::uintptr_t starts;                              // backward: a workspace of NadePlan::starts numbers of Acc
  std::uintptr_t grad_weight, grad_hidden_bias, grad_output_weight;  // [parts, ...] Acc, written: partial sums
};

// How many partial sums of each result the kernels leave, and the workspace.
struct NadePlan {
  int64_t tiles, parts, starts;
};
NadePlan nade_nll_plan(const std::string& dtype, int64_t images, int64_t inputs, int64_t hidden);

struct NadeDrawCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, inputs, hidden;
  std::uintptr_t weight, hidden_bias, output_weight, output_bias;
  std::uintptr_t thresholds;         // [N, D] of double
  std::uintptr_t known, known_mask;  // [N, D] bytes, or 0
  std::uintptr_t levels;             // [N, D] bytes, written
};

// The most hidden units that the device's shared memory has room for.
int64_t nade_nll_most_hidden(const std::string& dtype, int device);

void nade_nll_draw(const NadeDrawCall& call);
void nade_nll_forward(const NadeCall& call);
void nade_nll_backward(const NadeCall& call);

}  // namespace pygen::cuda
