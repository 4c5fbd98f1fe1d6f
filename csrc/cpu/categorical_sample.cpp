// categorical_sample on CPUs. Formula: pygen/reference/categorical_sample.py.
// Traffic: logits are read once (L T bytes a draw), more of them than a tile holds three times. In cache they become
// the running sums of their exponentials, and a level is how many of these do not reach the uniform number.
#include "cpu/categorical_sample.h"

#include <limits>

#include "cpu/draw_blocks.h"
#include "cpu/parallel.h"
#include "cpu/softmax_row.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kDraws = 1024, kFewDraws = 64;  // of a block; few, where each has many levels
constexpr int64_t kManyLevels = 1024;
constexpr int64_t kLogitsPerThread = 16 << 10;  // about 10 us
constexpr int64_t kWideTileLevels = 256;        // up to so many, vectors of draws go four abreast
constexpr int64_t kLeastAlong = 32;             // levels side by side; fewer are turned
constexpr int64_t kChain = 64;                  // additions one after the other
constexpr int64_t kMostChunks = (int64_t{1} << 24) / kTile;

template <class Real>
struct Scratch {
  alignas(64) Real tile[kTile + 2 * kWidth<Real>];
  alignas(64) Real level[64];
  alignas(64) float u[DrawBlocks::room(kDraws)];
  Real group[kTile / kChain], chunk[kMostChunks];
};
template <class Real>
__attribute__((noinline)) Scratch<Real>& scratch() {  // inlined, every use would look up the thread's storage anew
  static thread_local Scratch<Real> s;
  return s;
}

// Levels of at most kVectors vectors of draws, whose numbers lie u_step apart and whose logits `step`.
template <class T, class Real, int kVectors>
__attribute__((noinline)) void stripe(const CategoricalSample& p, const T* in, int64_t step, const float* u,
                                      int64_t u_step, int64_t count, Scratch<Real>& s) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kRow = kVectors * kW;
  static_assert(kRow <= 64);
  const int64_t most = kTile / kRow, chunks = (p.levels + most - 1) / most;
  const Real inverse = static_cast<Real>(p.inverse_temperature);
  const auto read = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {
    const int64_t first = chunk * most, rows = std::min(most, p.levels - first);
    read_stripe<kRow>(in + first * p.logits.channel, p.logits.channel, step, rows, count, s.tile);
    return rows;
  };
  V top[kVectors], sum[kVectors], wanted[kVectors], below[kVectors];
  for (int v = 0; v < kVectors; ++v) top[v] = V{} - Lanes<V>::kMax;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t rows = read(chunk);
    for (int64_t j = 0; j < rows; ++j)
      for (int v = 0; v < kVectors; ++v) top[v] = larger(load<V>(s.tile + j * kRow + v * kW), top[v]);
  }
  const auto cumulate = [&](int64_t rows) PYGEN_INLINE_LAMBDA {  // goes on from `sum`
    for (int64_t start = 0; start < rows; start += kChain) {
      for (int v = 0; v < kVectors; ++v) {
        V run{};
        const V before = sum[v], most_of_draw = top[v];
        for (int64_t j = start; j < std::min(start + kChain, rows); ++j) {
          Real* at = s.tile + j * kRow + v * kW;
          run = run + exp_minus(V((most_of_draw - load<V>(at)) * inverse));
          store(at, V(before + run));
        }
        sum[v] = before + run;
      }
    }
  };
  for (int v = 0; v < kVectors; ++v) sum[v] = V{};
  for (int64_t chunk = 0; chunk < chunks; ++chunk) cumulate(chunks == 1 ? p.levels : read(chunk));
  alignas(64) Real number[kRow] = {};
  for (int64_t i = 0; i < count; ++i) number[i] = static_cast<Real>(u[i * u_step]);
  for (int v = 0; v < kVectors; ++v) {
    wanted[v] = load<V>(number + v * kW) * sum[v];
    below[v] = sum[v] = V{};
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    int64_t rows = p.levels;
    if (chunks > 1) cumulate(rows = read(chunk));
    for (int64_t j = 0; j < rows; ++j)
      for (int v = 0; v < kVectors; ++v)
        below[v] = below[v] + Lanes<V>::select(load<V>(s.tile + j * kRow + v * kW) < wanted[v], V{} + Real(1), V{});
  }
  for (int v = 0; v < kVectors; ++v) store(s.level + v * kW, below[v]);
}

// The level of one draw whose logits lie side by side: the group of levels whose sums reach the number, then in it.
template <class T, class Real>
__attribute__((noinline)) int64_t along(const CategoricalSample& p, const T* in, float u, Scratch<Real>& s) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>;
  static_assert(kChain % (2 * kW) == 0);
  const int64_t chunks = (p.levels + kTile - 1) / kTile;
  const Real inverse = static_cast<Real>(p.inverse_temperature);
  const auto size = [&](int64_t chunk) { return std::min(kTile, p.levels - chunk * kTile); };
  const auto read = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {
    const T* from = in + chunk * kTile;
    return fill_tile<Real>(
        s.tile, size(chunk), [&](int64_t j) PYGEN_INLINE_LAMBDA { return load_as<V>(from + j); },
        [&](int64_t j) PYGEN_INLINE_LAMBDA { return widen(from[j]); });
  };
  Real top = -Lanes<Real>::kMax;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) top = std::max(top, read(chunk));
  const auto exponentials = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {  // and the groups' sums; returns the chunk's
    Real total = 0;
    for (int64_t first = 0; first < size(chunk); first += kChain) {
      V sum[2] = {};
      for (int64_t j = first; j < std::min(first + kChain, size(chunk)); j += 2 * kW) {
        for (int v = 0; v < 2; ++v) {
          const V e = exp_minus(V((top - load<V>(s.tile + j + v * kW)) * inverse));
          store(s.tile + j + v * kW, e);
          sum[v] = sum[v] + e;
        }
      }
      total += s.group[first / kChain] = static_cast<Real>(sum_lanes(V(sum[0] + sum[1])));
    }
    return total;
  };
  Real total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (chunks > 1) read(chunk);
    total += s.chunk[chunk] = exponentials(chunk);
  }
  const Real wanted = static_cast<Real>(u) * total;
  if (!(wanted > 0)) return 0;
  // The first that reaches it; rounding may leave the last one above 0 short of it.
  const auto first_of = [&](const Real* sums, int64_t count, Real& before) {
    int64_t last = 0;
    Real before_last = before;
    for (int64_t i = 0; i < count; ++i) {
      const Real sum = before + sums[i];
      if (sums[i] > 0) {
        last = i;
        before_last = before;
        if (sum >= wanted) break;
      }
      before = sum;
    }
    before = before_last;
    return last;
  };
  Real before = 0;
  const int64_t chunk = first_of(s.chunk, chunks, before);
  if (chunks > 1) {
    read(chunk);
    exponentials(chunk);
  }
  const int64_t group = first_of(s.group, (size(chunk) + kChain - 1) / kChain, before);
  const int64_t start = group * kChain, count = std::min(kChain, size(chunk) - start);
  return chunk * kTile + start + first_of(s.tile + start, count, before);
}

// One dim of a block: how many, and what lies between two neighbours.
struct Axis {
  int64_t size, logits, x, u;
};

template <class T, class Real>
PYGEN_INLINE void draw_block(const CategoricalSample& p, const DrawBlocks& blocks, const DrawBlock& b,
                             Scratch<Real>& s) {
  constexpr int64_t kWide = 4 * kWidth<Real>, kOne = kWidth<Real>;
  const float* u = fill_draws(blocks, b, p.seed, NoiseDomain::CategoricalSample, s.u);
  const Axis images{b.images, p.logits.image, p.x.image, blocks.pitch()};
  const Axis channels{b.channels, p.levels * p.logits.channel, p.x.channel, 1};
  const Axis positions{b.positions, p.logits.position, p.x.position, p.channels};
  // Vectors run along positions where there are some, else along what there is most of.
  Axis outer = images, middle = channels, inner = positions;
  if (inner.size < 32 && inner.size < middle.size && middle.size >= outer.size) std::swap(inner, middle);
  if (inner.size < 32 && inner.size < outer.size) std::swap(inner, outer);
  const T* in = static_cast<const T*>(p.logits.data) + b.image * images.logits + b.channel * channels.logits +
                b.position * positions.logits;
  const int64_t x = b.image * images.x + b.channel * channels.x + b.position * positions.x;
  const bool is_along = p.logits.channel == 1 && inner.logits != 1 && p.levels >= kLeastAlong;
  for (int64_t o = 0; o < outer.size; ++o) {
    for (int64_t m = 0; m < middle.size; ++m) {
      const T* row = in + o * outer.logits + m * middle.logits;
      const float* row_u = u + o * outer.u + m * middle.u;
      const int64_t row_x = x + o * outer.x + m * middle.x;
      for (int64_t i = 0; i < inner.size;) {
        const int64_t left = inner.size - i;
        const bool wide = left > kOne && p.levels <= kWideTileLevels;
        const int64_t count = is_along ? 1 : std::min(left, wide ? kWide : kOne);
        const T* from = row + i * inner.logits;
        if (is_along) {
          s.level[0] = static_cast<Real>(along<T, Real>(p, from, row_u[i * inner.u], s));
        } else if (wide) {
          stripe<T, Real, 4>(p, from, inner.logits, row_u + i * inner.u, inner.u, count, s);
        } else {
          stripe<T, Real, 1>(p, from, inner.logits, row_u + i * inner.u, inner.u, count, s);
        }
        store_levels(s.level, count, p.wide_levels, p.x.data, row_x + i * inner.x, inner.x);
        i += count;
      }
    }
  }
}

template <class T, class Real>
void run(const CategoricalSample& p) {
  const int64_t most = p.levels >= kManyLevels ? kFewDraws : kDraws;
  const DrawBlocks blocks(p.images, p.positions, p.channels, most);
  const int64_t per_thread = std::max<int64_t>(1, kLogitsPerThread / (most * p.levels));
  parallel_blocks(blocks.count(), per_thread, p.threads,
                  [&](int64_t block) { draw_block<T, Real>(p, blocks, blocks.at(block), scratch<Real>()); });
}

}  // namespace

void categorical_sample(const CategoricalSample& p) { PYGEN_BY_DTYPE(p.dtype, (run<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
