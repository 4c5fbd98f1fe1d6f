// What differs between a C++ compiler and nvcc, in one place.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define PYGEN_HD __host__ __device__ __forceinline__
#else
#define PYGEN_HD inline __attribute__((always_inline))
#endif

#if defined(__CUDA_ARCH__)
#define PYGEN_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)  // the host half of a .cu file
#define PYGEN_UNROLL
#else
#define PYGEN_UNROLL _Pragma("GCC unroll 16")
#endif
