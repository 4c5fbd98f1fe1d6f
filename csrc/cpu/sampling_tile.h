// The inner loop of sampling: kRows rows (pixels of images) by kColumns registers of output channels stay in registers
// over all (tap, source channel) steps. Each output is one chain of multiply-adds in the same order whatever the tile,
// bias and `add` first, so results do not depend on how rows are tiled. 6 x 2 registers: 8 loads for 12 multiply-adds.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "cpu/sampling_plan.h"

namespace pygen {
inline namespace PYGEN_ISA {

// One tile's columns for any rows: `m` counts pixels of the row, `r` those at work. A stream lies at base + m * step +
// r * pitch; in local memory, which holds only the pixels at work, the step is 0.
template <class Real>
struct SamplingPlace {
  Real* base = nullptr;
  int64_t step = 0, pitch = 0;
  PYGEN_INLINE Real* at(int64_t m, int64_t r) const { return base + m * step + r * pitch; }
};

template <class Real>
struct SamplingTileArguments {
  const Real* const* runs;  // of the source, pixel 0
  const SamplingRun* lengths;
  int64_t num_runs, source_step, source_pitch;
  const Real* weights;         // [steps][kColumns]
  const Real* bias;            // [kColumns]
  SamplingPlace<Real> add;     // base may be nullptr, here and below
  const int64_t* add_at;       // of each lane, where `add` is laid out in another way; else nullptr
  SamplingPlace<Real> out[2];  // as it is; after relu
  const int64_t* at;           // of each column, in a pixel of out
};

// Where registers lie behind each other.
template <class Real>
constexpr std::array<int64_t, kSamplingColumns> make_sampling_consecutive() {
  std::array<int64_t, kSamplingColumns> at{};
  for (int c = 0; c < kSamplingColumns; ++c) at[c] = c * kRegLanes<Real>;
  return at;
}
template <class Real>
inline constexpr auto kSamplingConsecutive = make_sampling_consecutive<Real>();

// What is added, from another layout: [rows][lanes].
template <class Real>
__attribute__((noinline)) void gather_added(const SamplingTileArguments<Real>& a, const Real* add, int rows, int lanes,
                                            Real* out) {
  for (int r = 0; r < rows; ++r, add += a.add.pitch)
    for (int l = 0; l < lanes; ++l) *out++ = add[a.add_at[l]];
}

template <class Real, int kRows, int kColumns>
__attribute__((noinline)) void sampling_tile(const SamplingTileArguments<Real>& a, int64_t m, int64_t row) {
  using V = Reg<Real>;
  constexpr int kN = kRegLanes<Real>;
  V sum[kRows][kColumns];
  PYGEN_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const V bias = load<V>(a.bias + c * kN);
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) sum[r][c] = bias;
  }
  if (a.add.base) {
    const Real* add = a.add.at(m, row);
    const int64_t *at = a.at, pitch = a.add_at ? kColumns * kN : a.add.pitch;
    Real gathered[kRows * kColumns * kN];
    if (a.add_at) {
      gather_added(a, add, kRows, kColumns * kN, gathered);
      add = gathered;
      at = kSamplingConsecutive<Real>.data();
    }
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
    for (int c = 0; c < kColumns; ++c) sum[r][c] += load<V>(add + r * pitch + at[c]);
  }
  const Real* w = a.weights;
  const int64_t offset = m * a.source_step + row * a.source_pitch;
  for (int64_t i = 0; i < a.num_runs; ++i) {
    const Real* x[kRows];
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = a.runs[i] + offset + r * a.source_pitch;
    const int64_t count = a.lengths[i].count;
    for (int64_t k = 0; k < count; ++k, w += kColumns * kN) {
      V weight[kColumns];
      PYGEN_UNROLL
      for (int c = 0; c < kColumns; ++c) weight[c] = load<V>(w + c * kN);
      PYGEN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Real value = x[r][k];
        PYGEN_UNROLL
        for (int c = 0; c < kColumns; ++c) sum[r][c] += weight[c] * value;
      }
    }
  }
  for (int form = 0; form < 2; ++form) {
    if (!a.out[form].base) continue;
    Real* out = a.out[form].at(m, row);
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const V value = form ? (sum[r][c] < Real(0) ? V{} : sum[r][c]) : sum[r][c];
      store(out + r * a.out[form].pitch + a.at[c], value);
    }
  }
}

template <class Real>
using SamplingTileFunction = void (*)(const SamplingTileArguments<Real>&, int64_t, int64_t);

// Sums of a tile. float64, in which samplers are checked, makes do with as many in AVX-512 as in AVX2: half as much
// code.
template <class Real>
constexpr int kSamplingSums = sizeof(Real) == 8 ? std::min(kAccumulators, 12) : kAccumulators;

template <class Real, int kRows, int kColumns>
constexpr SamplingTileFunction<Real> sampling_tile_if_fits() {
  if constexpr (kRows * kColumns <= kSamplingSums<Real>) {
    return &sampling_tile<Real, kRows, kColumns>;
  } else {
    return nullptr;
  }
}
template <class Real, int kRows, int... kColumns>
constexpr std::array<SamplingTileFunction<Real>, kSamplingColumns> sampling_tiles_of_rows(
    std::integer_sequence<int, kColumns...>) {
  return {sampling_tile_if_fits<Real, kRows, kColumns + 1>()...};
}
template <class Real, int... kRows>
constexpr auto make_sampling_tiles(std::integer_sequence<int, kRows...>) {
  return std::array<std::array<SamplingTileFunction<Real>, kSamplingColumns>, sizeof...(kRows)>{
      sampling_tiles_of_rows<Real, kRows + 1>(std::make_integer_sequence<int, kSamplingColumns>())...};
}
// [rows - 1][columns - 1]
template <class Real>
inline constexpr auto kSamplingTiles = make_sampling_tiles<Real>(std::make_integer_sequence<int, kSamplingRows>());

// Any number of rows, in tiles of about equal height. Where one tile does, as at a single image's pixel, nothing is
// divided: that would cost as much as the tile.
template <class Real>
PYGEN_INLINE void sampling_rows(const SamplingTileArguments<Real>& a, int columns, int64_t m, int64_t rows) {
  if (rows <= kSamplingRows && rows * columns <= kSamplingSums<Real>) {
    kSamplingTiles<Real>[rows - 1][columns - 1](a, m, 0);
    return;
  }
  const int64_t most = std::min(kSamplingRows, kSamplingSums<Real> / columns);
  for (int64_t r = 0, left = (rows + most - 1) / most; left > 0; --left) {
    const int64_t height = (rows - r + left - 1) / left;
    kSamplingTiles<Real>[height - 1][columns - 1](a, m, r);
    r += height;
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
