// What products of masked_linear's tiles are launched with, rbm's too.
#pragma once

#include "cuda/conv_launch.h"
#include "cuda/masked_linear.cuh"

namespace pygen::cuda {

// A matrix [rows, columns] in rows of whole 16 bytes.
struct Rows {
  const unsigned char* data;
  int64_t pitch;  // in bytes
};

inline Taps no_taps() {
  Taps taps{};
  taps.kernel_width = 1;
  taps.centre = true;
  return taps;
}

// Parameters of the product of rows by `targets` of a weight, all live but what `live` says.
inline ConvParams product_params(const Rows& x, const Rows& weight, int64_t rows, int64_t targets, int64_t sources,
                                 const int64_t* live) {
  ConvParams p{};
  p.taps = no_taps();
  p.x = x.data;
  p.x_pitch = x.pitch;
  p.weight = weight.data;
  p.weight_pitch = weight.pitch;
  p.out_last = p.aligned = true;
  p.pixels = rows;
  p.plane = p.height = p.width = 1;
  p.n = p.group_n = static_cast<int>(targets);
  p.k = p.group_k = static_cast<int>(sources);
  p.groups = 1;
  p.live = live;
  return p;
}

// Sets what a product's tiles need beside that; how many there are.
template <class Tr>
int64_t tile_params(ConvParams& p) {
  p.a_rows = Tr::kM;
  p.a_buffers = kStages;
  p.tiles_per_group = (p.n + Tr::kN - 1) / Tr::kN;
  return (p.pixels + Tr::kM - 1) / Tr::kM * p.tiles_per_group;
}

}  // namespace pygen::cuda
