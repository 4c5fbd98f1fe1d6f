// masked_conv2d on CPUs by minimal filtering. A strip of rows is split into even and odd columns, which follow each
// other without gaps, rows or not, and are cut into tiles of registers. Of a tile, sums and differences are packed
// chunk by chunk into the L1 cache, where they stay while the weights of all target channels stream by.
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include "cpu/masked_conv2d_fill.h"
#include "cpu/masked_conv2d_winograd_pack.h"
#include "cpu/masked_conv2d_write.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kStripBytes = 384 << 10;  // of split source
constexpr int64_t kChunk = 224;             // steps of packed source that stay in the L1 cache

// Weights of some source channels and one block of target channels, [step][channel].
template <class T, class Real>
Real* pack_weights(const MaskedConv2d& p, const Plan& plan, const std::vector<Product>& products, Range sources,
                   const Block& block, Real* out) {
  const int64_t* s = p.weight.strides;
  const int64_t to_target = plan.flip ? s[1] : s[0], to_source = plan.flip ? s[0] : s[1];
  const T* base = static_cast<const T*>(p.weight.data) + block.channel * to_target;
  std::vector<std::array<int64_t, 3>> taps(products.size());  // where a product's lie, divided out once
  for (size_t i = 0; i < products.size(); ++i)
    for (int k = 0; k < products[i].count; ++k)
      taps[i][k] = products[i].index[k] / p.kernel_width * s[2] + products[i].index[k] % p.kernel_width * s[3];
  for (int64_t c = sources.begin; c < sources.end; ++c)
    for (size_t i = 0; i < products.size(); ++i) {
      const T* from = base + c * to_source;
      for (int o = 0; o < block.channels; ++o, from += to_target) {
        Real sum = 0;
        for (int k = 0; k < products[i].count; ++k) sum += Real(products[i].coefficient[k]) * widen(from[taps[i][k]]);
        *out++ = sum;
      }
    }
  return out;
}

// The pixels of n pairs out of their sums.
template <class Real>
PYGEN_INLINE void combine(const Real* s, int64_t between, int64_t n, Real bias, Real* out) {
  using V = Reg<Real>;
  constexpr int64_t lanes = kRegLanes<Real>;
  const Real *s1 = s + between, *s2 = s1 + between, *s3 = s2 + between;
  for (int64_t j = 0; j < n; j += lanes) {
    const V both = load<V>(s1 + j), turned = load<V>(s2 + j);
    const V even = load<V>(s + j) + (both + turned) + bias, odd = load<V>(s3 + j) + (both - turned) + bias;
    store(out + 2 * j, interleave<0>(even, odd));
    store(out + 2 * j + lanes, interleave<1>(even, odd));
  }
}

// Differences of infinities are NaN, and those of huge numbers may be infinite, where the convolution itself is not:
// such pixels are computed again by its definition.
template <class Real>
void find_not_finite(const Real* made, int64_t n, std::vector<int64_t>& found) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= !(std::abs(made[i]) <= std::numeric_limits<Real>::max());
  for (int64_t i = 0; bad && i < n; ++i)
    if (!std::isfinite(made[i])) found.push_back(i);
}

template <class T, class Real>
Real pixel(const MaskedConv2d& p, const Plan& plan, int64_t n, int64_t o, int64_t y, int64_t x) {
  const Tensor4& source = plan.flip ? p.output : p.input;
  const int64_t *s = p.weight.strides, *from = source.strides;
  const int64_t to_target = plan.flip ? s[1] : s[0], to_source = plan.flip ? s[0] : s[1];
  const T* weight = static_cast<const T*>(p.weight.data) + o * to_target;
  const T* image = static_cast<const T*>(source.data) + n * from[0];
  const Range joined = plan.joined(o / (plan.targets / plan.groups));
  Real sum = 0;
  for (int64_t c = 0; c < plan.sources; ++c)
    for (size_t t = 0; t < plan.taps.size(); ++t) {
      const Plan::Tap& tap = plan.taps[t];
      const bool by_groups = static_cast<int64_t>(t) >= plan.full_taps();
      const int64_t v = y + tap.dy, u = x + tap.dx;
      if ((by_groups && (c < joined.begin || c >= joined.end)) || v < 0 || v >= p.height || u < 0 || u >= p.width)
        continue;
      const T w = weight[c * to_source + tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3]];
      sum += widen(image[c * from[1] + v * from[2] + u * from[3]]) * widen(w);
    }
  return sum;
}

template <class Real, int kVectors, int... kChannels>
void gemm_of(int channels, const GemmArguments<Real>& a, std::integer_sequence<int, kChannels...>) {
  constexpr void (*table[])(const GemmArguments<Real>&) = {&gemm<Real, kVectors, kChannels + 1>...};
  table[channels - 1](a);
}
template <class Real>
void gemm_of(int vectors, int channels, const GemmArguments<Real>& a) {
  constexpr auto each = std::make_integer_sequence<int, kTileChannels>();
  if (vectors == 1) return gemm_of<Real, 1>(channels, a, each);
  if (vectors == 2) return gemm_of<Real, 2>(channels, a, each);
  return gemm_of<Real, 3>(channels, a, each);
}

// Some channels' products of one sum, packed together and multiplied with the weights of every block.
struct Pass {
  int sum;
  bool first, centre;  // of its sum; of the centre by groups
  const std::vector<Product>* products;
  Range sources;
  int64_t weights;  // where they start, [block][step][channel]

  Range live(const Plan& plan, const Block& block) const {
    if (!centre) return sources;
    const Range joined = plan.joined(block.group);
    return {std::clamp(joined.begin, sources.begin, sources.end), std::clamp(joined.end, sources.begin, sources.end)};
  }
  int64_t steps(const Range& r) const { return (r.end - r.begin) * static_cast<int64_t>(products->size()); }
};

// In the order of work; the last only says where the weights end.
std::vector<Pass> passes_of(const Plan& plan, const WinogradPlan& winograd, const std::vector<Block>& blocks) {
  std::vector<Pass> passes;
  int64_t weights = 0;
  for (int m = 0; m < kWinogradSums; ++m) {
    bool first = true;
    for (const auto* products : {&winograd.full[m], &winograd.centre[m]}) {
      if (products->empty()) continue;
      const int64_t together = std::max<int64_t>(kChunk / products->size(), 1);
      for (int64_t c = 0; c < plan.sources; c += together, first = false) {
        passes.push_back(
            {m, first, products == &winograd.centre[m], products, {c, std::min(c + together, plan.sources)}, weights});
        for (const Block& block : blocks)
          weights += passes.back().steps(passes.back().live(plan, block)) * block.channels;
      }
    }
  }
  passes.push_back({kWinogradSums, true, false, nullptr, {}, weights});
  return passes;
}

// So many pixels are computed again; beyond that the direct kernel takes the call. A count, not a time: results repeat.
int64_t most_again(const MaskedConv2d& p, const Plan& plan) {
  return std::max<int64_t>(p.batch * plan.targets * p.height * p.width / 64, 16384);
}

// Returns false where too much is not finite to be worth it: the target is then to be computed by the direct kernel.
template <class T, class Real>
bool correlate(const MaskedConv2d& p, const Plan& plan) {
  const Tensor4 &source = plan.flip ? p.output : p.input, &target = plan.flip ? p.input : p.output;
  const WinogradPlan winograd(plan);
  const int64_t H = p.height, W = p.width, C = plan.sources, O = plan.targets;
  constexpr int64_t lanes = kRegLanes<Real>, kWidest = kTileVectors * lanes;

  std::vector<Block> blocks = blocks_of(plan, [](int64_t) { return 0; });
  blocks.pop_back();
  std::vector<Pass> passes = passes_of(plan, winograd, blocks);
  const int64_t weights_size = passes.back().weights;
  passes.pop_back();
  Real* weights = thread_scratch<Real, 0>(weights_size);
  parallel_blocks(static_cast<int64_t>(passes.size()), 2, p.threads, [&](int64_t at) {
    const Pass& pass = passes[at];
    Real* out = weights + pass.weights;
    for (const Block& block : blocks)
      out = pack_weights<T>(p, plan, *pass.products, pass.live(plan, block), block, out);
  });
  const std::vector<Real> bias = bias_of<T, Real>(p, plan);

  const int64_t pairs = (W + 1) / 2;
  int64_t most = kStripBytes / std::max<int64_t>(C * 2 * pairs * sizeof(Real), 1) - plan.above - plan.below;
  if (p.batch < 2 * p.threads) most = std::min(most, (H * p.batch + 2 * p.threads - 1) / (2 * p.threads));
  const int64_t rows = best_rows(H, most, [&](int64_t r) {
    double cost = 0;
    for (const Tile& tile : tiles_of(r * pairs, lanes)) cost += tile.vectors == 1 ? 2 : tile.vectors;
    return cost + 0.05 * static_cast<double>((r + plan.above + plan.below) * pairs) / lanes;
  });
  const int64_t strips = (H + rows - 1) / rows;
  const Halves<Real> halves(plan, winograd, W, rows);
  const std::vector<Tile> whole = tiles_of(rows * pairs, lanes),
                          last = tiles_of((H - (strips - 1) * rows) * pairs, lanes);
  const int64_t* to = target.strides;
  const bool direct = std::is_same_v<T, Real> && to[3] == 1 && to[2] == W && W % 2 == 0;
  const bool in_rows = std::is_same_v<T, Real> && source.strides[3] == 1;
  const StripLayout layout(plan, W, rows, 0, 64 / sizeof(Real));
  size_t most_products = 1;
  for (int m = 0; m < kWinogradSums; ++m)
    most_products = std::max({most_products, winograd.full[m].size(), winograd.centre[m].size()});
  const int64_t chunk_size = std::max<int64_t>(kChunk, most_products) * kWidest;

  std::atomic<int64_t> not_finite{0};
  const int64_t most_not_finite = most_again(p, plan);
  const double work = static_cast<double>(weights_size) * rows * pairs;
  parallel_blocks(p.batch * strips, units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t n = unit / strips, row = unit % strips * rows, R = std::min(rows, H - row);
    const std::vector<Tile>& tiles = R == rows ? whole : last;
    const int64_t split_size = C * 2 * halves.plane, sums_size = O * kWidest;
    Real* split = thread_scratch<Real, 1>(split_size + chunk_size + (kWinogradSums + 2) * sums_size +
                                          (in_rows ? 0 : kTogether * layout.plane));
    Real* packed = split + split_size;
    Real* sums = packed + chunk_size;
    Real* out = sums + kWinogradSums * sums_size;
    Real* planes = out + 2 * sums_size;
    for (int m = 0; m < kWinogradSums; ++m)  // those without products
      if (winograd.full[m].empty() && winograd.centre[m].empty()) std::fill_n(sums + m * sums_size, sums_size, Real(0));

    const int64_t first = row - plan.above, count = plan.above + R + plan.below;
    const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + count, H);  // what is in the image
    StripLayout strip = layout;
    strip.rows = R;
    for (int64_t c = 0; c < C; ++c) {
      if (!in_rows && c % kTogether == 0)
        fill_channels<T>(source, plan, strip, n, row, H, W, c, std::min(c + kTogether, C), planes);
      const Real* plane = in_rows
                              ? static_cast<const Real*>(source.data) + n * source.strides[0] + c * source.strides[1]
                              : planes + c % kTogether * layout.plane + layout.lead - first * layout.pitch;
      const int64_t pitch = in_rows ? source.strides[2] : layout.pitch;
      Real* out = split + halves.lead() + c * 2 * halves.plane;
      halves.set(out, begin - first, nullptr, 0, W);
      halves.set(out + (begin - first) * pairs, end - begin, plane + begin * pitch, pitch, W);
      halves.set(out + (end - first) * pairs, first + count - end, nullptr, 0, W);
    }

    T* image = static_cast<T*>(target.data) + n * to[0] + row * to[2];
    for (const Tile& tile : tiles) {
      const int64_t wide = tile.vectors * lanes;
      for (const Pass& pass : passes) {
        const int64_t each = pass.products->size(), c = pass.sources.begin;
        pack_tile(plan, halves, rows, *pass.products, pass.sources.end - c, tile,
                  split + halves.lead() + c * 2 * halves.plane, packed);
        const Real* w = weights + pass.weights;
        for (const Block& block : blocks) {
          const Range live = pass.live(plan, block);
          const int64_t steps = pass.steps(live);
          gemm_of<Real>(tile.vectors, block.channels,
                        {packed + (live.begin - c) * each * wide, w, steps,
                         sums + pass.sum * sums_size + block.channel * wide, !pass.first});
          w += steps * block.channels;
        }
      }
      const int64_t there = std::min(2 * wide, 2 * (R * pairs - tile.first));
      const bool straight = direct && there == 2 * wide;
      std::vector<std::pair<int64_t, std::vector<int64_t>>> again;  // (channel, its pixels in the tile)
      for (int64_t o = 0; o < O; ++o) {
        Real* to_pixels = out + o * 2 * wide;
        if constexpr (std::is_same_v<T, Real>) {
          if (straight) to_pixels = image + o * to[1] + 2 * tile.first;
        }
        combine(sums + o * wide, sums_size, wide, bias[o], to_pixels);
        std::vector<int64_t> found;
        find_not_finite(to_pixels, there, found);
        if (found.empty()) continue;
        not_finite += static_cast<int64_t>(found.size());
        again.emplace_back(o, std::move(found));
      }
      if (not_finite > most_not_finite) continue;
      if (!straight) write_pixels(out, 2 * wide, O, 2 * tile.first, there, 2 * pairs, W, image, to);
      for (const auto& [o, pixels] : again)
        for (const int64_t i : pixels) {
          const int64_t y = (2 * tile.first + i) / (2 * pairs), x = (2 * tile.first + i) % (2 * pairs);
          narrow(pixel<T, Real>(p, plan, n, o, row + y, x) + bias[o], image + o * to[1] + y * to[2] + x * to[3]);
        }
    }
  });
  return not_finite <= most_not_finite;
}

}  // namespace

// Measured: splitting and packing cost as much whatever the number of target channels, and with few source channels
// the sums are too short for what comes after them. Odd widths have no pixel for the last pair.
bool winograd_pays(const MaskedConv2d& p, const Plan& plan) {
  if (p.dilation != 1 || p.width < 4 || p.width % 2 || p.batch * p.height == 0) return false;
  if (plan.sources < 16 || plan.targets < 16) return false;
  return 0.85 * 2 * static_cast<double>(plan.taps.size()) >= static_cast<double>(WinogradPlan(plan).products);
}

bool correlate_winograd(const MaskedConv2d& p, const Plan& plan) {
  PYGEN_BY_DTYPE(p.dtype, (correlate<T, Real>(p, plan)))
  return false;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
