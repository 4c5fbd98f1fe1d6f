// What the launchers of samplers by clusters share: their weights packed first, cluster sizes asked for and checked.
#pragma once

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/sampling_place.cuh"

namespace pygen::cuda {

constexpr int kMostThreads = 256, kPackThreads = 256;
constexpr int kPortableSize = 8;  // of a cluster: more are asked for

template <class Run>
auto with_sampling_type(const std::string& dtype, const Run& run) {
  if (dtype == "bfloat16") return run(__nv_bfloat16());
  if (dtype == "float16") return run(__half());
  if (dtype == "float32") return run(float());
  throw std::invalid_argument("dtype: expected bfloat16, float16 or float32, got " + dtype);
}

inline ClusterParams cluster_params(const SamplingClusterCall& call) {
  ClusterParams p{};
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
  p.scale = static_cast<float>(call.draws.scale);
  p.shift = static_cast<float>(call.draws.shift);
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

inline void check_cluster(const SamplingClusterCall& call) {
  if (call.threads < 32 || call.threads > kMostThreads || (call.threads & (call.threads - 1)) != 0) {
    throw std::invalid_argument("threads: expected a power of 2, 32 .. " + std::to_string(kMostThreads) + ", got " +
                                std::to_string(call.threads));
  }
  if (call.size < 1 || call.size > 16 || (call.size & (call.size - 1)) != 0) {
    throw std::invalid_argument("size: expected a power of 2, 1 .. 16, got " + std::to_string(call.size));
  }
}

template <class Params>
int clusters_of(const char* name, void (*kernel)(Params), int device, int size, int threads, int shared_bytes) {
  const DeviceGuard guard(device);
  int major = 0, processors = 0, blocks = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  if (size > 1 && major < 9) return 0;
  if (size == 1) {  // without a word of clusters, which no GPU before sm_90 has
    allow_shared(name, kernel, shared_bytes);
    const auto address = reinterpret_cast<const void*>(kernel);
    const auto bytes = static_cast<size_t>(shared_bytes);
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, address, threads, bytes), name);
    return processors * blocks;
  }
  if (size > kPortableSize) allow_large_clusters(name, kernel);
  return clusters_at_once(name, kernel, size, threads, shared_bytes);
}

template <class Params>
void launch_clusters(const char* name, void (*kernel)(Params), const SamplingClusterCall& call, const Params& params) {
  if (call.size > kPortableSize) allow_large_clusters(name, kernel);
  launch(name, kernel, (call.n + call.images - 1) / call.images * call.size, call.threads,
         reinterpret_cast<cudaStream_t>(call.stream_handle), params, call.shared.bytes, call.size);
}

// One warp packs one tile's run of 64 bytes; see sampling_mma.cuh.
template <class Step>
struct SamplingPackParams {
  const Step* steps;
  const SamplingSegment* segments;
  int num_steps;
  int64_t runs;
  char* packed;
};

template <class T, class Step, int kThreads>
__global__ void __launch_bounds__(kThreads) sampling_pack_kernel(const __grid_constant__ SamplingPackParams<Step> p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t(gridDim.x) * (kThreads / 32);
  for (int64_t run = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / 32; run < p.runs; run += warps) {
    int low = 0, high = p.num_steps - 1;  // the last step that begins at or before this run
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (p.steps[middle].weight <= run * kTileBytes) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const Step& step = p.steps[low];
    const int64_t own = run - step.weight / kTileBytes;
    const int tile = static_cast<int>(own / step.blocks), block = static_cast<int>(own % step.blocks);
    int s = 0;
    while (s + 1 < step.num_segments && p.segments[step.segments + s + 1].block <= block) ++s;
    const SamplingSegment segment = p.segments[step.segments + s];
    constexpr int kPerWord = 4 / sizeof(T);
    for (int i = 0; i < 2; ++i) {
      T elements[4 * kPerWord];
      for (int word = 0; word < 4; ++word) {
        const int row = packed_row(lane, word);
        const int channel = step.gate ? tile * 8 + row % 8 : tile * 16 + row;
        const int64_t out = step.first + channel + (step.gate && row >= 8 ? step.outs : 0);
        for (int e = 0; e < kPerWord; ++e) {
          const int in = ((block - segment.block) * 16 + packed_word(lane, i, word)) * kPerWord + e;
          T value = narrow_to<T>(0.0f);
          const int group = in / step.filled_group, c = in % step.filled_group;
          if (channel < step.outs && in < segment.channels && c < step.group) {
            const int64_t at = segment.tap * step.kernel_tap + out * step.kernel_out;
            value = reinterpret_cast<const T*>(step.kernel)[at + (group * step.group + c) * step.kernel_in];
          }
          elements[word * kPerWord + e] = value;
        }
      }
      memcpy(p.packed + run * kTileBytes + (i * 32 + lane) * 16, elements, 16);
    }
  }
}

template <class T, class Step>
void pack_weights(const SamplingClusterCall& call, const Step* steps, int64_t num_steps, cudaStream_t stream) {
  SamplingPackParams<Step> pack{};
  pack.steps = steps;
  pack.segments = reinterpret_cast<const SamplingSegment*>(call.segments);
  pack.num_steps = static_cast<int>(num_steps);
  pack.runs = call.weight_bytes / kTileBytes;
  pack.packed = reinterpret_cast<char*>(call.weights);
  if (pack.runs == 0) return;
  constexpr int64_t kRunsABlock = kPackThreads / 32;
  const int64_t blocks = std::min<int64_t>((pack.runs + kRunsABlock - 1) / kRunsABlock, 4096);
  launch("sampling_pack_kernel", &sampling_pack_kernel<T, Step, kPackThreads>, blocks, kPackThreads, stream, pack);
}

}  // namespace pygen::cuda
