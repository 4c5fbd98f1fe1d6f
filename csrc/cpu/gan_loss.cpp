// gan_loss on CPUs. Formula: common/gan_loss.h.
// Traffic, fp32, a logit: forward reads it (4 bytes) and, where a gradient will be wanted, writes that in the same pass
// (4), for an upstream gradient of 1, which is what losses get; then backward has nothing to do. Else backward reads
// and writes (8). relativistic_average reads once more in forward, for the means, and goes over its gradients again,
// which hold the sums of slopes. The softplus forms take 20 instructions a vector, the others 5.
#include "cpu/gan_loss.h"

#include <algorithm>

#include "cpu/gan_loss_block.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 2048;          // logits; five blocks of scratch fit the L1 and L2 caches
constexpr int64_t kBlocksPerThread = 16;  // about 12 us of work in the softplus forms, 3 in the others

template <class Real>
struct Scratch {
  alignas(64) Real x[kBlock], other[kBlock], upstream[kBlock], out[kBlock], other_out[kBlock];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

// The segments' blocks, numbered through.
struct Blocks {
  std::vector<int64_t> first;
  explicit Blocks(const std::vector<GanSegment>& segments) : first{0} {
    for (const GanSegment& s : segments) first.push_back(first.back() + (s.numel + kBlock - 1) / kBlock);
  }
  int64_t count() const { return first.back(); }
  template <class Body>  // body(segment, block, start, n)
  void run(const std::vector<GanSegment>& segments, int threads, const Body& body) const {
    parallel_blocks(count(), kBlocksPerThread, threads, [&](int64_t block) {
      size_t i = 0;
      while (block >= first[i + 1]) ++i;
      const int64_t start = (block - first[i]) * kBlock, left = segments[i].numel - start;
      body(i, block, start, left < kBlock ? left : kBlock);
    });
  }
  // The blocks' sums of each segment, in order.
  std::vector<double> total(const std::vector<double>& partial) const {
    std::vector<double> sums(first.size() - 1, 0.0);
    for (size_t i = 0; i < sums.size(); ++i)
      for (int64_t b = first[i]; b < first[i + 1]; ++b) sums[i] += partial[b];
    return sums;
  }
};

template <class Call>
PYGEN_INLINE void with_form(GanForm form, Call call) {
  switch (form) {
    case GanForm::Softplus:
      return call(std::integral_constant<GanForm, GanForm::Softplus>());
    case GanForm::SmoothedSoftplus:
      return call(std::integral_constant<GanForm, GanForm::SmoothedSoftplus>());
    case GanForm::Hinge:
      return call(std::integral_constant<GanForm, GanForm::Hinge>());
    case GanForm::Square:
      return call(std::integral_constant<GanForm, GanForm::Square>());
    case GanForm::Linear:
      return call(std::integral_constant<GanForm, GanForm::Linear>());
  }
}

// A block's values, where they lie or in `scratch`; and back. Out of line: there are many calls and dtypes.
template <class T, class Real>
PYGEN_APART const Real* values(const View& view, int64_t start, int64_t n, Real* scratch) {
  return read_block<T>(view, start, n, scratch);
}
template <class T, class Real>
PYGEN_APART void write(const View& view, int64_t start, int64_t n, const Real* block) {
  write_block<T>(view, start, n, block);
}

template <class Real>
PYGEN_APART double block_sum(const Real* x, int64_t n) {
  return sum_block(x, n);
}

template <class T, class Real>
PYGEN_INLINE Block<Real> read(const GanSegment& segment, int64_t start, int64_t n, Real mean, Scratch<Real>& s) {
  const Real* x = values<T>(segment.x, start, n, s.x);
  if (segment.other.present()) {  // here, as the loops read it twice, and would ask at every vector
    const Real* other = values<T>(segment.other, start, n, s.other);
    for (int64_t j = 0; j < n; ++j) s.x[j] = x[j] - other[j];
    x = s.x;
  }
  return {segment, x, mean, n};
}

// The mean of each segment's logits.
template <class T, class Real>
std::vector<double> means(const GanLossParams& p, const Blocks& blocks) {
  std::vector<double> partial(blocks.count());
  blocks.run(p.segments, p.threads, [&](size_t i, int64_t block, int64_t start, int64_t n) {
    partial[block] = block_sum(values<T>(p.segments[i].x, start, n, scratch<Real>().x), n);
  });
  std::vector<double> sums = blocks.total(partial);
  for (size_t i = 0; i < sums.size(); ++i)
    sums[i] /= static_cast<double>(p.segments[i].numel > 0 ? p.segments[i].numel : 1);
  return sums;
}

// With relativistic_average x also moves its mean, which the terms of the other side `o` subtract: what that adds to
// the gradient of each x.
template <class Real>
Real through_mean(const GanSegment& s, const GanSegment& o, double slopes) {
  return static_cast<Real>(-o.sign * o.weight * slopes / static_cast<double>(s.numel));
}

// Where a block's gradient is computed; nullptr where nobody wants one.
template <class T, class Real>
PYGEN_INLINE Real* gradient_target(const GanSegment& segment, int64_t start, int64_t n, Scratch<Real>& s) {
  if (segment.grad.present()) return block_target<T>(segment.grad, start, n, s.out);
  return segment.other_grad.present() ? s.out : nullptr;
}
template <class T, class Real>
PYGEN_INLINE void write_gradient(const GanSegment& segment, int64_t start, int64_t n, const Real* grad,
                                 Scratch<Real>& s) {
  if (segment.grad.present()) write<T>(segment.grad, start, n, grad);
  if (!segment.other_grad.present()) return;
  Real* other = block_target<T>(segment.other_grad, start, n, s.other_out);
  for (int64_t j = 0; j < n; ++j) other[j] = -grad[j];
  write<T>(segment.other_grad, start, n, other);
}

template <GanForm kForm, bool kStats, bool kSlopes, class Real>
PYGEN_INLINE Sums sum_terms(const Block<Real>& b, Real factor, Real* grad) {
  if constexpr (kForm == GanForm::Linear) {  // nothing but a sum, which then runs as fast as memory
    Sums sums;
    if constexpr (kStats) sums = sum_block_terms<kForm, true, false, false>(b, factor, grad);
    sums.value = b.segment.sign * block_sum(b.x, b.n);
    if (grad) std::fill(grad, grad + b.n, factor + Real(0));
    return sums;
  }
  return grad ? sum_block_terms<kForm, kStats, kSlopes, true>(b, factor, grad)
              : sum_block_terms<kForm, kStats, kSlopes, false>(b, factor, grad);
}

// Turns the slopes that the pass over relativistic_average's logits left in the gradients into these.
template <class Real>
void finish_gradients(const GanLossForward& p, const Blocks& blocks) {
  const Real* reused = static_cast<const Real*>(p.reused);
  blocks.run(p.segments, p.threads, [&](size_t i, int64_t, int64_t start, int64_t n) {
    const GanSegment &segment = p.segments[i], &o = p.segments[segment.opposite];
    if (!segment.grad.present()) return;
    const double slopes = static_cast<double>(reused[4 * segment.member + 2 + o.side]);
    const Real constant = through_mean<Real>(segment, o, slopes);
    const Real factor = static_cast<Real>(segment.sign * segment.weight);
    Scratch<Real>& s = scratch<Real>();
    const Real* slope = values<Real>(segment.grad, start, n, s.out);
    Real* grad = block_target<Real>(segment.grad, start, n, s.out);
    for (int64_t j = 0; j < n; ++j) grad[j] = slope[j] * factor + constant;
    write<Real>(segment.grad, start, n, grad);
  });
}

template <class T, class Real>
void forward(const GanLossForward& p) {
  const Blocks blocks(p.segments);
  const bool average = p.other == GanOther::Mean;
  const std::vector<double> mean = average ? means<T, Real>(p, blocks) : std::vector<double>();
  const bool reduce = p.loss != nullptr, stats = p.stats != nullptr;
  const bool sum = reduce || stats || average;
  std::vector<Sums> partial(sum ? blocks.count() : 0);
  const bool pairs = stats && p.other == GanOther::Pair;
  std::vector<double> pair_x(pairs ? blocks.count() : 0);
  blocks.run(p.segments, p.threads, [&](size_t i, int64_t block, int64_t start, int64_t n) {
    const GanSegment& segment = p.segments[i];
    Scratch<Real>& s = scratch<Real>();
    const Block<Real> b = read<T>(segment, start, n, average ? static_cast<Real>(mean[segment.opposite]) : Real(0), s);
    Real* grad = gradient_target<T>(segment, start, n, s);
    const Real factor = average ? Real(1) : static_cast<Real>(segment.sign * segment.weight);
    with_form(segment.form, [&](auto form) {
      constexpr GanForm kForm = decltype(form)::value;
      if (segment.out.present()) {
        Real* out = block_target<Real>(segment.out, start, n, s.out);
        store_terms<kForm>(b, static_cast<Real>(segment.weight), out);
        write<Real>(segment.out, start, n, out);
      }
      if (!sum) return;
      if constexpr (kForm == GanForm::Softplus) {
        if (average) {
          partial[block] =
              stats ? sum_terms<kForm, true, true>(b, factor, grad) : sum_terms<kForm, false, true>(b, factor, grad);
          return;
        }
      }
      partial[block] =
          stats ? sum_terms<kForm, true, false>(b, factor, grad) : sum_terms<kForm, false, false>(b, factor, grad);
    });
    if (grad) write_gradient<T>(segment, start, n, grad, s);
    if (pairs) {  // of the logits, not of their differences
      partial[block].x = block_sum(values<T>(segment.x, start, n, s.x), n);
      pair_x[block] = block_sum(values<T>(segment.other, start, n, s.other), n);
    }
  });
  double loss = 0, totals[4] = {};
  bool unfinished = false;
  for (size_t i = 0; sum && i < p.segments.size(); ++i) {
    const GanSegment& segment = p.segments[i];
    Sums sums;
    double other_x = 0;
    for (int64_t b = blocks.first[i]; b < blocks.first[i + 1]; ++b) {
      sums += partial[b];
      if (pairs) other_x += pair_x[b];
    }
    if (segment.numel > 0) loss += sums.value * segment.weight;
    const double n = static_cast<double>(segment.numel);
    totals[segment.side] += sums.x / n;
    totals[2 + segment.side] += sums.right / n;
    if (pairs) {
      totals[1] += other_x / n;
      totals[3] += sums.right / n;
    }
    if (average) {
      Real* reused = static_cast<Real*>(p.reused) + 4 * segment.member + segment.side;
      reused[0] = static_cast<Real>(mean[i]);
      reused[2] = static_cast<Real>(sums.slope);
      unfinished = unfinished || segment.grad.present();
    }
  }
  if (reduce) *static_cast<Real*>(p.loss) = static_cast<Real>(loss);
  for (int j = 0; stats && j < 4; ++j) static_cast<Real*>(p.stats)[j] = static_cast<Real>(totals[j] / p.members);
  if constexpr (std::is_same_v<T, Real>) {
    if (unfinished) finish_gradients<Real>(p, blocks);
  }
}

// With relativistic_average and gradients of single terms: the sums of slopes times upstream, which forward could not
// know.
template <class T, class Real>
std::vector<double> weighted_slopes(const GanLossBackward& p, const Blocks& blocks) {
  std::vector<double> partial(blocks.count());
  const Real* reused = static_cast<const Real*>(p.reused);
  blocks.run(p.segments, p.threads, [&](size_t i, int64_t block, int64_t start, int64_t n) {
    const GanSegment& segment = p.segments[i];
    if (!segment.upstream.present()) return;
    Scratch<Real>& s = scratch<Real>();
    const Block<Real> b = read<T>(segment, start, n, reused[4 * segment.member + 1 - segment.side], s);
    const Real* upstream = values<Real>(segment.upstream, start, n, s.upstream);
    store_gradients<GanForm::Softplus, true>(b, upstream, Real(1), Real(0), Real(1), s.out);
    partial[block] = block_sum(s.out, n);
  });
  return blocks.total(partial);
}

template <class T, class Real>
void backward(const GanLossBackward& p) {
  const Blocks blocks(p.segments);
  const bool average = p.other == GanOther::Mean, reduce = p.grad_loss != nullptr;
  const Real whole = reduce ? *static_cast<const Real*>(p.grad_loss) : Real(1);
  const Real* reused = static_cast<const Real*>(p.reused);
  const std::vector<double> sums = average && !reduce ? weighted_slopes<T, Real>(p, blocks) : std::vector<double>();
  blocks.run(p.segments, p.threads, [&](size_t i, int64_t, int64_t start, int64_t n) {
    const GanSegment& segment = p.segments[i];
    Scratch<Real>& s = scratch<Real>();
    Real* grad = gradient_target<T>(segment, start, n, s);
    if (!grad) return;
    Real mean = 0, constant = 0;
    if (average) {
      const GanSegment& o = p.segments[segment.opposite];
      mean = reused[4 * segment.member + 1 - segment.side];
      const double slopes =
          reduce ? static_cast<double>(reused[4 * segment.member + 2 + o.side]) : sums[segment.opposite];
      constant = through_mean<Real>(segment, o, slopes);
    }
    if (!reduce && !segment.upstream.present()) {  // terms that nothing uses: what they hold, NaN too, does not matter
      std::fill(grad, grad + n, constant);
    } else {
      const Block<Real> b = read<T>(segment, start, n, mean, s);
      const Real* upstream = reduce ? nullptr : values<Real>(segment.upstream, start, n, s.upstream);
      const Real factor = static_cast<Real>(segment.sign * segment.weight);
      with_form(segment.form, [&](auto form) {
        constexpr GanForm kForm = decltype(form)::value;
        if (upstream) {
          store_gradients<kForm, true>(b, upstream, factor, constant, whole, grad);
        } else {
          store_gradients<kForm, false>(b, upstream, factor, constant, whole, grad);
        }
      });
    }
    write_gradient<T>(segment, start, n, grad, s);
  });
}

}  // namespace

void gan_loss_forward(const GanLossForward& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }
void gan_loss_backward(const GanLossBackward& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
