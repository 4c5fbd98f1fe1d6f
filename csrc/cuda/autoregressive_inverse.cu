// The inverse of a masked autoregressive layer, a dense network whose outputs say how an input is mapped; and its
// gradient, of which the network is transposed.
// Not yet run on a GPU.
#include "common/activation.h"
#include "common/affine_coupling.h"
#include "common/rational_quadratic_spline.h"
#include "cuda/autoregressive_inverse.h"
#include "cuda/dense_launch.cuh"

namespace pygen::cuda {
namespace {

// What the inverse's rules share.
template <class T>
struct InverseRule {
  using Number = T;
  static constexpr int kStepBytes = kAutoregressiveInverseStepBytes;
  static constexpr bool kGated = false, kSpread = false;
  struct alignas(16) Step {
    T value;  // y, then x
    T log;    // log dx / dy
  };
  const T* y;
  T *x, *log;
  Activation activation;

  __device__ __forceinline__ Step look_up(int64_t at) const { return {y[at], T(0)}; }
  __device__ __forceinline__ T given(const Step& step, int) const { return step.value; }
  __device__ __forceinline__ T activate(T sum, T) const {
    switch (activation) {
      case Activation::Relu:
        return activated<Activation::Relu>(sum);
      case Activation::Tanh:
        return activated<Activation::Tanh>(sum);
      case Activation::Elu:
        return activated<Activation::Elu>(sum);
      default:
        return activated<Activation::Silu>(sum);
    }
  }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const {
    x[at] = step.value;
    log[at] = step.log;
  }
};

template <class T>
struct AffineRule : InverseRule<T> {
  using typename InverseRule<T>::Step;
  T bound;
  CouplingScale scale;

  template <CouplingScale kScale>
  __device__ __forceinline__ void solve(const T* outputs, Step& step) const {
    const CouplingFactor<T> f = coupling_factor<kScale, true>(kScale == CouplingScale::None ? T(0) : outputs[1], bound);
    step = {coupling_value<kScale, true>(step.value, outputs[0], f), -f.log};
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
};

// Lanes share the exponentials, which take the place of the logits; all else is so little that each does all of it.
template <class T>
struct SplineRule : InverseRule<T> {
  using typename InverseRule<T>::Step;
  SplineConstants<T> constants;

  static __device__ __forceinline__ T largest(const T* logits, int bins) {
    T most = logits[0];
    for (int k = 1; k < bins; ++k) most = logits[k] > most ? logits[k] : most;
    return most;
  }
  static __device__ __forceinline__ T sum(const T* numbers, int bins) {
    T total = 0;
    for (int k = 0; k < bins; ++k) total += numbers[k];
    return total;
  }
  __device__ __forceinline__ void decide(T* outputs, Step& step) const {
    const SplineConstants<T>& c = constants;
    const T v = step.value;
    if (!spline_inside(v, c)) {
      step.value = c.linear ? v : static_cast<T>(NAN);
      step.log = step.value == step.value ? T(0) : step.value;
      return;
    }
    T* const heights = outputs + c.bins;
    const T widest = largest(outputs, c.bins), highest = largest(heights, c.bins);
    __syncwarp();  // all lanes have read the logits
    for (int k = static_cast<int>(threadIdx.x) % 32; k < 2 * c.bins; k += 32)
      outputs[k] = exp_minus((k < c.bins ? widest : highest) - outputs[k]);
    __syncwarp();
    const T share[2] = {c.share[0] / sum(outputs, c.bins), c.share[1] / sum(heights, c.bins)};
    const auto bin = spline_bin<true>(
        v, share, c, [&](int axis, int k) { return outputs[axis * c.bins + k]; },
        [&](int j) { return outputs[2 * c.bins + j]; });
    spline_value<true>(bin, spline_place<true>(v, bin, share, c), c, step.value, step.log);
  }
};

// A unit's gradient by its sum, gate being its derivative.
template <class T>
__device__ __forceinline__ T passed(T sum, T gate) {
  return gate == T(0) ? T(0) : sum * gate;
}

// Of one output, or of a second one that has a factor.
template <class T>
struct SolveRule {
  using Number = T;
  static constexpr int kStepBytes = kAutoregressiveInverseSolveStepNumbers * sizeof(T);
  static constexpr bool kGated = true, kSpread = false;
  struct alignas(16) Step {
    T value;   // g, then v
    T scaled;  // the root, then the gradient of the second output
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
  __device__ __forceinline__ T activate(T sum, T gate) const { return passed(sum, gate); }
};

// Of many outputs with a factor each, which lanes share: more than a step could hold.
template <class T>
struct SpreadSolveRule {
  using Number = T;
  static constexpr int kStepBytes = kAutoregressiveInverseStepBytes;
  static constexpr bool kGated = true, kSpread = true;
  struct alignas(16) Step {
    T value;     // g, then v
    int64_t at;  // of the first factor
  };
  const T *grad, *slope, *offset, *gates;
  T* solved;

  __device__ __forceinline__ Step look_up(int64_t at) const { return {grad[at], at}; }
  __device__ __forceinline__ void decide(const T* outputs, Step& step) const { step.value = step.value - outputs[0]; }
  __device__ __forceinline__ void give(const Step& step, int sources, T* to) const {
    const T *const by = slope + step.at * sources, *const from = offset + step.at * sources;
    for (int k = static_cast<int>(threadIdx.x) % 32; k < sources; k += 32) to[k] = by[k] * step.value + from[k];
  }
  __device__ __forceinline__ void write(int64_t at, const Step& step) const { solved[at] = step.value; }
  __device__ __forceinline__ T activate(T sum, T gate) const { return passed(sum, gate); }
};

template <class T>
const T* numbers(std::uintptr_t address) {
  return reinterpret_cast<const T*>(address);
}

template <class T>
void run(const AutoregressiveInverseSolveCall& call) {
  const T *const grad = numbers<T>(call.grad), *const root = numbers<T>(call.root);
  const T *const slope = numbers<T>(call.slope), *const offset = numbers<T>(call.offset);
  T* const solved = reinterpret_cast<T*>(call.solved);
  if (call.factors < call.sources)
    return dense_run(call, SolveRule<T>{grad, root, slope, offset, numbers<T>(call.gates), solved});
  dense_run(call, SpreadSolveRule<T>{grad, slope, offset, numbers<T>(call.gates), solved});
}

template <class T>
InverseRule<T> tensors(const AutoregressiveInverseCall& call) {
  return {numbers<T>(call.y), reinterpret_cast<T*>(call.x), reinterpret_cast<T*>(call.log),
          parse_activation(call.activation)};
}

template <class T>
void run(const AutoregressiveAffineInverseCall& call) {
  dense_run(call, AffineRule<T>{tensors<T>(call), static_cast<T>(call.bound), parse_coupling_scale(call.scale)});
}

template <class T>
void run(const AutoregressiveSplineInverseCall& call) {
  const auto constants = spline_constants<T>(call.options);
  dense_run(call, SplineRule<T>{tensors<T>(call), constants});
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

void autoregressive_inverse(const AutoregressiveAffineInverseCall& call) { run_in_dtype(call); }
void autoregressive_spline_inverse(const AutoregressiveSplineInverseCall& call) { run_in_dtype(call); }
void autoregressive_inverse_solve(const AutoregressiveInverseSolveCall& call) { run_in_dtype(call); }

}  // namespace pygen::cuda
