// vector_quantize on CPUs: the nearest code of each position.
//     index = argmin over k of the sum of (z - e_k)^2, of equals the lowest; a NaN and an infinity never win
// Vectors run along positions. Tiles of kWide positions by kCodes codes stay in registers, and so do the least distance
// and code of each position while tiles of codes go by: 2 loads and 12 broadcasts for 24 differences and multiply-adds
// (AVX-512), and 3 instructions a register at the end of D of them. Distances of pairs are never stored.
// <z, e> - |e|^2 / 2 would do with the multiply-adds, and lose digits to cancellation. Where additions have units of
// their own it saves nothing (AMD EPYC, AVX-512: 117 10^9 of either a second and core, 1.00 and 1.01 of the time);
// where they share those of multiplications it would take half the time, not measured. Codes are packed anew in each
// call: K D numbers for P K D differences.
#include <limits>

#include "cpu/vector_quantize_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kChunk = 8;              // tiles of positions that go through the codes together
constexpr int64_t kBlockBytes = 40 << 10;  // of codes that one tile of positions goes through at once
constexpr int64_t kRun = 8;                // squares added up before their sum is
template <class Real>
using Index = std::conditional_t<sizeof(Real) == 8, int64_t, int32_t>;

// Keeps of each position the least distance so far and its code.
template <class Real>
__attribute__((noinline)) void measure_tile(const Real* codes, const Real* z, int64_t channels, Index<Real> first,
                                            Real* best, Index<Real>* found) {
  using V = Reg<Real>;
  using Mask = decltype(V{} < V{});
  V sum[kCodes][kTileVectors];
  PYGEN_UNROLL
  for (int r = 0; r < kCodes; ++r) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) sum[r][v] = V{};
  for (int64_t c = 0; c < channels; ++c) {
    V x[kTileVectors];
    PYGEN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) x[v] = load<V>(z + c * kWide<Real> + v * kRegLanes<Real>);
    PYGEN_UNROLL
    for (int r = 0; r < kCodes; ++r) {
      const Real e = codes[c * kCodes + r];
      PYGEN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        const V apart = x[v] - e;
        sum[r][v] = sum[r][v] + apart * apart;
      }
    }
  }
  PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) {
    V least = load<V>(best + v * kRegLanes<Real>);
    Mask code = load<Mask>(found + v * kRegLanes<Real>);
    PYGEN_UNROLL
    for (int r = 0; r < kCodes; ++r) {
      const Mask better = sum[r][v] < least;
      least = better ? sum[r][v] : least;
      code = better ? Mask{} + (first + r) : code;
    }
    store(best + v * kRegLanes<Real>, least);
    store(found + v * kRegLanes<Real>, code);
  }
}

// The codes as panels [tile][channel][kCodes]; beyond the last one it again, which cannot win.
template <class Real>
void pack_panels(const VectorQuantize& p, const StoredCodes<Real>& stored, Real* panels) {
  const int64_t tiles = (p.codes + kCodes - 1) / kCodes, size = p.channels * kCodes;
  parallel_blocks(tiles, units_per_thread(8.0 * size), p.threads, [&](int64_t t) {
    int64_t at[kCodes];
    for (int64_t r = 0; r < kCodes; ++r) at[r] = std::min(t * kCodes + r, p.codes - 1) * p.channels;
    stored.pack_codes(p.codebook, p.channels, {nullptr, 1}, 1, at, panels + t * size);
  });
}

// Of a tile [channel][kWide] of positions and one of codes.
template <class Real>
void squared_distances(const Real* z, const Real* e, int64_t channels, Real* total) {
  constexpr int64_t wide = kWide<Real>;
  std::fill_n(total, wide, Real(0));
  for (int64_t from = 0; from < channels; from += kRun) {
    Real part[wide] = {};
    for (int64_t c = from; c < std::min(from + kRun, channels); ++c)
      for (int64_t k = 0; k < wide; ++k)
        part[k] += (z[c * wide + k] - e[c * wide + k]) * (z[c * wide + k] - e[c * wide + k]);
    for (int64_t k = 0; k < wide; ++k) total[k] += part[k];
  }
}

// Writes what one tile of positions found.
template <class Real>
void finish_tile(const VectorQuantize& p, const StoredCodes<Real>& stored, int64_t first, int64_t count, const Real* z,
                 const Index<Real>* found, Real* codes) {
  constexpr int64_t wide = kWide<Real>;
  int64_t code[wide], at[wide];
  std::copy_n(found, wide, code);
  std::copy_n(code, count, p.indices + first);
  for (int64_t k = 0; k < wide; ++k) at[k] = code[k] * p.channels;
  stored.pack_wide(p.codebook, p.channels, {nullptr, 1}, 1, at, codes);
  Real total[wide];
  squared_distances(z, codes, p.channels, total);
  std::copy_n(total, count, static_cast<Real*>(p.distances) + first);
  places<wide>(p, p.quantized, first, count, at);
  if (p.quantized.channel == 1)
    stored.copy(p, code, at, count);
  else
    stored.write(p, codes, at, count);
}

template <class Real>
__attribute__((noinline)) void nearest(const VectorQuantize& p, const StoredCodes<Real>& stored) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t all = p.images * p.positions, tiles = (all + wide - 1) / wide, panel = p.channels * kCodes;
  const int64_t code_tiles = (p.codes + kCodes - 1) / kCodes, size = p.channels * wide;
  const int64_t block =
      std::max<int64_t>(1, kBlockBytes / static_cast<int64_t>(sizeof(Real)) / std::max<int64_t>(panel, 1));
  Real* panels = thread_scratch<Real, 0>(code_tiles * panel);
  pack_panels(p, stored, panels);
  const int64_t chunks = (tiles + kChunk - 1) / kChunk;
  const double work = 1.0 * kChunk * size * p.codes / kRegLanes<Real>;
  parallel_blocks(chunks, units_per_thread(8 * work), p.threads, [&](int64_t chunk) {
    const int64_t first = chunk * kChunk, some = std::min(kChunk, tiles - first);
    Real* z = thread_scratch<Real, 1>((kChunk + 1) * size);
    Real best[kChunk * wide];
    Index<Real> found[kChunk * wide] = {};
    std::fill_n(best, kChunk * wide, std::numeric_limits<Real>::infinity());
    for (int64_t t = 0; t < some; ++t) {
      int64_t at[wide];
      const int64_t position = (first + t) * wide;
      places<wide>(p, p.input, position, std::min(wide, all - position), at);
      stored.pack_wide(p.input.data, p.channels, {nullptr, 1}, p.input.channel, at, z + t * size);
    }
    for (int64_t from = 0; from < code_tiles; from += block)
      for (int64_t t = 0; t < some; ++t)
        for (int64_t j = from; j < std::min(from + block, code_tiles); ++j)
          measure_tile(panels + j * panel, z + t * size, p.channels, static_cast<Index<Real>>(j * kCodes),
                       best + t * wide, found + t * wide);
    for (int64_t t = 0; t < some; ++t) {
      const int64_t position = (first + t) * wide;
      finish_tile(p, stored, position, std::min(wide, all - position), z + t * size, found + t * wide,
                  z + kChunk * size);
    }
  });
}

}  // namespace

void vector_quantize_nearest(const VectorQuantize& p) {
  PYGEN_BY_DTYPE(p.dtype, (nearest<Real>(p, kStoredCodes<T, Real>)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
