// Sorts a layer's weights for the kernels that run a dense network.
#include "cuda/dense_network.h"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

constexpr int kPackThreads = 128;

template <class T>
struct PackParams {
  const T *weight, *bias;
  int64_t out_stride, in_stride, bias_stride;
  const int64_t *rows, *columns, *seen;
  int64_t outs, row_step, pitch;
  bool difference;
  T *packed_weight, *packed_bias;
};

// A block packs a unit. Dead weights are not read.
template <class T>
__global__ void __launch_bounds__(kPackThreads) dense_pack_kernel(const PackParams<T> p) {
  const int64_t unit = blockIdx.x, of = unit / p.outs, row = p.rows[of] + unit % p.outs * p.row_step;
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
void pack(const DensePack& call) {
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
  p.row_step = call.row_step;
  p.pitch = call.pitch;
  p.difference = call.difference;
  p.packed_weight = reinterpret_cast<T*>(call.packed_weight);
  p.packed_bias = reinterpret_cast<T*>(call.packed_bias);
  launch("dense_pack_kernel", &dense_pack_kernel<T>, call.units, kPackThreads,
         reinterpret_cast<cudaStream_t>(call.stream_handle), p);
}

}  // namespace

void dense_pack(const DensePack& call) {
  const DeviceGuard guard(call.device);
  if (call.units == 0) return;
  if (call.dtype == "float32") return pack<float>(call);
  if (call.dtype == "float64") return pack<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace pygen::cuda
