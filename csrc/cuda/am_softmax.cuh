// am_softmax for NVIDIA GPUs, what stands between its matrix products. Formula: csrc/common/categorical_nll.h, of
// logits that are products scaled by row and column, the target's less a margin. Not yet run on a GPU.
//
// Traffic of a product, 4 bytes: the loss reads it once; with gradients it is read again and T bytes are written, 10
// bytes of 16-bit gradients: 64 samples of a million classes are 256 MB, so that the second reading comes from memory,
// and 0.6 GB take 0.14 ms at 4.3 TB/s. A block has a row; its threads take classes side by side, kBatch each in flight.
// `across` reads D numbers of grad and t twice, the second time from L1 or L2, and writes them; a warp has a row.
#pragma once

#include "cuda/convert.cuh"
#include "cuda/softmax_terms.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct AmSoftmaxRows {
  const void *products, *row_scale, *column_scale, *upstream;
  const int64_t* target;
  void *nll, *grads;
  int64_t classes;
  double shift;
};

struct AmSoftmaxAcross {
  const void *grad, *t, *norm, *factor;
  void* result;
  int64_t rows, features;
  double least;
};

// --- traits

template <class Number>
struct AmSoftmaxTraits {
  using T = Number;  // of gradients
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 512;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBatch = sizeof(Acc) == 8 ? 4 : 8;
};

// --- kernels

template <class Tr, bool kGrad>
__global__ void __launch_bounds__(Tr::kThreads) am_softmax_rows_kernel(const __grid_constant__ AmSoftmaxRows p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t row = blockIdx.x;
  const int classes = static_cast<int>(p.classes), thread = static_cast<int>(threadIdx.x);
  const Acc* const products = static_cast<const Acc*>(p.products) + row * p.classes;
  const Acc* const columns = static_cast<const Acc*>(p.column_scale);
  const Acc scale = static_cast<const Acc*>(p.row_scale)[row], shift = static_cast<Acc>(p.shift);
  const int64_t given = p.target[row];
  const int target = given < 0 || given >= p.classes ? -1 : static_cast<int>(given);
  const auto logit = [&](int j) {
    const Acc scaled = products[j] * (columns[j] * scale);
    return j == target ? scaled - shift : scaled;
  };
  Terms<Acc> terms = sweep_terms<Tr::kBatch, Acc>(classes, target, thread, Tr::kThreads, logit);
  join_lanes(terms);
  const Acc drawn = target < 0 ? Acc(NAN) : logit(target);  // before any thread writes in its place
  join_warps<Tr::kWarps>(terms);
  const Categorical<Acc> of = categorical<Acc>(terms.top, drawn, terms.others);
  if (thread == 0) static_cast<Acc*>(p.nll)[row] = of.nll;
  if constexpr (kGrad) {
    const Acc factor = of.inverse * static_cast<const Acc*>(p.upstream)[row];
    T* const grads = static_cast<T*>(p.grads) + row * p.classes;
    for (int start = thread; start < classes; start += Tr::kThreads * Tr::kBatch) {
      Acc x[Tr::kBatch];
#pragma unroll
      for (int i = 0; i < Tr::kBatch; ++i) {
        const int j = start + i * Tr::kThreads;
        x[i] = j < classes ? logit(j) : Acc(0);
      }
#pragma unroll
      for (int i = 0; i < Tr::kBatch; ++i) {
        const int j = start + i * Tr::kThreads;
        const Acc slope = j == target ? -terms.others : exp_term(x[i] - terms.top);
        if (j < classes) grads[j] = narrow_to<T>(slope * factor * (columns[j] * scale));
      }
    }
  }
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) am_softmax_across_kernel(const __grid_constant__ AmSoftmaxAcross p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = int64_t(blockIdx.x) * Tr::kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= p.rows) return;  // of whole warps
  const Acc* const grad = static_cast<const Acc*>(p.grad) + row * p.features;
  const T* const t = static_cast<const T*>(p.t) + row * p.features;
  T* const result = static_cast<T*>(p.result) + row * p.features;
  const Acc norm = static_cast<const Acc*>(p.norm)[row],
            factor = p.factor ? *static_cast<const Acc*>(p.factor) : Acc(1);
  const bool has_direction = !(norm <= static_cast<Acc>(p.least));
  Acc sum = 0;
  for (int64_t j = lane; j < p.features; j += 32) sum += grad[j] * Acc(widen_to(t[j]));
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  const Acc along = sum / norm / norm;
  for (int64_t j = lane; j < p.features; j += 32) {
    const Acc value = has_direction ? grad[j] - Acc(widen_to(t[j])) * along : grad[j];
    result[j] = narrow_to<T>(value * factor);
  }
}

}  // namespace
}  // namespace pygen::cuda
