// What the bindings hand to the launcher of sampling.cu: addresses, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/sampling_draws.h"

namespace pygen::cuda {

constexpr int kSamplingParts = 4;  // a sum over input channels is cut into so many, each a lane's

// One step of a program (pygen/models/_program.py), in device memory. Offsets count elements.
struct SamplingStage {
  int64_t kind;          // 0: convolution; 1: gate; 2: convolution and, in the same breath, gate; 3: LSTM; 4: sum
  int64_t early;         // made for the whole row before its first pixel
  int64_t source, out;   // streams
  int64_t add;           // the stream that is added, or -1
  int64_t relu, strict;  // of the source; at the pixel itself block g reads blocks before g
  int64_t taps, num_taps;
  int64_t weight;    // [num_taps, parts, part_size]; a part is [channels_per_part, computed], zeros beyond Cin
  int64_t bias;      // [computed]
  int64_t computed;  // channels of the convolution, twice the stream's where a gate follows
  int64_t channels_per_part, part_size;
  int64_t groups;  // colour blocks of the out stream; 1 if early, but of LSTMs
  int64_t cond;    // address of what the gate adds to its input, or 0, and its strides
  int64_t cond_image, cond_channel, cond_row, cond_column;
  // Of an LSTM, and of the convolution before it that reads its h of the pixel beside: from which side it goes along
  // the row, 1 the left, -1 the right, 0: c comes from the row above. Its c, a stream, and the first row that is not
  // zero.
  int64_t along, cells, first_row;
};
inline constexpr const char* kSamplingStageFields =
    "kind early source out add relu strict taps num_taps weight bias computed channels_per_part part_size groups cond "
    "cond_image cond_channel cond_row cond_column along cells first_row";

// The rows of a stream that are still read: [rows, cols, channels] for each image; cols is 1 where one pixel is enough.
struct SamplingStream {
  int64_t channels, rows, cols;
  int64_t in_shared, offset;
};
inline constexpr const char* kSamplingStreamFields = "channels rows cols in_shared offset";

struct SamplingCall {
  int device;
  std::uintptr_t stream_handle;
  std::string dtype;    // of weights and streams
  SamplingDraws draws;  // levels [n, C, H, W], noise [n, H, W, C]
  int64_t n, channels, height, width, groups;
  std::uintptr_t stages, streams, taps;  // taps: int32 pairs dy, dx
  int64_t num_stages;
  std::uintptr_t weights;
  int64_t shared_weights;  // so many of the first weights are copied into shared memory
  std::uintptr_t rings;    // [n, ring_size] in device memory
  int64_t ring_size, shared_ring_size;
  int64_t images_per_block;
  int threads;
};

// Processors, and the bytes of shared memory that one block may have.
void sampling_limits(int device, int* processors, int* shared_bytes);
void sampling_draw(const SamplingCall& call);

}  // namespace pygen::cuda
