// The kernel of gated_masked_conv2d: masked_conv2d's product, and what follows it while a tile is in shared memory.
//
//   pre = product + bias + add, rounded once        out = tanh(a + cond) sigmoid(b + cond) of pre's halves a and b
//
// Each tile of n holds pairs of both halves (conv_pairs.cuh). Traffic beyond the product's: add and a cond of pixels
// are read once, pre and out written once. Not yet run on a GPU.
#pragma once

#include "cuda/conv_loop.cuh"

namespace pygen::cuda {

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) gated_masked_conv2d_fwd_kernel(ConvParams p) {
  multiply_tile<Tr, true>(p);
}

}  // namespace pygen::cuda
