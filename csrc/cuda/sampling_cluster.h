// What the bindings hand to the launcher of sampling_cluster.cu: addresses, nothing of CUDA's headers. The plan that
// fills these tables is pygen/native/_sampling_cluster_plan.py.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/sampling_draws.h"

namespace pygen::cuda {

// A cluster of blocks draws some images. Streams lie in two places: in an image's memory on the device, rows of pixels
// of channels, where rows above or whole rows are read; and, of the present pixel, in every block's shared memory,
// [image, channels], where a colour group's channels are filled up to a multiple of kChannelsSent with zeros. Offsets
// and pitches count bytes; those in an image's memory (`*_at`) 16 of them; -1: not there.
constexpr int kChannelsSent = 8;  // in one go

// A tap: a run of 64-byte blocks of input channels.
struct SamplingSegment {
  int32_t tap;       // among those of the weight
  int32_t dy, dx;    // of the pixel that is read
  int32_t channels;  // so many are read, zeros between the groups included
  int32_t block;     // the first, in a tile's weights
};
inline constexpr const char* kSamplingSegmentFields = "tap:4 dy:4 dx:4 channels:4 block:4";

// A convolution and, where `gate`, the gate behind it; if late, of one colour group.
struct SamplingStep {
  int64_t weight;  // packed: [tiles, blocks] of 1024 bytes, see sampling_mma.cuh
  int64_t bias;    // address, or 0
  int64_t cond;    // address of what the gate adds to its input, or 0, and its strides in elements
  int64_t cond_image, cond_channel, cond_row, cond_column;
  int64_t kernel;  // address of the weight as the model has it, and its strides in elements
  int64_t kernel_tap, kernel_out, kernel_in;
  int32_t group, filled_group;  // input channels of a colour group, without and with zeros
  int32_t outs, first;          // outputs, half as many as rows where `gate`; the first row, in the convolution
  int32_t gate, relu;
  int32_t tiles, blocks;           // of 16 rows; of 64 bytes in each
  int32_t segments, num_segments;  // the pixel itself first, if it is read
  int32_t source_at, source_rows, source_pitch;
  int32_t add_at, add_rows, add_pitch;
  int32_t conv_at, conv_rows, conv_pitch;  // early: the convolution's results before the gate
  int32_t out_at, out_rows, out_pitch, out_first;
  int32_t wait;  // early: for what other blocks have made since the last wait
  // Late alone.
  int32_t source, pitch;                // shared memory
  int32_t centre_blocks, centre_bytes;  // of the pixel itself
  int32_t depth;                        // how far to the left it reads
  int32_t push;                         // kPushAfter: what it takes from the left is added when that pixel is made
  int32_t turn;                         // block r has tiles r - turn, r - turn + size, ...
  int32_t out, out_pixel_pitch, out_channel;
  int32_t add, add_pixel_pitch;
  int32_t logits;
  // Filled in by each block.
  int32_t own_first, own_count, own_weight, own_ring, own_bytes;
};
constexpr int kPushAfter = 1, kPushNext = 2;  // Next: at the beginning of the next pixel, as this one has to be drawn
inline constexpr const char* kSamplingStepFields =
    "weight:8 bias:8 cond:8 cond_image:8 cond_channel:8 cond_row:8 cond_column:8 kernel:8 kernel_tap:8 kernel_out:8 "
    "kernel_in:8 group:4 filled_group:4 outs:4 first:4 gate:4 relu:4 tiles:4 blocks:4 segments:4 num_segments:4 "
    "source_at:4 source_rows:4 "
    "source_pitch:4 add_at:4 add_rows:4 add_pitch:4 conv_at:4 conv_rows:4 conv_pitch:4 out_at:4 out_rows:4 "
    "out_pitch:4 out_first:4 wait:4 source:4 pitch:4 centre_blocks:4 centre_bytes:4 depth:4 push:4 turn:4 out:4 "
    "out_pixel_pitch:4 out_channel:4 add:4 add_pixel_pitch:4 logits:4 own_first:4 own_count:4 own_weight:4 own_ring:4 "
    "own_bytes:4";

// Where a block's shared memory has what; `early` lies over everything from `pixels` on.
struct SamplingShared {
  int32_t segments, messages, resident, resident_bytes, pixels, rings, sums, logits, early, bytes;
};

struct SamplingClusterCall {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;    // of weights and streams
  SamplingDraws draws;  // levels [n, C, H, W], noise [n, H, W, C]
  int64_t n, channels, height, width, groups;
  int size, images, threads;  // of a cluster; its images; of a block
  bool messages;              // blocks wait for what they need, not for each other
  std::uintptr_t steps, segments;
  int64_t num_early, num_late, num_segments;  // late: of all colour groups, group after group
  std::uintptr_t weights;                     // packed
  int64_t weight_bytes;
  std::uintptr_t memory;  // [n, image_bytes]
  int64_t image_bytes;
  int64_t pixel_at, pixel_rows, pixel_pitch;  // the drawn image, in an image's memory and in shared memory
  int64_t pixel, pixel_pixel_pitch;
  int64_t early_positions;  // that a block works on at once, 64 times a power of 2
  SamplingShared shared;
};

// How many clusters of that size and shared memory the device runs at once; 0 if none.
int sampling_clusters(int device, const std::string& dtype, int size, int threads, int shared_bytes);
void sampling_cluster_draw(const SamplingClusterCall& call);

}  // namespace pygen::cuda
