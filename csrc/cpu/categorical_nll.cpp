// categorical_nll on CPUs. Formula: common/categorical_nll.h.
// Traffic: logits are read once, and gradients, where wanted, written once: P T bytes a position each way, P logits of
// T bytes. A tile of units in cache holds its logits, then their exponentials, then what leaves: one exponential a
// logit.
#include "cpu/categorical_nll.h"

#include <limits>

#include "common/categorical_nll.h"
#include "cpu/categorical_nll_tile.h"
#include "cpu/loss_sums.h"
#include "cpu/parallel.h"
#include "cpu/softmax_row.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kManyLevels = 2048;
constexpr int64_t kLogitsPerThread = 16 << 10;  // about 10 us
constexpr int64_t kWideTileLevels = 256;        // up to so many, vectors of units go four abreast
constexpr int64_t kLeastAlong = 32;             // levels side by side; fewer are turned
constexpr int64_t kChain = 64;                  // additions one after the other
constexpr int64_t kAhead = 2048;                // bytes of the next unit

// A run of at most kVectors vectors of units, one row of the tile for each level.
template <class T, class Real, int kVectors>
__attribute__((noinline)) void stripe(const CategoricalNll& p, const Units& units, int64_t unit, int64_t count,
                                      Scratch<Real>& s, Real* nll) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kRow = kVectors * kW;
  static_assert(kRow <= 64);
  const int64_t most = kTile / kRow, chunks = (p.levels + most - 1) / most;
  const T* in = static_cast<const T*>(p.logits.data) + units.offset(units.logits, unit);
  const int64_t step = units.logits.inner, stride = p.logits.channel;
  read_levels(p, units, unit, count, s);
  std::fill_n(s.drawn, kRow, std::numeric_limits<Real>::quiet_NaN());  // what no level finds

  V top[kVectors], others[kVectors] = {};
  for (int v = 0; v < kVectors; ++v) top[v] = V{} - Lanes<V>::kMax;
  const auto read = [&](int64_t first, int64_t rows) PYGEN_INLINE_LAMBDA {
    read_stripe<kRow>(in + first * stride, stride, step, rows, count, s.tile);
  };
  const auto exponentials = [&](int64_t first, int64_t rows) PYGEN_INLINE_LAMBDA {
    for (int v = 0; v < kVectors; ++v) {
      const V most = top[v], level = load<V>(s.level + v * kW) - static_cast<Real>(first);
      for (int64_t start = 0; start < rows; start += kChain) {
        V sum{};
        for (int64_t j = start; j < std::min(start + kChain, rows); ++j) {
          Real* at = s.tile + j * kRow + v * kW;
          const V e = Lanes<V>::select(level == static_cast<Real>(j), V{}, exp_minus_abs(V(load<V>(at) - most)));
          store(at, e);
          sum = sum + e;
        }
        others[v] = others[v] + sum;
      }
    }
  };
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * most, rows = std::min(most, p.levels - first);
    read(first, rows);
    V before[kVectors];
    for (int v = 0; v < kVectors; ++v) before[v] = top[v];
    for (int64_t j = 0; j < rows; ++j)
      for (int v = 0; v < kVectors; ++v) top[v] = larger(load<V>(s.tile + j * kRow + v * kW), top[v]);
    for (int v = 0; v < kVectors && chunk > 0; ++v) others[v] = others[v] * exp_minus_abs(V(before[v] - top[v]));
    find_drawn(first, rows, kRow, count, s);
    exponentials(first, rows);
  }

  V factor[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Categorical<V> of = categorical(top[v], load<V>(s.drawn + v * kW), others[v]);
    if (v * kW < count) store(nll + v * kW, of.nll);
    factor[v] = of.inverse * static_cast<Real>(p.scale);
  }
  if (!p.grad_logits.data) return;
  V slope[kVectors];
  for (int v = 0; v < kVectors; ++v) slope[v] = -others[v];
  T* out = static_cast<T*>(p.grad_logits.data) + units.offset(units.grads, unit);
  const int64_t out_step = units.grads.inner, out_stride = p.grad_logits.channel;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * most, rows = std::min(most, p.levels - first);
    if (chunks > 1) {
      read(first, rows);
      exponentials(first, rows);
    }
    for (int64_t j = 0; j < rows; ++j) {
      Real* row = s.tile + j * kRow;
      T* to = out + (first + j) * out_stride;
      V grad[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const auto drawn = load<V>(s.level + v * kW) == static_cast<Real>(first + j);
        const V e = Lanes<V>::select(drawn, slope[v], load<V>(row + v * kW));
        grad[v] = e * factor[v] * load<V>(s.upstream + v * kW);
      }
      if (count == kRow && out_step == 1) {
        for (int v = 0; v < kVectors; ++v) store_as(to + v * kW, grad[v]);
        continue;
      }
      for (int v = 0; v < kVectors; ++v) store(row + v * kW, grad[v]);
      if (out_step == 1) {
        narrow_run(row, to, count);
      } else {
        for (int64_t i = 0; i < count; ++i) narrow(row[i], to + i * out_step);
      }
    }
  }
}

// One unit whose levels lie side by side.
template <class T, class Real>
__attribute__((noinline)) void along(const CategoricalNll& p, const Units& units, int64_t unit, Scratch<Real>& s,
                                     Real* nll) {
  using V = Vector<Real>;
  const T* in = static_cast<const T*>(p.logits.data) + units.offset(units.logits, unit);
  read_levels(p, units, unit, 1, s);
  const int64_t drawn = s.level[0] > Real(-1) && s.level[0] < static_cast<Real>(p.levels) ? s.level[0] : -1;
  const auto read = [&](int64_t first, int64_t rows) PYGEN_INLINE_LAMBDA {
    return fill_tile<Real>(
        s.tile, rows, [&](int64_t j) PYGEN_INLINE_LAMBDA { return load_as<V>(in + first + j); },
        [&](int64_t j) PYGEN_INLINE_LAMBDA { return widen(in[first + j]); });
  };
  if (!p.grad_logits.data) {
    *nll = softmax_row<Real>(p.levels, drawn, s.tile, read);
    return;
  }
  const Real scale = static_cast<Real>(p.scale), g = s.upstream[0];
  T* out = static_cast<T*>(p.grad_logits.data) + units.offset(units.grads, unit);
  const auto write = [&](int64_t first, int64_t rows, Real inverse) PYGEN_INLINE_LAMBDA {
    const Real factor = inverse * scale;
    if (p.grad_logits.channel == 1) {
      for_each_vector<Real>(rows, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
        using W = decltype(zero);
        store_as(out + first + i, W(load<W>(s.tile + i) * factor * g));
      });
    } else {
      for (int64_t i = 0; i < rows; ++i) narrow(s.tile[i] * factor * g, out + (first + i) * p.grad_logits.channel);
    }
  };
  *nll = softmax_row<Real>(p.levels, drawn, s.tile, read, write);
}

// The next unit's levels on their way, where units of several channels lie apart: the hardware foresees no such steps.
template <class T>
PYGEN_INLINE void fetch_ahead(const CategoricalNll& p, const Units& units, int64_t unit) {
  const T* in = static_cast<const T*>(p.logits.data) + units.offset(units.logits, unit);
  const int64_t most = std::min<int64_t>(p.levels, kAhead / sizeof(T));
  for (int64_t j = 0; j < most; j += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(in + j);
}

template <class T, class Real>
PYGEN_INLINE void block_of_units(const CategoricalNll& p, const Units& units, int64_t start, int64_t n,
                                 Scratch<Real>& s) {
  constexpr int64_t kWide = 4 * kWidth<Real>, kOne = kWidth<Real>;
  if (p.logits.channel == 1 && units.logits.inner != 1 && p.levels >= kLeastAlong) {
    const bool apart = p.channels > 1;
    for (int64_t i = 0; i < n; ++i) {
      if (apart && i + 1 < n) fetch_ahead<T>(p, units, start + i + 1);
      along<T, Real>(p, units, start + i, s, s.nll + i);
    }
    return;
  }
  for (int64_t at = 0; at < n;) {
    const int64_t left = std::min(units.run(start + at), n - at);
    const bool wide = left > kOne && p.levels <= kWideTileLevels;
    const int64_t count = std::min(left, wide ? kWide : kOne);
    if (wide) {
      stripe<T, Real, 4>(p, units, start + at, count, s, s.nll + at);
    } else {
      stripe<T, Real, 1>(p, units, start + at, count, s, s.nll + at);
    }
    at += count;
  }
}

template <class T, class Real, int64_t kBlock>
void run(const CategoricalNll& p) {
  using Blocks = RowBlocks<kBlock>;
  const Blocks blocks(p.images, p.channels * p.positions);
  const Units units(p);
  LossSums<Real, Blocks> sums(blocks, p.reduce, p.nll);
  const int64_t per_thread = std::max<int64_t>(1, kLogitsPerThread / (kBlock * p.levels));
  parallel_blocks(blocks.count, per_thread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    block_of_units<T, Real>(p, units, blocks.start(block), blocks.size(block), s);
    sums.add(block, s.nll);
  });
  sums.finish(p.scale);
}

}  // namespace

void categorical_nll(const CategoricalNll& p) {
  const bool many = p.levels >= kManyLevels;
  PYGEN_BY_DTYPE(p.dtype, (many ? run<T, Real, kFewUnits>(p) : run<T, Real, kUnits>(p)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
