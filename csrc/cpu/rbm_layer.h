// One layer given the other: sums of weights over the units that are not 0, a block of images at a time.
// Tiles of kRows images by kWide units stay in registers from bias to end. A tile goes through the sources where any of
// its images has something: at 13 % of ones on digits that is half of them; what it leaves out adds 0.
#pragma once

#include <algorithm>

#include "cpu/masked_linear_pack.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kRows = kAccumulators / kTileVectors;
template <class Real>
constexpr int64_t kWide = kTileVectors * kRegLanes<Real>;
template <class Real>
constexpr int64_t whole(int64_t units) {
  return (units + kWide<Real> - 1) / kWide<Real> * kWide<Real>;
}

// Weights [targets, sources] as panels [target / kWide][source][target % kWide], zeros beyond the last target.
template <class Real>
struct Panels {
  const Real* weight;
  const Real* bias;  // whole panels
  int64_t sources, targets;
};

// What a block of images lends its layers.
template <class Real>
struct Workspace {
  Real* packed;     // [source][kRows] of one tile
  int32_t* places;  // which source
  Real* sums;       // [image of the block][units in whole panels]
};

template <class Real>
__attribute__((noinline)) void sum_tile(const Real* x, const int32_t* places, int64_t count, const Real* weight,
                                        const Real* bias, Real* out, int64_t pitch) {
  using V = Reg<Real>;
  V sum[kRows][kTileVectors];
  PYGEN_UNROLL
  for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) sum[r][v] = load<V>(bias + v * kRegLanes<Real>);
  for (int64_t i = 0; i < count; ++i) {
    const Real* row = weight + places[i] * kWide<Real>;
    V y[kTileVectors];
    PYGEN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) y[v] = load<V>(row + v * kRegLanes<Real>);
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sum[r][v] = sum[r][v] + y[v] * x[i * kRows + r];
  }
  PYGEN_UNROLL
  for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) store(out + r * pitch + v * kRegLanes<Real>, sum[r][v]);
}

// The sources of a tile of `images` rows of x, kSkips: those that are not 0 in all of them; how many there are.
template <bool kSkips, class Real>
int64_t pack_tile(const Real* x, int64_t pitch, int64_t images, int64_t sources, const Workspace<Real>& work) {
  int64_t count = 0;
  const Real* rows[kRows];  // of images that are none the last one's, whose sums nobody reads
  for (int64_t r = 0; r < kRows; ++r) rows[r] = x + std::min(r, images - 1) * pitch;
  for (int64_t s = 0; s < sources; ++s) {
    Real* to = work.packed + count * kRows;
    bool any = !kSkips;
    for (int64_t r = 0; r < kRows; ++r) {
      to[r] = rows[r][s];
      any |= to[r] != 0;
    }
    work.places[count] = static_cast<int32_t>(s);
    count += any;
  }
  return count;
}

// work.sums = bias + weight x of `images` rows of x, whose pitch is given.
template <bool kSkips, class Real>
void sum_layer(const Panels<Real>& p, const Real* x, int64_t x_pitch, int64_t images, const Workspace<Real>& work) {
  const int64_t pitch = whole<Real>(p.targets), panel = p.sources * kWide<Real>;
  for (int64_t first = 0; first < images; first += kRows) {
    const int64_t count =
        pack_tile<kSkips>(x + first * x_pitch, x_pitch, std::min<int64_t>(kRows, images - first), p.sources, work);
    for (int64_t t = 0; t < pitch; t += kWide<Real>)
      sum_tile(work.packed, work.places, count, p.weight + t / kWide<Real> * panel, p.bias + t,
               work.sums + first * pitch + t, pitch);
  }
}

// Panels of a weight seen as [targets, sources]; `to` has room for them and the bias.
template <class Real, class Pack>
Panels<Real> pack_panels(const Matrix& weight, const Real* bias, int64_t targets, int64_t sources, Pack pack, Real* to,
                         int threads) {
  const int64_t wide = kWide<Real>, panels = whole<Real>(targets) / wide;
  Real* biases = to + panels * sources * wide;
  parallel_blocks(panels, units_per_thread(4.0 * sources * wide), threads, [&](int64_t p) {
    int64_t at[kWide<Real>];
    for (int64_t k = 0; k < wide; ++k) {
      const int64_t target = p * wide + k;
      at[k] = std::min(target, targets - 1) * weight.strides[0];
      biases[target] = target < targets ? bias[target] : Real(0);
    }
    pack(weight.data, sources, Along{nullptr, 1}, weight.strides[1], at, to + p * sources * wide);
  });
  return {to, biases, sources, targets};
}
template <class Real>
int64_t panels_size(int64_t targets, int64_t sources) {
  return whole<Real>(targets) * (sources + 1) + 16;
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
