// bernoulli_sample for NVIDIA GPUs. Formula: csrc/common/bernoulli_sample.h. Not yet run on a GPU.
//
// Traffic: T + 1 bytes a draw, T of a logit. A thread takes the four draws of one Philox call, which are neighbours
// where channels lie together, or where there is one.
#include "common/bernoulli_sample.h"
#include "cuda/bernoulli_sample.h"
#include "cuda/convert.cuh"
#include "cuda/draws.cuh"
#include "cuda/loss_sums.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct BernoulliSampleParams {
  Positions logits, x;
  const int64_t* seed;
  int64_t count, quads;  // of all images, of one
  int64_t channels, per_image;
  double inverse_temperature;
};

// --- traits

template <class Number>
struct BernoulliSampleTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
};

// --- kernel

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads)
    bernoulli_sample_kernel(const __grid_constant__ BernoulliSampleParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * Tr::kThreads + threadIdx.x;
  if (number >= p.count) return;
  const int64_t image = quotient(number, p.quads), quad = number - image * p.quads;
  uint32_t words[4];
  philox_words(static_cast<uint64_t>(*p.seed), static_cast<uint64_t>(quad), static_cast<uint32_t>(image),
               NoiseDomain::BernoulliSample, words);
  const T* logits = reinterpret_cast<const T*>(p.logits.data) + image * p.logits.image;
  uint8_t* x = reinterpret_cast<uint8_t*>(p.x.data) + image * p.x.image;
  int64_t position = quotient(4 * quad, p.channels), channel = 4 * quad - position * p.channels;
  const Acc inverse = static_cast<Acc>(p.inverse_temperature);
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    if (4 * quad + word < p.per_image) {
      const Acc y = Acc(widen_to(logits[channel * p.logits.channel + position * p.logits.position])) * inverse;
      const Acc drawn = bernoulli_draw<Acc>(y, static_cast<Acc>(uniform_of_word(words[word])));
      x[channel * p.x.channel + position * p.x.position] = drawn != 0;
    }
    if (++channel == p.channels) {
      channel = 0;
      ++position;
    }
  }
}

// --- launcher

template <class Tr>
void run(const BernoulliSampleCall& call) {
  BernoulliSampleParams p{};
  p.per_image = call.channels * call.positions;
  p.quads = (p.per_image + 3) / 4;
  p.count = call.images * p.quads;
  if (p.count == 0) return;
  p.logits = positions_of(call.logits);
  p.x = positions_of(call.x);
  p.seed = reinterpret_cast<const int64_t*>(call.seed);
  p.channels = call.channels;
  p.inverse_temperature = call.inverse_temperature;
  launch("bernoulli_sample_kernel", &bernoulli_sample_kernel<Tr>, (p.count + Tr::kThreads - 1) / Tr::kThreads,
         Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace

void bernoulli_sample(const BernoulliSampleCall& call) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<BernoulliSampleTraits<float>>(call);
  if (call.dtype == "bfloat16") return run<BernoulliSampleTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run<BernoulliSampleTraits<__half>>(call);
  if (call.dtype == "float64") return run<BernoulliSampleTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
