// Launchers of masked_conv2d.cuh: forward and the input's gradient; and of gated_masked_conv2d.cuh.
#include "cuda/conv_launch.h"
#include "cuda/gated_masked_conv2d.cuh"
#include "cuda/gated_masked_conv2d.h"
#include "cuda/masked_conv2d.cuh"
#include "cuda/masked_conv2d_wgmma.h"

namespace pygen::cuda {
namespace {

constexpr int kMostHalo = 384;  // pixels of a run beyond its tile: 24 KB twice, so that two blocks share a processor

template <class Tr>
void set_run(ConvParams& p) {
  const Reach reach = reach_of(p);
  p.halo = p.taps.count > 1 && reach.most - reach.least <= kMostHalo;
  p.first = reach.least;
  p.a_rows = Tr::kM + (p.halo ? static_cast<int>(reach.most - reach.least) : 0);
  // Copies run two steps ahead: into a third run, where a step may need a new one.
  p.a_buffers = p.halo && !p.taps.centre && p.side.k == 0 ? 2 : 3;
}

template <class Tr>
void launch_tiles(ConvParams p, cudaStream_t stream) {
  set_run<Tr>(p);
  p.tiles_per_group = (p.group_n + Tr::kN - 1) / Tr::kN;
  const int64_t blocks = (p.pixels + Tr::kM - 1) / Tr::kM * p.groups * p.tiles_per_group;
  if (p.pairs.tile > 0) {
    launch("gated_masked_conv2d_fwd_kernel", &gated_masked_conv2d_fwd_kernel<Tr>, blocks, Tr::kThreads, stream, p,
           shared_bytes<Tr>(p));
  } else {
    launch("masked_conv2d_fwd_kernel", &masked_conv2d_fwd_kernel<Tr>, blocks, Tr::kThreads, stream, p,
           shared_bytes<Tr>(p));
  }
}

// Where the weights of so many taps and k will lie, as the kernel of `wgmma` or that of masked_conv2d.cuh reads them.
template <class T>
PackWeightsParams place_weights(const ConvParams& p, const Taps& taps, int64_t k, const Tensor& weight, WgmmaType wgmma,
                                Workspace& workspace) {
  PackWeightsParams w{};
  w.taps = taps;
  w.n = p.n;
  w.k = k;
  w.pitch = round_up(k, 16 / sizeof(T));
  w.pairs = p.pairs;
  w.from = reinterpret_cast<const void*>(weight.address);
  for (int d = 0; d < 4; ++d) w.strides[d] = weight.strides[d];
  ConvParams of = p;
  of.taps = taps;
  of.k = static_cast<int>(k);
  w.to = workspace.take(wgmma != WgmmaType::None ? wgmma_weight_bytes(wgmma, of)
                                                 : taps.positions() * w.n * w.pitch * static_cast<int64_t>(sizeof(T)));
  return w;
}

template <class T>
void pack_weights(const ConvParams& p, const PackWeightsParams& w, WgmmaType wgmma, cudaStream_t stream) {
  if (wgmma != WgmmaType::None) return pack_wgmma_weights(wgmma, p, w, stream);
  const int64_t blocks = (w.taps.positions() * w.n * w.pitch + kPackThreads - 1) / kPackThreads;
  launch("masked_conv2d_pack_weights_kernel", &masked_conv2d_pack_weights_kernel<BitsOf<T>>, blocks, kPackThreads,
         stream, w);
}

// What is added of gated's side to the product, and the memory it takes.
template <class T>
void add_side(const MaskedConv2dCall& call, const GatedMaskedConv2dCall& gated, WgmmaType wgmma, Workspace& workspace,
              ConvParams& p) {
  Taps own{};
  own.count = own.kernel_width = 1;
  const PackWeightsParams w = place_weights<T>(p, own, gated.side_channels, gated.side_weight, wgmma, workspace);
  const Images rows = as_rows<BitsOf<T>>(call, gated.side, gated.side_channels, false, workspace);
  if (!workspace.counting()) pack_weights<T>(p, w, wgmma, reinterpret_cast<cudaStream_t>(call.stream));
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  p.side = {static_cast<const unsigned char*>(rows.data), static_cast<const unsigned char*>(w.to), rows.pitch * kSize,
            w.pitch * kSize, static_cast<int>(gated.side_channels)};
}

// out [pixels, n] of x [pixels, k]: input and output, or the other way round.
template <class T, class Math>
int64_t multiply(const MaskedConv2dCall& call, bool backward, const GatedMaskedConv2dCall* gated) {
  const int64_t n = backward ? call.in_channels : call.out_channels;
  const int64_t k = backward ? call.out_channels : call.in_channels;
  const Tensor &x = backward ? call.output : call.input, &out = backward ? call.input : call.output;
  const int64_t pixels = call.batch * call.height * call.width;
  Workspace workspace(call.workspace);
  if (pixels * n == 0) return workspace.bytes();
  check_sizes(call);
  ConvParams p{};
  p.taps = make_taps(call, backward, true);
  p.backward = backward;
  p.pixels = pixels;
  p.plane = call.height * call.width;
  p.height = call.height;
  p.width = call.width;
  p.n = static_cast<int>(n);
  p.k = static_cast<int>(k);
  p.groups = static_cast<int>(call.color_groups);
  p.group_n = p.n / p.groups;
  p.group_k = p.k / p.groups;
  p.strict = call.strict;
  constexpr bool kTensor = ConvTraits<T, Math, 64>::kTensor;
  const int tile_n = kTensor && p.group_n > 64 ? 128 : 64;
  if (gated != nullptr) {
    p.pairs = {p.group_n, tile_n};
    p.gate = {reinterpret_cast<const void*>(gated->cond), reinterpret_cast<void*>(gated->gated), gated->cond_per_image};
  }
  const bool reversed = backward && p.taps.centre;
  const WgmmaType wgmma = takes_wgmma(wgmma_type<Math>(), p) ? wgmma_type<Math>() : WgmmaType::None;
  PackWeightsParams w = place_weights<T>(p, p.taps, k, call.weight, wgmma, workspace);
  w.reversed = reversed;
  if (backward) std::swap(w.strides[0], w.strides[1]);
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  Images rows{w.to, w.pitch};
  if (k > 0 && p.taps.positions() > 0) {
    rows = as_rows<BitsOf<T>>(call, x, k, reversed, workspace);
    if (!workspace.counting()) pack_weights<T>(p, w, wgmma, stream);
  }
  if (gated != nullptr && gated->side_channels > 0) add_side<T>(call, *gated, wgmma, workspace, p);
  if (workspace.counting()) return workspace.bytes();
  p.x = static_cast<const unsigned char*>(rows.data);
  p.x_pitch = rows.pitch * static_cast<int64_t>(sizeof(T));
  p.weight = static_cast<const unsigned char*>(w.to);
  p.weight_pitch = w.pitch * static_cast<int64_t>(sizeof(T));
  p.bias = reinterpret_cast<const void*>(call.bias);
  p.add = reinterpret_cast<const void*>(call.add);
  p.aligned = (call.add | (gated != nullptr ? gated->cond : 0)) % 16 == 0;
  p.out = reinterpret_cast<void*>(out.address);
  p.out_last = channels_last(out, n, call.height, call.width);
  if (wgmma != WgmmaType::None) {
    launch_wgmma(wgmma, p, stream);
  } else if (tile_n == 128) {
    launch_tiles<ConvTraits<T, Math, kTensor ? 128 : 64>>(p, stream);
  } else {
    launch_tiles<ConvTraits<T, Math, 64>>(p, stream);
  }
  return workspace.bytes();
}

int64_t multiply(const MaskedConv2dCall& call, bool backward, const GatedMaskedConv2dCall* gated = nullptr) {
  const DeviceGuard guard(call.device);
  return with_math(call.dtype, call.tf32, [&](auto element, auto math) {
    return multiply<decltype(element), decltype(math)>(call, backward, gated);
  });
}

}  // namespace

int64_t masked_conv2d_forward(const MaskedConv2dCall& call) { return multiply(call, false); }
int64_t masked_conv2d_grad_input(const MaskedConv2dCall& call) { return multiply(call, true); }
int64_t gated_masked_conv2d_forward(const GatedMaskedConv2dCall& call) { return multiply(call.product, false, &call); }

}  // namespace pygen::cuda
