// Tiles of positions by channels: what the kernels of vector_quantize share.
#pragma once

#include "cpu/masked_linear_pack.h"
#include "cpu/parallel.h"
#include "cpu/vector_quantize.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kCodes = kAccumulators / kTileVectors;
constexpr int64_t kColumns = 16;  // channels of sums that stay in the caches for all codes
template <class Real>
constexpr int64_t kWide = kTileVectors * kRegLanes<Real>;
// What of the kernels depends on the dtype in memory.
template <class Real>
struct StoredCodes {
  decltype(&pack<1, Real, Real>) pack_codes, pack_wide, pack_columns;
  void (*write)(const VectorQuantize&, const Real*, const int64_t*, int64_t);
  void (*copy)(const VectorQuantize&, const int64_t*, const int64_t*, int64_t);
};

// Where `count` positions from `first` on lie, and those beyond as the last.
template <int64_t wide>
void places(const VectorQuantize& p, const Positions& t, int64_t first, int64_t count, int64_t* at) {
  int64_t image = first / p.positions, position = first % p.positions;
  for (int64_t k = 0; k < wide; ++k) {
    at[k] = image * t.image + position * t.position;
    if (k + 1 < count && ++position == p.positions) {
      position = 0;
      ++image;
    }
  }
}

// [channel][kWide] -> quantized at `count` places.
template <class T, class Real>
void write_tile(const VectorQuantize& p, const Real* tile, const int64_t* at, int64_t count) {
  T* out = static_cast<T*>(p.quantized.data);
  const bool run = count == kWide<Real> && side_by_side<kWide<Real>>(at);
  for (int64_t c = 0; c < p.channels; ++c, tile += kWide<Real>, out += p.quantized.channel) {
    if (run)
      narrow_run(tile, out + at[0], kWide<Real>);
    else
      for (int64_t k = 0; k < count; ++k) narrow(tile[k], out + at[k]);
  }
}

// Codes of channels side by side, in their places.
template <class T>
void copy_codes(const VectorQuantize& p, const int64_t* code, const int64_t* at, int64_t count) {
  for (int64_t k = 0; k < count; ++k)
    std::copy_n(static_cast<const T*>(p.codebook) + code[k] * p.channels, p.channels,
                static_cast<T*>(p.quantized.data) + at[k]);
}

template <class T, class Real>
constexpr StoredCodes<Real> kStoredCodes = {pack<kCodes, T, Real>, pack<kWide<Real>, T, Real>, pack<kColumns, T, Real>,
                                            write_tile<T, Real>, copy_codes<T>};

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
