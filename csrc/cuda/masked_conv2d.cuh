// The kernel of masked_conv2d forward and, with opposite offsets and n, k exchanged, of the input's gradient.
//
//   out[p, n] = bias[n] + sum over live (tap, k) of x[p + offset(tap), k] weight[tap, n, k]
//
// An implicit matrix product, pixels p of all images by channels n, k in steps of 64 bytes. Images lie as
// [pixel][channel], so what all taps of a tile read is one run of pixels: it is copied to shared memory once for each
// step of k and read at the tap's offset; where a tap leaves the image, a row of zeros is read instead. Traffic: the
// input 1 + (reach of the taps) / 128 times and once more for each tile of n, from L2; the weight once for each tile of
// pixels, from L2.
#pragma once

#include "cuda/conv_loop.cuh"

namespace pygen::cuda {
template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) masked_conv2d_fwd_kernel(ConvParams p) {
  multiply_tile<Tr>(p);
}

}  // namespace pygen::cuda
