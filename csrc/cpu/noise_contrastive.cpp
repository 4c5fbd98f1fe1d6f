// noise_contrastive on CPUs. Formula: pygen/reference/noise_contrastive.py.
// Traffic of a sample: its own D numbers and 1 + K rows of the weights, D T bytes each from anywhere in memory, asked
// for kAhead rows before; where a gradient is wanted they are read again, out of the caches. Multiply-adds are as many
// as numbers read: beyond the caches memory sets the pace. Terms are computed in vectors that several samples share.
#include "cpu/noise_contrastive.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/noise_contrastive_parts.h"
#include "cpu/parallel.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kAhead = 6;              // rows, the next samples' too
constexpr int64_t kSamples = 16;           // of a block
constexpr int64_t kScoresAtOnce = 1024;    // and
constexpr int64_t kBytesAtOnce = 1 << 15;  // of rows, where the gradient's sum reads them again

template <class Real>
PYGEN_INLINE Real sum_run(const Real* x, int64_t n) {
  if (n >= 4 * kWidth<Real>) return static_cast<Real>(sum_block(x, n));
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  return static_cast<Real>(sum);
}

template <class Real>
PYGEN_INLINE Real largest(const Real* x, int64_t n) {
  Vector<Real> most = Vector<Real>{} - Lanes<Real>::kMax;
  Real top = -Lanes<Real>::kMax;
  int64_t i = 0;
  for (; i + kWidth<Real> <= n; i += kWidth<Real>) most = larger(load<Vector<Real>>(x + i), most);
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  if (n < kWidth<Real>) return top;
  const Real lane = largest_lane<Real>(most);
  return lane > top ? lane : top;
}

// Samples at once. A sample's target comes before its negatives, the next sample's after these.
template <class T, class Real>
struct Samples {
  const ContrastRows& p;
  const int64_t first, count;
  const int64_t per, per_read;  // scores of a sample; rows read for it: where negatives are shared the target's alone
  const int64_t room;           // of all scores, in whole vectors
  const T *weight, *bias;
  Real *scores, *terms;  // [room]
  int64_t* classes;      // [count * per_read + kAhead]

  PYGEN_INLINE Samples(const ContrastRows& params, int64_t sample, int64_t samples)
      : p(params),
        first(sample),
        count(samples),
        per(1 + p.negatives),
        per_read(p.shift ? 1 : per),
        room((per * count + kSamples - 1) / kSamples * kSamples),
        weight(static_cast<const T*>(p.weight.data)),
        bias(static_cast<const T*>(p.bias)),
        scores(thread_scratch<Real, 100>(2 * room)),
        terms(scores + room),
        classes(thread_scratch<int64_t, 101>(count * per_read + kAhead)) {
    static_assert(kSamples % kWidth<Real> == 0 && kSamples % 4 == 0);
  }

  PYGEN_INLINE const T* row(int64_t c) const { return weight + c * p.weight.stride; }
  PYGEN_INLINE const int64_t* negatives(int64_t n) const { return p.classes + (p.shift ? 0 : n * p.negatives); }

  // Also of what is asked for ahead. Whether there are all of them; in another's place comes one that there is.
  PYGEN_INLINE bool read_classes() const {
    const int64_t read = count * per_read, stop = std::min(read + kAhead, (p.samples - first) * per_read);
    int64_t n = first, k = 0;
    bool all = true;
    for (int64_t e = 0; e < stop; ++e) {
      const int64_t c = k ? negatives(n)[k - 1] : p.target[n];
      const bool known = static_cast<uint64_t>(c) < static_cast<uint64_t>(p.all);
      all = all && known;
      classes[e] = known ? c : 0;
      if (++k == per_read) ++n, k = 0;
    }
    std::fill(classes + stop, classes + read + kAhead, classes[stop - 1]);
    return all;
  }

  // Of the rows read, to `to`.
  PYGEN_INLINE void make_scores(Real* to) const {
    const int64_t read = count * per_read;
    const T* x = static_cast<const T*>(p.input.data) + first * p.input.stride;
    int64_t k = 0;
    for (int64_t e = 0; e < read; e += 4) {
      Vector<Real> four[4] = {};
      for (int64_t i = 0; i < 4 && e + i < read; ++i) {
        fetch(row(classes[e + i + kAhead]), p.features);
        four[i] = dot_lanes<T, Real>(x, row(classes[e + i]), p.features);
        if (++k == per_read) x += p.input.stride, k = 0;
      }
      sum_lanes_of_four(four, to + e);
    }
    if (bias)
      for (int64_t e = 0; e < read; ++e) to[e] += widen(bias[classes[e]]);
    if (p.log_noise) {
      for (int64_t e = 0; e < read; ++e)
        to[e] -= static_cast<Real>(p.log_noise[classes[e] * p.log_noise_stride] + p.log_count);
    }
  }
  PYGEN_INLINE void all_scores() const {
    constexpr Real kNone = -std::numeric_limits<Real>::infinity();
    make_scores(p.shift ? terms : scores);
    for (int64_t s = 0; s < count; ++s) {
      Real* own = scores + s * per;
      const int64_t n = first + s, *others = negatives(n);
      if (p.shift) {
        const Real *products = static_cast<const Real*>(p.scores) + n * p.negatives,
                   *shift = static_cast<const Real*>(p.shift);
        own[0] = terms[s];
        for (int64_t k = 0; k < p.negatives; ++k) own[1 + k] = products[k] + shift[k];
      }
      if (!p.remove_hits) continue;
      for (int64_t k = 0; k < p.negatives; ++k) own[1 + k] = others[k] == p.target[n] ? kNone : own[1 + k];
    }
    std::fill(scores + per * count, scores + room, Real(0));
  }

  // Scores become their slopes.
  PYGEN_INLINE void logistic(Real* nll) const {
    using V = Vector<Real>;
    for (int64_t s = 0; s < count; ++s) scores[s * per] = -scores[s * per];
    for (int64_t e = 0; e < room; e += kWidth<Real>) {
      const ContrastTerm<V> term = negative_term(load<V>(scores + e));
      store(scores + e, term.slope);
      store(terms + e, term.loss);
    }
    for (int64_t s = 0; s < count; ++s) {
      scores[s * per] = -scores[s * per];
      nll[s] = sum_run(terms + s * per, per);
    }
  }
  PYGEN_INLINE void softmax(Real* nll) const {
    using V = Vector<Real>;
    Real tops[kSamples] = {}, owns[kSamples] = {}, others[kSamples] = {}, inverses[kSamples];
    for (int64_t s = 0; s < count; ++s) {
      Real* of = scores + s * per;
      const Real top = largest(of, per);
      tops[s] = top;
      owns[s] = of[0];
      for (int64_t k = 0; k < per; ++k) of[k] -= top;
    }
    for (int64_t e = 0; e < room; e += kWidth<Real>) store(scores + e, V(exp_minus_abs(load<V>(scores + e))));
    for (int64_t s = 0; s < count; ++s) others[s] = sum_run(scores + s * per + 1, p.negatives);
    for (int64_t s = 0; s < kSamples; s += kWidth<Real>) {
      const auto of = categorical(load<V>(tops + s), load<V>(owns + s), load<V>(others + s));
      store(tops + s, of.nll);
      store(inverses + s, of.inverse);
    }
    for (int64_t s = 0; s < count; ++s) {
      Real* of = scores + s * per;
      of[0] = -others[s];
      for (int64_t k = 0; k < per; ++k) of[k] *= inverses[s];
      nll[s] = tops[s];
    }
  }

  PYGEN_INLINE void keep_slopes() const {
    for (int64_t s = 0; s < count; ++s) {
      const Real* of = scores + s * per;
      static_cast<Real*>(p.slopes)[first + s] = of[0];
      std::copy_n(of + 1, p.negatives, static_cast<Real*>(p.scores) + (first + s) * p.negatives);
      if (!p.grad) continue;
      Real* grad = static_cast<Real*>(p.grad) + (first + s) * p.features;
      const int64_t* own = classes + s * per_read;
      combine<Real>(
          per_read, p.features, [&](int64_t k) PYGEN_INLINE_LAMBDA { return of[k]; },
          [&](int64_t k) PYGEN_INLINE_LAMBDA { return row(own[k]); },
          [&](int64_t j, auto value) PYGEN_INLINE_LAMBDA { store(grad + j, value); });
    }
  }
};

// Returns whether there are all of the classes.
template <class T, class Real>
PYGEN_INLINE bool one_block(const ContrastRows& p, int64_t first, int64_t count, int64_t at_once, double* total) {
  Real nll[kSamples];
  bool all = true;
  for (int64_t s = 0; s < count; s += at_once) {
    const Samples<T, Real> samples(p, first + s, std::min(at_once, count - s));
    all = samples.read_classes() && all;
    samples.all_scores();
    if (p.kind == Contrast::Softmax) {
      samples.softmax(nll + s);
    } else {
      samples.logistic(nll + s);
    }
    if (p.slopes) samples.keep_slopes();
  }
  if (p.nll) std::copy_n(nll, count, static_cast<Real*>(p.nll) + first);
  *total = 0;
  for (int64_t s = 0; s < count; ++s) *total += static_cast<double>(nll[s]);
  return all;
}

template <class T, class Real>
bool run_rows(const ContrastRows& p) {
  const int64_t per = 1 + p.negatives, row = std::max<int64_t>(1, p.features * sizeof(T));
  const int64_t most = p.grad && !p.shift ? std::min(kScoresAtOnce, kBytesAtOnce / row) : kScoresAtOnce;
  const int64_t at_once = std::min(kSamples, std::max<int64_t>(1, most / per));
  const int64_t blocks = (p.samples + kSamples - 1) / kSamples;
  const double of_one = static_cast<double>(p.features + 16) * static_cast<double>(per * kSamples);
  std::vector<double> totals(static_cast<size_t>(blocks));
  std::vector<char> known(totals.size());
  parallel_blocks(blocks, units_per_thread(of_one), p.threads, [&](int64_t b) {
    const int64_t first = b * kSamples, count = std::min(kSamples, p.samples - first);
    known[b] = one_block<T, Real>(p, first, count, at_once, &totals[b]);
  });
  if (std::find(known.begin(), known.end(), 0) != known.end()) return false;
  double total = 0;
  for (const double of_block : totals) total += of_block;
  if (p.total)
    narrow(static_cast<Real>(p.mean ? total / static_cast<double>(p.samples) : total), static_cast<Real*>(p.total));
  return true;
}

}  // namespace

bool contrast_rows(const ContrastRows& p) { PYGEN_BY_DTYPE(p.dtype, (run_rows<T, Real>(p))) return false; }

}  // namespace PYGEN_ISA
}  // namespace pygen
