// Launching dense_network_kernel with a rule.
#pragma once

#include "cuda/dense_network.cuh"

namespace pygen::cuda {

template <class Rule, int kImages, bool kInShared = true>
void dense_run_images(const DenseCall& call, const DenseParams<Rule>& p) {
  const int threads = call.threads == 0 ? dense_threads(kInShared) : call.threads;
  check_threads(threads, dense_threads(kInShared));
  launch("dense_network_kernel", &dense_network_kernel<Rule, kImages, kInShared>, (call.n + kImages - 1) / kImages,
         threads, reinterpret_cast<cudaStream_t>(call.stream_handle), p, static_cast<int>(call.shared_bytes));
}

template <class Rule>
void dense_run(const DenseCall& call, const Rule& rule) {
  using T = typename Rule::Number;
  DenseParams<Rule> p{};
  p.layers = reinterpret_cast<const DenseLayer*>(call.layers);
  p.table = reinterpret_cast<const int64_t*>(call.table);
  p.order = reinterpret_cast<const int64_t*>(call.order);
  p.packed = reinterpret_cast<const T*>(call.packed);
  p.added = reinterpret_cast<const T*>(call.added);
  p.added_pitch = call.added_pitch;
  p.memory = reinterpret_cast<T*>(call.memory);
  p.n = call.n;
  p.inputs = static_cast<int>(call.inputs);
  p.sources = static_cast<int>(call.sources);
  p.num_layers = static_cast<int>(call.num_layers);
  p.outs = static_cast<int>(call.outs);
  p.panel = static_cast<int>(call.panel);
  p.act_size = static_cast<int>(call.act_size);
  p.sum_size = static_cast<int>(call.sum_size);
  p.image_size = static_cast<int>(call.image_size);
  p.steps_at = static_cast<int>(call.steps_at);
  p.triangle_at = static_cast<int>(call.triangle_at);
  p.buffer_bytes = static_cast<int>(call.buffer_bytes);
  p.rule = rule;
  if (call.memory != 0) {
    if (call.images_per_block != kDenseImagesInMemory) {
      throw std::invalid_argument("images_per_block: expected " + std::to_string(kDenseImagesInMemory) +
                                  " in device memory, got " + std::to_string(call.images_per_block));
    }
    return dense_run_images<Rule, kDenseImagesInMemory, false>(call, p);
  }
  switch (call.images_per_block) {
    case 1:
      return dense_run_images<Rule, 1>(call, p);
    case 2:
      return dense_run_images<Rule, 2>(call, p);
    case 4:
      return dense_run_images<Rule, 4>(call, p);
    case 8:
      if constexpr (sizeof(T) == 4) return dense_run_images<Rule, 8>(call, p);
  }
  throw std::invalid_argument("images_per_block: expected 1, 2, 4 or, in float32, 8, got " +
                              std::to_string(call.images_per_block));
}

}  // namespace pygen::cuda
