// Launchers of masked_conv2d_weight.cuh.
#include "cuda/conv_launch.h"
#include "cuda/masked_conv2d_weight.cuh"
#include "cuda/masked_conv2d_wgmma_weight.h"

namespace pygen::cuda {
namespace {

template <class T>
void finish(const void* partial, std::uintptr_t out, int64_t splits, int64_t outs, int64_t ins, int64_t kernel_taps,
            const MaskedConv2dCall& call, const Taps& taps) {
  FinishWeightParams p{};
  p.partial = partial;
  p.out = reinterpret_cast<void*>(out);
  p.splits = splits;
  p.outs = outs;
  p.ins = ins;
  p.kernel_taps = static_cast<int>(kernel_taps);
  p.groups = static_cast<int>(call.color_groups);
  p.strict = call.strict;
  p.taps = taps;
  const int64_t blocks = (outs * ins * kernel_taps + kPackThreads - 1) / kPackThreads;
  launch("masked_conv2d_finish_kernel", &masked_conv2d_finish_kernel<T>, blocks, kPackThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

// The sums of each split, in the workspace; how many splits there are.
template <class Tr>
Splits launch_weight(WeightParams p, const MaskedConv2dCall& call, Workspace& workspace, void*& partial) {
  const int64_t tiles = ((p.outs + Tr::kTile - 1) / Tr::kTile) * int64_t((p.ins + Tr::kTile - 1) / Tr::kTile);
  const Splits splits = make_splits(p.pixels, tiles * p.taps.positions());
  const int64_t size = splits.count * p.taps.positions() * p.outs * p.ins;
  partial = p.partial = workspace.take(size * static_cast<int64_t>(sizeof(typename Tr::Acc)));
  p.per_split = splits.pixels;
  if (!workspace.counting() && size > 0) {
    launch("masked_conv2d_bwd_weight_kernel", &masked_conv2d_bwd_weight_kernel<Tr>,
           tiles * p.taps.positions() * splits.count, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream), p,
           Tr::kSharedBytes);
  }
  return splits;
}

template <class T>
void bias_gradient(const MaskedConv2dCall& call, const Images& grad, int64_t pixels, Workspace& workspace) {
  BiasParams p{};
  p.tiles = static_cast<int>((call.out_channels + kBiasChannels - 1) / kBiasChannels);
  const Splits splits = make_splits(pixels, p.tiles);
  p.partial = workspace.take(splits.count * call.out_channels * static_cast<int64_t>(sizeof(typename Element<T>::Acc)));
  if (workspace.counting()) return;
  p.grad = grad.data;
  p.pitch = grad.pitch;
  p.pixels = pixels;
  p.per_split = splits.pixels;
  p.outs = static_cast<int>(call.out_channels);
  if (splits.count > 0) {
    launch("masked_conv2d_bwd_bias_kernel", &masked_conv2d_bwd_bias_kernel<T>, p.tiles * splits.count,
           kBiasChannels * kBiasRows, reinterpret_cast<cudaStream_t>(call.stream), p);
  }
  Taps one{};
  one.count = one.kernel_width = 1;
  finish<T>(p.partial, call.bias, splits.count, call.out_channels, 1, 1, call, one);
}

template <class T, class Math>
int64_t grad_weight(const MaskedConv2dCall& call) {
  check_sizes(call);
  Workspace workspace(call.workspace);
  const int64_t pixels = call.batch * call.height * call.width;
  const bool weight = call.in_channels > 0 && call.out_channels > 0, bias = call.bias != 0 && call.out_channels > 0;
  using Bits = BitsOf<T>;
  Images grad{nullptr, 0}, x{nullptr, 0};
  if (pixels > 0 && (weight || bias)) grad = as_rows<Bits>(call, call.output, call.out_channels, false, workspace);
  if (weight) {
    if (pixels > 0) x = as_rows<Bits>(call, call.input, call.in_channels, false, workspace);
    WeightParams p{};
    p.taps = make_taps(call, false, pixels > 0);
    p.grad = static_cast<const unsigned char*>(grad.data);
    p.x = static_cast<const unsigned char*>(x.data);
    p.grad_pitch = grad.pitch * static_cast<int64_t>(sizeof(T));
    p.x_pitch = x.pitch * static_cast<int64_t>(sizeof(T));
    p.pixels = pixels;
    p.plane = call.height * call.width;
    p.height = call.height;
    p.width = call.width;
    p.outs = static_cast<int>(call.out_channels);
    p.ins = static_cast<int>(call.in_channels);
    p.groups = static_cast<int>(call.color_groups);
    p.strict = call.strict;
    void* partial = nullptr;
    constexpr bool kTensor = WeightTraits<T, Math, 64>::kTensor;
    constexpr WgmmaType kType = wgmma_type<Math>();
    const Splits splits =
        takes_wgmma(kType, p)
            ? launch_wgmma_weight(kType, p, workspace, reinterpret_cast<cudaStream_t>(call.stream), partial)
        : kTensor && std::max(p.outs, p.ins) > 64
            ? launch_weight<WeightTraits<T, Math, kTensor ? 128 : 64>>(p, call, workspace, partial)
            : launch_weight<WeightTraits<T, Math, 64>>(p, call, workspace, partial);
    if (!workspace.counting()) {
      finish<T>(partial, call.weight.address, splits.count, call.out_channels, call.in_channels,
                call.kernel_height * call.kernel_width, call, p.taps);
    }
  }
  if (bias) bias_gradient<T>(call, grad, pixels, workspace);
  return workspace.bytes();
}

}  // namespace

int64_t masked_conv2d_grad_weight(const MaskedConv2dCall& call) {
  const DeviceGuard guard(call.device);
  return with_math(call.dtype, call.tf32,
                   [&](auto element, auto math) { return grad_weight<decltype(element), decltype(math)>(call); });
}

}  // namespace pygen::cuda
