// What the bindings hand to the sampling engines: a program of pygen/models/_program.py and the images to draw.
#pragma once

#include <vector>

#include "cpu/dense_network.h"
#include "cpu/interrupt.h"
#include "cpu/view.h"

namespace pygen {

// Stage s makes stream s + 1.
struct SamplingStage {
  enum class Kind { Conv, Gate, Elu, Up, Lstm, Sum };
  struct Tap {
    int64_t dy, dx;
  };
  // What a pixel reads: of a convolution one, of Up one for each (y % 2, x % 2), of an LSTM along the row its own h.
  struct Phase {
    std::vector<Tap> taps;
    const void* weight = nullptr;  // [T, Cout, Cin] in these strides
    int64_t tap_stride = 0, out_stride = 0, in_stride = 0;
  };
  Kind kind = Kind::Conv;
  int64_t source = 0;
  // Of a convolution and Up.
  std::vector<Phase> phases;
  const void* bias = nullptr;  // [Cout] or absent
  bool relu = false, strict = false;
  int64_t add = -1;  // a stream, or -1; of a linear gate and a sum too
  // Of a gate; groups of an LSTM too.
  int64_t groups = 1;
  const void* cond = nullptr;  // [n, C] or [n, C, H, W] of the stream's pixels, or absent
  bool cond_is_map = false, linear = false;
  // Of Elu.
  bool concat = false;
  // Of an LSTM.
  Tap before{0, 0};
  int64_t first_row = 0;

  bool convolves() const { return kind == Kind::Conv || kind == Kind::Up; }
};

// The decisions: what they need besides the logits, and where they go. Levels lie as the image does.
struct SamplingDraws {
  DType dtype;  // of weights, conditions and scaled levels: Float32 or Float64
  int64_t num_levels;
  void* levels;            // written
  bool wide_levels;        // int64, else uint8
  const float* u;          // pixel after pixel, a pixel's channels together
  const void* known;       // like levels, or absent
  const bool* known_mask;  // like levels, or absent
  double temperature;
  const void* scaled;  // [L]: what the network sees of each level
  int threads;
  Interrupt* interrupt;

  int64_t level_of(const void* from, int64_t at) const {
    return wide_levels ? static_cast<const int64_t*>(from)[at] : static_cast<const uint8_t*>(from)[at];
  }
  void set_level(int64_t at, int64_t level) const {
    if (wide_levels) {
      static_cast<int64_t*>(levels)[at] = level;
    } else {
      static_cast<uint8_t*>(levels)[at] = static_cast<uint8_t>(level);
    }
  }
};

struct Sampling : SamplingDraws {  // levels [n, C, H, W], u [n, H, W, C]
  std::vector<SamplingStage> stages;
  std::vector<int64_t> channels;  // of each stream
  std::vector<bool> early;
  std::vector<int64_t> strides;  // of each stream
  int64_t groups;
  int64_t in_channels;  // of the image; where stream 0 has one more, it is ones
  // The last stream holds logits, or the parameters of a mixture of logistics (common/logistic_mixture_decide.h).
  int64_t num_mixtures = 0;  // 0: logits
  double min_log_scale = 0;
  int64_t batch, height, width;
};

struct DenseSampling : SamplingDraws {  // MADE: levels [n, D], u [n, D]
  DenseNetwork network;                 // its outputs are the levels' logits
};

// Uniform numbers for decisions: of image i and position j word j % 4 of the Philox counter (j / 4, 0, i, domain).
struct SamplingUniforms {
  uint64_t seed;
  int64_t images, draws;
  float* out;  // [images, draws], in (0, 1]
  int threads;
};

}  // namespace pygen
