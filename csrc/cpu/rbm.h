// What the bindings hand to the kernels of restricted Boltzmann machines. Real is double for float64, else float.
#pragma once

#include "cpu/interrupt.h"
#include "cpu/masked_linear.h"

namespace pygen {

struct Rbm {
  DType dtype;  // of weight
  int64_t images, visible, hidden;
  Matrix weight;             // [hidden, visible]
  const void* v;             // Real [images, visible], contiguous
  const void* visible_bias;  // Real [visible]
  const void* hidden_bias;   // Real [hidden]
  int threads;
};

struct RbmEnergy {
  void* energy;  // Real [images]
  void* units;   // Real [images, hidden], sigmoid of what they sum up to; or nullptr
};

struct RbmDraws {
  int64_t steps;
  double inverse_temperature;
  uint64_t seed;
  const uint8_t* known_mask;  // [images, visible], or nullptr
  uint8_t* state;             // [images, visible]; where known, any byte
  uint8_t* units;             // [images, hidden]
  Interrupt* interrupt;
};

}  // namespace pygen
