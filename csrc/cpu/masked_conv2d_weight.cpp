// masked_conv2d on CPUs, gradient of the weight and of the bias.
//     grad_weight[o, i, tap] = sum over n, p of grad[n, o, p] input[n, i, p + offset(tap)]     for live taps, else 0
//     grad_bias[o] = sum over n, p of grad[n, o, p]
// A tile of kTileVectors registers of output channels by kTilePairs live (channel, tap) pairs stays in registers over
// the pixels of a strip: 2 loads and 6 broadcasts for 12 multiply-adds (AVX2). The gradient is turned so that channels
// lie side by side; the bias adds the same up without an input. The sum: strips in fixed batches, each batch into its
// own partial sums, those added in order. So it does not depend on threads.
#include "cpu/masked_conv2d_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 2;
constexpr int kTilePairs = kAccumulators / kTileVectors;
constexpr int64_t kStripPixels = 288;        // of the gradient, that a tile's strip of it stays in the L1 cache
constexpr int64_t kMostBatches = 16;         // of strips that can run at once
constexpr int64_t kPartialBytes = 16 << 20;  // of all partial sums, where that leaves enough batches
constexpr int64_t kLeastBatches = 4;

template <class Real>
struct TileArguments {
  const Real* grad;  // [pixel][kTileChannels]
  const Real* input[kTilePairs];
  int64_t rows, width, pitch;  // of the strip; the inputs' pitch
  Real* sums;                  // [kPairs][kTileChannels], added to
};

template <class Real>
constexpr int64_t kTileChannels = kTileVectors * kRegLanes<Real>;

template <class Real, int kPairs>
__attribute__((noinline)) void tile(const TileArguments<Real>& a) {
  using V = Reg<Real>;
  V sum[kPairs][kTileVectors];
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) sum[j][v] = V{};
  const Real* grad = a.grad;
  const Real* input[kPairs];
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) input[j] = a.input[j];
  int64_t at = 0;
  for (int64_t r = 0; r < a.rows; ++r, at += a.pitch - a.width) {
    for (const int64_t end = at + a.width; at < end; ++at, grad += kTileChannels<Real>) {
      V g[kTileVectors];
      PYGEN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) g[v] = load<V>(grad + v * kRegLanes<Real>);
      PYGEN_UNROLL
      for (int j = 0; j < kPairs; ++j) {
        const Real x = input[j][at];
        PYGEN_UNROLL
        for (int v = 0; v < kTileVectors; ++v) sum[j][v] += g[v] * x;
      }
    }
  }
  PYGEN_UNROLL
  for (int j = 0; j < kPairs; ++j) PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) {
    Real* out = a.sums + j * kTileChannels<Real> + v * kRegLanes<Real>;
    store(out, V(load<V>(out) + sum[j][v]));
  }
}

template <class Real, int... kPairs>
void run_tile(int pairs, const TileArguments<Real>& a, std::integer_sequence<int, kPairs...>) {
  constexpr void (*table[])(const TileArguments<Real>&) = {&tile<Real, kPairs + 1>...};
  table[pairs - 1](a);
}

// Adds up pixels of a strip, [pixel][kTileChannels], by runs: equal terms would else round the same way all along.
template <class Real>
void add_pixels(const Real* grad, int64_t pixels, Real* sums) {
  using V = Reg<Real>;
  constexpr int kApart = 4;  // sums side by side, as one addition takes longer than the next to begin
  V strip[kTileVectors] = {};
  for (int64_t at = 0; at < pixels;) {
    const int64_t end = std::min(at + kRun, pixels);
    V run[kApart][kTileVectors] = {};
    const auto add = [&](int i) PYGEN_INLINE_LAMBDA {
      PYGEN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) run[i][v] += load<V>(grad + v * kRegLanes<Real>);
      grad += kTileChannels<Real>;
    };
    for (; at + kApart <= end; at += kApart) PYGEN_UNROLL
    for (int i = 0; i < kApart; ++i) add(i);
    for (; at < end; ++at) add(0);
    PYGEN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) strip[v] += (run[0][v] + run[1][v]) + (run[2][v] + run[3][v]);
  }
  PYGEN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) {
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

// Rows of the gradient's channels [o, o + kTileChannels), channels side by side, zeros for those that are not there.
template <class T, class Real>
void turn_strip(const Tensor4& grad, int64_t n, int64_t row, int64_t rows, int64_t width, int64_t o, int64_t channels,
                Real* out) {
  constexpr int64_t kWide = kTileChannels<Real>;
  const int64_t *s = grad.strides, there = std::min(kWide, channels - o);
  const T* base = static_cast<const T*>(grad.data) + n * s[0] + o * s[1] + row * s[2];
  for (int64_t r = 0; r < rows; ++r, base += s[2]) {
    for (int64_t x = 0; x < width; ++x, out += kWide) {
      if (there == kWide) {
        for (int64_t k = 0; k < kWide; ++k) out[k] = widen(base[k * s[1] + x * s[3]]);
      } else {
        for (int64_t k = 0; k < kWide; ++k) out[k] = k < there ? widen(base[k * s[1] + x * s[3]]) : Real(0);
      }
    }
  }
}

template <class T, class Real>
void grad_weight(const MaskedConv2d& p) {
  constexpr int64_t kWide = kTileChannels<Real>;
  const Plan plan(p, false);
  const int64_t H = p.height, W = p.width, blocks = (p.out_channels + kWide - 1) / kWide;
  std::vector<std::vector<Pair>> pairs;
  std::vector<int64_t> sums_at(1, 0);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t last = std::min((b + 1) * kWide, p.out_channels) - 1;
    pairs.push_back(pairs_of(plan, last));
    const int64_t padded = (pairs[b].size() + kTilePairs - 1) / kTilePairs * kTilePairs;
    sums_at.push_back(sums_at[b] + (padded + 1) * kWide);  // the bias's are the last
  }
  const int64_t sums_size = sums_at[blocks];

  const bool empty = p.batch == 0 || H == 0 || W == 0;
  const int64_t rows =
      empty ? 1 : best_rows(H, kStripPixels / W, [&](int64_t r) { return r + 0.3 * (plan.above + plan.below) + 2; });
  const int64_t strips = (H + rows - 1) / rows, units = empty ? 0 : p.batch * strips;
  const int64_t fitting = kPartialBytes / std::max<int64_t>(sums_size * sizeof(Real), 1);
  const int64_t batches = std::min(units, std::clamp(fitting, kLeastBatches, kMostBatches));
  const StripLayout full(plan, W, rows, plan.right, 64 / sizeof(Real));
  std::vector<int64_t> offsets;
  for (const Plan::Tap& tap : plan.taps) offsets.push_back(full.offset(plan, tap));
  Real* partials = thread_scratch<Real, 2>(batches * sums_size);

  const double work = static_cast<double>(sums_size) * rows * W * units / std::max<int64_t>(batches, 1);
  parallel_blocks(batches, units_per_thread(work), p.threads, [&](int64_t batch) {
    Real* sums = partials + batch * sums_size;
    std::fill_n(sums, sums_size, Real(0));
    Real* planes = thread_scratch<Real, 1>(full.plane * plan.sources + rows * W * kWide);
    Real* turned = planes + full.plane * plan.sources;
    for (int64_t unit = batch * units / batches; unit < (batch + 1) * units / batches; ++unit) {
      const int64_t n = unit / strips, row = unit % strips * rows;
      StripLayout strip = full;
      strip.rows = std::min(rows, H - row);
      fill_strip<T>(p.input, plan, strip, n, row, H, W, planes);
      for (int64_t b = 0; b < blocks; ++b) {
        turn_strip<T>(p.output, n, row, strip.rows, W, b * kWide, p.out_channels, turned);
        if (p.bias != nullptr) add_pixels(turned, strip.rows * W, sums + sums_at[b + 1] - kWide);
        TileArguments<Real> a{turned, {}, strip.rows, W, strip.pitch, sums + sums_at[b]};
        const std::vector<Pair>& columns = pairs[b];
        const int64_t count = static_cast<int64_t>(columns.size());
        for (int64_t j = 0; j < count; j += kTilePairs, a.sums += kTilePairs * kWide) {
          const int wide = static_cast<int>(std::min<int64_t>(kTilePairs, count - j));
          for (int k = 0; k < wide; ++k) {
            const Pair& pair = columns[j + k];
            a.input[k] = planes + pair.channel * full.plane + offsets[pair.tap];
          }
          run_tile<Real>(wide, a, std::make_integer_sequence<int, kTilePairs>());
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

void masked_conv2d_grad_weight(const MaskedConv2d& p) { PYGEN_BY_DTYPE(p.dtype, (grad_weight<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
