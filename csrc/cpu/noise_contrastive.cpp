// noise_contrastive on CPUs. Formula: pygen/reference/noise_contrastive.py.
// Traffic of a sample: its own D numbers and 1 + K rows of the weights, D T bytes each from anywhere in memory, asked
// for kAhead rows before; where a gradient is wanted they are read again, out of the caches. Multiply-adds are as many
// as numbers read: beyond the caches memory sets the pace.
#include "cpu/noise_contrastive.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/softmax_row.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kAtOnce = 4;  // vectors of a row: as many chains of additions
constexpr int64_t kAhead = 6;   // rows, the next sample's too

template <class T>
PYGEN_INLINE void fetch(const T* row, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t j = 0; j < count; j += kLine) __builtin_prefetch(row + j);
  if (count) __builtin_prefetch(row + count - 1);  // rows begin anywhere in a line
}

template <class T, class Real>
PYGEN_INLINE Real dot(const T* a, const T* b, int64_t count) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = kAtOnce * kW;
  V sum[kAtOnce] = {};
  int64_t j = 0;
  for (; j + kStep <= count; j += kStep)
    for (int v = 0; v < kAtOnce; ++v) sum[v] = sum[v] + load_as<V>(a + j + v * kW) * load_as<V>(b + j + v * kW);
  for (; j + kW <= count; j += kW) sum[0] = sum[0] + load_as<V>(a + j) * load_as<V>(b + j);
  Real rest = 0;
  for (; j < count; ++j) rest += widen(a[j]) * widen(b[j]);
  return static_cast<Real>(sum_lanes(V((sum[0] + sum[1]) + (sum[2] + sum[3])))) + rest;
}

constexpr int64_t kRun = 32;  // rows summed at once; then the sums are, so that errors do not grow with the count

// One stripe of kVectors vectors, or of single numbers, of the sum over i of scale(i) row(i).
template <int kVectors, class V, class Scale, class Row, class Keep>
PYGEN_INLINE void combine_stripe(int64_t count, int64_t j, const Scale& scale, const Row& row, const Keep& keep) {
  constexpr int64_t kW = sizeof(V) / sizeof(typename Lanes<V>::Real);
  V total[kVectors] = {};
  for (int64_t start = 0; start < count; start += kRun) {
    const int64_t end = std::min(count, start + kRun);
    V sum[kVectors] = {};
    for (int64_t i = start; i < end; ++i) {
      const auto* from = row(i) + j;
      const auto s = scale(i);
      for (int v = 0; v < kVectors; ++v) sum[v] = sum[v] + load_as<V>(from + v * kW) * s;
    }
    for (int v = 0; v < kVectors; ++v) total[v] = total[v] + sum[v];
  }
  for (int v = 0; v < kVectors; ++v) keep(j + v * kW, total[v]);
}

template <class Real, class Scale, class Row, class Keep>
PYGEN_INLINE void combine(int64_t count, int64_t features, const Scale& scale, const Row& row, const Keep& keep) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = kAtOnce * kW;
  int64_t j = 0;
  for (; j + kStep <= features; j += kStep) combine_stripe<kAtOnce, V>(count, j, scale, row, keep);
  for (; j + kW <= features; j += kW) combine_stripe<1, V>(count, j, scale, row, keep);
  for (; j < features; ++j) combine_stripe<1, Real>(count, j, scale, row, keep);
}

template <class T, class Real>
struct Sample {
  const ContrastRows& p;
  int64_t n;
  const T *input, *weight, *bias;
  int64_t target;
  const int64_t* classes;
  Real* scores;

  PYGEN_INLINE Sample(const ContrastRows& params, int64_t sample)
      : p(params),
        n(sample),
        input(static_cast<const T*>(p.input.data) + n * p.input.stride),
        weight(static_cast<const T*>(p.weight.data)),
        bias(static_cast<const T*>(p.bias)),
        target(p.target[n]),
        classes(p.classes + (p.shift ? 0 : n * p.negatives)),
        scores(static_cast<Real*>(p.scores) + n * p.negatives) {}

  PYGEN_INLINE const T* row(int64_t c) const { return weight + c * p.weight.stride; }
  PYGEN_INLINE Real score(int64_t c) const {
    Real s = dot<T, Real>(input, row(c), p.features);
    if (bias) s += widen(bias[c]);
    if (p.log_noise) s -= static_cast<Real>(p.log_noise[c * p.log_noise_stride] + p.log_count);
    return s;
  }
  // For what is read kAhead rows after row i, of which the target's is the first.
  PYGEN_INLINE void ask_ahead(int64_t i) const {
    const int64_t later = i + kAhead, over = later - 1 - p.negatives;
    if (over < 0) {
      fetch(row(classes[later - 1]), p.features);
    } else if (n + 1 < p.samples && over <= p.negatives) {
      fetch(row(over ? classes[p.negatives + over - 1] : p.target[n + 1]), p.features);
    }
  }
  // Of the negatives, into `scores`; returns the target's.
  PYGEN_INLINE Real all_scores() const {
    constexpr Real kNone = -std::numeric_limits<Real>::infinity();
    if (p.shift) {
      if (n + 1 < p.samples) fetch(row(p.target[n + 1]), p.features);
      const Real* shift = static_cast<const Real*>(p.shift);
      for (int64_t k = 0; k < p.negatives; ++k) scores[k] += shift[k];
      if (p.remove_hits) {
        for (int64_t k = 0; k < p.negatives; ++k) scores[k] = classes[k] == target ? kNone : scores[k];
      }
      return score(target);
    }
    ask_ahead(0);
    const Real own = score(target);
    for (int64_t k = 0; k < p.negatives; ++k) {
      ask_ahead(k + 1);
      scores[k] = p.remove_hits && classes[k] == target ? kNone : score(classes[k]);
    }
    return own;
  }
};

template <class Real>
struct Outcome {
  Real nll, slope;  // of the target
};

// Scores become their slopes.
template <class Real>
PYGEN_INLINE Outcome<Real> logistic(Real own, Real* scores, int64_t count) {
  Vector<Real> sum{};
  Real rest = 0;
  for_each_vector<Real>(count, [&](int64_t k, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    const ContrastTerm<W> term = negative_term(load<W>(scores + k));
    store(scores + k, term.slope);
    if constexpr (std::is_same_v<W, Vector<Real>>) {
      sum = sum + term.loss;
    } else {
      rest += term.loss;
    }
  });
  const ContrastTerm<Real> target = negative_term(Real(-own));
  return {target.loss + (static_cast<Real>(sum_lanes(sum)) + rest), -target.slope};
}

template <class Real>
PYGEN_INLINE Outcome<Real> softmax(Real own, Real* scores, int64_t count) {
  Vector<Real> most = Vector<Real>{} - Lanes<Real>::kMax, sum{};
  Real top = own > -Lanes<Real>::kMax ? own : -Lanes<Real>::kMax, rest = 0;
  for_each_vector<Real>(count, [&](int64_t k, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    if constexpr (std::is_same_v<W, Vector<Real>>) {
      most = larger(load<W>(scores + k), most);
    } else {
      top = scores[k] > top ? scores[k] : top;
    }
  });
  const Real lane = largest_lane<Real>(most);
  top = lane > top ? lane : top;
  for_each_vector<Real>(count, [&](int64_t k, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    const W e = exp_minus_abs(W(load<W>(scores + k) - top));
    store(scores + k, e);
    if constexpr (std::is_same_v<W, Vector<Real>>) {
      sum = sum + e;
    } else {
      rest += e;
    }
  });
  const Real others = static_cast<Real>(sum_lanes(sum)) + rest;
  const Categorical<Real> of = categorical(top, own, others);
  for_each_vector<Real>(count, [&](int64_t k, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    store(scores + k, W(load<W>(scores + k) * of.inverse));
  });
  return {of.nll, -others * of.inverse};
}

template <class T, class Real>
PYGEN_INLINE void one_sample(const ContrastRows& p, int64_t n) {
  const Sample<T, Real> sample(p, n);
  const Real own = sample.all_scores();
  const Outcome<Real> out = p.kind == Contrast::Softmax ? softmax(own, sample.scores, p.negatives)
                                                        : logistic(own, sample.scores, p.negatives);
  static_cast<Real*>(p.nll)[n] = out.nll;
  static_cast<Real*>(p.slopes)[n] = out.slope;
  if (!p.grad) return;
  Real* grad = static_cast<Real*>(p.grad) + n * p.features;
  combine<Real>(
      p.shift ? 1 : 1 + p.negatives, p.features,
      [&](int64_t i) PYGEN_INLINE_LAMBDA { return i == 0 ? out.slope : sample.scores[i - 1]; },
      [&](int64_t i) PYGEN_INLINE_LAMBDA { return sample.row(i == 0 ? sample.target : sample.classes[i - 1]); },
      [&](int64_t j, auto value) PYGEN_INLINE_LAMBDA { store(grad + j, value); });
}

template <class T, class Real>
void run_rows(const ContrastRows& p) {
  const double of_one = static_cast<double>(p.features + 16) * static_cast<double>(1 + p.negatives);
  parallel_blocks(p.samples, units_per_thread(of_one), p.threads, [&](int64_t n) { one_sample<T, Real>(p, n); });
}

constexpr int64_t kEntries = 64;  // of a block: the classes that begin there are its

template <class T, class U, class Real>
PYGEN_INLINE void one_class(const ContrastSums& p, int64_t first) {
  int64_t last = first + 1;
  while (last < p.entries && p.classes[last] == p.classes[first]) ++last;
  const int64_t to = p.place ? p.place[first] : p.classes[first];
  const Real *scale = static_cast<const Real*>(p.scale), *bias_scale = static_cast<const Real*>(p.bias_scale);
  const auto row = [&](int64_t i) PYGEN_INLINE_LAMBDA {
    const int64_t e = p.order[first + i];
    return e < p.targets ? static_cast<const U*>(p.head.data) + e * p.head.stride
                         : static_cast<const U*>(p.tail.data) + (e - p.targets) / p.per * p.tail.stride;
  };
  T* out = static_cast<T*>(p.out) + to * p.features;
  combine<Real>(
      last - first, p.features, [&](int64_t i) PYGEN_INLINE_LAMBDA { return scale[p.order[first + i]]; }, row,
      [&](int64_t j, auto value) PYGEN_INLINE_LAMBDA { store_as<decltype(value)>(out + j, value); });
  if (!p.bias) return;
  double sum = 0;
  for (int64_t i = first; i < last; ++i) sum += static_cast<double>((bias_scale ? bias_scale : scale)[p.order[i]]);
  narrow(static_cast<Real>(sum), static_cast<T*>(p.bias) + to);
}

template <class T, class U, class Real>
void run_sums(const ContrastSums& p) {
  const int64_t blocks = (p.entries + kEntries - 1) / kEntries;
  const double of_block = static_cast<double>(p.features + 8) * kEntries;
  parallel_blocks(blocks, units_per_thread(of_block), p.threads, [&](int64_t block) {
    const int64_t end = std::min(p.entries, (block + 1) * kEntries);
    for (int64_t e = block * kEntries; e < end; ++e)
      if (e == 0 || p.classes[e] != p.classes[e - 1]) one_class<T, U, Real>(p, e);
  });
}

struct Entry {
  uint32_t key, index;
};

// Sorts by digits of 11 bits, the lowest first.
void sort_entries(const ContrastOrder& p) {
  constexpr int kBits = 11, kDigits = 1 << kBits;
  std::vector<Entry> now(static_cast<size_t>(p.entries)), then(now.size());
  for (size_t e = 0; e < now.size(); ++e) now[e] = {static_cast<uint32_t>(p.given[e]), static_cast<uint32_t>(e)};
  for (int shift = 0; shift < 32 && (p.most - 1) >> shift > 0; shift += kBits) {
    size_t start[kDigits + 1] = {};
    for (const Entry& entry : now) ++start[(entry.key >> shift) % kDigits + 1];
    for (int digit = 0; digit < kDigits; ++digit) start[digit + 1] += start[digit];
    for (const Entry& entry : now) then[start[(entry.key >> shift) % kDigits]++] = entry;
    std::swap(now, then);
  }
  for (size_t e = 0; e < now.size(); ++e) {
    p.classes[e] = now[e].key;
    p.order[e] = now[e].index;
  }
}

}  // namespace

void contrast_order(const ContrastOrder& p) { sort_entries(p); }

void contrast_rows(const ContrastRows& p) { PYGEN_BY_DTYPE(p.dtype, (run_rows<T, Real>(p))) }

void contrast_sums(const ContrastSums& p) {
  if (p.wide_vectors) {
    PYGEN_BY_DTYPE(p.dtype, (run_sums<T, Real, Real>(p)))
  } else {
    PYGEN_BY_DTYPE(p.dtype, (run_sums<T, T, Real>(p)))
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
