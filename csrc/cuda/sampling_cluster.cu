// Launcher of sampling_cluster.cuh.
#include "cuda/sampling_cluster.cuh"
#include "cuda/sampling_launch.cuh"

namespace pygen::cuda {
namespace {

template <class T>
void draw_images(const SamplingClusterCall& call) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream_handle);
  const auto* const steps = reinterpret_cast<const SamplingStep*>(call.steps);
  pack_weights<T>(call, steps, call.num_early + call.num_late, stream);
  const auto kernel = &sampling_cluster_kernel<T, kMostThreads>;
  ClusterParams params = cluster_params(call);
  params.steps = steps;
  launch_clusters("sampling_cluster_kernel", kernel, call, params);
}

}  // namespace

int sampling_clusters(int device, const std::string& dtype, int size, int threads, int shared_bytes) {
  return with_sampling_type(dtype, [&](auto type) {
    const auto kernel = &sampling_cluster_kernel<decltype(type), kMostThreads>;
    return clusters_of("sampling_cluster_kernel", kernel, device, size, threads, shared_bytes);
  });
}

void sampling_cluster_draw(const SamplingClusterCall& call) {
  check_cluster(call);
  const DeviceGuard guard(call.device);
  if (call.n * call.height * call.width == 0) return;
  with_sampling_type(call.dtype, [&](auto type) { draw_images<decltype(type)>(call); });
}

}  // namespace pygen::cuda
