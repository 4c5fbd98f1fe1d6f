// logistic_mixture_nll on CPUs. Formula: common/logistic_mixture_nll.h.
// Traffic, fp32, a pixel of three channels and K components: forward reads 40 K bytes, backward reads and writes as
// many; exponentials decide: 15 K and 3 K logarithms a pixel, forward as backward.
#include "cpu/logistic_mixture_nll.h"

#include <limits>
#include <vector>

#include "common/logistic_mixture_nll.h"
#include "cpu/block_io.h"
#include "cpu/loss_sums.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 128;          // pixels
constexpr int64_t kBlocksPerThread = 1;  // about 15 us with three channels of ten components
constexpr int kMostChannels = 3;
using Blocks = RowBlocks<kBlock>;

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
template <class Real>
constexpr int kWidth = sizeof(Vector<Real>) / sizeof(Real);

// A vector of pixels: what is read and written, one row of kWidth numbers for each parameter.
template <class Real>
struct Scratch {
  alignas(64) Real nll[kBlock], levels[kMostChannels][kWidth<Real>], upstream[kWidth<Real>];
  std::vector<Real> memory;
  Real *params, *grads, *joint, *prior, *slopes;  // [P], [P], [K], [K], [K, channels, 3]
  int64_t image[kWidth<Real>], position[kWidth<Real>];

  void resize(int64_t num_params, int64_t components, int channels) {
    const int64_t rows = 2 * num_params + components * (2 + 3 * channels);
    if (static_cast<int64_t>(memory.size()) < rows * kWidth<Real> + 16) memory.resize(rows * kWidth<Real> + 16);
    params = reinterpret_cast<Real*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
    grads = params + num_params * kWidth<Real>;
    joint = grads + num_params * kWidth<Real>;
    prior = joint + components * kWidth<Real>;
    slopes = prior + components * kWidth<Real>;
  }
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

template <class V>
PYGEN_INLINE V larger(V x, V y) {
  return Lanes<V>::select(x > y, x, y);
}

// One vector of pixels: their loss and, for an upstream gradient g, what it makes of the parameters. `params` and
// `grads` are rows of kWidth numbers, `stride` and `grad_stride` apart.
template <class Real, bool kGrad>
__attribute__((noinline)) void mixture(const LogisticMixtureNll& p, const Bins<Real>& bins, const Real* params,
                                       int64_t stride, Real* grads, int64_t grad_stride, Scratch<Real>& s, Real* nll) {
  using V = Vector<Real>;
  using L = Lanes<V>;
  constexpr int kRow = kWidth<Real>;
  const int64_t components = p.components;
  const int channels = p.channels, parts = channels == 1 ? 2 : 3;  // of a channel's parameters
  const Real least = static_cast<Real>(p.min_log_scale);
  PixelLevel<V> level[kMostChannels];
  for (int c = 0; c < channels; ++c) level[c] = PixelLevel<V>(load<V>(s.levels[c]), bins);
  const auto row = [&](int64_t j) PYGEN_INLINE_LAMBDA { return load<V>(params + j * stride); };

  V top = V{} - L::kMax, top_logit = top;
  for (int64_t k = 0; k < components; ++k) {
    const V logit = row(k);
    V joint = logit;
    Real* slopes = s.slopes + k * 3 * channels * kRow;
    V tanhs[kMostChannels] = {};
    for (int c = 0; channels == 3 && c < channels; ++c) {
      V slope;
      tanhs[c] = tanh_of(row(components * (3 + 3 * c) + k), slope);
      if (kGrad) store(slopes + (3 * c + 2) * kRow, V(slope * level[c == 2].v));
    }
    for (int c = 0; c < channels; ++c) {
      const int64_t first = components * (1 + parts * c) + k;
      V mean = row(first);
      if (c == 1) mean = mean + tanhs[0] * level[0].v;
      if (c == 2) mean = mean + tanhs[1] * level[0].v + tanhs[2] * level[1].v;
      const V raw = row(first + components);
      const Logistic<V> of = discretised_logistic<kGrad>(level[c], mean, V(L::at_least(raw, least)), bins);
      joint = joint + of.log_p;
      if constexpr (kGrad) {
        store(slopes + 3 * c * kRow, of.to_mean);
        store(slopes + (3 * c + 1) * kRow, of.to_log_scale);
      }
    }
    store(s.joint + k * kRow, joint);
    top = larger(joint, top);
    top_logit = larger(logit, top_logit);
  }

  V sum{}, sum_logits{};
  for (int64_t k = 0; k < components; ++k) {
    const V weight = exp_minus_abs(V(load<V>(s.joint + k * kRow) - top)), prior = exp_minus_abs(V(row(k) - top_logit));
    sum = sum + weight;
    sum_logits = sum_logits + prior;
    store(s.joint + k * kRow,
          weight);  // also without a gradient: else the additions would take in the products that make
    store(s.prior + k * kRow, prior);  // them, and the loss would depend on whether gradients are recorded
  }
  // No component that gives the level any chance at all, and no component.
  constexpr Real kInf = std::numeric_limits<Real>::infinity(), kNan = std::numeric_limits<Real>::quiet_NaN();
  V value = (top_logit - top) + (log_or_nan(sum_logits) - log_or_nan(sum));
  for (int c = 0; c < channels; ++c) value = value - level[c].log_width;
  value = L::select(sum == Real(0), V(V{} + kInf), value);
  store(nll, V(L::select(sum_logits == Real(0), V(V{} + kNan), value)));
  if constexpr (kGrad) {
    // The upstream gradient comes last, as it does where it becomes known after forward has made the gradient for 1.
    const V g = load<V>(s.upstream), by_sum = Real(1) / sum, by_logits = Real(1) / sum_logits;
    const Real scale = static_cast<Real>(p.scale);
    const auto give = [&](int64_t j, V value)
                          PYGEN_INLINE_LAMBDA { store(grads + j * grad_stride, V(value * scale * g)); };
    for (int64_t k = 0; k < components; ++k) {
      const V weight = load<V>(s.joint + k * kRow) * by_sum;
      give(k, load<V>(s.prior + k * kRow) * by_logits - weight);
      const Real* slopes = s.slopes + k * 3 * channels * kRow;
      V to_mean[kMostChannels];
      for (int c = 0; c < channels; ++c) {
        const int64_t first = components * (1 + parts * c) + k;
        to_mean[c] = weight * load<V>(slopes + 3 * c * kRow);
        give(first, to_mean[c]);
        const V to_scale = weight * load<V>(slopes + (3 * c + 1) * kRow);
        give(first + components, L::select(row(first + components) < least, V{}, to_scale));
      }
      for (int c = 0; channels == 3 && c < channels; ++c)
        give(components * (3 + 3 * c) + k, to_mean[c == 0 ? 1 : 2] * load<V>(slopes + (3 * c + 2) * kRow));
    }
  }
}

template <class Real>
PYGEN_INLINE Real scaled_level(const LogisticMixtureNll& p, int64_t at) {
  const int64_t level = p.wide_levels ? static_cast<const int64_t*>(p.x.data)[at]
                                      : static_cast<int64_t>(static_cast<const uint8_t*>(p.x.data)[at]);
  if (level < 0 || level >= p.num_levels) return std::numeric_limits<Real>::quiet_NaN();
  return static_cast<Real>(2 * level - (p.num_levels - 1)) / static_cast<Real>(p.num_levels - 1);
}

// Where pixels [start, start + count) lie, their levels and their upstream gradient.
template <class Real, bool kGrad>
PYGEN_INLINE void read_pixels(const LogisticMixtureNll& p, int64_t start, int64_t count, Scratch<Real>& s) {
  int64_t image = start / p.positions, position = start % p.positions;
  for (int64_t i = 0; i < kWidth<Real>; ++i) {
    s.image[i] = image;
    s.position[i] = position;
    for (int c = 0; c < p.channels; ++c) {
      const int64_t at = image * p.x.image + c * p.x.channel + position * p.x.position;
      s.levels[c][i] = i < count ? scaled_level<Real>(p, at) : Real(0);
    }
    if (kGrad) {
      const Real* g = static_cast<const Real*>(p.grad_nll);
      s.upstream[i] = g ? g[p.reduce ? 0 : image * p.grad_nll_stride] : Real(1);
    }
    if (i + 1 < count && ++position == p.positions) {
      position = 0;
      ++image;
    }
  }
}

// `count` pixels of one image that lie side by side, so that a row is read and written as it lies.
template <class T, class Real>
PYGEN_INLINE bool in_place(const Positions& t, const Scratch<Real>& s, int64_t count) {
  return count == kWidth<Real> && std::is_same_v<T, Real> && (kWidth<Real> == 1 || t.position == 1) &&
         s.image[0] == s.image[count - 1];
}

template <class T, class Real>
PYGEN_INLINE void gather(const Positions& t, int64_t num_params, int64_t count, Scratch<Real>& s) {
  constexpr int kRow = kWidth<Real>;
  if (count < kRow) std::fill_n(s.params, num_params * kRow, Real(0));
  if (t.position == 1 && s.image[0] == s.image[count - 1]) {
    const T* in = t.template place<const T>(s.image[0], s.position[0]);
    for (int64_t j = 0; j < num_params; ++j) widen_run(in + j * t.channel, s.params + j * kRow, count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const T* in = t.template place<const T>(s.image[i], s.position[i]);
    for (int64_t j = 0; j < num_params; ++j) s.params[j * kRow + i] = widen(in[j * t.channel]);
  }
}
template <class T, class Real>
PYGEN_INLINE void scatter(const Positions& t, int64_t num_params, int64_t count, const Scratch<Real>& s) {
  constexpr int kRow = kWidth<Real>;
  if (t.position == 1 && s.image[0] == s.image[count - 1]) {
    T* out = t.template place<T>(s.image[0], s.position[0]);
    for (int64_t j = 0; j < num_params; ++j) narrow_run(s.grads + j * kRow, out + j * t.channel, count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    T* out = t.template place<T>(s.image[i], s.position[i]);
    for (int64_t j = 0; j < num_params; ++j) narrow(s.grads[j * kRow + i], out + j * t.channel);
  }
}

template <class T, class Real, bool kGrad>
PYGEN_INLINE void block_of_pixels(const LogisticMixtureNll& p, const Bins<Real>& bins, int64_t start, int64_t n,
                                  Scratch<Real>& s) {
  constexpr int kRow = kWidth<Real>;
  const int64_t num_params = p.components * (p.channels == 1 ? 3 : 10);
  for (int64_t at = 0; at < n; at += kRow) {
    const int64_t count = std::min<int64_t>(kRow, n - at);
    read_pixels<Real, kGrad>(p, start + at, count, s);
    const Real* params = s.params;
    Real* grads = s.grads;
    int64_t stride = kRow, grad_stride = kRow;
    const bool read_there = in_place<T>(p.params, s, count),
               write_there = kGrad && in_place<T>(p.grad_params, s, count);
    if (read_there) {
      params = p.params.template place<const Real>(s.image[0], s.position[0]);
      stride = p.params.channel;
    } else {
      gather<T>(p.params, num_params, count, s);
    }
    if (write_there) {
      grads = p.grad_params.template place<Real>(s.image[0], s.position[0]);
      grad_stride = p.grad_params.channel;
    }
    mixture<Real, kGrad>(p, bins, params, stride, grads, grad_stride, s, s.nll + at);
    if (kGrad && !write_there) scatter<T>(p.grad_params, num_params, count, s);
  }
}

template <class T, class Real, bool kGrad>
void run(const LogisticMixtureNll& p) {
  const Blocks blocks(p.images, p.positions);
  LossSums<Real, Blocks> sums(blocks, p.reduce, p.nll);
  const Bins<Real> bins(p.num_levels);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    s.resize(p.components * (p.channels == 1 ? 3 : 10), p.components, p.channels);
    const int64_t n = blocks.size(block);
    block_of_pixels<T, Real, kGrad>(p, bins, blocks.start(block), n, s);
    sums.add(block, s.nll);
  });
  sums.finish(p.scale);
}

}  // namespace

void logistic_mixture_nll(const LogisticMixtureNll& p) {
  const bool grad = p.grad_params.data != nullptr;
  PYGEN_BY_DTYPE(p.dtype, (grad ? run<T, Real, true>(p) : run<T, Real, false>(p)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
