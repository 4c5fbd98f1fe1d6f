// What the bindings hand to the launchers of dense_network.cu and of the kernels that run such a network (ReLU layers
// over flat inputs that come one after the other): addresses, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

// One layer of weights as the kernels read it, in device memory: units and sources in the order in which they become
// known. Offsets count elements: of the packed numbers, of an image's memory, of a panel's triangle, of the table.
struct DenseLayer {
  int64_t weight, pitch;               // packed [units, pitch], zeros where dead and beyond the sources
  int64_t bias;                        // packed [units]
  int64_t added;                       // of an image's own biases, where it has some: its units' are from there on
  int64_t act;                         // an image's sources
  int64_t sum;                         // an image's sums of a panel's units
  int64_t triangle, triangle_pitch;    // of a panel: [its sources, its units]
  int64_t sources_below, units_below;  // table: how many of a degree below 0, 1 .. inputs
  int64_t degrees;                     // table: of the sources
};
inline constexpr const char* kDenseLayerFields =
    "weight pitch bias added act sum triangle triangle_pitch sources_below units_below degrees";

// Gives one layer's live weights their places.
struct DensePack {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;
  std::uintptr_t weight, bias;  // [out, in], [out]
  int64_t out_stride, in_stride, bias_stride;
  std::uintptr_t rows, columns;  // int64: which row of the weight is unit u's first, which column source k's
  std::uintptr_t seen;           // int64 [units]: how many sources a unit sees
  int64_t units, sources, pitch;
  int64_t outs, row_step;  // rows from each of `rows` on, and how far apart they are
  bool difference;         // of each row and the next: all that two levels' logits need to say
  std::uintptr_t packed_weight, packed_bias;
};

struct DenseCall {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;
  int64_t n, inputs;
  int64_t sources;              // numbers that an input gives
  std::uintptr_t table, order;  // int64; order: which input comes at a step
  std::uintptr_t layers;
  int64_t num_layers;
  std::uintptr_t packed;
  std::uintptr_t added;  // [n, added_pitch]: biases of each image's own, in place of the packed ones; or 0
  int64_t added_pitch;
  int64_t outs;   // outputs of a step
  int64_t panel;  // steps; 0: no triangles
  int64_t act_size, sum_size,
      image_size;         // elements of an image's memory: sources; sums of a panel; both, with two panels'
  std::uintptr_t memory;  // of images, if it is not in shared memory: [blocks * images_per_block, an image]
  int64_t images_per_block;
  int threads;                                                // 0: the most
  int64_t steps_at, triangle_at, buffer_bytes, shared_bytes;  // of the two buffers for a panel, which start at 0
};

constexpr int kDenseEventBytes = 32;
constexpr int kDenseImagesInMemory = 2;  // a block, where not even one fits into shared memory

void dense_pack(const DensePack& call);

}  // namespace pygen::cuda
