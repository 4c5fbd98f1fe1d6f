// Whether and how the product of masked_conv2d.cu runs on Hopper's warpgroups.
#pragma once

#include "cuda/conv_launch.h"
#include "cuda/conv_steps.cuh"
#include "cuda/wgmma_launch.h"

namespace pygen::cuda {

// Whether the current device and this build have it and the product is worth it: by channels and taps, not by pixels,
// so that no sum depends on the batch.
bool takes_wgmma(WgmmaType type, const ConvParams& p);

// Bytes of the weights, p.taps by p.k, as that kernel reads them.
int64_t wgmma_weight_bytes(WgmmaType type, const ConvParams& p);
// Writes them to weights.to. Of p: what is said of n.
void pack_wgmma_weights(WgmmaType type, const ConvParams& p, const PackWeightsParams& weights, cudaStream_t stream);

// All of p but what belongs to a run; x as for masked_conv2d_fwd_kernel.
void launch_wgmma(WgmmaType type, const ConvParams& p, cudaStream_t stream);

}  // namespace pygen::cuda
