// What the bindings hand to the launchers of sampling_dense.cu: addresses, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/sampling_draws.h"

namespace pygen::cuda {

// One layer of weights as the sampler reads it, in device memory: units and sources in the order in which they become
// known. Offsets count elements: of the packed numbers, of an image's memory, of a panel's triangle, of the table.
struct SamplingDenseLayer {
  int64_t weight, pitch;               // packed [units, pitch], zeros where dead and beyond the sources
  int64_t bias;                        // packed [units]
  int64_t act;                         // an image's sources
  int64_t sum;                         // an image's sums of a panel's units
  int64_t triangle, triangle_pitch;    // of a panel: [its sources, its units]
  int64_t sources_below, units_below;  // table: how many of a degree below 0, 1 .. inputs
  int64_t degrees;                     // table: of the sources
};
inline constexpr const char* kSamplingDenseLayerFields =
    "weight pitch bias act sum triangle triangle_pitch sources_below units_below degrees";

// Gives one layer's live weights their places.
struct SamplingDensePack {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;
  std::uintptr_t weight, bias;  // [out, in], [out]
  int64_t out_stride, in_stride, bias_stride;
  std::uintptr_t rows, columns;  // int64: which row of the weight is unit u's first, which column source k's
  std::uintptr_t seen;           // int64 [units]: how many sources a unit sees
  int64_t units, sources, pitch;
  int64_t outs;     // consecutive rows from one of `rows` on
  bool difference;  // of each row and the next: all that two levels' logits need to say
  std::uintptr_t packed_weight, packed_bias;
};

struct SamplingDenseCall {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;
  SamplingDraws draws;  // levels and noise [n, inputs]
  int64_t n, inputs;
  std::uintptr_t table, order;  // int64; order: which input a step draws
  std::uintptr_t layers;
  int64_t num_layers;
  std::uintptr_t packed;
  int64_t outs;   // logits of a step
  int64_t panel;  // steps; 0: no triangles
  int64_t act_size, sum_size,
      image_size;         // elements of an image's memory: sources; sums of a panel; both, with two panels'
  std::uintptr_t memory;  // of images, if it is not in shared memory: [blocks * images_per_block, an image]
  int64_t images_per_block;
  int threads;                                                // 0: the most
  int64_t draws_at, triangle_at, buffer_bytes, shared_bytes;  // of the two buffers for a panel, which start at 0
};

constexpr int kSamplingDenseEventBytes = 32, kSamplingDenseDrawBytes = 16;
constexpr int kSamplingDenseImagesInMemory = 2;  // a block, where not even one fits into shared memory

void sampling_dense_pack(const SamplingDensePack& call);
void sampling_dense_draw(const SamplingDenseCall& call);

}  // namespace pygen::cuda
