// What the bindings hand to the launchers of vector_quantize.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

// Numbers but those of tensors of the dtype are float, double for float64. 0: absent.
struct QuantizeCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, channels, positions, codes;
  PositionsArgument input;
  std::uintptr_t codebook;  // [K, D], contiguous
  std::uintptr_t half;      // [K], half of |e|^2
  std::uintptr_t indices;   // [N, positions], int64
  PositionsArgument out;    // quantized or the gradient of input, written
  std::uintptr_t distances;
  PositionsArgument grad_quantized;
  std::uintptr_t factor;         // [N]
  std::uintptr_t order, begins;  // [positions of all images], [K + 1], int64
  std::uintptr_t sums;           // [K, D], written
};

void vector_quantize_nearest(const QuantizeCall& call);
void vector_quantize_grad_input(const QuantizeCall& call);
void vector_quantize_sums(const QuantizeCall& call);

}  // namespace pygen::cuda
