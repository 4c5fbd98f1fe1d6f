// What a lowered sampling program consists of: streams and where they lie, and the units that make them.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "cpu/registers.h"
#include "cpu/sampling.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int kSamplingRows = kAccumulators / 2;       // most rows of a tile
constexpr int kSamplingColumns = 12;                   // most registers of channels
constexpr int64_t kSamplingChunk = 8 * kSamplingRows;  // rows of an early pass that one thread takes through all units
constexpr int64_t kSamplingProducts = 4;               // of a pair of pixels and a row of taps, sampling_pairs.h
constexpr int64_t kSamplingImages = kSamplingChunk;    // most images of a block

// The same in whole pairs of columns.
inline int64_t sampling_chunk(int64_t images) {
  return std::max<int64_t>(kSamplingChunk / (2 * images), 1) * 2 * images;
}

// As many registers of channels as leave room for that many rows, in tiles of equal height.
inline int sampling_columns(int64_t rows) {
  const int64_t tiles = (rows + kSamplingRows - 1) / kSamplingRows, height = (rows + tiles - 1) / tiles;
  return static_cast<int>(std::min<int64_t>(kSamplingColumns, kAccumulators / height));
}

// The channels of a pixel: `blocks` runs of `count` channels, each from the start of a vector.
struct ChannelLayout {
  int64_t blocks = 0, count = 0, pitch = 0;
  ChannelLayout() = default;
  ChannelLayout(int64_t channels, int64_t blocks)
      : blocks(blocks), count(channels / blocks), pitch((count + kLanes - 1) / kLanes * kLanes) {
    if (channels % blocks)
      throw std::invalid_argument("sampling: the channels of a stream do not divide by its groups");
  }
  int64_t channels() const { return blocks * count; }
  int64_t width() const { return blocks * pitch; }
  int64_t at(int64_t channel) const { return blocks == 1 ? channel : channel / count * pitch + channel % count; }
  bool same_places(const ChannelLayout& other) const {
    return blocks == other.blocks || (count == pitch && other.count == other.pitch);
  }
};

// What is kept of a stream: only what somebody reads.
enum SamplingForm { kRaw, kRectified, kElu, kConcatElu, kSamplingForms };

// One form of a stream. Shared: `at` is counted for one image, and so is a row; local: in a thread's own memory.
struct SamplingBuffer {
  bool present = false, local = false;
  int64_t at = 0, row = 0;
};

struct SamplingStream {
  bool early = false;
  int64_t stride = 1, columns = 0, height = 0;  // pixel (y, x) stands for the image's (stride y, stride x)
  int pass = -1;                                // of the units that make it
  ChannelLayout layout;
  bool local = true;                      // read only in its own pass, at the pixel itself
  int64_t back = 0, left = 0, right = 0;  // how far taps reach
  bool read_late = false;                 // by a late unit
  int64_t rows = 1;                       // kept
  bool watched = false;                   // whether it is tame, as elu of it is read in pairs
  SamplingBuffer forms[kSamplingForms];

  // concat_elu: elu of all channels, then elu of their negatives, each laid out as the stream is.
  ChannelLayout layout_of(int form) const {
    return form == kConcatElu ? ChannelLayout(2 * layout.channels(), 2 * layout.blocks) : layout;
  }
  // Where convolutions put what elu is taken of.
  int form_of_sums() const {
    for (int form : {kRaw, kElu, kConcatElu})
      if (forms[form].present) return form;
    return kRaw;
  }
};

// Some output registers of a unit.
struct SamplingTile {
  int columns = 0;
  int64_t at[kSamplingColumns];  // of each register in the pixel
  int64_t weights, bias;         // in the packed numbers
  std::vector<int64_t> add;      // of each lane in the stream added, where its layout is another
};

// Consecutive numbers of a source's pixel, read through one tap of the convolution.
struct SamplingRun {
  size_t tap;
  int64_t at, count;
};

// What a unit computes at once: all of an early one, one colour group of a late one, one phase of Up.
struct SamplingPart {
  size_t phase = 0;  // of the stage
  std::vector<SamplingRun> runs;
  std::vector<SamplingTile> tiles;
};

// How the source's stride relates to that of what is made: equal, half, twice.
enum class SamplingReach { Same, Down, Up };

struct SamplingUnit {
  int conv = -1, gate = -1;                // stages; without a convolution the gate's source is copied
  int sum = -1;                            // the stage that adds to an LSTM's h
  int stream = -1, source = -1, add = -1;  // streams: made by the convolution, read, added
  int form = kRaw;                         // of the source
  int gate_add = -1;                       // added to the gate, or by `sum`
  SamplingReach reach = SamplingReach::Same;
  int pass = -1;  // of early units
  std::vector<SamplingPart> parts;
  bool in_pairs = false;  // by minimal filtering, sampling_pairs.h: then a run is a row of taps,
  int64_t split = 0;      // and what its products multiply lies here in local memory
  int64_t cond = -1;      // of an image in the shared memory
  int64_t cells = 0;      // an LSTM's c: along the row in the local memory, down the columns in the shared one
  int gate_stream() const { return gate + 1; }
  int sum_stream() const { return sum + 1; }
};

// An early pass at column c of the image needs the columns up to c + right of another pass's row, or of the pixels
// drawn (pass -1) in the row before.
struct SamplingNeed {
  int pass;
  int64_t right;
};

}  // namespace PYGEN_ISA
}  // namespace pygen
