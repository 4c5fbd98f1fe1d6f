// logistic_mixture_sample for NVIDIA GPUs. Formula: csrc/common/logistic_mixture_sample.h. Not yet run on a GPU.
//
// Traffic of a pixel: K logits of T bytes, read again from L1 where the component is looked for, and the drawn
// component's 2 or 9 other numbers, wherever they lie; a byte (8) a channel written. A thread takes a pixel, whose
// numbers are of one Philox call.
#include "common/logistic_mixture_sample.h"
#include "cuda/convert.cuh"
#include "cuda/draws.cuh"
#include "cuda/logistic_mixture_sample.h"
#include "cuda/loss_sums.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct MixtureSampleParams {
  Positions params, x;
  const int64_t* seed;
  int64_t count, positions;  // pixels in all images, in one
  double min_log_scale, inverse_temperature, log_temperature;
  int components, num_levels;
  bool wide_levels;
};

// --- traits

template <class Number, int kImageChannels>
struct MixtureSampleTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kChannels = kImageChannels;
  static constexpr int kParts = kChannels == 1 ? 2 : 3;  // of a channel's parameters
  static constexpr int kThreads = 128;
  static constexpr int kBatch = sizeof(T) == 8 ? 2 : 4;  // logits in flight in each thread
};

// --- kernel

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads)
    logistic_mixture_sample_kernel(const __grid_constant__ MixtureSampleParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * Tr::kThreads + threadIdx.x;
  if (pixel >= p.count) return;
  const int64_t image = quotient(pixel, p.positions), position = pixel - image * p.positions;
  constexpr int kNumbers = 1 + Tr::kChannels;  // divides a quad
  uint32_t words[4];
  philox_words(static_cast<uint64_t>(*p.seed), static_cast<uint64_t>(position) * kNumbers / 4,
               static_cast<uint32_t>(image), NoiseDomain::LogisticMixtureSample, words);
  if (kNumbers == 2 && position % 2 == 1) {
    words[0] = words[2];
    words[1] = words[3];
  }
  const T* params = reinterpret_cast<const T*>(p.params.data) + image * p.params.image + position * p.params.position;
  const auto number = [&](int which, int component) {
    return Acc(widen_to(params[(static_cast<int64_t>(which) * p.components + component) * p.params.channel]));
  };
  const auto logit = [&](int k) { return number(0, k); };
  const Acc inverse = static_cast<Acc>(p.inverse_temperature);
  const Terms<Acc> terms = sweep_terms<Tr::kBatch, Acc>(p.components, -1, 0, 1, logit, inverse);
  const bool exists = terms.others > 0;
  const Acc wanted = static_cast<Acc>(uniform_of_word(words[0])) * terms.others;
  const int component =
      exists ? first_to_reach<Tr::kBatch, Acc>(0, p.components, logit, terms.top, inverse, Acc(0), wanted) : 0;
  const Acc last = static_cast<Acc>(p.num_levels - 1);
  Acc scaled[Tr::kChannels];
#pragma unroll
  for (int c = 0; c < Tr::kChannels; ++c) {
    Acc mean = number(1 + Tr::kParts * c, component), slope;
#pragma unroll
    for (int before = 0; before < c; ++before)
      mean += tanh_of<Acc>(number(3 + Tr::kParts * (c - 1 + before), component), slope) * scaled[before];
    const Acc least = static_cast<Acc>(p.min_log_scale);
    const Acc log_scale = Lanes<Acc>::at_least(number(2 + Tr::kParts * c, component), least);
    const Acc level = logistic_level<Acc>(mean, log_scale + static_cast<Acc>(p.log_temperature),
                                          static_cast<Acc>(uniform_of_word(words[1 + c])), last);
    scaled[c] = scaled_level_of<Acc>(exists ? level : Acc(0), last);
    const int64_t at = image * p.x.image + c * p.x.channel + position * p.x.position;
    store_level(p.x.data, at, exists ? static_cast<int64_t>(level) : 0, p.wide_levels);
  }
}

// --- launcher

template <class Tr>
void run(const LogisticMixtureSampleCall& call) {
  MixtureSampleParams p{};
  p.count = call.images * call.positions;
  if (p.count == 0) return;
  p.params = positions_of(call.params);
  p.x = positions_of(call.x);
  p.seed = reinterpret_cast<const int64_t*>(call.seed);
  p.positions = call.positions;
  p.min_log_scale = call.min_log_scale;
  p.inverse_temperature = call.inverse_temperature;
  p.log_temperature = call.log_temperature;
  p.components = static_cast<int>(call.components);
  p.num_levels = static_cast<int>(call.num_levels);
  p.wide_levels = call.wide_levels;
  launch("logistic_mixture_sample_kernel", &logistic_mixture_sample_kernel<Tr>,
         (p.count + Tr::kThreads - 1) / Tr::kThreads, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream), p);
}

template <class T>
void run_channels(const LogisticMixtureSampleCall& call) {
  if (call.channels == 1) return run<MixtureSampleTraits<T, 1>>(call);
  run<MixtureSampleTraits<T, 3>>(call);
}

}  // namespace

void logistic_mixture_sample(const LogisticMixtureSampleCall& call) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_channels<float>(call);
  if (call.dtype == "bfloat16") return run_channels<__nv_bfloat16>(call);
  if (call.dtype == "float16") return run_channels<__half>(call);
  if (call.dtype == "float64") return run_channels<double>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
