// From a call of masked_conv2d (and masked_linear) to what its kernels take: memory as they read it, live taps, and the
// workspace.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/conv_pack.cuh"
#include "cuda/launch.cuh"
#include "cuda/masked_conv2d.h"
#include "cuda/mma.cuh"

namespace pygen::cuda {

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Hands out the workspace piece by piece; without one it only counts.
class Workspace {
 public:
  explicit Workspace(std::uintptr_t address) : address_(address) {}
  void* take(int64_t bytes) {
    void* piece = reinterpret_cast<void*>(address_ + static_cast<std::uintptr_t>(used_));
    used_ += round_up(bytes, 256);
    return piece;
  }
  int64_t bytes() const { return std::max<int64_t>(used_, 256); }
  bool counting() const { return address_ == 0; }

 private:
  std::uintptr_t address_;
  int64_t used_ = 0;
};

// The live taps, without those that leave every image where `drop` is set.
inline Taps make_taps(const MaskedConv2dCall& call, bool opposite, bool drop) {
  Taps taps{};
  taps.kernel_width = static_cast<int>(call.kernel_width);
  taps.centre_row = static_cast<int>(call.kernel_height / 2);
  taps.centre_column = static_cast<int>(call.kernel_width / 2);
  taps.dilation = opposite ? -call.dilation : call.dilation;
  taps.centre = call.color_groups > 1;
  if (call.kernel_height * call.kernel_width > 32767) {
    throw std::invalid_argument("weight: expected a kernel of at most 32767 taps, got " +
                                std::to_string(call.kernel_height * call.kernel_width));
  }
  for (int64_t tap : call.taps) {
    const int64_t dy = std::abs(tap / call.kernel_width - taps.centre_row),
                  dx = std::abs(tap % call.kernel_width - taps.centre_column);
    // Divided, as a product with the dilation may not fit.
    if (drop && (dy > (call.height - 1) / call.dilation || dx > (call.width - 1) / call.dilation)) continue;
    if (taps.count == kMaxTaps) {
      throw std::invalid_argument("mask_type: expected at most " + std::to_string(kMaxTaps) +
                                  " live taps, got more; backend='composite' has no such limit");
    }
    taps.tap[taps.count++] = static_cast<int16_t>(tap);
  }
  return taps;
}

// A tensor of images [N, C, H, W] as rows of channels.
struct Images {
  const void* data;
  int64_t pitch;  // in elements
};

template <class Bits>
void launch_pack(const PackImagesParams& p, cudaStream_t stream) {
  const int64_t tiles = (p.pixels + kPackTile - 1) / kPackTile * p.channel_tiles;
  launch("masked_conv2d_pack_images_kernel", &masked_conv2d_pack_images_kernel<Bits>, tiles, kPackThreads, stream, p);
}

// `tensor` itself where its channels lie together in rows of whole 16 bytes; else a copy in the workspace.
template <class Bits>
Images as_rows(const MaskedConv2dCall& call, const Tensor& tensor, int64_t channels, bool reversed,
               Workspace& workspace) {
  const auto& s = tensor.strides;
  const int64_t pitch = call.width > 1 ? s[3] : call.height > 1 ? s[2] : call.batch > 1 ? s[0] : round_up(channels, 8);
  const bool dense = (channels == 1 || s[1] == 1) && (call.width == 1 || s[3] == pitch) &&
                     (call.height == 1 || s[2] == call.width * pitch) &&
                     (call.batch == 1 || s[0] == call.height * call.width * pitch);
  if (!reversed && dense && pitch >= channels && pitch * sizeof(Bits) % 16 == 0 && tensor.address % 16 == 0) {
    return {reinterpret_cast<const void*>(tensor.address), pitch};
  }
  PackImagesParams p{};
  p.pitch = round_up(channels, 16 / sizeof(Bits));
  p.pixels = call.batch * call.height * call.width;
  p.from = reinterpret_cast<const void*>(tensor.address);
  p.to = workspace.take(p.pixels * p.pitch * static_cast<int64_t>(sizeof(Bits)));
  if (workspace.counting()) return {p.to, p.pitch};
  for (int d = 0; d < 4; ++d) p.strides[d] = s[d];
  p.plane = call.height * call.width;
  p.width = call.width;
  p.channels = channels;
  p.channel_tiles = (p.pitch + kPackTile - 1) / kPackTile;
  p.pixels_inner = call.width > 1 ? s[3] < s[1] : s[2] < s[1];
  p.reversed = reversed;
  launch_pack<Bits>(p, reinterpret_cast<cudaStream_t>(call.stream));
  return {p.to, p.pitch};
}

// Whether a tensor that pygen made, contiguous or channels_last, is the latter.
inline bool channels_last(const Tensor& t, int64_t channels, int64_t height, int64_t width) {
  return channels > 1 && height * width > 1 && t.strides[1] == 1;
}

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

constexpr int64_t kSplitBlocks = 512;  // with fewer blocks the pixels are dealt to several,
constexpr int64_t kSplitPixels =
    1024;  // each of at least so many: by sizes alone, so that no result depends on the GPU

struct Splits {
  int64_t count, pixels;
};

inline Splits make_splits(int64_t pixels, int64_t blocks) {
  const int64_t wanted = std::clamp<int64_t>((kSplitBlocks + blocks - 1) / std::max<int64_t>(blocks, 1), 1,
                                             std::max<int64_t>(pixels / kSplitPixels, 1));
  const int64_t each = std::max<int64_t>(round_up((pixels + wanted - 1) / wanted, 32), 32);
  return {(pixels + each - 1) / each, each};
}

// go(element, what tensor cores multiply)
template <class Do>
auto with_math(const std::string& dtype, bool tf32, Do go) {
  if (dtype == "float32") return tf32 ? go(float(), Tf32()) : go(float(), float());
  if (dtype == "bfloat16") return go(__nv_bfloat16(), __nv_bfloat16());
  if (dtype == "float16") return go(__half(), __half());
  if (dtype == "float64") return go(double(), double());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

inline void check_sizes(const MaskedConv2dCall& call) {
  constexpr int64_t kMost = int64_t(1) << 30;
  for (int64_t size : {call.in_channels, call.out_channels, call.height, call.width}) {
    if (size > kMost) throw std::invalid_argument("input: expected dims of at most 2^30, got " + std::to_string(size));
  }
}

}  // namespace pygen::cuda
