// masked_linear on CPUs: matrix products over the live part of a weight.
//     target[n, t] = bias[t] + sum over s < live[t] of weight[t, s] source[n, s]
//     grad_weight[t, s] = sum over n of grad[n, t] source[n, s]     for s < live[t], else 0
// Sorted by degree, the live part is a staircase: each target needs a prefix of the sources. Vectors run along targets.
// Tiles of kRows rows (or sources) by kWide targets stay in registers: 2 loads and 6 broadcasts for 12 multiply-adds
// (AVX2). Tiles beyond the stairs are skipped; on the stairs what is dead is left out by selection, so a NaN there
// reaches nothing. Everything is packed anew in each call: the live weight takes 8 % of forward and 15 % of the input's
// gradient at [64, 784] x [784, 500], 4 and 9 % at [512, 2000] x [2000, 2000] (AVX2, one thread; perf), bound by
// memory: prefetching its rows changed nothing.
#include "cpu/masked_linear.h"

#include "cpu/block_io.h"
#include "cpu/masked_linear_pack.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kRows = kAccumulators / kTileVectors;
constexpr int64_t kDepth = 128;    // multiply-adds in a row: a panel of that depth stays in the L1 cache
constexpr int64_t kRowChunk = 64;  // tiles whose sums lie in the L1 cache
template <class Real>
constexpr int64_t kWide = kTileVectors * kRegLanes<Real>;
static_assert(kWide<double> % 4 == 0 && kWide<float> % 4 == 0);  // whole quads

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

// kWide targets computed together, by rising address.
template <class Real>
struct Block {
  int64_t count, least, most;  // live sources of the target with the fewest, and of that with the most
  int64_t target[kWide<Real>], live[kWide<Real>];  // beyond count as the one before

  Block(const MaskedLinear& p, int64_t b) {
    const int64_t first = b * kWide<Real>;
    count = std::min(kWide<Real>, p.targets - first);
    const int64_t last = first + count - 1;
    least = p.live[first];
    most = p.live[last];
    // Insertion sort: of what falls the last is taken first, so that little is left to do.
    const bool falls = p.target_order[first] > p.target_order[last];
    for (int64_t k = 0; k < count; ++k) {
      const int64_t t = falls ? last - k : first + k;
      int64_t place = k;
      for (; place > 0 && target[place - 1] > p.target_order[t]; --place) {
        target[place] = target[place - 1];
        live[place] = live[place - 1];
      }
      target[place] = p.target_order[t];
      live[place] = p.live[t];
    }
    for (int64_t k = count; k < kWide<Real>; ++k) {
      target[k] = target[k - 1];
      live[k] = live[k - 1];
    }
  }
  // Where the targets lie that are `step` apart.
  const int64_t* places(int64_t step, int64_t* at) const {
    for (int64_t k = 0; k < kWide<Real>; ++k) at[k] = target[k] * step;
    return at;
  }
};
// Short and long blocks by turns, so that threads that get equally many get equally much.
int64_t by_turns(int64_t unit, int64_t blocks) { return unit % 2 ? blocks - 1 - unit / 2 : unit / 2; }

template <class Real>
__attribute__((noinline)) void product(const MaskedLinear& p, const Stored<Real>& stored) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t tiles = (p.rows + kRows - 1) / kRows, blocks = (p.targets + wide - 1) / wide;
  if (tiles == 0 || blocks == 0) return;
  const Along along{p.source_order, direction(p.source_order, p.sources)};
  Real* packed = thread_scratch<Real, 0>(tiles * p.sources * kRows);  // [tile][source][row]
  parallel_blocks(tiles, units_per_thread(8.0 * p.sources * kRows), p.threads, [&](int64_t t) {
    int64_t at[kRows];
    for (int64_t r = 0; r < kRows; ++r) at[r] = std::min(t * kRows + r, p.rows - 1) * p.source.strides[0];
    stored.pack_rows(p.source.data, p.sources, along, p.source.strides[1], at, packed + t * p.sources * kRows);
  });
  const int64_t chunks = (tiles + kRowChunk - 1) / kRowChunk;
  const double work = 0.5 * p.sources * wide * std::min(p.rows, kRowChunk * kRows);
  parallel_blocks(blocks * chunks, units_per_thread(work), p.threads, [&](int64_t unit) {
    const Block<Real> block(p, by_turns(unit / chunks, blocks));
    const int64_t first_tile = unit % chunks * kRowChunk, some = std::min(kRowChunk, tiles - first_tile);
    const int64_t sums_size = kRows * wide;
    Real* weight = thread_scratch<Real, 1>(block.most * wide + some * sums_size);
    Real* sums = weight + block.most * wide;
    int64_t at[wide];
    Real start[wide] = {};
    if (p.bias) stored.pack_wide(p.bias, 1, {nullptr, 0}, 0, block.target, start);
    stored.pack_wide(p.weight.data, block.most, along, p.weight.strides[1], block.places(p.weight.strides[0], at),
                     weight);
    for (int64_t r = 0; r < some * kRows; ++r) std::copy_n(start, wide, sums + r * wide);
    for (int64_t from = 0; from < block.most; from += kDepth) {
      const int64_t to = std::min(from + kDepth, block.most), stairs = std::clamp(block.least, from, to);
      for (int64_t t = 0; t < some; ++t) {
        const Real* rows = packed + (first_tile + t) * p.sources * kRows;
        tile<Real, false>(rows, weight, from, stairs, block.live, sums + t * sums_size);
        if (stairs < to) tile<Real, true>(rows, weight, stairs, to, block.live, sums + t * sums_size);
      }
    }
    block.places(p.target.strides[1], at);
    const bool in_order = block.count == wide && side_by_side<wide>(at);
    bool quads = block.count == wide && !in_order;
    for (int64_t k = 0; k < wide; k += 4) quads &= side_by_side<4>(at + k);
    const int64_t end = std::min((first_tile + some) * kRows, p.rows);
    for (int64_t n = first_tile * kRows; n < end; ++n, sums += wide) {
      const int64_t offset = n * p.target.strides[0];
      if (quads)
        stored.store_quads(sums, wide, p.target.data, offset, at);
      else
        stored.store(sums, block.count, p.target.data, offset + (in_order ? at[0] : 0), in_order ? nullptr : at, 1);
    }
  });
}

template <class Real>
__attribute__((noinline)) void grad_weight(const MaskedLinear& p, const Stored<Real>& stored) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t blocks = (p.targets + wide - 1) / wide, tiles = (p.sources + kRows - 1) / kRows;
  const Along along{p.source_order, direction(p.source_order, p.sources)}, as_rows{nullptr, 1};
  Real* packed = thread_scratch<Real, 0>(tiles * p.rows * kRows);  // [tile][row][source]
  parallel_blocks(tiles, units_per_thread(8.0 * p.rows * kRows), p.threads, [&](int64_t t) {
    int64_t at[kRows];
    for (int64_t r = 0; r < kRows; ++r)
      at[r] = p.source_order[std::min(t * kRows + r, p.sources - 1)] * p.source.strides[1];
    stored.pack_rows(p.source.data, p.rows, as_rows, p.source.strides[0], at, packed + t * p.rows * kRows);
  });
  const double work = 0.5 * p.sources * wide * p.rows;
  parallel_blocks(blocks, units_per_thread(work), p.threads, [&](int64_t unit) {
    const Block<Real> block(p, by_turns(unit, blocks));
    const int64_t needed = (block.most + kRows - 1) / kRows, size = needed * kRows * wide;
    Real* grad = thread_scratch<Real, 1>(p.rows * wide + size + p.sources * wide);  // [row][target]
    Real *sums = grad + p.rows * wide, *turned = sums + size;  // [source][target], [target][source]
    int64_t at[wide];
    stored.pack_wide(p.target.data, p.rows, as_rows, p.target.strides[0], block.places(p.target.strides[1], at), grad);
    std::fill_n(sums, size, Real(0));
    for (int64_t from = 0; from < p.rows; from += kDepth)
      for (int64_t t = 0; t < needed; ++t)
        tile<Real, false>(packed + t * p.rows * kRows, grad, from, std::min(from + kDepth, p.rows), nullptr,
                          sums + t * kRows * wide);
    int64_t s = 0;
    if constexpr (std::is_same_v<Real, float>) {
      for (; s + 4 <= block.most; s += 4)
        for (int64_t k = 0; k < wide; k += kRegLanes<Real>) {
          const Real* from = sums + s * wide + k;
          turn(from, from + wide, from + 2 * wide, from + 3 * wide, turned + k * p.sources + s, p.sources);
        }
    }
    for (; s < block.most; ++s)
      for (int64_t k = 0; k < wide; ++k) turned[k * p.sources + s] = sums[s * wide + k];
    const bool in_order = along.direction == 1 && p.weight.strides[1] == 1;
    for (int64_t k = 0; k < block.count; ++k, turned += p.sources) {
      std::fill(turned + block.live[k], turned + p.sources, Real(0));
      stored.store(turned, p.sources, p.weight.data, block.target[k] * p.weight.strides[0],
                   in_order ? nullptr : p.source_order, p.weight.strides[1]);
    }
    if (!p.bias) return;
    double total[wide] = {};
    for (int64_t n = 0; n < p.rows; ++n)
      for (int64_t k = 0; k < wide; ++k) total[k] += static_cast<double>(grad[n * wide + k]);
    Real rounded[wide];
    std::copy_n(total, wide, rounded);
    stored.store(rounded, block.count, p.bias, 0, block.target, 1);
  });
}

template <class T, class Real>
constexpr Stored<Real> kStored = {pack<kRows, T, Real>, pack<kWide<Real>, T, Real>, unpack<T, Real>,
                                  unpack_quads<T, Real>};

}  // namespace

void masked_linear_product(const MaskedLinear& p) { PYGEN_BY_DTYPE(p.dtype, (product<Real>(p, kStored<T, Real>))) }
void masked_linear_grad_weight(const MaskedLinear& p) {
  PYGEN_BY_DTYPE(p.dtype, (grad_weight<Real>(p, kStored<T, Real>)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
