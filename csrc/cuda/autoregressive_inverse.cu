// The inverse of a masked autoregressive layer: a dense network whose outputs say how an input is scaled and shifted.
// Not yet run on a GPU.
#include "common/affine_coupling.h"
#include "cuda/autoregressive_inverse.h"
#include "cuda/dense_launch.cuh"

namespace pygen::cuda {
namespace {

template <class T>
struct InverseRule {
  using Number = T;
  struct alignas(kDenseStepBytes) Step {
    T value;  // y, then x
    T log;    // f
  };
  const T* y;
  T *x, *log;
  T bound;
  CouplingScale scale;

  __device__ __forceinline__ Step look_up(int64_t at) const { return {y[at], T(0)}; }
  template <CouplingScale kScale>
  __device__ __forceinline__ void solve(const T* outputs, Step& step) const {
    const CouplingFactor<T> f = coupling_factor<kScale, true>(kScale == CouplingScale::None ? T(0) : outputs[1], bound);
    step = {coupling_value<kScale, true>(step.value, outputs[0], f), f.log};
  }
  __device__ __forceinline__ T decide(const T* outputs, Step& step) const {
    switch (scale) {
      case CouplingScale::None:
        solve<CouplingScale::None>(outputs, step);
        break;
      case CouplingScale::Exp:
        solve<CouplingScale::Exp>(outputs, step);
        break;
      case CouplingScale::Sigmoid:
        solve<CouplingScale::Sigmoid>(outputs, step);
        break;
      default:
        solve<CouplingScale::Tanh>(outputs, step);
    }
    return step.value;
  }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const {
    x[at] = step.value;
    log[at] = step.log;
  }
};

template <class T>
void run(const AutoregressiveInverseCall& call) {
  dense_run(call, InverseRule<T>{reinterpret_cast<const T*>(call.y), reinterpret_cast<T*>(call.x),
                                 reinterpret_cast<T*>(call.log), static_cast<T>(call.bound),
                                 parse_coupling_scale(call.scale)});
}

}  // namespace

void autoregressive_inverse(const AutoregressiveInverseCall& call) {
  const DeviceGuard guard(call.device);
  if (call.n * call.inputs == 0) return;
  if (call.dtype == "float32") return run<float>(call);
  if (call.dtype == "float64") return run<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace pygen::cuda
