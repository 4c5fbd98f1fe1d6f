// What the bindings hand to the kernels of nade_nll. All tensors are contiguous, of float or of double.
#pragma once

#include "cpu/interrupt.h"
#include "cpu/view.h"

namespace pygen {

struct NadeNll {
  DType dtype;                                                                              // Float32 or Float64
  int64_t images, inputs, hidden;                                                           // N, D, H
  const void* x;                                                                            // [N, D]
  const void *weight, *hidden_bias;                                                         // [D, H], [H]
  const void* output_weight;                                                                // [D, H]
  const void* output_bias = nullptr;                                                        // [D], forward
  void* logits = nullptr;                                                                   // [N, D], forward
  const void* grad_logits = nullptr;                                                        // [N, D], backward
  void *grad_weight = nullptr, *grad_hidden_bias = nullptr, *grad_output_weight = nullptr;  // backward; all written
  int threads;
  Interrupt* interrupt = nullptr;  // of draws
};

// Draws instead of reading x.
struct NadeDraws {
  const double* thresholds;   // [N, D]: x is 1 where -logit lies below
  const uint8_t* known;       // [N, D] levels, or nullptr
  const uint8_t* known_mask;  // [N, D]
  uint8_t* levels;            // [N, D], written
};

}  // namespace pygen
