// What a dependent step costs on this GPU, by where it waits: inside a block, a cluster, the grid, and for messages of a
// cluster's blocks instead of for the blocks; and how fast one SM reads L2. Compiled and run by gpu_ceilings.py. Prints JSON, microseconds a step. Not yet run on a GPU.

#include <cooperative_groups.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cuda/cluster.cuh"

namespace cg = cooperative_groups;

constexpr int kThreads = 256;
constexpr int kShort = 1000, kLong = 11000;  // steps; what a launch costs is the same in both
constexpr int kReadThreads = 1024;
constexpr size_t kReadBytes = size_t(4) << 20;  // beyond L1, well within L2

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

// Each step a thread reads what its neighbour has written in the step before.
__global__ void block_steps(int steps, float* out) {
  __shared__ float value[2][kThreads];
  const int t = threadIdx.x;
  value[0][t] = t;
  __syncthreads();
  for (int i = 0; i < steps; ++i) {
    value[(i + 1) & 1][t] = value[i & 1][(t + 1) % kThreads] + 1.0f;
    __syncthreads();
  }
  out[t] = value[steps & 1][t];
}

// The same, from the next block of the cluster through distributed shared memory.
__global__ void cluster_steps(int steps, float* out) {
#if __CUDA_ARCH__ >= 900
  __shared__ float value[2][kThreads];
  cg::cluster_group cluster = cg::this_cluster();
  const int t = threadIdx.x;
  const float* next = cluster.map_shared_rank(&value[0][0], (cluster.block_rank() + 1) % cluster.num_blocks());
  value[0][t] = t;
  cluster.sync();
  for (int i = 0; i < steps; ++i) {
    value[(i + 1) & 1][t] = next[(i & 1) * kThreads + t] + 1.0f;
    cluster.sync();
  }
  out[blockIdx.x * kThreads + t] = value[steps & 1][t];
  cluster.sync();  // no block may leave while another reads its memory
#endif
}

// A step of the cluster sampler (csrc/cuda/sampling_place.cuh) without its products: each block sends 4 KB, its share, to
// all of them, and goes on when it has everybody's. By the cluster's barrier, or by messages.
template <bool kMessages>
__global__ void exchange_steps(int steps, float* out) {
#if __CUDA_ARCH__ >= 900
  using namespace pygen::cuda;
  constexpr int kPieces = 256, kMost = 16;  // of 16 bytes a block; blocks
  extern __shared__ uint4 received[];       // [2][blocks][pieces]
  __shared__ uint64_t barriers[2];
  const int t = threadIdx.x, rank = cluster_rank(), blocks = cg::this_cluster().num_blocks();
  if (t == 0) {
    for (uint64_t& barrier : barriers) init_barrier(&barrier, 1);
    publish_to_cluster();
  }
  cluster_arrive();
  cluster_wait();
  uint4 value = {unsigned(t), 0, 0, 0};
  for (int i = 0; i < steps; ++i) {
    uint4* const now = received + i % 2 * kMost * kPieces;
    if (kMessages && t == 0) expect_messages(barriers + i % 2, blocks * kPieces * 16);
    for (int to = 0; to < blocks; ++to) {
      if (kMessages) {
        send_message(now + rank * kPieces + t, to, value, barriers + i % 2);
      } else {
        store_remote(now + rank * kPieces + t, to, value);
      }
    }
    if (kMessages) {
      await_messages(barriers + i % 2, i / 2 % 2);
    } else {
      cluster_arrive();
      cluster_wait();
    }
    value.x += now[(rank + 1) % blocks * kPieces + (t + 1) % kPieces].x;
  }
  out[blockIdx.x * kThreads + t] = float(value.x);
  cluster_arrive();
  cluster_wait();
#endif
}

// The same, from the next block of the grid through L2.
__global__ void grid_steps(int steps, float* values) {
  cg::grid_group grid = cg::this_grid();
  const int size = gridDim.x * kThreads;
  const int at = blockIdx.x * kThreads + threadIdx.x, next = (at + kThreads) % size;
  __stcg(values + at, float(at));
  grid.sync();
  for (int i = 0; i < steps; ++i) {
    __stcg(values + ((i + 1) & 1) * size + at, __ldcg(values + (i & 1) * size + next) + 1.0f);
    grid.sync();
  }
}

// One block reads `count` vectors of L2, `turns` times.
__global__ void read_l2(int turns, const float4* data, int count, float* out) {
  float sum = 0;
  for (int turn = 0; turn < turns; ++turn)
#pragma unroll 8
    for (int i = threadIdx.x; i < count; i += kReadThreads) {
      const float4 v = __ldcg(data + i);
      sum += v.x + v.y + v.z + v.w;
    }
  out[threadIdx.x] = sum;
}

// The least of several runs, in microseconds.
template <class Launch>
double microseconds(Launch launch) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&end), "event");
  float least = 1e30f;
  for (int run = 0; run < 7; ++run) {
    check(cudaEventRecord(start), "record");
    check(launch(), "launch");
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, end), "elapsed");
    if (run > 0) least = std::min(least, ms);
  }
  return least * 1e3;
}

template <class Launch>
double per_step(Launch launch) {
  const double brief = microseconds([&] { return launch(kShort); });
  return (microseconds([&] { return launch(kLong); }) - brief) / (kLong - kShort);
}

constexpr int kExchangeBytes = 2 * 16 * 256 * 16;

cudaError_t launch_clusters(void (*kernel)(int, float*), int size, int steps, float* out, int shared_bytes = 0) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = size;
  config.blockDim = kThreads;
  config.attrs = &attribute;
  config.numAttrs = 1;
  config.dynamicSmemBytes = shared_bytes;
  return cudaLaunchKernelEx(&config, kernel, steps, out);
}

void print_clusters(const char* name, void (*kernel)(int, float*), float* out, int shared_bytes = 0) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cluster of 16");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), "shared memory");
  for (int size = 2; size <= 16; size *= 2)
    std::printf(", \"%s_%d_step_us\": %.4f", name, size,
                per_step([&](int steps) { return launch_clusters(kernel, size, steps, out, shared_bytes); }));
}

int main() {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "device");
  float* memory;
  check(cudaMalloc(&memory, kReadBytes), "malloc");
  check(cudaMemset(memory, 0, kReadBytes), "memset");

  std::printf("{\"block_step_us\": %.4f", per_step([&](int steps) {
                block_steps<<<1, kThreads>>>(steps, memory);
                return cudaGetLastError();
              }));
  if (device.major >= 9) {
    print_clusters("cluster", cluster_steps, memory);
    print_clusters("cluster_exchange", exchange_steps<false>, memory, kExchangeBytes);
    print_clusters("cluster_messages", exchange_steps<true>, memory, kExchangeBytes);
  }
  for (int blocks : {16, device.multiProcessorCount})
    std::printf(", \"grid_%d_step_us\": %.4f", blocks, per_step([&](int steps) {
                  void* arguments[] = {&steps, &memory};
                  return cudaLaunchCooperativeKernel((void*)grid_steps, blocks, kThreads, arguments, 0, nullptr);
                }));
  const int count = int(kReadBytes / sizeof(float4)) - kReadThreads;  // the last kilobytes take the sums
  const double turn_us = per_step([&](int steps) {
                           read_l2<<<1, kReadThreads>>>(steps / 100, (const float4*)memory, count, memory + 4 * count);
                           return cudaGetLastError();
                         }) *
                         100;
  std::printf(", \"l2_read_of_one_sm_gb_per_s\": %.1f}\n", count * sizeof(float4) / turn_us * 1e-3);
  return 0;
}
