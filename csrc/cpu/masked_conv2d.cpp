// masked_conv2d on CPUs, forward and gradient of the input: direct convolution over the live taps.
//     target[n, o, p] = bias[o] + sum over live (tap, i) of weight[o, i, tap] source[n, i, p + offset(tap)]
// The gradient of the input is the same with taps and channels turned round. Vectors run along pixels, so that NCHW
// needs no transposition: a tile of kTileVectors registers of pixels by kTileChannels target channels stays in
// registers over all live (channel, tap) pairs; each pair costs 3 loads and 4 broadcasts for 12 multiply-adds (AVX2).
// Traffic: source and target once from memory; a strip of source rows and the packed weights come from the L2 cache.
#include "cpu/masked_conv2d_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int kTileVectors = 3;
constexpr int kTileChannels = kAccumulators / kTileVectors;
constexpr int64_t kStripBytes = 256 << 10;  // of source planes; leaves room in an L2 cache for the weights

// The live taps of some consecutive source channels: a prefix or suffix of them also has the centre.
struct Segment {
  int64_t channels, taps;
};

template <class Real>
struct TileArguments {
  const Real* source;      // pixel 0 of the tile in the first plane, before any tap's offset
  int64_t plane;           // from channel to channel
  const int64_t* offsets;  // of the taps, the centre last
  Segment segments[2];
  const Real* weights;  // [channel][tap][kChannels]
  const Real* bias;     // [kChannels]
  Real* target;         // [kChannels][target_pitch]
  int64_t target_pitch;
};

template <class Real, int kVectors, int kChannels>
__attribute__((noinline)) void tile(const TileArguments<Real>& a) {
  using V = Reg<Real>;
  V sum[kChannels][kVectors];
  PYGEN_UNROLL
  for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
  for (int v = 0; v < kVectors; ++v) sum[o][v] = V{} + a.bias[o];
  const Real *source = a.source, *w = a.weights;
  for (const Segment& segment : a.segments) {
    for (int64_t c = 0; c < segment.channels; ++c, source += a.plane) {
      for (int64_t t = 0; t < segment.taps; ++t, w += kChannels) {
        const Real* in = source + a.offsets[t];
        V x[kVectors];
        PYGEN_UNROLL
        for (int v = 0; v < kVectors; ++v) x[v] = load<V>(in + v * kRegLanes<Real>);
        PYGEN_UNROLL
        for (int o = 0; o < kChannels; ++o) {
          const Real weight = w[o];
          PYGEN_UNROLL
          for (int v = 0; v < kVectors; ++v) sum[o][v] += x[v] * weight;
        }
      }
    }
  }
  PYGEN_UNROLL
  for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
  for (int v = 0; v < kVectors; ++v) store(a.target + o * a.target_pitch + v * kRegLanes<Real>, sum[o][v]);
}

template <class Real>
using TileFunction = void (*)(const TileArguments<Real>&);

template <class Real, int kVectors, int... kChannels>
constexpr TileFunction<Real> tile_of(int channels, std::integer_sequence<int, kChannels...>) {
  constexpr TileFunction<Real> table[] = {&tile<Real, kVectors, kChannels + 1>...};
  return table[channels - 1];
}
template <class Real>
TileFunction<Real> tile_of(int64_t vectors, int channels) {
  constexpr auto each = std::make_integer_sequence<int, kTileChannels>();
  if (vectors == 1) return tile_of<Real, 1>(channels, each);
  if (vectors == 2) return tile_of<Real, 2>(channels, each);
  return tile_of<Real, kTileVectors>(channels, each);
}

// Some target channels of one group, computed together.
struct Block {
  int64_t channel, group, packed;  // first channel, its group, where its weights start
  int channels;
};

std::vector<Block> blocks_of(const Plan& plan) {
  std::vector<Block> blocks;
  const int64_t per_group = plan.targets / plan.groups;
  int64_t packed = 0;
  for (int64_t g = 0; g < plan.groups; ++g) {
    for (int64_t o = 0; o < per_group; o += kTileChannels) {
      const int channels = static_cast<int>(std::min<int64_t>(kTileChannels, per_group - o));
      blocks.push_back({g * per_group + o, g, packed, channels});
      packed += channels * plan.steps(g);
    }
  }
  blocks.push_back({plan.targets, plan.groups, packed, 0});  // the end
  return blocks;
}

void segments_of(const Plan& plan, int64_t g, Segment* segments) {
  const Range r = plan.centre ? plan.joined(g) : Range{0, 0};
  const int64_t full = plan.full_taps(), joined = r.end - r.begin, rest = plan.sources - joined;
  segments[0] = plan.flip ? Segment{rest, full} : Segment{joined, full + 1};
  segments[1] = plan.flip ? Segment{joined, full + 1} : Segment{rest, full};
}

template <class T, class Real>
void pack_weights(const MaskedConv2d& p, const Plan& plan, const Block& block, Real* out) {
  const int64_t* s = p.weight.strides;
  const int64_t to_target = plan.flip ? s[1] : s[0], to_source = plan.flip ? s[0] : s[1];
  const T* base = static_cast<const T*>(p.weight.data) + block.channel * to_target;
  std::vector<int64_t> at;
  for (const Plan::Tap& tap : plan.taps)
    at.push_back(tap.index / p.kernel_width * s[2] + tap.index % p.kernel_width * s[3]);
  Segment segments[2];
  segments_of(plan, block.group, segments);
  for (const Segment& segment : segments)
    for (int64_t c = 0; c < segment.channels; ++c, base += to_source)
      for (int64_t t = 0; t < segment.taps; ++t)
        for (int o = 0; o < block.channels; ++o) *out++ = widen(base[o * to_target + at[t]]);
}

// Rows of one target channel out of its strip.
template <class T, class Real>
void write_rows(const Real* in, int64_t pitch, int64_t rows, int64_t width, T* out, int64_t sh, int64_t sw) {
  for (int64_t r = 0; r < rows; ++r, in += pitch, out += sh) {
    if (sw == 1) {
      narrow_run(in, out, width);
    } else {
      for (int64_t x = 0; x < width; ++x) narrow(in[x], out + x * sw);
    }
  }
}
// The same for channels that lie side by side.
template <class T, class Real>
void write_pixels(const Real* in, int64_t channel_pitch, int64_t pitch, int64_t rows, int64_t width, T* out, int64_t sh,
                  int64_t sw) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t x = 0; x < width; ++x)
      for (int o = 0; o < kTileChannels; ++o) narrow(in[o * channel_pitch + r * pitch + x], out + r * sh + x * sw + o);
}

// Rows of a strip: as many as fit the cache, fewer where threads would idle, and such that few lanes compute what is
// thrown away.
int64_t rows_of(const MaskedConv2d& p, const Plan& plan, int64_t lanes, int64_t bytes) {
  const int64_t pitch = p.width + std::max(plan.left, plan.right), halo = plan.above + plan.below;
  int64_t most = kStripBytes / std::max<int64_t>(plan.sources * pitch * bytes, 1) - halo;
  if (p.batch < 2 * p.threads) most = std::min(most, (p.height * p.batch + 2 * p.threads - 1) / (2 * p.threads));
  const double per_tile = static_cast<double>(plan.targets) * static_cast<double>(plan.taps.size()) / kTileChannels;
  return best_rows(p.height, most, [&](int64_t rows) {
    const int64_t vectors = ((rows - 1) * pitch + p.width + lanes - 1) / lanes;
    const int64_t rest = vectors % kTileVectors;
    const double tiles = vectors / kTileVectors + (rest ? 0.67 : 0);  // a narrow tile waits for its multiply-adds
    return tiles * per_tile + 0.3 * (rows + halo) * pitch / lanes;    // and what copying the rows costs beside
  });
}

template <class T, class Real>
void correlate(const MaskedConv2d& p, bool flip) {
  const Tensor4 &source = flip ? p.output : p.input, &target = flip ? p.input : p.output;
  const Plan plan(p, flip);
  const int64_t H = p.height, W = p.width;
  if (p.batch == 0 || plan.targets == 0 || H == 0 || W == 0) return;
  constexpr int64_t lanes = kRegLanes<Real>, tile_pixels = kTileVectors * lanes;

  const std::vector<Block> blocks = blocks_of(plan);
  const int64_t num_blocks = static_cast<int64_t>(blocks.size()) - 1;
  Real* packed = thread_scratch<Real, 0>(blocks.back().packed);
  parallel_blocks(num_blocks, 8, p.threads,
                  [&](int64_t b) { pack_weights<T>(p, plan, blocks[b], packed + blocks[b].packed); });

  const int64_t rows = rows_of(p, plan, lanes, sizeof(Real));
  const StripLayout full(plan, W, rows, tile_pixels + plan.right, 64 / sizeof(Real));
  std::vector<int64_t> offsets;
  for (const Plan::Tap& tap : plan.taps) offsets.push_back(full.offset(plan, tap));
  const int64_t strips = (H + rows - 1) / rows;
  const int64_t target_pitch = (rows * full.pitch + tile_pixels + 15) / 16 * 16;
  const T* bias = flip ? nullptr : static_cast<const T*>(p.bias);

  const double work = static_cast<double>(blocks.back().packed) * rows * W;
  parallel_blocks(p.batch * strips, units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t n = unit / strips, row = unit % strips * rows;
    StripLayout strip = full;
    strip.rows = std::min(rows, H - row);
    Real* planes = thread_scratch<Real, 1>(full.plane * plan.sources + kTileChannels * target_pitch);
    Real* out = planes + full.plane * plan.sources;
    fill_strip<T>(source, plan, strip, n, row, H, W, planes);
    T* image = static_cast<T*>(target.data) + n * target.strides[0] + row * target.strides[2];
    const int64_t pixels = (strip.rows - 1) * strip.pitch + W;
    for (int64_t b = 0; b < num_blocks; ++b) {
      const Block& block = blocks[b];
      Real bias_of[kTileChannels] = {};
      for (int o = 0; bias && o < block.channels; ++o) bias_of[o] = widen(bias[block.channel + o]);
      TileArguments<Real> a{planes, full.plane, offsets.data(), {}, packed + block.packed, bias_of, out, target_pitch};
      segments_of(plan, block.group, a.segments);
      for (int64_t at = 0; at < pixels; at += tile_pixels) {
        a.source = planes + at;
        a.target = out + at;
        const int64_t vectors = std::min<int64_t>(kTileVectors, (pixels - at + lanes - 1) / lanes);
        tile_of<Real>(vectors, block.channels)(a);
      }
      T* to = image + block.channel * target.strides[1];
      if (target.strides[1] == 1 && target.strides[3] != 1 && block.channels == kTileChannels) {
        write_pixels(out, target_pitch, strip.pitch, strip.rows, W, to, target.strides[2], target.strides[3]);
      } else {
        for (int o = 0; o < block.channels; ++o)
          write_rows(out + o * target_pitch, strip.pitch, strip.rows, W, to + o * target.strides[1], target.strides[2],
                     target.strides[3]);
      }
    }
  });
}

void correlate(const MaskedConv2d& p, bool flip) {
  switch (p.dtype) {
    case DType::Float64:
      return correlate<double, double>(p, flip);
    case DType::Float32:
      return correlate<float, float>(p, flip);
    case DType::BFloat16:
      return correlate<BFloat16, float>(p, flip);
    case DType::Float16:
      return correlate<Float16, float>(p, flip);
  }
}

}  // namespace

void masked_conv2d_forward(const MaskedConv2d& p) { correlate(p, false); }
void masked_conv2d_grad_input(const MaskedConv2d& p) { correlate(p, true); }

}  // namespace PYGEN_ISA
}  // namespace pygen
