// masked_linear on CPUs: matrix products over the live part of a weight.
//     target[n, t] = bias[t] + sum over s < live[t] of weight[t, s] source[n, s]
//     grad_weight[t, s] = sum over n of grad[n, t] source[n, s]     for s < live[t], else 0
// Sorted by degree, the live part is a staircase: each target needs a prefix of the sources. Vectors run along targets.
// Tiles of kRows rows (or sources) by kWide targets stay in registers: 2 loads and 6 broadcasts for 12 multiply-adds
// (AVX2). Tiles beyond the stairs are skipped; on the stairs what is dead is left out by selection, so a NaN there
// reaches nothing. Everything is packed anew in each call.
#include "cpu/masked_linear.h"

#include "cpu/block_io.h"
#include "cpu/parallel.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kRows = kAccumulators / kTileVectors;
constexpr int64_t kDepth = 128;    // multiply-adds in a row: a panel of that depth stays in the L1 cache
constexpr int64_t kRowChunk = 64;  // tiles whose sums lie in the L1 cache
template <class Real>
constexpr int64_t kWide = kTileVectors * kRegLanes<Real>;

// sums[r] += a[k][r] b[k] over k in [from, to); with kStairs only in lanes whose `live` exceeds k.
template <class Real, bool kStairs>
__attribute__((noinline)) void tile(const Real* a, const Real* b, int64_t from, int64_t to, const int64_t* live,
                                    Real* sums) {
  using V = Reg<Real>;
  using Mask = decltype(V{} < V{});
  V sum[kRows][kTileVectors];
  Mask ends[kTileVectors] = {};
  PYGEN_UNROLL
  for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) sum[r][v] = V{};
  if constexpr (kStairs) {
    for (int v = 0; v < kTileVectors; ++v)
      for (int l = 0; l < kRegLanes<Real>; ++l) ends[v][l] = live[v * kRegLanes<Real> + l];
  }
  for (int64_t k = from; k < to; ++k) {
    V y[kTileVectors];
    PYGEN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) y[v] = load<V>(b + k * kWide<Real> + v * kRegLanes<Real>);
    PYGEN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const Real x = a[k * kRows + r];
      PYGEN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        const V next = sum[r][v] + y[v] * x;
        if constexpr (kStairs) {
          const Mask at = Mask{} + static_cast<std::decay_t<decltype(ends[0][0])>>(k);
          sum[r][v] = ends[v] > at ? next : sum[r][v];
        } else {
          sum[r][v] = next;
        }
      }
    }
  }
  PYGEN_UNROLL
  for (int r = 0; r < kRows; ++r) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) {
    Real* out = sums + r * kWide<Real> + v * kRegLanes<Real>;
    store(out, V(load<V>(out) + sum[r][v]));
  }
}

// Columns of a matrix [rows, columns], chosen by `order`, `wide` at a time and side by side: out[rows][wide], zeros
// beyond.
template <class T, class Real>
void pack_columns(const Matrix& m, int64_t rows, const int64_t* order, int64_t count, int64_t wide, Real* out) {
  const T* data = static_cast<const T*>(m.data);
  for (int64_t n = 0; n < rows; ++n, data += m.strides[0], out += wide)
    for (int64_t k = 0; k < wide; ++k) out[k] = k < count ? widen(data[order[k] * m.strides[1]]) : Real(0);
}

// kWide targets computed together.
struct Block {
  int64_t first, count, most;  // most: live sources of the last, which has the most
};
template <class Real>
Block block_of(const MaskedLinear& p, int64_t b) {
  const int64_t first = b * kWide<Real>, count = std::min(kWide<Real>, p.targets - first);
  return {first, count, p.live[first + count - 1]};
}
// Short and long blocks by turns, so that threads that get equally many get equally much.
int64_t by_turns(int64_t unit, int64_t blocks) { return unit % 2 ? blocks - 1 - unit / 2 : unit / 2; }

template <class T, class Real>
void product(const MaskedLinear& p) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t tiles = (p.rows + kRows - 1) / kRows, blocks = (p.targets + wide - 1) / wide;
  if (tiles == 0 || blocks == 0) return;
  const T *source = static_cast<const T*>(p.source.data), *bias = static_cast<const T*>(p.bias);
  Real* packed = thread_scratch<Real, 0>(tiles * p.sources * kRows);  // [tile][source][row]
  parallel_blocks(tiles, units_per_thread(8.0 * p.sources * kRows), p.threads, [&](int64_t t) {
    Real* out = packed + t * p.sources * kRows;
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t n = t * kRows + r;
      const T* row = source + n * p.source.strides[0];
      for (int64_t s = 0; s < p.sources; ++s)
        out[s * kRows + r] = n < p.rows ? widen(row[p.source_order[s] * p.source.strides[1]]) : Real(0);
    }
  });
  const int64_t chunks = (tiles + kRowChunk - 1) / kRowChunk;
  const double work = 0.5 * p.sources * wide * std::min(p.rows, kRowChunk * kRows);
  parallel_blocks(blocks * chunks, units_per_thread(work), p.threads, [&](int64_t unit) {
    const Block block = block_of<Real>(p, by_turns(unit / chunks, blocks));
    const int64_t first_tile = unit % chunks * kRowChunk, some = std::min(kRowChunk, tiles - first_tile);
    const int64_t sums_size = kRows * wide, least = p.live[block.first];
    Real* weight = thread_scratch<Real, 1>(block.most * wide + some * sums_size);
    Real* sums = weight + block.most * wide;
    int64_t live[wide];
    Real start[wide] = {};
    for (int64_t k = 0; k < wide; ++k) {
      live[k] = p.live[block.first + std::min(k, block.count - 1)];
      if (bias && k < block.count) start[k] = widen(bias[p.target_order[block.first + k]]);
      const T* row = static_cast<const T*>(p.weight.data) +
                     (k < block.count ? p.target_order[block.first + k] * p.weight.strides[0] : 0);
      for (int64_t s = 0; s < block.most; ++s)
        weight[s * wide + k] = k < block.count && s < live[k] ? widen(row[p.source_order[s] * p.weight.strides[1]]) : 0;
    }
    for (int64_t r = 0; r < some * kRows; ++r) std::copy_n(start, wide, sums + r * wide);
    for (int64_t from = 0; from < block.most; from += kDepth) {
      const int64_t to = std::min(from + kDepth, block.most), stairs = std::clamp(least, from, to);
      for (int64_t t = 0; t < some; ++t) {
        const Real* rows = packed + (first_tile + t) * p.sources * kRows;
        tile<Real, false>(rows, weight, from, stairs, live, sums + t * sums_size);
        if (stairs < to) tile<Real, true>(rows, weight, stairs, to, live, sums + t * sums_size);
      }
    }
    const int64_t end = std::min((first_tile + some) * kRows, p.rows);
    for (int64_t n = first_tile * kRows; n < end; ++n, sums += wide) {
      T* out = static_cast<T*>(p.target.data) + n * p.target.strides[0];
      for (int64_t k = 0; k < block.count; ++k)
        narrow(sums[k], out + p.target_order[block.first + k] * p.target.strides[1]);
    }
  });
}

template <class T, class Real>
void grad_weight(const MaskedLinear& p) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t blocks = (p.targets + wide - 1) / wide, tiles = (p.sources + kRows - 1) / kRows;
  Real* packed = thread_scratch<Real, 0>(tiles * p.rows * kRows);  // [tile][row][source]
  parallel_blocks(tiles, units_per_thread(8.0 * p.rows * kRows), p.threads, [&](int64_t t) {
    pack_columns<T>(p.source, p.rows, p.source_order + t * kRows, std::min<int64_t>(kRows, p.sources - t * kRows),
                    kRows, packed + t * p.rows * kRows);
  });
  const double work = 0.5 * p.sources * wide * p.rows;
  parallel_blocks(blocks, units_per_thread(work), p.threads, [&](int64_t unit) {
    const Block block = block_of<Real>(p, by_turns(unit, blocks));
    const int64_t needed = (block.most + kRows - 1) / kRows;
    Real* grad = thread_scratch<Real, 1>(p.rows * wide + needed * kRows * wide);  // [row][target]
    Real* sums = grad + p.rows * wide;                                            // [source][target]
    pack_columns<T>(p.target, p.rows, p.target_order + block.first, block.count, wide, grad);
    std::fill_n(sums, needed * kRows * wide, Real(0));
    for (int64_t from = 0; from < p.rows; from += kDepth)
      for (int64_t t = 0; t < needed; ++t)
        tile<Real, false>(packed + t * p.rows * kRows, grad, from, std::min(from + kDepth, p.rows), nullptr,
                          sums + t * kRows * wide);
    for (int64_t k = 0; k < block.count; ++k) {
      const int64_t target = p.target_order[block.first + k];
      T* out = static_cast<T*>(p.weight.data) + target * p.weight.strides[0];
      for (int64_t s = 0; s < p.live[block.first + k]; ++s)
        narrow(sums[s * wide + k], out + p.source_order[s] * p.weight.strides[1]);
      if (!p.bias) continue;
      double total = 0;
      for (int64_t n = 0; n < p.rows; ++n) total += static_cast<double>(grad[n * wide + k]);
      narrow(static_cast<Real>(total), static_cast<T*>(p.bias) + target);
    }
  });
}

}  // namespace

void masked_linear_product(const MaskedLinear& p) { PYGEN_BY_DTYPE(p.dtype, (product<T, Real>(p))) }
void masked_linear_grad_weight(const MaskedLinear& p) { PYGEN_BY_DTYPE(p.dtype, (grad_weight<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
