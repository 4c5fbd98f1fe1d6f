// The kernels of masked_linear: matrix products over the live part of a weight, on the tiles of masked_conv2d.
//
//   out[m, target_order[t]] = bias + sum over s < live[t] of x[m, source_order[s]] weight[t, s]
//   grad_weight[t, s] = sum over m of grad[m, t] x[m, s]        for s < live[t], else exactly 0
//
// With both sides by degree the live part is a staircase: a tile of targets ends where its last one does, and tiles of
// the weight's gradient beyond the stairs are not computed. Before that, a kernel brings rows in that order to whole 16
// bytes, zeros where the weight is dead. Traffic: that copy reads and writes the weight and, where they are not in
// order already, the rows; the product reads the rows once for each tile of targets and the live weight once for each
// tile of rows, from L2.
#pragma once

#include "cuda/conv_loop.cuh"
#include "cuda/masked_conv2d_weight.cuh"

namespace pygen::cuda {

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) masked_linear_fwd_kernel(ConvParams p) {
  multiply_tile<Tr>(p);
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) masked_linear_bwd_weight_kernel(WeightParams p) {
  sum_tile<Tr>(p);
}

struct PackMatrixParams {
  const void* from;  // [rows, columns] by its strides
  void* to;          // [rows, pitch]
  int64_t strides[2];
  int64_t rows, columns, pitch, column_tiles;
  const int64_t *row_order, *column_order;  // or null: as they are
  const int64_t* live;                      // of a weight: how many columns each row sees; or null: all
  bool rows_inner;                          // a row's neighbours are nearer in `from` than a column's
};

constexpr int kMostTargets = 128;  // of a product's tile, whose last row sees most

// 32 by 32 through shared memory: read along the nearer dim, written along columns. Elements are moved as bits.
template <class Bits>
__global__ void __launch_bounds__(kPackThreads) masked_linear_pack_kernel(PackMatrixParams p) {
  __shared__ Bits tile[kPackTile][kPackTile + 1];
  const int64_t block = blockIdx.x, row_tile = block / p.column_tiles;
  const int64_t first_row = row_tile * kPackTile, first_column = (block - row_tile * p.column_tiles) * kPackTile;
  if (p.live != nullptr) {  // what no product reads is not copied
    const int64_t last = (first_row / kMostTargets + 1) * kMostTargets - 1;
    if (first_column >= p.live[min(last, p.rows - 1)]) return;
  }
  const int inner = static_cast<int>(threadIdx.x) % kPackTile, outer = static_cast<int>(threadIdx.x) / kPackTile;
  for (int i = outer; i < kPackTile; i += kPackThreads / kPackTile) {
    const int dr = p.rows_inner ? inner : i, dc = p.rows_inner ? i : inner;
    const int64_t row = first_row + dr, column = first_column + dc;
    Bits value = 0;
    if (row < p.rows && column < p.columns && (p.live == nullptr || column < p.live[row])) {
      const int64_t r = p.row_order != nullptr ? p.row_order[row] : row;
      const int64_t c = p.column_order != nullptr ? p.column_order[column] : column;
      value = static_cast<const Bits*>(p.from)[r * p.strides[0] + c * p.strides[1]];
    }
    tile[dr][dc] = value;
  }
  __syncthreads();
  for (int i = outer; i < kPackTile; i += kPackThreads / kPackTile) {
    const int64_t row = first_row + i, column = first_column + inner;
    if (row < p.rows && column < p.pitch) static_cast<Bits*>(p.to)[row * p.pitch + column] = tile[i][inner];
  }
}

struct FinishLinearParams {
  const void* partial;  // [splits][targets][sources]
  void* out;            // [targets][sources]
  int64_t splits, targets, sources;
  const int64_t *source_order, *target_order, *live;
};

// Adds the splits in order; what is dead is 0.
template <class T>
__global__ void __launch_bounds__(kPackThreads) masked_linear_finish_kernel(FinishLinearParams p) {
  using Acc = typename Element<T>::Acc;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x, size = p.targets * p.sources;
  if (index >= size) return;
  const int64_t t = index / p.sources, s = index - t * p.sources;
  Acc sum = 0;
  if (s < p.live[t]) {
    for (int64_t split = 0; split < p.splits; ++split) {
      sum += static_cast<const Acc*>(p.partial)[split * size + index];
    }
  }
  const int64_t row = p.target_order != nullptr ? p.target_order[t] : t;
  const int64_t column = p.source_order != nullptr ? p.source_order[s] : s;
  static_cast<T*>(p.out)[row * p.sources + column] = narrow_to<T>(sum);
}

}  // namespace pygen::cuda
