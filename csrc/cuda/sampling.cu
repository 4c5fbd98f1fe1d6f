// Launcher of sampling.cuh.
#include "cuda/sampling.cuh"

namespace pygen::cuda {
namespace {

constexpr int kMostThreads = 256;

template <class T>
void draw_images(const SamplingCall& call) {
  SamplingParams<T> p{};
  p.stages = reinterpret_cast<const SamplingStage*>(call.stages);
  p.streams = reinterpret_cast<const SamplingStream*>(call.streams);
  p.taps = reinterpret_cast<const int32_t*>(call.taps);
  p.weights = reinterpret_cast<const T*>(call.weights);
  p.rings = reinterpret_cast<T*>(call.rings);
  p.ring_size = call.ring_size;
  p.shared_ring_size = call.shared_ring_size;
  p.shared_weights = call.shared_weights;
  p.draws = call.draws;
  p.n = call.n;
  p.channels = call.channels;
  p.height = call.height;
  p.width = call.width;
  p.groups = call.groups;
  p.num_stages = static_cast<int>(call.num_stages);
  p.images_per_block = static_cast<int>(call.images_per_block);
  const int64_t shared = (call.shared_weights + call.images_per_block * call.shared_ring_size) * sizeof(T);
  launch("sampling_kernel", &sampling_kernel<T, kMostThreads>,
         (call.n + call.images_per_block - 1) / call.images_per_block, call.threads,
         reinterpret_cast<cudaStream_t>(call.stream_handle), p, static_cast<int>(shared));
}

}  // namespace

void sampling_limits(int device, int* processors, int* shared_bytes) {
  check(cudaDeviceGetAttribute(processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
}

void sampling_draw(const SamplingCall& call) {
  check_threads(call.threads, kMostThreads);
  const DeviceGuard guard(call.device);
  if (call.n * call.height * call.width == 0) return;
  if (call.dtype == "float32") return draw_images<float>(call);
  if (call.dtype == "float64") return draw_images<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace pygen::cuda
