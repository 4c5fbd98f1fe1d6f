// What a tile of masked_conv2d's or masked_linear's product reads, step by step.
#pragma once

#include "cuda/conv_tile.cuh"

namespace pygen::cuda {

// What follows the product in gated_masked_conv2d, whose output is then what comes before the gate.
struct ConvGate {
  const void* cond;  // as the output, or [N][n] for all pixels of an image, or null
  void* out;         // [pixels][n / 2], or [N][n / 2][H * W]
  bool per_image;    // cond
};

// A product whose k have one tap, a pixel's own, and are added to the taps' sums.
struct ConvSide {
  const unsigned char* x;       // [pixels][x_pitch bytes]
  const unsigned char* weight;  // [n][weight_pitch bytes], or as wgmma's kernel packs it
  int64_t x_pitch, weight_pitch;
  int k;  // 0: there is none
};

struct ConvParams {
  const unsigned char* x;       // [pixels][x_pitch bytes]
  const unsigned char* weight;  // [positions][n][weight_pitch bytes]
  const void* bias;             // [n], or null
  const void* add;              // as the output, or null
  void* out;                    // [pixels][n], or [N][n][H * W]
  int64_t x_pitch, weight_pitch;
  int64_t pixels, plane, height, width;
  int n, k;
  int groups, group_n, group_k, tiles_per_group;
  bool backward, strict, out_last;
  bool aligned;  // add and the gate's cond, to 16 bytes
  bool halo;     // one run of pixels for all taps; else each its own
  int a_rows;    // of a run
  int a_buffers;
  int64_t first;  // offset of the run's first pixel
  Taps taps;
  // Of masked_linear, both sides by degree: how many of k each of n sees, rising; which output each is, or null.
  const int64_t* live;
  const int64_t* order;
  Pairs pairs;
  ConvGate gate;
  ConvSide side;

  // How many of k are live for the centre in a group of n; k is reversed in backward, so that they are the first.
  __host__ __device__ int centre_k(int group) const {
    return taps.centre ? ((backward ? groups - group : group + 1) - strict) * group_k : 0;
  }
  __host__ __device__ int steps(int centre_k, int step) const {
    return taps.count * ((k + step - 1) / step) + (centre_k + step - 1) / step + (side.k + step - 1) / step;
  }
};

// How far the taps lie from a pixel, counted through the image's rows.
struct Reach {
  int64_t least = 0, most = 0;
};
inline Reach reach_of(const ConvParams& p) {
  Reach reach;
  for (int i = 0; i < p.taps.count; ++i) {
    const int64_t offset = p.taps.dy(i) * p.width + p.taps.dx(i);
    reach.least = i == 0 || offset < reach.least ? offset : reach.least;
    reach.most = i == 0 || offset > reach.most ? offset : reach.most;
  }
  return reach;
}

// Which kPixels pixels and which of n a tile is; those of the same pixels follow each other. `Index` counts them.
template <class Tr, int kPixels>
struct TilePlace {
  int64_t pixel0;
  int n_tile, group, n_first, n_live;

  template <class Index>
  __device__ __forceinline__ TilePlace(const ConvParams& p, Index tile) {
    const int n_tiles = p.groups * p.tiles_per_group;
    n_tile = static_cast<int>(tile % n_tiles);
    group = n_tile / p.tiles_per_group;
    const int in_group = (n_tile - group * p.tiles_per_group) * Tr::kN;
    pixel0 = static_cast<int64_t>(tile / n_tiles) * kPixels;
    n_first = group * p.group_n + in_group;
    n_live = min(Tr::kN, p.group_n - in_group);
  }
};

// The steps of a tile in order: k outermost, taps inside, so that a run serves all of them; then the centre by groups
// and the side, whose runs are of one tap.
template <bool kSide = true>
struct ConvSteps {
  int position = 0, k = 0, k_end;
  bool alone = false, side = false;

  __device__ __forceinline__ ConvSteps(const ConvParams& p, int centre_k) : k_end(p.k) {
    if (p.taps.count == 0 || p.k == 0) enter_centre(p, centre_k);
  }
  __device__ __forceinline__ void next(const ConvParams& p, int centre_k, int step) {
    if (!alone && ++position < p.taps.count) return;
    k += step;
    if (alone) {
      if (kSide && k >= k_end && !side) enter_side(p);
      return;
    }
    position = 0;
    if (k >= p.k) enter_centre(p, centre_k);
  }
  __device__ __forceinline__ bool new_run(const ConvParams& p) const { return position == 0 || alone || !p.halo; }
  __device__ __forceinline__ int64_t offset(const ConvParams& p) const {
    return p.taps.dy(position) * p.width + p.taps.dx(position);
  }
  // From a tile's first pixel to that of the run the step reads.
  __device__ __forceinline__ int64_t first(const ConvParams& p) const {
    return alone ? 0 : p.halo ? p.first : offset(p);
  }

 private:
  __device__ __forceinline__ void enter_centre(const ConvParams& p, int centre_k) {
    alone = true;
    position = p.taps.count;  // which leads nowhere else
    k = 0;
    k_end = centre_k;
    if (kSide && centre_k == 0) enter_side(p);
  }
  __device__ __forceinline__ void enter_side(const ConvParams& p) {
    side = true;
    k = 0;
    k_end = p.side.k;
  }
};

using ConvStep = ConvSteps<>;

// The rows of a tile, of kBytes each, that one thread reads: where they lie in their images, and where in the step's
// run.
template <int kRows, int kBytes = kRowBytes>
struct TileRows {
  uint32_t y[kRows], x[kRows];  // y is beyond the image where the tile ends before the row
  const unsigned char* address[kRows];
  int turns[kRows];

  template <class RowOf>
  __device__ __forceinline__ TileRows(const ConvParams& p, int64_t pixel0, RowOf row_of) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t pixel = pixel0 + row_of(i);
      const Pixel at = place(pixel < p.pixels ? pixel : 0, p.plane, p.width);
      y[i] = pixel < p.pixels ? static_cast<uint32_t>(at.y) : 0x80000000u;
      x[i] = static_cast<uint32_t>(at.x);
    }
  }
  template <bool kSide, class RowOf>
  __device__ __forceinline__ void at(const ConvParams& p, const ConvSteps<kSide>& step, const unsigned char* run,
                                     const unsigned char* zeros, RowOf row_of) {
    if constexpr (kSide) {
      at(p, static_cast<uint32_t>(p.taps.dy(step.position)), static_cast<uint32_t>(p.taps.dx(step.position)),
         static_cast<int>(step.offset(p) - step.first(p)), run, zeros, row_of);
    } else {  // masked_linear: a row shows itself, and beyond the end the run has zeros
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        address[i] = run + row_of(i) * kBytes;
        turns[i] = turn<kBytes>(row_of(i));
      }
    }
  }
  // `shift`: rows of the run from a row of the tile to what the tap shows it.
  template <class RowOf>
  __device__ __forceinline__ void at(const ConvParams& p, uint32_t dy, uint32_t dx, int shift, const unsigned char* run,
                                     const unsigned char* zeros, RowOf row_of) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const bool inside = y[i] != 0x80000000u && y[i] + dy < static_cast<uint32_t>(p.height) &&
                          x[i] + dx < static_cast<uint32_t>(p.width);
      const int row = row_of(i) + shift;
      address[i] = inside ? run + row * kBytes : zeros;
      turns[i] = inside ? turn<kBytes>(row) : 0;
    }
  }
  __device__ __forceinline__ const unsigned char* part(int i, int part) const {
    return address[i] + ((part ^ turns[i]) << 4);
  }
};

}  // namespace pygen::cuda
