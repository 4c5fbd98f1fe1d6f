// The inverse of a masked autoregressive layer, a dense network whose outputs say how an input is scaled and shifted;
// and its gradient, of which the network is transposed.
// Not yet run on a GPU.
#include "common/affine_coupling.h"
#include "cuda/autoregressive_inverse.h"
#include "cuda/dense_launch.cuh"

namespace pygen::cuda {
namespace {

template <class T>
struct InverseRule {
  using Number = T;
  static constexpr int kStepBytes = kAutoregressiveInverseStepBytes;
  static constexpr bool kGated = false;
  struct alignas(16) Step {
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
  __device__ __forceinline__ void decide(const T* outputs, Step& step) const {
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
  }
  __device__ __forceinline__ T given(const Step& step, int) const { return step.value; }
  __device__ __forceinline__ T activate(T sum, T) const { return sum < T(0) ? T(0) : sum; }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const {
    x[at] = step.value;
    log[at] = step.log;
  }
};

template <class T>
struct SolveRule {
  using Number = T;
  static constexpr int kStepBytes = kAutoregressiveInverseSolveStepNumbers * sizeof(T);
  static constexpr bool kGated = true;
  struct alignas(16) Step {
    T value;   // g, then v
    T scaled;  // e^(-f / 2), then the gradient of log_scale
    T slope, offset;
  };
  const T *grad, *root, *slope, *offset, *gates;
  T* solved;

  __device__ __forceinline__ Step look_up(int64_t at) const {
    if (root == nullptr) return {grad[at], T(1), T(0), T(0)};
    return {grad[at], root[at], slope[at], offset[at]};
  }
  __device__ __forceinline__ void decide(const T* outputs, Step& step) const {
    step.value = (step.value - outputs[0]) * step.scaled * step.scaled;
    step.scaled = step.slope * step.value + step.offset;
  }
  __device__ __forceinline__ T given(const Step& step, int k) const { return k == 0 ? step.value : step.scaled; }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const { solved[at] = step.value; }
  __device__ __forceinline__ T activate(T sum, T gate) const { return gate > T(0) ? sum : T(0); }
};

template <class T>
void run(const AutoregressiveInverseSolveCall& call) {
  const auto numbers = [](std::uintptr_t address) { return reinterpret_cast<const T*>(address); };
  dense_run(call, SolveRule<T>{numbers(call.grad), numbers(call.root), numbers(call.slope), numbers(call.offset),
                               numbers(call.gates), reinterpret_cast<T*>(call.solved)});
}

template <class T>
void run(const AutoregressiveInverseCall& call) {
  dense_run(call, InverseRule<T>{reinterpret_cast<const T*>(call.y), reinterpret_cast<T*>(call.x),
                                 reinterpret_cast<T*>(call.log), static_cast<T>(call.bound),
                                 parse_coupling_scale(call.scale)});
}

template <class Call>
void run_in_dtype(const Call& call) {
  const DeviceGuard guard(call.device);
  if (call.n * call.inputs == 0) return;
  if (call.dtype == "float32") return run<float>(call);
  if (call.dtype == "float64") return run<double>(call);
  throw std::invalid_argument("dtype: expected float32 or float64, got " + call.dtype);
}

}  // namespace

void autoregressive_inverse(const AutoregressiveInverseCall& call) { run_in_dtype(call); }
void autoregressive_inverse_solve(const AutoregressiveInverseSolveCall& call) { run_in_dtype(call); }

}  // namespace pygen::cuda
