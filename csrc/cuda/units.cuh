// Units of V elements along one dim of a tensor: 16 bytes in one access, or each by its stride.
// An Operand has char* data and int64_t inner, the stride along the unit. kAligned promises whole units that start at
// multiples of 16 bytes, of stride 1 (what is read, 0 too).
#pragma once

#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

template <class T, int V, bool kAligned, class Operand, class Acc>
__device__ __forceinline__ void load_unit(const Operand& t, int64_t at, int count, Acc (&out)[V]) {
  Pack<T, V> in{};
  const T* from = reinterpret_cast<const T*>(t.data) + at;
  if (kAligned && t.inner == 1) {
    in = load_whole<T, V>(from);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < count) in.v[i] = from[i * t.inner];
    }
  }
  unpack(in, out);
}

template <class T, int V, bool kAligned, class Operand, class Acc>
__device__ __forceinline__ void store_unit(const Operand& t, int64_t at, int count, const Acc (&value)[V]) {
  const Pack<T, V> out = pack<T, V>(value);
  T* to = reinterpret_cast<T*>(t.data) + at;
  if (kAligned) {
    store_whole<T, V>(to, out);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < count) to[i * t.inner] = out.v[i];
    }
  }
}

}  // namespace
}  // namespace pygen::cuda
