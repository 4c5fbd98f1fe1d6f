// masked_conv2d on CPUs, forward and gradient of the input: direct convolution over the live taps.
//     target[n, o, p] = bias[o] + sum over live (tap, i) of weight[o, i, tap] source[n, i, p + offset(tap)]
// The gradient of the input is the same with taps and channels turned round. Vectors run along pixels, so that NCHW
// needs no transposition. Traffic: source and target once from memory; a strip of source rows comes from the L2 cache
// for each kTileChannels target channels, whose packed weights stay in the L1 cache. Where channels suffice,
// masked_conv2d_winograd.cpp does with fewer multiplications.
#include "cpu/masked_conv2d_tile.h"
#include "cpu/masked_conv2d_winograd.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kStripBytes = 256 << 10;  // of source planes; leaves room in an L2 cache for the weights

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

// Rows of a strip: as many as fit the cache, fewer where threads would idle, and such that few registers stay empty.
template <class Real>
int64_t rows_of(const MaskedConv2d& p, const Plan& plan, int64_t lanes) {
  const int64_t pitch = p.width + std::max(plan.left, plan.right), halo = plan.above + plan.below;
  int64_t most = kStripBytes / std::max<int64_t>(plan.sources * pitch * sizeof(Real), 1) - halo;
  if (p.batch < 2 * p.threads) most = std::min(most, (p.height * p.batch + 2 * p.threads - 1) / (2 * p.threads));
  const double per_tile = static_cast<double>(plan.targets) * static_cast<double>(plan.taps.size()) / kTileChannels;
  return best_rows(p.height, most, [&](int64_t rows) {
    // And what copying the rows costs beside.
    return Slots(rows, p.width, pitch, lanes, kEven<Real>).tiles() * per_tile + 0.3 * (rows + halo) * pitch / lanes;
  });
}

template <class Real, bool kHalves>
void run_tiles(TileArguments<Real>& a, const std::vector<Slot>& slots, int channels) {
  for (size_t at = 0; at < slots.size(); at += kTileVectors) {
    a.slots = slots.data() + at;
    tile_of<Real, kHalves>(std::min<size_t>(kTileVectors, slots.size() - at), channels)(a);
  }
}

template <class T, class Real>
void correlate(const MaskedConv2d& p, const Plan& plan) {
  const bool flip = plan.flip;
  const Tensor4 &source = flip ? p.output : p.input, &target = flip ? p.input : p.output;
  const int64_t H = p.height, W = p.width;
  if (p.batch == 0 || plan.targets == 0 || H == 0 || W == 0) return;
  constexpr int64_t lanes = kRegLanes<Real>, line = 64 / sizeof(Real);

  const std::vector<Block> blocks = blocks_of(plan, [&](int64_t g) { return plan.steps(g); });
  Real* packed = thread_scratch<Real, 0>(blocks.back().packed);
  parallel_blocks(static_cast<int64_t>(blocks.size()) - 1, 8, p.threads,
                  [&](int64_t b) { pack_weights<T>(p, plan, blocks[b], packed + blocks[b].packed); });
  const std::vector<Real> bias = bias_of<T, Real>(p, plan);

  const int64_t rows = rows_of<Real>(p, plan, lanes), strips = (H + rows - 1) / rows;
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
    Real* planes = thread_scratch<Real, 1>(full.plane * plan.sources + (direct ? 0 : kTileChannels * sums_pitch));
    Real* sums = planes + full.plane * plan.sources;
    fill_strip<T>(source, plan, strip, n, row, H, W, planes);
    T* image = static_cast<T*>(target.data) + n * to[0] + row * to[2];
    TileArguments<Real> a{planes, full.plane, offsets.data(), {}, nullptr, nullptr, sums, sums_pitch, nullptr};
    for (size_t b = 0; b + 1 < blocks.size(); ++b) {
      const Block& block = blocks[b];
      segments_of(plan, block.group, a.segments);
      a.weights = packed + block.packed;
      a.bias = bias.data() + block.channel;
      if constexpr (std::is_same_v<T, Real>) {
        if (direct) a.target = image + block.channel * to[1];
      }
      run_tiles<Real, false>(a, slots.whole, block.channels);
      run_tiles<Real, true>(a, slots.halves, block.channels);
      for (int64_t r = 0; !direct && r < strip.rows; ++r)
        write_row(sums + r * slots.pitch, sums_pitch, block.channels, W, image + block.channel * to[1] + r * to[2], to);
    }
  });
}

void correlate(const MaskedConv2d& p, bool flip) {
  const Plan plan(p, flip);
  if (winograd_pays(p, plan) && correlate_winograd(p, plan)) return;
  PYGEN_BY_DTYPE(p.dtype, (correlate<T, Real>(p, plan)))
}

}  // namespace

void masked_conv2d_forward(const MaskedConv2d& p) { correlate(p, false); }
void masked_conv2d_grad_input(const MaskedConv2d& p) { correlate(p, true); }
bool masked_conv2d_filters(const MaskedConv2d& p) { return winograd_pays(p, Plan(p, false)); }

}  // namespace PYGEN_ISA
}  // namespace pygen
