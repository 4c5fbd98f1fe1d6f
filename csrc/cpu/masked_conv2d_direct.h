// masked_conv2d on CPUs, forward and gradient of the input: direct convolution over the live taps.
//     target[n, o, p] = bias[o] + sum over live (tap, i) of weight[o, i, tap] source[n, i, p + offset(tap)]
// The gradient of the input is the same with taps and channels turned round. Vectors run along pixels, so that NCHW
// needs no transposition. Traffic: source and target once from memory; a strip of source rows comes from the L2 cache
// for each kTileChannels target channels, whose packed weights stay in the L1 cache.
#pragma once

#include "cpu/masked_conv2d_fill.h"
#include "cpu/masked_conv2d_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kStripBytes = 256 << 10;  // of source planes; leaves room in an L2 cache for the weights

// A group of source channels lies in planes of its own, of which the last may be partly empty.
template <class Product>
int64_t planes_of(const Plan& plan, int64_t channels) {
  const int64_t per_group = plan.sources / plan.groups;
  if (per_group == 0) return 0;
  return channels / per_group * ((per_group + Product::kTerms - 1) / Product::kTerms);
}

template <class Product>
void segments_of(const Plan& plan, int64_t g, Segment* segments) {
  const Range r = plan.centre ? plan.joined(g) : Range{0, 0};
  const int64_t full = plan.full_taps(), joined = planes_of<Product>(plan, r.end - r.begin);
  const int64_t rest = planes_of<Product>(plan, plan.sources) - joined;
  segments[0] = plan.flip ? Segment{rest, full} : Segment{joined, full + 1};
  segments[1] = plan.flip ? Segment{joined, full + 1} : Segment{rest, full};
}

// The terms of one plane's weight: `next` from one to the other; what is not there is 0, as its pixels are.
template <class Product, class T>
PYGEN_INLINE typename Product::Element weight_of(const T* at, int64_t next, int64_t there) {
  if constexpr (Product::kTerms == 1) {
    return widen(*at);
  } else {
    return Product::of(*at, there > 1 ? at[next] : T{});
  }
}

template <class T, class Product>
void pack_weights(const MaskedConv2d& p, const Plan& plan, const Block& block, typename Product::Element* out) {
  constexpr int64_t kTerms = Product::kTerms;
  const int64_t* s = p.weight.strides;
  const int64_t to_target = plan.flip ? s[1] : s[0], to_source = plan.flip ? s[0] : s[1];
  const T* base = static_cast<const T*>(p.weight.data) + block.channel * to_target;
  std::vector<int64_t> at;
  for (const Plan::Tap& tap : plan.taps)
    at.push_back(tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3]);
  Segment segments[2];
  segments_of<Product>(plan, block.group, segments);
  const int64_t per_group = plan.sources / plan.groups;
  int64_t left = per_group;  // channels of the group at hand
  for (const Segment& segment : segments)
    for (int64_t c = 0; c < segment.planes; ++c) {
      const int64_t there = std::min(kTerms, left);
      for (int64_t t = 0; t < segment.taps; ++t)
        for (int o = 0; o < block.channels; ++o)
          *out++ = weight_of<Product>(base + o * to_target + at[t], to_source, there);
      base += there * to_source;
      left = left > there ? left - there : per_group;
    }
}

// Rows of a strip: as many as fit the cache, fewer where threads would idle, and such that few registers stay empty.
template <class Product>
int64_t rows_of(const MaskedConv2d& p, const Plan& plan, int64_t planes, int64_t lanes) {
  using Real = typename Product::Real;
  const int64_t pitch = p.width + std::max(plan.left, plan.right), halo = plan.above + plan.below;
  int64_t most = kStripBytes / std::max<int64_t>(planes * pitch * sizeof(Real), 1) - halo;
  if (p.batch < 2 * p.threads) most = std::min(most, (p.height * p.batch + 2 * p.threads - 1) / (2 * p.threads));
  const double per_tile = static_cast<double>(plan.targets) * static_cast<double>(plan.taps.size()) / kTileChannels;
  return best_rows(p.height, most, [&](int64_t rows) {
    // And what copying the rows costs beside.
    return Slots(rows, p.width, pitch, lanes, kEven<Real>).tiles() * per_tile + 0.3 * (rows + halo) * pitch / lanes;
  });
}

template <class Product, bool kHalves>
void run_tiles(TileArguments<Product>& a, const std::vector<Slot>& slots, int channels) {
  for (size_t at = 0; at < slots.size(); at += kTileVectors) {
    a.slots = slots.data() + at;
    tile_of<Product, kHalves>(std::min<size_t>(kTileVectors, slots.size() - at), channels)(a);
  }
}

template <class T, class Product>
void correlate_direct(const MaskedConv2d& p, const Plan& plan) {
  using Real = typename Product::Real;
  using Element = typename Product::Element;
  const bool flip = plan.flip;
  const Tensor4 &source = flip ? p.output : p.input, &target = flip ? p.input : p.output;
  const int64_t H = p.height, W = p.width;
  if (p.batch == 0 || plan.targets == 0 || H == 0 || W == 0) return;
  constexpr int64_t lanes = kRegLanes<Real>, line = 64 / sizeof(Real);

  const int64_t source_planes = planes_of<Product>(plan, plan.sources);
  const std::vector<Block> blocks = blocks_of(plan, [&](int64_t g) {
    Segment segments[2];
    segments_of<Product>(plan, g, segments);
    return segments[0].planes * segments[0].taps + segments[1].planes * segments[1].taps;
  });
  Element* packed = thread_scratch<Element, 0>(blocks.back().packed);
  parallel_blocks(static_cast<int64_t>(blocks.size()) - 1, 8, p.threads,
                  [&](int64_t b) { pack_weights<T, Product>(p, plan, blocks[b], packed + blocks[b].packed); });
  const std::vector<Real> bias = bias_of<T, Real>(p, plan);

  const int64_t rows = rows_of<Product>(p, plan, source_planes, lanes), strips = (H + rows - 1) / rows;
  const StripLayout full(plan, W, rows, lanes + plan.right, line);
  // Sums go straight to the target where its rows are made of whole and half registers.
  const int64_t* to = target.strides;
  const bool direct = std::is_same_v<T, Real> && to[3] == 1 && W % lanes % (lanes / 2) == 0;
  const Slots whole(rows, W, full.pitch, lanes, kEven<Real>, direct ? to[2] : 0);
  const Slots last(H - (strips - 1) * rows, W, full.pitch, lanes, kEven<Real>, direct ? to[2] : 0);
  const int64_t sums_pitch = direct ? to[1] : ((rows * whole.pitch + line - 1) / line | 1) * line;
  std::vector<int64_t> offsets;
  for (const Plan::Tap& tap : plan.taps) offsets.push_back(full.offset(plan, tap));

  const double work = static_cast<double>(blocks.back().packed) * rows * W;
  parallel_blocks(p.batch * strips, units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t n = unit / strips, row = unit % strips * rows;
    StripLayout strip = full;
    strip.rows = std::min(rows, H - row);
    const Slots& slots = row + rows < H ? whole : last;
    Element* planes = thread_scratch<Element, 1>(full.plane * source_planes);
    Real* sums = thread_scratch<Real, 2>(direct ? 0 : kTileChannels * sums_pitch);
    fill_strip<T, Product>(source, plan, strip, n, row, H, W, planes);
    T* image = static_cast<T*>(target.data) + n * to[0] + row * to[2];
    TileArguments<Product> a{planes, full.plane, offsets.data(), {}, nullptr, nullptr, sums, sums_pitch, nullptr};
    for (size_t b = 0; b + 1 < blocks.size(); ++b) {
      const Block& block = blocks[b];
      segments_of<Product>(plan, block.group, a.segments);
      a.weights = packed + block.packed;
      a.bias = bias.data() + block.channel;
      if constexpr (std::is_same_v<T, Real>) {
        if (direct) a.target = image + block.channel * to[1];
      }
      run_tiles<Product, false>(a, slots.whole, block.channels);
      run_tiles<Product, true>(a, slots.halves, block.channels);
      for (int64_t r = 0; !direct && r < strip.rows; ++r)
        write_row(sums + r * slots.pitch, sums_pitch, block.channels, W, image + block.channel * to[1] + r * to[2], to);
    }
  });
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
