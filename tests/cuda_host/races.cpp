// Kernels with a race that a GPU may show and threads that meet would not, each with its fault or mended: `races NAME
// fault|mended`, under ThreadSanitizer.
#include <cstdio>

#include "cuda/last_block.cuh"
#include "cuda/launch.cuh"

namespace {

using pygen::cuda::is_last_block;
using pygen::cuda::Ticket;

struct Params {
  bool faulty;
  float* out;  // [blocks * 32]
  Ticket ticket;
};

int own_place() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// A neighbour's word, read after a shuffle, which is no fence.
void shuffles(const Params p) {
  __shared__ float words[32];
  words[threadIdx.x] = 1;
  const float one = __shfl_xor_sync(~0u, 1.0f, 1);
  if (!p.faulty) __syncwarp();
  p.out[own_place()] = one + words[threadIdx.x ^ 1];
}

// Two blocks write one word.
void writes_twice(const Params p) {
  const bool astray = p.faulty && blockIdx.x == 1 && threadIdx.x == 5;
  p.out[astray ? 5 : own_place()] = 1;
}

// The last block reads what others' second threads have written, which only a barrier before the fence makes seen.
void reads_unfenced(const Params p) {
  p.out[own_place()] = 1;
  if (!p.faulty) __syncthreads();
  if (!is_last_block(p.ticket)) return;
  float sum = 0;
  for (int i = 0; i < static_cast<int>(gridDim.x * blockDim.x); ++i) sum += p.out[i];
  __syncthreads();
  p.out[threadIdx.x] = sum;
}

// A block's shared memory lies where another's lay: no race of theirs, but one within a block without its barrier.
void keeps_to_itself(const Params p) {
  PYGEN_DYNAMIC_SHARED(dynamic);
  __shared__ float words[32];
  auto* const others = reinterpret_cast<float*>(dynamic);
  words[threadIdx.x] = others[threadIdx.x] = 1;
  if (!p.faulty) __syncthreads();
  p.out[own_place()] = words[threadIdx.x ^ 1] + others[threadIdx.x ^ 1];
}

cudaError_t run(void (*kernel)(Params), const Params& p) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(4);
  config.blockDim = dim3(32);
  config.dynamicSmemBytes = 32 * sizeof(float);
  return cudaLaunchKernelEx(&config, kernel, p);
}

}  // namespace

int main(int, char** arguments) {
  const std::string name = arguments[1];
  std::vector<float> out(4 * 32);
  unsigned long long word = 0;
  const Params p{arguments[2] == std::string("fault"), out.data(), {&word, 1ull << pygen::cuda::kTicketBits}};
  if (name == "shuffles") return run(shuffles, p);
  if (name == "writes_twice") return run(writes_twice, p);
  if (name == "reads_unfenced") return run(reads_unfenced, p);
  if (name == "keeps_to_itself") return run(keeps_to_itself, p);
  return 2;
}
