// The gradients of NADE's parameters on CPUs. Formula: common/nade_nll.h, pygen/reference/nade_nll.py.
// A tile of units runs through all samples by itself, so no thread adds to another's sums. Samples come in chunks; of a
// chunk a is kept at every segment of about sqrt(D) inputs, and the segments are gone through from the last to the
// first: their units anew, then back, all in the L1 cache. Twice the additions of forward, as many sigmoids. Memory
// beside the tensors, a thread: the tile's a at the segments of a chunk, sqrt(D) numbers a sample and unit.
#include <cmath>

#include "cpu/nade_nll.h"
#include "cpu/nade_nll_rows.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kLeastChunk = 64;  // samples
constexpr int64_t kGroup = 16;       // of a chunk, whose terms are added up one after the other

constexpr int kVectors = 4;  // more than registers hold: a branch for each x, seldom foreseen, is shared by more units
template <class Real>
constexpr int64_t kTile = kVectors * kWidth<Real>;

// What a thread works on; each [..., kTile].
template <class Real>
struct Workspace {
  Real* starts;                     // [segments, chunk]: a
  Real* down;                       // [chunk]: G
  Real *weight, *output_weight;     // [length], of a segment
  Real *grad_weight, *grad_output;  // [length], of a group
  Real* sums;                       // [2, length], of a chunk
  Real* units;                      // [length + 1], of a sample: at first, and after each change
  int64_t* changed;                 // [length] alone: which inputs change them
};

struct Cut {
  int64_t chunk, length, segments;
  explicit Cut(const NadeNll& p) : chunk(kLeastChunk), length(1) {
    while (chunk * chunk < kGroup * p.images) chunk *= 2;
    chunk = std::min(chunk, std::max<int64_t>(1, p.images));
    while (length * length < p.inputs) ++length;
    segments = (p.inputs + length - 1) / length;
  }
};

template <class Real>
Workspace<Real> workspace(const Cut& cut) {
  const int64_t rows = cut.segments * cut.chunk + cut.chunk + 7 * cut.length + 1;
  Workspace<Real> w;
  Real* at = thread_scratch<Real, 0>(rows * kTile<Real>);
  const auto take = [&](int64_t n) {
    Real* taken = at;
    at += n * kTile<Real>;
    return taken;
  };
  w.starts = take(cut.segments * cut.chunk);
  w.down = take(cut.chunk);
  w.weight = take(cut.length);
  w.output_weight = take(cut.length);
  w.grad_weight = take(cut.length);
  w.grad_output = take(cut.length);
  w.units = take(cut.length + 1);
  w.sums = take(2 * cut.length);
  w.changed = thread_scratch<int64_t, 0>(cut.length);
  return w;
}

// Units [first, first + count) of `rows` rows, zeros behind them.
template <class Real>
PYGEN_INLINE void pack(const void* tensor, int64_t row, int64_t rows, int64_t hidden, int64_t first, int64_t count,
                       Real* to) {
  const Real* from = static_cast<const Real*>(tensor) + row * hidden + first;
  for (int64_t r = 0; r < rows; ++r, from += hidden, to += kTile<Real>) {
    std::copy_n(from, count, to);
    std::fill_n(to + count, kTile<Real> - count, Real(0));
  }
}
template <class Real>
PYGEN_INLINE void unpack(const Real* from, int64_t row, int64_t rows, int64_t hidden, int64_t first, int64_t count,
                         bool add, void* tensor) {
  Real* to = static_cast<Real*>(tensor) + row * hidden + first;
  for (int64_t r = 0; r < rows; ++r, to += hidden, from += kTile<Real>)
    for (int64_t i = 0; i < count; ++i) to[i] = add ? to[i] + from[i] : from[i];
}

template <class Real>
struct Tile {
  using V = Vector<Real>;
  V v[kVectors];
  PYGEN_INLINE static Tile at(const Real* p) {
    Tile t;
    for (int i = 0; i < kVectors; ++i) t.v[i] = load<V>(p + i * kWidth<Real>);
    return t;
  }
  PYGEN_INLINE void put(Real* p) const {
    for (int i = 0; i < kVectors; ++i) store(p + i * kWidth<Real>, v[i]);
  }
  PYGEN_INLINE void add(Real x, const Real* row) {
    for (int i = 0; i < kVectors; ++i) v[i] = v[i] + load<V>(row + i * kWidth<Real>) * x;
  }
  PYGEN_INLINE Tile units() const {
    Tile t;
    for (int i = 0; i < kVectors; ++i) t.v[i] = units_of(v[i]);
    return t;
  }
};

// to[0 ...] += x from, of one row.
template <class Real>
PYGEN_INLINE void add_row(Real x, const Tile<Real>& from, Real* to) {
  using V = Vector<Real>;
  for (int i = 0; i < kVectors; ++i) store(to + i * kWidth<Real>, V(load<V>(to + i * kWidth<Real>) + from.v[i] * x));
}

// Inputs [from, to), from the last to the first, before all of which the units are h.
template <class Real>
PYGEN_INLINE void back(const Workspace<Real>& w, const Real* g, int64_t from, int64_t to, const Tile<Real>& h,
                       Tile<Real>& down) {
  using V = Vector<Real>;
  Tile<Real> slope;
  for (int i = 0; i < kVectors; ++i) slope.v[i] = nade_slope(h.v[i]);
  for (int64_t s = to; s-- > from;) {
    add_row(g[s], h, w.grad_output + s * kTile<Real>);
    const Real* v = w.output_weight + s * kTile<Real>;
    for (int i = 0; i < kVectors; ++i) down.v[i] = down.v[i] + load<V>(v + i * kWidth<Real>) * g[s] * slope.v[i];
  }
}

// One sample's `count` inputs x with gradients g of their logits, there and back; a: before the first of them. The
// units change behind inputs that are not 0, between which they are kept once.
template <class Real>
PYGEN_INLINE void there_and_back(const Workspace<Real>& w, const Real* x, const Real* g, int64_t count, Tile<Real> a,
                                 Tile<Real>& down) {
  int64_t changes = 0;
  a.units().put(w.units);
  for (int64_t s = 0; s < count; ++s) {
    if (x[s] == 0) continue;
    a.add(x[s], w.weight + s * kTile<Real>);
    w.changed[changes++] = s;
    a.units().put(w.units + changes * kTile<Real>);
  }
  for (int64_t end = count;; --changes) {
    const int64_t from = changes ? w.changed[changes - 1] + 1 : 0;
    back(w, g, from, end, Tile<Real>::at(w.units + changes * kTile<Real>), down);
    if (changes == 0) return;
    end = from;
    add_row(x[end - 1], down, w.grad_weight + (end - 1) * kTile<Real>);
  }
}

// Which units, and which samples.
struct Part {
  int64_t first, count, start, samples;
};

// a at the start of every segment.
template <class Real>
__attribute__((noinline)) void keep_starts(const NadeNll& p, const Cut& cut, const Part& part,
                                           const Workspace<Real>& w) {
  const Real* x = static_cast<const Real*>(p.x) + part.start * p.inputs;
  pack<Real>(p.hidden_bias, 0, 1, p.hidden, part.first, part.count, w.weight);
  for (int64_t n = 0; n < part.samples; ++n) Tile<Real>::at(w.weight).put(w.starts + n * kTile<Real>);
  for (int64_t c = 0; c + 1 < cut.segments; ++c) {
    pack<Real>(p.weight, c * cut.length, cut.length, p.hidden, part.first, part.count, w.weight);
    for (int64_t n = 0; n < part.samples; ++n) {
      Tile<Real> a = Tile<Real>::at(w.starts + (c * cut.chunk + n) * kTile<Real>);
      const Real* taken = x + n * p.inputs + c * cut.length;
      for (int64_t s = 0; s < cut.length; ++s)
        if (taken[s] != 0) a.add(taken[s], w.weight + s * kTile<Real>);
      a.put(w.starts + ((c + 1) * cut.chunk + n) * kTile<Real>);
    }
  }
}

// Segment c of all samples.
template <class Real>
__attribute__((noinline)) void segment_of_samples(const NadeNll& p, const Cut& cut, const Part& part,
                                                  const Workspace<Real>& w, int64_t c) {
  const int64_t row = c * cut.length, rows = std::min(cut.length, p.inputs - row), size = rows * kTile<Real>;
  const int64_t offset = part.start * p.inputs + row;
  const Real *x = static_cast<const Real*>(p.x) + offset, *g = static_cast<const Real*>(p.grad_logits) + offset;
  pack<Real>(p.weight, row, rows, p.hidden, part.first, part.count, w.weight);
  pack<Real>(p.output_weight, row, rows, p.hidden, part.first, part.count, w.output_weight);
  std::fill_n(w.sums, 2 * size, Real(0));
  for (int64_t group = 0; group < part.samples; group += kGroup) {
    std::fill_n(w.grad_weight, size, Real(0));
    std::fill_n(w.grad_output, size, Real(0));
    for (int64_t n = group; n < std::min(group + kGroup, part.samples); ++n) {
      const Tile<Real> a = Tile<Real>::at(w.starts + (c * cut.chunk + n) * kTile<Real>);
      Tile<Real> down = Tile<Real>::at(w.down + n * kTile<Real>);
      there_and_back(w, x + n * p.inputs, g + n * p.inputs, rows, a, down);
      down.put(w.down + n * kTile<Real>);
    }
    for (int64_t i = 0; i < size; ++i) w.sums[i] += w.grad_weight[i];
    for (int64_t i = 0; i < size; ++i) w.sums[size + i] += w.grad_output[i];
  }
  unpack(w.sums, row, rows, p.hidden, part.first, part.count, part.start > 0, p.grad_weight);
  unpack(w.sums + size, row, rows, p.hidden, part.first, part.count, part.start > 0, p.grad_output_weight);
}

// The sum of G over the samples, by a tree, in the first one's place.
template <class Real>
void sum_of_samples(Real* down, int64_t samples) {
  if (samples == 0) std::fill_n(down, kTile<Real>, Real(0));
  for (int64_t left = samples; left > 1; left = (left + 1) / 2) {
    const int64_t half = (left + 1) / 2;
    for (int64_t n = half; n < left; ++n)
      add_row(Real(1), Tile<Real>::at(down + n * kTile<Real>), down + (n - half) * kTile<Real>);
  }
}

// Units [first, first + count) of all samples.
template <class Real>
void tile_of_units(const NadeNll& p, const Cut& cut, int64_t first, int64_t count) {
  const Workspace<Real> w = workspace<Real>(cut);
  for (int64_t start = 0; start == 0 || start < p.images; start += cut.chunk) {
    const Part part{first, count, start, std::min(cut.chunk, p.images - start)};
    keep_starts(p, cut, part, w);
    std::fill_n(w.down, part.samples * kTile<Real>, Real(0));
    for (int64_t c = cut.segments; c-- > 0;) segment_of_samples(p, cut, part, w, c);
    sum_of_samples(w.down, part.samples);
    unpack(w.down, 0, 1, p.hidden, first, count, start > 0, p.grad_hidden_bias);
  }
}

template <class Real>
void run(const NadeNll& p) {
  const Cut cut(p);
  const int64_t tiles = (p.hidden + kTile<Real> - 1) / kTile<Real>;
  const double work = static_cast<double>(p.images) * p.inputs * kTile<Real>;
  parallel_blocks(tiles, units_per_thread(8 * work), p.threads, [&](int64_t tile) {
    const int64_t first = tile * kTile<Real>;
    tile_of_units<Real>(p, cut, first, std::min(kTile<Real>, p.hidden - first));
  });
}

}  // namespace

void nade_nll_backward(const NadeNll& p) { p.dtype == DType::Float64 ? run<double>(p) : run<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
