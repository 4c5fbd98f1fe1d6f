// Launcher of sampling_cluster.cuh.
#include <algorithm>

#include "cuda/sampling_cluster.cuh"

namespace pygen::cuda {
namespace {

constexpr int kMostThreads = 256, kPackThreads = 256;
constexpr int kPortableSize = 8;  // of a cluster: more are asked for

template <class Run>
auto with_type(const std::string& dtype, const Run& run) {
  if (dtype == "bfloat16") return run(__nv_bfloat16());
  if (dtype == "float16") return run(__half());
  if (dtype == "float32") return run(float());
  throw std::invalid_argument("dtype: expected bfloat16, float16 or float32, got " + dtype);
}

ClusterParams params_of(const SamplingClusterCall& call) {
  ClusterParams p{};
  p.steps = reinterpret_cast<const SamplingStep*>(call.steps);
  p.segments = reinterpret_cast<const SamplingSegment*>(call.segments);
  p.weights = reinterpret_cast<const char*>(call.weights);
  p.memory = reinterpret_cast<char*>(call.memory);
  p.image_bytes = call.image_bytes;
  p.draws = call.draws;
  p.n = call.n;
  p.channels = static_cast<int>(call.channels);
  p.height = static_cast<int>(call.height);
  p.width = static_cast<int>(call.width);
  p.groups = static_cast<int>(call.groups);
  p.size = call.size;
  while (1 << p.size_log2 < call.size) ++p.size_log2;
  p.scale = static_cast<float>(2.0 / (call.draws.num_levels - 1));
  p.images = call.images;
  p.num_early = static_cast<int>(call.num_early);
  p.num_late = static_cast<int>(call.num_late);
  p.num_segments = static_cast<int>(call.num_segments);
  p.pixel_at = static_cast<int>(call.pixel_at);
  p.pixel_rows = static_cast<int>(call.pixel_rows);
  p.pixel_pitch = static_cast<int>(call.pixel_pitch);
  p.pixel = static_cast<int>(call.pixel);
  p.pixel_pixel_pitch = static_cast<int>(call.pixel_pixel_pitch);
  p.messages = call.messages;
  p.early_positions = static_cast<int>(call.early_positions);
  p.shared = call.shared;
  return p;
}

template <class T>
void draw_images(const SamplingClusterCall& call) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream_handle);
  SamplingPackParams pack{};
  pack.steps = reinterpret_cast<const SamplingStep*>(call.steps);
  pack.segments = reinterpret_cast<const SamplingSegment*>(call.segments);
  pack.num_steps = static_cast<int>(call.num_early + call.num_late);
  pack.runs = call.weight_bytes / kTileBytes;
  pack.packed = reinterpret_cast<char*>(call.weights);
  if (pack.runs > 0) {
    constexpr int64_t kRunsABlock = kPackThreads / 32;
    const int64_t blocks = std::min<int64_t>((pack.runs + kRunsABlock - 1) / kRunsABlock, 4096);
    launch("sampling_pack_kernel", &sampling_pack_kernel<T, kPackThreads>, blocks, kPackThreads, stream, pack);
  }
  const auto kernel = &sampling_cluster_kernel<T, kMostThreads>;
  if (call.size > kPortableSize) allow_large_clusters("sampling_cluster_kernel", kernel);
  launch("sampling_cluster_kernel", kernel, (call.n + call.images - 1) / call.images * call.size, call.threads, stream,
         params_of(call), call.shared.bytes, call.size);
}

}  // namespace

int sampling_clusters(int device, const std::string& dtype, int size, int threads, int shared_bytes) {
  const DeviceGuard guard(device);
  int major = 0, processors = 0, blocks = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  if (size > 1 && major < 9) return 0;
  return with_type(dtype, [&](auto type) {
    const auto kernel = &sampling_cluster_kernel<decltype(type), kMostThreads>;
    if (size == 1) {  // without a word of clusters, which no GPU before sm_90 has
      allow_shared("sampling_cluster_kernel", kernel, shared_bytes);
      const auto address = reinterpret_cast<const void*>(kernel);
      const auto bytes = static_cast<size_t>(shared_bytes);
      check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, address, threads, bytes), "sampling_cluster_kernel");
      return processors * blocks;
    }
    if (size > kPortableSize) allow_large_clusters("sampling_cluster_kernel", kernel);
    return clusters_at_once("sampling_cluster_kernel", kernel, size, threads, shared_bytes);
  });
}

void sampling_cluster_draw(const SamplingClusterCall& call) {
  if (call.threads < 32 || call.threads > kMostThreads || (call.threads & (call.threads - 1)) != 0) {
    throw std::invalid_argument("threads: expected a power of 2, 32 .. " + std::to_string(kMostThreads) + ", got " +
                                std::to_string(call.threads));
  }
  if (call.size < 1 || call.size > 16 || (call.size & (call.size - 1)) != 0) {
    throw std::invalid_argument("size: expected a power of 2, 1 .. 16, got " + std::to_string(call.size));
  }
  const DeviceGuard guard(call.device);
  if (call.n * call.height * call.width == 0) return;
  with_type(call.dtype, [&](auto type) { draw_images<decltype(type)>(call); });
}

}  // namespace pygen::cuda
