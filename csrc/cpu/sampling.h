// What the bindings hand to the sampling engine: a program of pygen/models/_program.py and the images to draw.
#pragma once

#include <vector>

#include "cpu/view.h"

namespace pygen {

// Stage s makes stream s + 1. A convolution, or a gate where `gate` is set.
struct SamplingStage {
  struct Tap {
    int64_t dy, dx;
  };
  bool gate = false;
  int64_t source = 0;
  // Of a convolution.
  std::vector<Tap> taps;
  const void* weight = nullptr;  // [T, Cout, Cin] in these strides
  int64_t tap_stride = 0, out_stride = 0, in_stride = 0;
  const void* bias = nullptr;  // [Cout] or absent
  bool relu = false, strict = false;
  int64_t add = -1;  // a stream, or -1
  // Of a gate.
  int64_t groups = 1;
  const void* cond = nullptr;  // [n, C] or [n, C, H, W], or absent
  bool cond_is_map = false;
};

struct Sampling {
  DType dtype;  // of weights, conditions and scaled levels: Float32 or Float64
  std::vector<SamplingStage> stages;
  std::vector<int64_t> channels;  // of each stream
  std::vector<bool> early;
  int64_t groups, num_levels;
  int64_t batch, height, width;
  void* levels;            // [n, C, H, W], written
  bool wide_levels;        // int64, else uint8
  const float* u;          // [n, H, W, C]
  const void* known;       // like levels, or absent
  const bool* known_mask;  // [n, C, H, W], or absent
  double temperature;
  const void* scaled;  // [L]: what the network sees of each level
  int threads;

  int64_t image_channels() const { return channels[0]; }
};

// Uniform numbers for decisions: of image i and position j word j % 4 of the Philox counter (j / 4, 0, i, domain).
struct SamplingUniforms {
  uint64_t seed;
  int64_t images, draws;
  float* out;  // [images, draws], in (0, 1]
  int threads;
};

}  // namespace pygen
