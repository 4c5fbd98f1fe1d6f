// Whether and how the product of masked_conv2d.cu runs on Hopper's warpgroups.
#pragma once

#include "cuda/conv_launch.h"
#include "cuda/conv_steps.cuh"

namespace pygen::cuda {

enum class WgmmaType { None, BFloat16, Float16, Tf32 };

template <class T, class Math>
constexpr WgmmaType wgmma_type() {
  if (std::is_same_v<Math, __nv_bfloat16>) return WgmmaType::BFloat16;
  if (std::is_same_v<Math, __half>) return WgmmaType::Float16;
  return std::is_same_v<Math, Tf32> ? WgmmaType::Tf32 : WgmmaType::None;
}

// Whether the current device and this build have it and the product is worth it: by channels and taps, not by pixels,
// so that no sum depends on the batch.
bool takes_wgmma(WgmmaType type, const ConvParams& p);

// Bytes of the weights as that kernel reads them.
int64_t wgmma_weight_bytes(WgmmaType type, const ConvParams& p);

// All of p but what belongs to a run; x and weights as for masked_conv2d_fwd_kernel, weights.to of wgmma_weight_bytes.
void launch_wgmma(WgmmaType type, const ConvParams& p, const PackWeightsParams& weights, cudaStream_t stream);

}  // namespace pygen::cuda
