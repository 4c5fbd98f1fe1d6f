// The noise of all samplers: pygen/models/_sampling.py: uniforms. Word j of image i is word j % 4 of Philox's counter
// (j / 4, 0, i, domain). 4 bytes written a number.
#include "common/philox.h"
#include "cuda/launch.cuh"
#include "cuda/sampling_draws.h"

namespace pygen::cuda {
namespace {

constexpr int kThreads = 256;

struct UniformsParams {
  const int64_t* seed;
  int64_t n, draws, quads;
  float* out;  // [n, draws]
};

// A thread makes four numbers of an image.
__global__ void __launch_bounds__(kThreads) sampling_uniforms_kernel(const UniformsParams p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= p.n * p.quads) return;
  const int64_t image = index / p.quads, quad = index % p.quads;
  const uint64_t key = static_cast<uint64_t>(*p.seed);
  uint32_t words[4];
  philox_words(key, static_cast<uint64_t>(quad), static_cast<uint32_t>(image), NoiseDomain::Sampling, words);
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    if (4 * quad + word < p.draws) p.out[image * p.draws + 4 * quad + word] = uniform_of_word(words[word]);
  }
}

}  // namespace

void sampling_uniforms(const SamplingUniforms& call) {
  const DeviceGuard guard(call.device);
  if (call.n * call.draws == 0) return;
  const int64_t quads = (call.draws + 3) / 4;
  const UniformsParams p{reinterpret_cast<const int64_t*>(call.seed), call.n, call.draws, quads,
                         reinterpret_cast<float*>(call.out)};
  launch("sampling_uniforms_kernel", &sampling_uniforms_kernel, (call.n * quads + kThreads - 1) / kThreads, kThreads,
         reinterpret_cast<cudaStream_t>(call.stream_handle), p);
}

}  // namespace pygen::cuda
