// Launcher of sampling_scales.cuh.
#include "cuda/sampling_launch.cuh"
#include "cuda/sampling_scales.cuh"

namespace pygen::cuda {
namespace {

template <class T>
void draw_images(const SamplingScalesCall& call) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream_handle);
  pack_weights<T>(call, reinterpret_cast<const ScalesMatrix*>(call.matrices), call.num_matrices, stream);
  ScalesParams p{};
  static_cast<ClusterParams&>(p) = cluster_params(call);
  p.scale_steps = reinterpret_cast<const ScalesStep*>(call.steps);
  p.pushes = reinterpret_cast<const ScalesPush*>(call.pushes);
  p.order = reinterpret_cast<const int16_t*>(call.order);
  p.num_pushes = static_cast<int>(call.num_pushes);
  p.pushes_at = static_cast<int>(call.pushes_at);
  p.order_at = static_cast<int>(call.order_at);
  p.order_pitch = static_cast<int>(call.order_pitch);
  p.scales = static_cast<int>(call.scales);
  p.num_mixtures = static_cast<int>(call.num_mixtures);
  p.min_log_scale = call.min_log_scale;
  launch_clusters("sampling_scales_kernel", &sampling_scales_kernel<T, kMostThreads>, call, p);
}

}  // namespace

int sampling_scales_clusters(int device, const std::string& dtype, int size, int threads, int shared_bytes) {
  return with_sampling_type(dtype, [&](auto type) {
    const auto kernel = &sampling_scales_kernel<decltype(type), kMostThreads>;
    return clusters_of("sampling_scales_kernel", kernel, device, size, threads, shared_bytes);
  });
}

void sampling_scales_draw(const SamplingScalesCall& call) {
  check_cluster(call);
  const DeviceGuard guard(call.device);
  if (call.n * call.height * call.width == 0) return;
  with_sampling_type(call.dtype, [&](auto type) { draw_images<decltype(type)>(call); });
}

}  // namespace pygen::cuda
