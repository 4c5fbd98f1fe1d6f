// Kernels that Hopper would not forgive, each with its fault or mended: `faults NAME fault|mended`. The machine has to
// end the program at the fault, and to let the mended one pass.
#include <cstdio>

#include "cuda/cluster.cuh"
#include "cuda/launch.cuh"

namespace {

using namespace pygen::cuda;

constexpr int kTileBytes = 64 * kTileRowBytes;

struct Params {
  bool faulty;
  const void* tile;  // [64][128 bytes] of zeros
};

// A block ends while another writes into its memory.
void ends_early(const Params p) {
  PYGEN_DYNAMIC_SHARED(shared);
  if (cluster_rank() == 1) store_remote(reinterpret_cast<uint32_t*>(shared) + threadIdx.x, 0, 7u);
  if (p.faulty) return;
  cluster_arrive();
  cluster_wait();
}

// A message to the own block: st.async asks for a cluster of several.
void sends(const Params) {
  PYGEN_DYNAMIC_SHARED(shared);
  auto* const barrier = reinterpret_cast<uint64_t*>(shared);
  if (threadIdx.x == 0) {
    init_barrier(barrier, 1);
    publish_to_cluster();
    expect_messages(barrier, 16);
  }
  __syncthreads();
  if (threadIdx.x == 0) send_message(reinterpret_cast<uint4*>(shared) + 1, cluster_rank(), uint4{}, barrier);
  await_messages(barrier, 0);
}

// More bytes than a barrier counts.
void expects_too_much(const Params p) {
  PYGEN_DYNAMIC_SHARED(shared);
  auto* const barrier = reinterpret_cast<uint64_t*>(shared);
  if (threadIdx.x != 0) return;
  init_barrier(barrier, 1);
  publish_barriers();
  unsigned char* const to = reinterpret_cast<unsigned char*>(shared) + 16;
  arrive_expecting(barrier, p.faulty ? 1 << 20 : kTileBytes);
  copy_bytes(to, p.tile, kTileBytes, barrier);
  await(barrier, 0);
}

void joins_part_of_a_warp(const Params p) {
  const int threads = p.faulty ? 40 : 64;
  if (static_cast<int>(threadIdx.x) < threads) sync_threads(1, threads);
}

// A product of weights; `store` may write them, or over them, before it.
template <class Store>
void multiply_after(const Params& p, bool copies, const Store& store) {
  PYGEN_DYNAMIC_SHARED(shared);
  unsigned char* const tile = reinterpret_cast<unsigned char*>(shared) + (1024 - shared_address(shared) % 1024) % 1024;
  auto* const barrier = reinterpret_cast<uint64_t*>(tile + kTileBytes);
  if (threadIdx.x == 0) {
    init_barrier(barrier, 1);
    publish_barriers();
    if (copies) {
      arrive_expecting(barrier, kTileBytes);
      copy_bytes(tile, p.tile, kTileBytes, barrier);
    }
  }
  __syncthreads();
  if (copies) await(barrier, 0);
  store(tile);
  __syncthreads();
  float sums[8][4] = {};
  const uint32_t a[4] = {};
  begin_products();
  multiply_async<__half>(sums, a, matrix_descriptor(shared_address(tile)));
  commit_products();
  await_products<0>();
  end_products(sums);
}
void stores_weights(const Params p) {
  multiply_after(p, !p.faulty, [&](unsigned char* tile) {
    for (int i = static_cast<int>(threadIdx.x); p.faulty && i < kTileBytes; i += static_cast<int>(blockDim.x))
      tile[i] = 0;
  });
}
void changes_weights(const Params p) {
  multiply_after(p, true, [&](unsigned char* tile) {
    if (p.faulty && threadIdx.x == 5) tile[5] = 1;
  });
}

void nothing(const Params) {}

cudaError_t run(void (*kernel)(Params), const Params& p, int threads, int cluster = 1, int shared = 2 << 14) {
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(cluster));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, p);
}

cudaError_t run(const std::string& name, bool faulty) {
  static const std::vector<unsigned char> zeros(kTileBytes + 16);
  const Params p{faulty, zeros.data() + (16 - reinterpret_cast<uintptr_t>(zeros.data()) % 16) % 16};
  if (name == "ends_early") return run(ends_early, p, 32, 2);
  if (name == "sends_alone") return run(sends, p, 32, faulty ? 1 : 2);
  if (name == "expects_too_much") return run(expects_too_much, p, 32);
  if (name == "joins_part_of_a_warp") return run(joins_part_of_a_warp, p, 64);
  if (name == "stores_weights") return run(stores_weights, p, 128);
  if (name == "changes_weights") return run(changes_weights, p, 128);
  if (name == "shared_memory_not_asked_for") {
    if (!faulty) allow_shared("nothing", nothing, 64 << 10);
    return run(nothing, p, 32, 1, 64 << 10);
  }
  if (name == "large_cluster_not_asked_for") {
    if (!faulty) allow_large_clusters("nothing", nothing);
    return run(nothing, p, 32, 16);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int main(int, char** arguments) {
  const cudaError_t status = run(arguments[1], arguments[2] == std::string("fault"));
  if (status == cudaSuccess) return 0;
  std::fprintf(stderr, "launch: error %d\n", static_cast<int>(status));
  return 1;
}
