// The samplers' gate.
#pragma once

#include <cuda_runtime.h>

namespace pygen::cuda {

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float tanh_of(float x) { return tanhf(x); }
__device__ __forceinline__ double tanh_of(double x) { return tanh(x); }

template <class T>
__device__ __forceinline__ T gate_of(T a, T b) {
  return tanh_of(a) / (T(1) + exp_of(-b));
}

}  // namespace pygen::cuda
