// bernoulli_nll on CPUs. Formula: common/bernoulli_nll.h.
// Traffic, fp32, an element with x in bytes: forward reads 5 bytes and, where a gradient will be wanted, writes that in
// the same pass (4), for an upstream gradient of 1; else backward reads 5 and writes 4. About 20 instructions a vector
// for the loss, 30 for both: beyond the caches memory sets the pace.
#include "cpu/bernoulli_nll.h"

#include <limits>

#include "common/bernoulli_nll.h"
#include "cpu/block_io.h"
#include "cpu/loss_sums.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 2048;         // elements; three blocks of scratch fit the L1 and L2 caches
constexpr int64_t kBlocksPerThread = 8;  // about 10 us
using Blocks = RowBlocks<kBlock>;

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
template <class Real>
constexpr int64_t kWidth = sizeof(Vector<Real>) / sizeof(Real);

template <class Real>
struct Scratch {
  alignas(64) Real logits[kBlock], x[kBlock], grad[kBlock];
  alignas(64) uint8_t levels[kBlock];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

template <class Real>
struct Factors {
  Real scale, upstream;  // in this order: forward makes the gradient before it knows the upstream one
};

// x of a vector, out of the dtype that is computed in or out of bytes.
template <class V>
PYGEN_INLINE V load_targets(const typename Lanes<V>::Real* p) {
  return load<V>(p);
}
template <class V>
PYGEN_INLINE V load_targets(const uint8_t* p) {
  if constexpr (sizeof(V) == sizeof(double)) {
    return bernoulli_target<double>(*p);
  } else {
    const VecI level = widen_bytes(p);
    return Lanes<V>::from_bits(Lanes<V>::bits(Lanes<V>::to_real(level)) | (level > 1));  // all ones: NaN
  }
}

// Whole vectors in [0, n): their loss, and their gradient. In runs of one logarithm each; the exponentials of a run
// come first, as the processor overlaps more iterations of two short loops than of one.
template <bool kLoss, bool kGrad, class Real, class X>
PYGEN_INLINE double whole_vectors(const Real* logits, const X* x, int64_t n, Factors<Real> factors, Real* grad) {
  using V = Vector<Real>;
  constexpr int64_t kStep = kWidth<Real>, kRun = Log1pSum<V>::kRun * kStep;
  alignas(64) Real exps[kRun];
  V loss{};
  for (int64_t start = 0; start < n; start += kRun) {
    const int64_t stop = n - start < kRun ? n : start + kRun;
    for (int64_t i = start; i < stop; i += kStep) store(exps + (i - start), exp_minus_abs(load<V>(logits + i)));
    Log1pSum<V> logs;
    V run{};
    for (int64_t i = start; i < stop; i += kStep) {
      const V l = load<V>(logits + i), t = load_targets<V>(x + i), e = load<V>(exps + (i - start));
      if constexpr (kLoss) {
        logs.add(e);
        run += bernoulli_plain_part(l, t);
      }
      if constexpr (kGrad) store(grad + i, V(bernoulli_slope(l, t, e) * factors.scale * factors.upstream));
    }
    if constexpr (kLoss) loss += run + logs.take();
  }
  return sum_lanes(loss);
}

// Of n elements; those beyond the last whole vector go through one whose other lanes add nothing.
template <bool kLoss, bool kGrad, class Real, class X>
__attribute__((noinline)) double terms(const Real* logits, const X* x, int64_t n, Factors<Real> factors, Real* grad) {
  constexpr int64_t kStep = kWidth<Real>;
  const int64_t whole = n / kStep * kStep, left = n - whole;
  double loss = whole_vectors<kLoss, kGrad>(logits, x, whole, factors, grad);
  if (left) {
    alignas(64) Real last[kStep], last_grad[kStep];
    alignas(64) X last_x[kStep] = {};
    std::fill_n(last, kStep, -std::numeric_limits<Real>::infinity());
    std::copy_n(logits + whole, left, last);
    std::copy_n(x + whole, left, last_x);
    loss += whole_vectors<kLoss, kGrad>(last, last_x, kStep, factors, last_grad);
    if (kGrad) std::copy_n(last_grad, left, grad + whole);
  }
  return loss;
}

// The block's levels as bytes, where they lie or in `scratch`: what is no level stays none.
template <class Level>
__attribute__((noinline)) const uint8_t* read_levels(const View& view, int64_t start, int64_t n, uint8_t* scratch) {
  if (n == 0) return scratch;
  if (const uint8_t* there = run_in_place<Level, uint8_t>(view, start, n)) return there;
  const Level* data = static_cast<const Level*>(view.data);
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
    for (int64_t i = 0; i < count; ++i) {
      const Level level = data[offset + i * stride];
      scratch[at + i] = level == 0 ? 0 : level == 1 ? 1 : 2;
    }
  });
  return scratch;
}

template <class Real, class X>
PYGEN_INLINE double terms_of(const BernoulliNll& p, const Real* logits, const X* x, int64_t n, Factors<Real> factors,
                             Real* grad) {
  if (!grad) return terms<true, false>(logits, x, n, factors, grad);
  return p.nll ? terms<true, true>(logits, x, n, factors, grad) : terms<false, true>(logits, x, n, factors, grad);
}

template <class T, class Real>
void run(const BernoulliNll& p) {
  // One sum over all takes blocks that are full, whatever a sample's size.
  const Blocks blocks(p.reduce ? 1 : p.rows, p.reduce ? p.rows * p.cols : p.cols);
  LossSums<Real, Blocks> sums(blocks, p.reduce, p.nll);
  const Real* grad_nll = static_cast<const Real*>(p.grad_nll);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t start = blocks.start(block), n = blocks.size(block);
    const Real* logits = read_block<T>(p.logits, start, n, s.logits);
    const Real* x = p.levels == Levels::None ? read_block<T>(p.x, start, n, s.x) : nullptr;
    const uint8_t* levels = p.levels == Levels::Bytes   ? read_levels<uint8_t>(p.x, start, n, s.levels)
                            : p.levels == Levels::Words ? read_levels<int64_t>(p.x, start, n, s.levels)
                                                        : nullptr;
    Real* grad = p.grad_logits.present() ? block_target<T>(p.grad_logits, start, n, s.grad) : nullptr;
    const int64_t rows = sums.count(block), cols = n / rows;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = p.reduce ? 0 : blocks.first_row(block) + r, at = r * cols;
      const Factors<Real> factors{static_cast<Real>(p.scale), grad_nll ? grad_nll[row * p.grad_nll_stride] : Real(1)};
      Real* to = grad ? grad + at : nullptr;
      sums.put(block, r,
               levels ? terms_of(p, logits + at, levels + at, cols, factors, to)
                      : terms_of(p, logits + at, x + at, cols, factors, to));
    }
    if (grad) write_block<T>(p.grad_logits, start, n, grad);
  });
  sums.finish(p.scale);
}

}  // namespace

void bernoulli_nll(const BernoulliNll& p) { PYGEN_BY_DTYPE(p.dtype, (run<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
