// One number of any dtype to the type that it is computed in, and back, rounded to nearest.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

namespace pygen::cuda {

template <class T>
__device__ __forceinline__ T narrow_to(float value) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(value);
  } else {
    return value;
  }
}
template <class T>
__device__ __forceinline__ T narrow_to(double value) {
  return value;
}
template <class T>
__device__ __forceinline__ bool is_finite(T value) {
  return value - value == 0;
}

__device__ __forceinline__ float widen_to(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float widen_to(__half v) { return __half2float(v); }
__device__ __forceinline__ float widen_to(float v) { return v; }
__device__ __forceinline__ double widen_to(double v) { return v; }

}  // namespace pygen::cuda
