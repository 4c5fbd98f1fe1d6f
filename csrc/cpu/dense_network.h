// A network over flat inputs that come one after the other, as MADE's: ReLU layers, of which each unit sees the sources
// of a degree up to its own, and each output those below it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/view.h"

namespace pygen {

struct DenseNetwork {
  struct Layer {
    const void* weight;  // [out, in] in these strides
    int64_t out_stride, in_stride;
    const void* bias;             // [out]
    const void* added = nullptr;  // [n, added_pitch], to each sample's units by degree; readable a register beyond them
    int64_t added_pitch = 0;
  };
  std::vector<Layer> layers;
  std::vector<std::vector<int64_t>> degrees;  // of the sources of each layer: of what the inputs give, of hidden units
  std::vector<int64_t> when;                  // each input's turn
  int64_t numbers;                            // outputs for each input
  int64_t input_stride, number_stride;        // row of the last layer: input * input_stride + number * number_stride
  int64_t batch;

  int64_t inputs() const { return static_cast<int64_t>(when.size()); }
  int64_t hidden() const { return static_cast<int64_t>(layers.size()) - 1; }
};

}  // namespace pygen
