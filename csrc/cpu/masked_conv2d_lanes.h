// masked_conv2d by products of pairs, a pixel's channels side by side: vectors run along target channels, and a pair of
// source channels is spread over the lanes. A tile of kPixels pixels by kVectors registers of targets stays in
// registers over all taps: 4 loads and 6 broadcasts for 24 products, and no lane is empty at a row's end. A strip of
// source rows is copied between zeros; it and a block's weights come from the L2 cache. Channels that lie apart in
// memory are turned on the way in and out.
#pragma once

#include "cpu/masked_conv2d_direct.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kMostPixels = 12;
constexpr int64_t kPairsInARow = 512;  // that one sum takes before it joins the others: bfloat16 shows no more
constexpr int kPixelLanes = kRegLanes<float>;

template <class Product>
struct LaneArguments {
  const BFloat16* source[kMostPixels];  // each pixel's first channel, before any tap's offset
  BFloat16* target[kMostPixels];        // the block's first channel
  const int64_t* offsets;
  int64_t taps, pairs;
  const typename Product::Element* weights;  // [tap][pair][kVectors registers]
  const float* bias;
  int64_t channels;  // of the block that are there
};

template <class Product, int kVectors, int kPixels>
__attribute__((noinline)) void lane_tile(const LaneArguments<Product>& a) {
  RegF sum[kPixels][kVectors], before[kPixels][kVectors]{};
  const auto each = [&](auto body) PYGEN_INLINE_LAMBDA {
    PYGEN_UNROLL
    for (int p = 0; p < kPixels; ++p) PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) body(p, v);
  };
  each([&](int p, int v) PYGEN_INLINE_LAMBDA { sum[p][v] = RegF{}; });
  const auto* w = a.weights;
  int64_t added = 0;
  for (int64_t t = 0; t < a.taps; ++t) {
    const BFloat16* x[kPixels];
    PYGEN_UNROLL
    for (int p = 0; p < kPixels; ++p) x[p] = a.source[p] + a.offsets[t];
    for (int64_t c = 0; c < a.pairs; ++c, w += kVectors * kPixelLanes) {
      RegF weight[kVectors];
      PYGEN_UNROLL
      for (int v = 0; v < kVectors; ++v) weight[v] = load<RegF>(w + v * kPixelLanes);
      PYGEN_UNROLL
      for (int p = 0; p < kPixels; ++p) {
        const auto pair = Product::at(x[p] + 2 * c);
        PYGEN_UNROLL
        for (int v = 0; v < kVectors; ++v) sum[p][v] = Product::multiply_add(weight[v], pair, sum[p][v]);
      }
    }
    added += a.pairs;
    if (added >= kPairsInARow && t + 1 < a.taps) {
      each([&](int p, int v) PYGEN_INLINE_LAMBDA {
        before[p][v] += sum[p][v];
        sum[p][v] = RegF{};
      });
      added = 0;
    }
  }
  BFloat16 out[kVectors * kPixelLanes];
  PYGEN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const RegF total = before[p][v] + sum[p][v] + load<RegF>(a.bias + v * kPixelLanes);
      narrow_register(total, out + v * kPixelLanes);
    }
    std::memcpy(static_cast<void*>(a.target[p]), out, a.channels * sizeof(BFloat16));
  }
}

template <class Product>
struct LaneBlock {
  int64_t first, channels, vectors, packed;
  int pixels;
  void (*tile)(const LaneArguments<Product>&);
};

// Four registers of targets together, then what is left.
template <class Product>
std::vector<LaneBlock<Product>> lane_blocks(const Plan& plan, int64_t pairs) {
  std::vector<LaneBlock<Product>> blocks;
  int64_t packed = 0;
  for (int64_t first = 0; first < plan.targets;) {
    const int64_t left = (plan.targets - first + kPixelLanes - 1) / kPixelLanes, vectors = std::min<int64_t>(left, 4);
    const int64_t channels = std::min(vectors * kPixelLanes, plan.targets - first);
    LaneBlock<Product> block{first, channels, vectors, packed, 12, &lane_tile<Product, 1, 12>};
    if (vectors == 2) block.tile = &lane_tile<Product, 2, 12>;
    if (vectors == 3) block.pixels = 8, block.tile = &lane_tile<Product, 3, 8>;
    if (vectors == 4) block.pixels = 6, block.tile = &lane_tile<Product, 4, 6>;
    blocks.push_back(block);
    first += channels;
    packed += static_cast<int64_t>(plan.taps.size()) * pairs * vectors * kPixelLanes;
  }
  blocks.push_back({plan.targets, 0, 0, packed, 0, nullptr});  // the end
  return blocks;
}

template <class Product>
void pack_lanes(const MaskedConv2d& p, const Plan& plan, const LaneBlock<Product>& block,
                typename Product::Element* out) {
  const int64_t* s = p.weight.strides;
  const int64_t to_target = plan.flip ? s[1] : s[0], to_source = plan.flip ? s[0] : s[1];
  for (const Plan::Tap& tap : plan.taps) {
    const BFloat16* base = static_cast<const BFloat16*>(p.weight.data) + block.first * to_target +
                           tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3];
    for (int64_t c = 0; c < plan.sources; c += 2, base += 2 * to_source)
      for (int64_t o = 0; o < block.vectors * kPixelLanes; ++o)
        *out++ = o < block.channels ? weight_of<Product>(base + o * to_target, to_source, plan.sources - c) : 0;
  }
}

// A row whose channels lie apart.
template <class Product>
void join_pairs(const BFloat16* in, int64_t channel, int64_t pixel, int64_t channels, int64_t width, int64_t wide,
                BFloat16* out) {
  typename Product::Element words[4][kTurnPixels];
  for (int64_t c = 0; c < channels; c += 8) {
    const int64_t pairs = std::min<int64_t>(4, (channels - c + 1) / 2);
    for (int64_t first = 0; first < width; first += kTurnPixels) {
      const int64_t count = std::min(kTurnPixels, width - first);
      for (int64_t k = 0; k < pairs; ++k) {
        const BFloat16* one = in + (c + 2 * k) * channel + first * pixel;
        if (c + 2 * k + 1 == channels) {
          for (int64_t i = 0; i < count; ++i) words[k][i] = Product::of(one[i * pixel], {});
        } else if (pixel == 1) {
          for (int64_t i = 0; i < count; ++i) words[k][i] = Product::of(one[i], one[channel + i]);
        } else {
          for (int64_t i = 0; i < count; ++i) words[k][i] = Product::of(one[i * pixel], one[channel + i * pixel]);
        }
      }
      BFloat16* to = out + first * wide + c;
      if (pairs == 4) {
        join_words(words, sizeof words[0], count, to, 2 * wide);
      } else {
        for (int64_t i = 0; i < count; ++i)
          for (int64_t k = 0; k < pairs; ++k) store(to + i * wide + 2 * k, words[k][i]);
      }
    }
  }
}

// What a block has made of `width` pixels, to channels that lie apart.
inline void split_row(const BFloat16* in, int64_t channels, int64_t width, BFloat16* out, int64_t channel,
                      int64_t pixel) {
  constexpr int64_t kAtOnce = kWordChannels<BFloat16>;
  int64_t c = 0;
  for (; pixel == 1 && c + kAtOnce <= channels; c += kAtOnce)
    split_channels(in + c, channels, width, out + c * channel, channel);
  for (; c < channels; ++c)
    for (int64_t x = 0; x < width; ++x) out[c * channel + x * pixel] = in[x * channels + c];
}

// Rows between zeros, `wide` numbers to a pixel: its channels, and a zero beside an odd one.
template <class Product>
void fill_lanes(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                int64_t height, int64_t width, int64_t wide, BFloat16* out) {
  const ImageRows<BFloat16> rows(source, plan, strip, n, row, height, width);
  std::fill_n(out, strip.lead * wide, BFloat16{});
  out += strip.lead * wide;
  for (int64_t r = 0; r < rows.count; ++r, out += strip.pitch * wide) {
    const BFloat16* in = rows.at(r, 0);
    if (!in) {
      std::fill_n(out, strip.pitch * wide, BFloat16{});
      continue;
    }
    if (rows.channel == 1 && rows.pixel == wide) {
      element_run(in, out, width * wide);
    } else if (rows.channel != 1) {
      join_pairs<Product>(in, rows.channel, rows.pixel, plan.sources, width, wide, out);
    } else {
      for (int64_t x = 0; x < width; ++x) {
        element_run(in + x * rows.pixel, out + x * wide, plan.sources);
        if (wide > plan.sources) out[(x + 1) * wide - 1] = {};
      }
    }
    std::fill_n(out + width * wide, (strip.pitch - width) * wide, BFloat16{});
  }
}

// Where not many lanes would be empty.
inline bool lanes_pay(const Plan& plan) {
  const int64_t lanes = (plan.targets + kPixelLanes - 1) / kPixelLanes * kPixelLanes;
  return plan.groups == 1 && plan.sources > 1 && 3 * lanes <= 4 * plan.targets;
}

template <class Product>
bool correlate_lanes(const MaskedConv2d& p, const Plan& plan) {
  using Element = typename Product::Element;
  const Tensor4 &source = plan.flip ? p.output : p.input, &target = plan.flip ? p.input : p.output;
  if (!lanes_pay(plan)) return false;
  const int64_t H = p.height, W = p.width, pairs = (plan.sources + 1) / 2, wide = 2 * pairs;
  if (p.batch == 0 || H == 0 || W == 0) return true;
  const bool apart = target.strides[1] != 1;
  const std::vector<LaneBlock<Product>> blocks = lane_blocks<Product>(plan, pairs);
  Element* packed = thread_scratch<Element, 0>(blocks.back().packed);
  parallel_blocks(static_cast<int64_t>(blocks.size()) - 1, 8, p.threads,
                  [&](int64_t b) { pack_lanes<Product>(p, plan, blocks[b], packed + blocks[b].packed); });
  std::vector<float> bias = bias_of<BFloat16, float>(p, plan);
  bias.resize(plan.targets + kPixelLanes);  // a register's worth beyond the last

  const int64_t pitch = W + std::max(plan.left, plan.right), halo = plan.above + plan.below;
  int64_t rows = kStripBytes / std::max<int64_t>(pitch * wide * sizeof(BFloat16), 1) - halo;
  if (p.batch < 2 * p.threads) rows = std::min(rows, (H * p.batch + 2 * p.threads - 1) / (2 * p.threads));
  rows = std::clamp<int64_t>(rows, 1, H);
  const int64_t strips = (H + rows - 1) / rows;
  const StripLayout full(plan, W, rows, plan.right + 1, 1);
  std::vector<int64_t> offsets;
  for (const Plan::Tap& tap : plan.taps) offsets.push_back(full.offset(plan, tap) * wide);

  const double work = static_cast<double>(blocks.back().packed) * rows * W;
  parallel_blocks(p.batch * strips, units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t n = unit / strips, row = unit % strips * rows;
    StripLayout strip = full;
    strip.rows = std::min(rows, H - row);
    BFloat16* pixels = thread_scratch<BFloat16, 1>(full.plane * wide);
    fill_lanes<Product>(source, plan, strip, n, row, H, W, wide, pixels);
    const int64_t count = strip.rows * W;
    BFloat16* made = thread_scratch<BFloat16, 2>(apart ? count * 4 * kPixelLanes : 0);
    for (size_t b = 0; b + 1 < blocks.size(); ++b) {
      const LaneBlock<Product>& block = blocks[b];
      BFloat16* image = static_cast<BFloat16*>(target.data) + n * target.strides[0] + block.first * target.strides[1] +
                        row * target.strides[2];
      LaneArguments<Product> a{{}, {}, offsets.data(), static_cast<int64_t>(offsets.size()), pairs, {}, {}, 0};
      a.weights = packed + block.packed;
      a.bias = bias.data() + block.first;
      a.channels = block.channels;
      for (int64_t at = 0; at < count; at += block.pixels) {
        for (int k = 0; k < block.pixels; ++k) {  // beyond the last the last again
          const int64_t pixel = std::min(at + k, count - 1), y = pixel / W, x = pixel % W;
          a.source[k] = pixels + (y * strip.pitch + x) * wide;
          a.target[k] = apart ? made + pixel * block.channels : image + y * target.strides[2] + x * target.strides[3];
        }
        block.tile(a);
      }
      // Rows that follow each other are one.
      const int64_t run = target.strides[2] == W * target.strides[3] ? count : W;
      for (int64_t done = 0; apart && done < count; done += run)
        split_row(made + done * block.channels, block.channels, run, image + done / W * target.strides[2],
                  target.strides[1], target.strides[3]);
    }
  });
  return true;
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
