// gated_activation on CPUs. Formula: common/gated_activation.h.
// Traffic, fp32, an output element: forward reads both halves (8 bytes) and writes one number (4); backward reads those
// and the gradient (12) and writes two (8). The gradient of a cond [N, C] is summed in the same pass.
#include "cpu/gated_activation.h"

#include <algorithm>
#include <vector>

#include "common/gated_activation.h"
#include "cpu/block_io.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 1024;         // outputs; the scratch of a block fits the L1 and L2 caches
constexpr int64_t kBlocksPerThread = 4;  // about 8 us of work

template <class Real>
struct Scratch {
  alignas(64) Real a[kBlock], b[kBlock], cond_a[kBlock], cond_b[kBlock], out[kBlock], other[kBlock], grad[kBlock];
  std::vector<double> sums;  // [2, channels]
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

// Both halves of the input with cond added.
template <class T, class Real>
struct Inputs {
  const Real *a, *b;
  Inputs(const GatedActivation& p, int64_t start, int64_t n, Scratch<Real>& s)
      : a(read_block<T>(p.input.a, start, n, s.a)), b(read_block<T>(p.input.b, start, n, s.b)) {
    if (!p.cond.present()) return;
    const Real* cond_a = read_block<T>(p.cond.a, start, n, s.cond_a);
    const Real* cond_b = read_block<T>(p.cond.b, start, n, s.cond_b);
    for (int64_t i = 0; i < n; ++i) {
      s.a[i] = a[i] + cond_a[i];
      s.b[i] = b[i] + cond_b[i];
    }
    a = s.a;
    b = s.b;
  }
};

template <class T, class Real>
void forward(const GatedActivation& p) {
  const int64_t total = p.images * p.blocks * p.channels * p.pixels;
  parallel_blocks((total + kBlock - 1) / kBlock, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t start = block * kBlock, n = std::min(kBlock, total - start);
    const Inputs<T, Real> in(p, start, n, s);
    Real* out = block_target<T>(p.output, start, n, s.out);
    for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
      using V = decltype(zero);
      store(out + i, gate_value(load<V>(in.a + i), load<V>(in.b + i)));
    });
    write_block<T>(p.output, start, n, out);
  });
}

// The gradients of one block of pairs, in a and b.
template <class T, class Real>
PYGEN_INLINE void backward_block(const GatedActivation& p, int64_t start, int64_t n, Scratch<Real>& s, Real*& a,
                                 Real*& b) {
  const Inputs<T, Real> in(p, start, n, s);
  const Real* grad = read_block<T>(p.output, start, n, s.grad);
  const bool needed = p.grad_input.present();
  a = needed ? block_target<T>(p.grad_input.a, start, n, s.out) : s.out;
  b = needed ? block_target<T>(p.grad_input.b, start, n, s.other) : s.other;
  for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    V grad_a, grad_b;
    gate_gradients(load<V>(in.a + i), load<V>(in.b + i), load<V>(grad + i), grad_a, grad_b);
    store(a + i, grad_a);
    store(b + i, grad_b);
  });
  if (needed) {
    write_block<T>(p.grad_input.a, start, n, a);
    write_block<T>(p.grad_input.b, start, n, b);
  }
  if (!p.grad_cond.present()) return;
  for (const auto& [view, from] : {std::pair(&p.grad_cond.a, a), std::pair(&p.grad_cond.b, b)}) {
    Real* to = block_target<T>(*view, start, n, s.grad);
    if (to != s.grad) std::copy_n(from, n, to);
    write_block<T>(*view, start, n, from);
  }
}

// Adds n numbers, of which the first has index `at` in its block of channels and pixels, to the sums of their channels
// (from channel `first` on).
template <class Real>
PYGEN_INLINE void add_to_sums(const GatedActivation& p, int64_t at, int64_t n, int64_t first, const Real* x,
                              double* sums) {
  for (int64_t done = 0; done < n;) {
    if (p.channels_inner) {
      const int64_t c = (at + done) % p.channels, run = std::min(p.channels - c, n - done);
      for (int64_t k = 0; k < run; ++k) sums[c + k] += static_cast<double>(x[done + k]);
      done += run;
    } else {
      const int64_t c = (at + done) / p.pixels, run = std::min((c + 1) * p.pixels - at, n) - done;
      sums[c - first] += sum_block(x + done, run);
      done += run;
    }
  }
}

template <class T, class Real>
void backward(const GatedActivation& p) {
  const int64_t per_block = p.channels * p.pixels, total = p.images * p.blocks * per_block;
  if (!p.cond_sums.present()) {
    parallel_blocks((total + kBlock - 1) / kBlock, kBlocksPerThread, p.threads, [&](int64_t block) {
      const int64_t start = block * kBlock;
      Real *a, *b;
      backward_block<T>(p, start, std::min(kBlock, total - start), scratch<Real>(), a, b);
    });
    return;
  }
  // Units of whole channels: of one block of channels all, or where pixels lie innermost so many as fill some blocks.
  const int64_t fitting = std::max<int64_t>(4 * kBlock / std::max<int64_t>(p.pixels, 1), 1);
  const int64_t wide = p.channels_inner ? p.channels : std::min(fitting, p.channels);
  const int64_t parts = wide ? (p.channels + wide - 1) / wide : 0;
  const int64_t per_thread = 1 + kBlocksPerThread * kBlock / std::max<int64_t>(wide * p.pixels, 1);
  parallel_blocks(p.images * p.blocks * parts, per_thread, p.threads, [&](int64_t unit) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t block = unit / parts, first = unit % parts * wide, count = std::min(wide, p.channels - first);
    s.sums.assign(2 * count, 0.0);
    const int64_t base = block * per_block, end = p.channels_inner ? per_block : (first + count) * p.pixels;
    for (int64_t at = p.channels_inner ? 0 : first * p.pixels; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      Real *a, *b;
      backward_block<T>(p, base + at, n, s, a, b);
      add_to_sums(p, at, n, first, a, s.sums.data());
      add_to_sums(p, at, n, first, b, s.sums.data() + count);
    }
    const View* halves[] = {&p.cond_sums.a, &p.cond_sums.b};
    for (int half = 0; half < 2; ++half) {
      for_each_run(*halves[half], block * p.channels + first, count,
                   [&](int64_t offset, int64_t stride, int64_t at, int64_t run) {
                     T* out = static_cast<T*>(halves[half]->data) + offset;
                     for (int64_t i = 0; i < run; ++i)
                       narrow(static_cast<Real>(s.sums[half * count + at + i]), out + i * stride);
                   });
    }
  });
}

}  // namespace

void gated_activation_forward(const GatedActivation& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }
void gated_activation_backward(const GatedActivation& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
