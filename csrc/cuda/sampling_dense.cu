// Launchers of the dense sampler: weights sorted, then the draws of sampling_dense.cuh.
#include "cuda/sampling_dense.cuh"

namespace pygen::cuda {
namespace {

constexpr int kPackThreads = 128;

template <class T>
struct PackParams {
  const T *weight, *bias;
  int64_t out_stride, in_stride, bias_stride;
  const int64_t *rows, *columns, *seen;
  int64_t outs, pitch;
  bool difference;
  T *packed_weight, *packed_bias;
};

// A block packs a unit. Dead weights are not read.
template <class T>
__global__ void __launch_bounds__(kPackThreads) sampling_dense_pack_kernel(const PackParams<T> p) {
  const int64_t unit = blockIdx.x, of = unit / p.outs, row = p.rows[of] + unit % p.outs;
  const T* const weight = p.weight + row * p.out_stride;
  for (int64_t k = threadIdx.x; k < p.pitch; k += kPackThreads) {
    T value = 0;
    if (k < p.seen[of]) {
      const int64_t in = p.columns[k] * p.in_stride;
      value = p.difference ? weight[in] - weight[in + p.out_stride] : weight[in];
    }
    p.packed_weight[unit * p.pitch + k] = value;
  }
  if (threadIdx.x == 0) {
    const T* const bias = p.bias + row * p.bias_stride;
    p.packed_bias[unit] = p.difference ? bias[0] - bias[p.bias_stride] : bias[0];
  }
}

template <class T>
void pack(const SamplingDensePack& call) {
  PackParams<T> p{};
  p.weight = reinterpret_cast<const T*>(call.weight);
  p.bias = reinterpret_cast<const T*>(call.bias);
  p.out_stride = call.out_stride;
  p.in_stride = call.in_stride;
  p.bias_stride = call.bias_stride;
  p.rows = reinterpret_cast<const int64_t*>(call.rows);
  p.columns = reinterpret_cast<const int64_t*>(call.columns);
  p.seen = reinterpret_cast<const int64_t*>(call.seen);
  p.outs = call.outs;
  p.pitch = call.pitch;
  p.difference = call.difference;
  p.packed_weight = reinterpret_cast<T*>(call.packed_weight);
  p.packed_bias = reinterpret_cast<T*>(call.packed_bias);
  launch("sampling_dense_pack_kernel", &sampling_dense_pack_kernel<T>, call.units, kPackThreads,
         reinterpret_cast<cudaStream_t>(call.stream_handle), p);
}

template <class T, int kImages, bool kInShared = true>
void draw_images(const SamplingDenseCall& call, const SamplingDenseParams<T>& p) {
  const int threads = call.threads == 0 ? dense_threads(kInShared) : call.threads;
  check_threads(threads, dense_threads(kInShared));
  launch("sampling_dense_kernel", &sampling_dense_kernel<T, kImages, kInShared>, (call.n + kImages - 1) / kImages,
         threads, reinterpret_cast<cudaStream_t>(call.stream_handle), p, static_cast<int>(call.shared_bytes));
}

template <class T>
void draw(const SamplingDenseCall& call) {
  SamplingDenseParams<T> p{};
  p.layers = reinterpret_cast<const SamplingDenseLayer*>(call.layers);
  p.table = reinterpret_cast<const int64_t*>(call.table);
  p.order = reinterpret_cast<const int64_t*>(call.order);
  p.packed = reinterpret_cast<const T*>(call.packed);
  p.memory = reinterpret_cast<T*>(call.memory);
  p.draws = call.draws;
  p.n = call.n;
  p.inputs = static_cast<int>(call.inputs);
  p.num_layers = static_cast<int>(call.num_layers);
  p.outs = static_cast<int>(call.outs);
  p.panel = static_cast<int>(call.panel);
  p.act_size = static_cast<int>(call.act_size);
  p.sum_size = static_cast<int>(call.sum_size);
  p.image_size = static_cast<int>(call.image_size);
  p.draws_at = static_cast<int>(call.draws_at);
  p.triangle_at = static_cast<int>(call.triangle_at);
  p.buffer_bytes = static_cast<int>(call.buffer_bytes);
  if (call.memory != 0) {
    if (call.images_per_block != kSamplingDenseImagesInMemory) {
      throw std::invalid_argument("images_per_block: expected " + std::to_string(kSamplingDenseImagesInMemory) +
                                  " in device memory, got " + std::to_string(call.images_per_block));
    }
    return draw_images<T, kSamplingDenseImagesInMemory, false>(call, p);
  }
  switch (call.images_per_block) {
    case 1:
      return draw_images<T, 1>(call, p);
    case 2:
      return draw_images<T, 2>(call, p);
    case 4:
      return draw_images<T, 4>(call, p);
    case 8:
      if constexpr (sizeof(T) == 4) return draw_images<T, 8>(call, p);
  }
  throw std::invalid_argument("images_per_block: expected 1, 2, 4 or, in float32, 8, got " +
                              std::to_string(call.images_per_block));
}

}  // namespace

void sampling_dense_pack(const SamplingDensePack& call) {
  const DeviceGuard guard(call.device);
  if (call.units == 0) return;
  if (call.dtype == "float32") return pack<float>(call);
  if (call.dtype == "float64") return pack<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

void sampling_dense_draw(const SamplingDenseCall& call) {
  const DeviceGuard guard(call.device);
  if (call.n * call.inputs == 0) return;
  if (call.dtype == "float32") return draw<float>(call);
  if (call.dtype == "float64") return draw<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace pygen::cuda
