// Whether and how the weight's gradient of masked_conv2d runs on Hopper's warpgroups.
#pragma once

#include "cuda/conv_launch.h"
#include "cuda/masked_conv2d_weight.cuh"
#include "cuda/wgmma_launch.h"

namespace pygen::cuda {

// Whether it can run and is worth it, by channels, taps and sizes of images, not by their number.
bool takes_wgmma(WgmmaType type, const WeightParams& p);
// The sums of each split of the pixels, in the workspace; how many splits there are.
Splits launch_wgmma_weight(WgmmaType type, WeightParams p, Workspace& workspace, cudaStream_t stream, void*& partial);

}  // namespace pygen::cuda
