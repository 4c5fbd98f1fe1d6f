// Draws samples from MADE: a dense network whose outputs are levels' logits.
#include "cuda/dense_launch.cuh"
#include "cuda/sampling_decide.cuh"
#include "cuda/sampling_dense.h"

namespace pygen::cuda {
namespace {

template <class T>
struct LevelRule {
  using Number = T;
  static constexpr int kStepBytes = kSamplingDenseStepBytes;
  static constexpr bool kGated = false, kSpread = false;
  struct alignas(16) Step {
    T noise;    // of two levels the threshold below which level 1 is drawn
    int level;  // as known, or -1; then as drawn
  };
  SamplingDraws draws;

  __device__ __forceinline__ Step look_up(int64_t at) const {
    const double u = noise_of(draws, at), noise = draws.num_levels == 2 ? binary_threshold(u, draws.temperature) : u;
    return {static_cast<T>(noise), is_known(draws, at) ? static_cast<int>(known_level(draws, at)) : -1};
  }
  __device__ __forceinline__ void decide(const T* logits, Step& step) const {
    if (draws.num_levels == 2) {
      const int drawn = logits[0] < step.noise;  // of known ones too: nothing waits for what is known
      step.level = step.level < 0 ? drawn : step.level;
    } else if (step.level < 0) {
      step.level = static_cast<int>(cuda::decide(logits, draws.num_levels, draws.temperature, step.noise));
    }
  }
  __device__ __forceinline__ T given(const Step& step, int) const {
    return scaled_level<T>(step.level, T(draws.scale), T(draws.shift));
  }
  __device__ __forceinline__ T activate(T sum, T) const { return sum < T(0) ? T(0) : sum; }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const { set_level(draws, at, step.level); }
};

}  // namespace

void sampling_dense_draw(const SamplingDenseCall& call) {
  const DeviceGuard guard(call.device);
  if (call.n * call.inputs == 0) return;
  if (call.dtype == "float32") return dense_run(call, LevelRule<float>{call.draws});
  if (call.dtype == "float64") return dense_run(call, LevelRule<double>{call.draws});
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace pygen::cuda
