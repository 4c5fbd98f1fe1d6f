// masked_conv2d on CPUs, gradient of the weight and of the bias.
//     grad_weight[o, i, tap] = sum over n, p of grad[n, o, p] input[n, i, p + offset(tap)]     for live taps, else 0
//     grad_bias[o] = sum over n, p of grad[n, o, p]
// A tile of kWeightVectors registers of output channels by kWeightPairs live (channel, tap) pairs stays in registers
// over the pixels of a strip: 2 loads and 6 broadcasts for 12 multiply-adds (AVX2). The gradient is turned so that
// channels lie side by side; the bias adds the same up without an input. The sum: strips in fixed batches, each batch
// into its own partial sums, those added in order. So it does not depend on threads.
#pragma once

#include "cpu/masked_conv2d_fill.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kWeightVectors = 2;
constexpr int kWeightPairs = kAccumulators / kWeightVectors;
constexpr int64_t kWeightPixels = 288;       // of the gradient, that a tile's strip of it stays in the L1 cache
constexpr int64_t kMostBatches = 16;         // of strips that can run at once
constexpr int64_t kPartialBytes = 16 << 20;  // of all partial sums, where that leaves enough batches
constexpr int64_t kLeastBatches = 4;

// A row's pixels are taken kTerms at a time.
template <class Product>
struct WeightTileArguments {
  const typename Product::Element* grad;  // [kTerms pixels][kWeightChannels]
  const typename Product::Term* input[kWeightPairs];
  int64_t rows, width, pitch;    // of the strip; the inputs' pitch
  typename Product::Real* sums;  // [kPairs][kWeightChannels], added to
};

template <class Real>
constexpr int64_t kWeightChannels = kWeightVectors * kRegLanes<Real>;

template <class Product, int kPairs>
__attribute__((noinline)) void weight_tile(const WeightTileArguments<Product>& a) {
  using Real = typename Product::Real;
  using Element = typename Product::Element;
  using V = Reg<Real>;
  constexpr int64_t kTerms = Product::kTerms;
  V sum[kPairs][kWeightVectors];
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) PYGEN_UNROLL
  for (int v = 0; v < kWeightVectors; ++v) sum[j][v] = V{};
  const Element* grad = a.grad;
  const typename Product::Term* input[kPairs];
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) input[j] = a.input[j];
  const auto add = [&](auto element) PYGEN_INLINE_LAMBDA {
    V g[kWeightVectors];
    PYGEN_UNROLL
    for (int v = 0; v < kWeightVectors; ++v) g[v] = load<V>(grad + v * kRegLanes<Real>);
    grad += kWeightChannels<Real>;
    PYGEN_UNROLL
    for (int j = 0; j < kPairs; ++j) {
      const Element x = element(input[j]);
      PYGEN_UNROLL
      for (int v = 0; v < kWeightVectors; ++v) sum[j][v] = Product::multiply_add(g[v], x, sum[j][v]);
    }
  };
  int64_t at = 0;
  for (int64_t r = 0; r < a.rows; ++r, at += a.pitch - a.width) {
    const int64_t end = at + a.width;
    for (; at + kTerms <= end; at += kTerms)
      add([&](const typename Product::Term* x) PYGEN_INLINE_LAMBDA { return Product::at(x + at); });
    if (at < end) {
      add([&](const typename Product::Term* x) PYGEN_INLINE_LAMBDA { return Product::first_at(x + at); });
      at = end;
    }
  }
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) PYGEN_UNROLL
  for (int v = 0; v < kWeightVectors; ++v) {
    Real* out = a.sums + j * kWeightChannels<Real> + v * kRegLanes<Real>;
    store(out, V(load<V>(out) + sum[j][v]));
  }
}

template <class Product, int... kPairs>
void run_weight_tile(int pairs, const WeightTileArguments<Product>& a, std::integer_sequence<int, kPairs...>) {
  constexpr void (*table[])(const WeightTileArguments<Product>&) = {&weight_tile<Product, kPairs + 1>...};
  table[pairs - 1](a);
}

// Adds up elements of a strip, [element][kWeightChannels], by runs: equal terms would else round the same way all
// along.
template <class Product>
void add_pixels(const typename Product::Element* grad, int64_t elements, typename Product::Real* sums) {
  using Real = typename Product::Real;
  using V = Reg<Real>;
  constexpr int kApart = 4;  // sums side by side, as one addition takes longer than the next to begin
  V strip[kWeightVectors] = {};
  for (int64_t at = 0; at < elements;) {
    const int64_t end = std::min(at + kRun / Product::kTerms, elements);
    V run[kApart][kWeightVectors] = {};
    const auto add = [&](int i) PYGEN_INLINE_LAMBDA {
      PYGEN_UNROLL
      for (int v = 0; v < kWeightVectors; ++v) run[i][v] = Product::add(load<V>(grad + v * kRegLanes<Real>), run[i][v]);
      grad += kWeightChannels<Real>;
    };
    for (; at + kApart <= end; at += kApart) PYGEN_UNROLL
    for (int i = 0; i < kApart; ++i) add(i);
    for (; at < end; ++at) add(0);
    PYGEN_UNROLL
    for (int v = 0; v < kWeightVectors; ++v) strip[v] += (run[0][v] + run[1][v]) + (run[2][v] + run[3][v]);
  }
  PYGEN_UNROLL
  for (int v = 0; v < kWeightVectors; ++v) {
    Real* out = sums + v * kRegLanes<Real>;
    store(out, V(load<V>(out) + strip[v]));
  }
}

// One column of the sums.
struct Pair {
  int64_t channel;
  int tap;
};

// The pairs that are live for output channel `last` or one before it.
std::vector<Pair> pairs_of(const Plan& plan, int64_t last) {
  std::vector<Pair> pairs;
  const int full = static_cast<int>(plan.full_taps());
  const int64_t joined = plan.centre ? plan.joined(last / (plan.targets / plan.groups)).end : 0;
  for (int64_t c = 0; c < plan.sources; ++c)
    for (int t = 0; t < full + (c < joined); ++t) pairs.push_back({c, t});
  return pairs;
}

// A row of four of the gradient's channels, whose pixels follow each other, kTerms pixels to an element, `wide`
// elements from one to the next.
template <class T, class Product>
void turn_four(const T* row, int64_t channel, int64_t width, typename Product::Element* out, int64_t wide) {
  constexpr int64_t kTerms = Product::kTerms;
  if constexpr (sizeof(T) * kTerms == 4) {
    const int64_t whole = width / kTerms;
    join_words(row, sizeof(T) * channel, whole, out, 4 * wide);
    if constexpr (kTerms == 2) {
      for (int64_t k = 0; width % kTerms && k < 4; ++k)
        out[whole * wide + k] = Product::of(row[k * channel + width - 1], {});
    }
  } else if constexpr (sizeof(T) == 2) {
    float rows[4][kTurnPixels];
    for (int64_t x = 0; x < width; x += kTurnPixels) {
      const int64_t count = std::min(kTurnPixels, width - x);
      for (int64_t k = 0; k < 4; ++k) widen_run(row + k * channel + x, rows[k], count);
      join_words(rows, sizeof rows[0], count, out + x * wide, 4 * wide);
    }
  } else {
    for (int64_t x = 0; x < width; ++x)
      for (int64_t k = 0; k < 4; ++k) out[x * wide + k] = row[k * channel + x];
  }
}

// Rows of the gradient's channels [o, o + kWeightChannels), kTerms pixels to an element, channels side by side; zeros
// for what is not there.
template <class T, class Product>
void turn_strip(const Tensor4& grad, int64_t n, int64_t row, int64_t rows, int64_t width, int64_t o, int64_t channels,
                typename Product::Element* out) {
  constexpr int64_t kWide = kWeightChannels<typename Product::Real>, kTerms = Product::kTerms;
  const int64_t *s = grad.strides, there = std::min(kWide, channels - o);
  const T* base = static_cast<const T*>(grad.data) + n * s[0] + o * s[1] + row * s[2];
  const auto element = [&](const T* at, int64_t x) PYGEN_INLINE_LAMBDA {
    if constexpr (kTerms == 1) {
      return widen(*at);
    } else {
      return Product::of(*at, x + 1 < width ? at[s[3]] : T{});
    }
  };
  for (int64_t r = 0; r < rows; ++r, base += s[2], out += (width + kTerms - 1) / kTerms * kWide) {
    int64_t done = 0;
    if (s[1] == 1 && there == kWide) {
      for (int64_t x = 0; x < width; x += kTerms) {
        auto* pixel = out + x / kTerms * kWide;
        if constexpr (kTerms == 1) {
          widen_run(base + x * s[3], pixel, kWide);
        } else {
          for (int64_t k = 0; k < kWide; ++k) pixel[k] = element(base + x * s[3] + k, x);
        }
      }
      continue;
    }
    for (; s[3] == 1 && done + 4 <= there; done += 4)
      turn_four<T, Product>(base + done * s[1], s[1], width, out + done, kWide);
    for (int64_t x = 0; done < kWide && x < width; x += kTerms)
      for (int64_t k = done; k < kWide; ++k)
        out[x / kTerms * kWide + k] = k < there ? element(base + k * s[1] + x * s[3], x) : 0;
  }
}

template <class T, class Product>
void grad_weight(const MaskedConv2d& p) {
  using Real = typename Product::Real;
  using Element = typename Product::Element;
  using Term = typename Product::Term;
  constexpr int64_t kWide = kWeightChannels<Real>;
  const Plan plan(p, false);
  const int64_t H = p.height, W = p.width, blocks = (p.out_channels + kWide - 1) / kWide;
  std::vector<std::vector<Pair>> pairs;
  std::vector<int64_t> sums_at(1, 0);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t last = std::min((b + 1) * kWide, p.out_channels) - 1;
    pairs.push_back(pairs_of(plan, last));
    const int64_t padded = (pairs[b].size() + kWeightPairs - 1) / kWeightPairs * kWeightPairs;
    sums_at.push_back(sums_at[b] + (padded + 1) * kWide);  // the bias's are the last
  }
  const int64_t sums_size = sums_at[blocks];

  const bool empty = p.batch == 0 || H == 0 || W == 0;
  const int64_t rows = empty ? 1 : best_rows(H, kWeightPixels * Product::kTerms / W, [&](int64_t r) {
    return r + 0.3 * (plan.above + plan.below) + 2;
  });
  const int64_t strips = (H + rows - 1) / rows, units = empty ? 0 : p.batch * strips;
  const int64_t fitting = kPartialBytes / std::max<int64_t>(sums_size * sizeof(Real), 1);
  const int64_t batches = std::min(units, std::clamp(fitting, kLeastBatches, kMostBatches));
  const int64_t columns_of_row = (W + Product::kTerms - 1) / Product::kTerms;
  const StripLayout full(plan, W, rows, plan.right + Product::kTerms - 1, 64 / sizeof(Term));
  std::vector<int64_t> offsets;
  for (const Plan::Tap& tap : plan.taps) offsets.push_back(full.offset(plan, tap));
  Real* partials = thread_scratch<Real, 2>(batches * sums_size);

  const double work = static_cast<double>(sums_size) * rows * W * units / std::max<int64_t>(batches, 1);
  parallel_blocks(batches, units_per_thread(work), p.threads, [&](int64_t batch) {
    Real* sums = partials + batch * sums_size;
    std::fill_n(sums, sums_size, Real(0));
    Term* planes = thread_scratch<Term, 1>(full.plane * plan.sources);
    Element* turned = thread_scratch<Element, 3>(rows * columns_of_row * kWide);
    for (int64_t unit = batch * units / batches; unit < (batch + 1) * units / batches; ++unit) {
      const int64_t n = unit / strips, row = unit % strips * rows;
      StripLayout strip = full;
      strip.rows = std::min(rows, H - row);
      fill_channels<T>(p.input, plan, strip, n, row, H, W, 0, plan.sources, planes);
      for (int64_t b = 0; b < blocks; ++b) {
        turn_strip<T, Product>(p.output, n, row, strip.rows, W, b * kWide, p.out_channels, turned);
        if (p.bias != nullptr) add_pixels<Product>(turned, strip.rows * columns_of_row, sums + sums_at[b + 1] - kWide);
        WeightTileArguments<Product> a{turned, {}, strip.rows, W, strip.pitch, sums + sums_at[b]};
        const std::vector<Pair>& columns = pairs[b];
        const int64_t count = static_cast<int64_t>(columns.size());
        for (int64_t j = 0; j < count; j += kWeightPairs, a.sums += kWeightPairs * kWide) {
          const int wide = static_cast<int>(std::min<int64_t>(kWeightPairs, count - j));
          for (int k = 0; k < wide; ++k) {
            const Pair& pair = columns[j + k];
            a.input[k] = planes + pair.channel * full.plane + offsets[pair.tap];
          }
          run_weight_tile<Product>(wide, a, std::make_integer_sequence<int, kWeightPairs>());
        }
      }
    }
  });

  T *weight = static_cast<T*>(p.weight.data), *bias = static_cast<T*>(p.bias);
  const int64_t area = p.kernel_height * p.kernel_width, outs_per_group = p.out_channels / plan.groups;
  const double adds = static_cast<double>(sums_size) * batches / std::max<int64_t>(blocks, 1);
  parallel_blocks(blocks, units_per_thread(8 * adds), p.threads, [&](int64_t b) {
    const int64_t first = b * kWide, there = std::min(kWide, p.out_channels - first);
    T* out = weight + first * plan.sources * area;
    if (plan.sources) std::memset(static_cast<void*>(out), 0, there * plan.sources * area * sizeof(T));
    Real total[kWide];
    const auto add_up = [&](const Real* column) {
      std::fill_n(total, kWide, Real(0));
      for (int64_t k = 0; k < batches; ++k)
        for (int64_t o = 0; o < kWide; ++o) total[o] += column[k * sums_size + o];
    };
    const Real* column = partials + sums_at[b];
    for (const Pair& pair : pairs[b]) {
      add_up(column);
      column += kWide;
      for (int64_t o = 0; o < there; ++o) {
        if (pair.tap < plan.full_taps() || pair.channel < plan.joined((first + o) / outs_per_group).end) {
          narrow(total[o], out + (o * plan.sources + pair.channel) * area + plan.taps[pair.tap].index);
        }
      }
    }
    if (bias == nullptr) return;
    add_up(partials + sums_at[b + 1] - kWide);
    for (int64_t o = 0; o < there; ++o) narrow(total[o], bias + first + o);
  });
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
