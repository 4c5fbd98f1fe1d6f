// Tensors as kernels see them: rows (dimension 0) of row_size elements, moved in units of V logically consecutive
// elements that start at a multiple of V.
//
// A tensor is dense (128-bit accesses) or strided (one access per element). The unit decides noise and the order of
// sums, the access does not, so results do not depend on the layout.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace pygen::cuda {

constexpr int kMaxInner = 12;

enum class Access : int { Dense, Strided };

struct View {
  char* data;                         // null: absent
  int64_t sample_stride, row_stride;  // in elements, as all strides
  Access access;
  bool wide;  // holds the accumulation type whatever the dtype
  int rank;   // of the dimensions inside a row, innermost first, merged
  int64_t size[kMaxInner], stride[kMaxInner];
};

// The part of one unit that belongs to a row: elements lo .. hi-1 of the V that start at logical index j.
struct Span {
  int64_t row, j, d;  // d: the first element's index in the row; negative where the row starts inside the unit
  int lo, hi;
};

// --- numbers

template <class T>
struct Element {
  using Acc = float;
};
template <>
struct Element<double> {
  using Acc = double;
};

__device__ __forceinline__ float2 widen(__half a, __half b) { return __half22float2(__halves2half2(a, b)); }
__device__ __forceinline__ float2 widen(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __bfloat1622float2(__halves2bfloat162(a, b));
}
__device__ __forceinline__ void narrow(float a, float b, __half* out) {
  const __half2 two = __floats2half2_rn(a, b);
  out[0] = __low2half(two);
  out[1] = __high2half(two);
}
__device__ __forceinline__ void narrow(float a, float b, __nv_bfloat16* out) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(a, b);
  out[0] = __low2bfloat16(two);
  out[1] = __high2bfloat16(two);
}

template <class T, int V>
struct alignas(16) Pack {
  static_assert(sizeof(T) * V % 16 == 0, "128-bit accesses");
  T v[V];
};

template <class T, int V, class Acc>
__device__ __forceinline__ void unpack(const Pack<T, V>& in, Acc (&out)[V]) {
#pragma unroll
  for (int i = 0; i < V; i += 2) {
    if constexpr (std::is_same_v<T, Acc>) {
      out[i] = in.v[i];
      out[i + 1] = in.v[i + 1];
    } else {
      const float2 two = widen(in.v[i], in.v[i + 1]);
      out[i] = two.x;
      out[i + 1] = two.y;
    }
  }
}

template <class T, int V, class Acc>
__device__ __forceinline__ Pack<T, V> pack(const Acc (&in)[V]) {
  Pack<T, V> out;
#pragma unroll
  for (int i = 0; i < V; i += 2) {
    if constexpr (std::is_same_v<T, Acc>) {
      out.v[i] = in[i];
      out.v[i + 1] = in[i + 1];
    } else {
      narrow(in[i], in[i + 1], out.v + i);
    }
  }
  return out;
}

// --- addresses

// 64-bit division takes some 70 instructions, 32-bit division 20.
__device__ __forceinline__ uint64_t divide(uint64_t a, uint64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  return a / b;
}

__device__ __forceinline__ int64_t inner_offset(const View& view, int64_t d) {
  uint64_t rest = static_cast<uint64_t>(d);
  int64_t offset = 0;
#pragma unroll 1
  for (int i = 0; i + 1 < view.rank; ++i) {
    const uint64_t above = divide(rest, static_cast<uint64_t>(view.size[i]));
    offset += static_cast<int64_t>(rest - above * static_cast<uint64_t>(view.size[i])) * view.stride[i];
    rest = above;
  }
  return offset + static_cast<int64_t>(rest) * view.stride[view.rank - 1];
}

// --- units

template <class T>
__device__ __forceinline__ T* row_pointer(const View& view, int64_t k, int64_t row) {
  return reinterpret_cast<T*>(view.data) + row * view.row_stride + k * view.sample_stride;
}

// Element by element, for what 128-bit accesses cannot do. Calls and rolled loops: inlined into every load and store of
// a kernel this took ptxas minutes and spilled.
template <class T>
__device__ __noinline__ void gather(const View& view, const Span& s, const T* row, T* out) {
#pragma unroll 1
  for (int i = s.lo; i < s.hi; ++i) out[i] = row[inner_offset(view, s.d + i)];
}
template <class T>
__device__ __noinline__ void scatter(const View& view, const Span& s, T* row, const T* in) {
#pragma unroll 1
  for (int i = s.lo; i < s.hi; ++i) row[inner_offset(view, s.d + i)] = in[i];
}

// 16 bytes after 16 bytes.
template <class T, int V>
__device__ __forceinline__ Pack<T, V> load_whole(const T* from) {
  Pack<T, V> out;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(out) / 16); ++i) {
    const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(from) + i);
    memcpy(reinterpret_cast<char*>(out.v) + 16 * i, &chunk, 16);
  }
  return out;
}
template <class T, int V>
__device__ __forceinline__ void store_whole(T* to, const Pack<T, V>& in) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(in) / 16); ++i) {
    uint4 chunk;
    memcpy(&chunk, reinterpret_cast<const char*>(in.v) + 16 * i, 16);
    reinterpret_cast<uint4*>(to)[i] = chunk;
  }
}

// kAligned promises that every view is dense and every unit whole.
template <class T, int V, bool kAligned>
__device__ __forceinline__ Pack<T, V> load(const View& view, const Span& s, int64_t k = 0) {
  const T* row = row_pointer<const T>(view, k, s.row);
  if (!kAligned && (view.access == Access::Strided || s.lo > 0 || s.hi < V)) {
    Pack<T, V> out;
    T element[V] = {};
    gather<T>(view, s, row, element);
#pragma unroll
    for (int i = 0; i < V; ++i) out.v[i] = element[i];
    return out;
  }
  return load_whole<T, V>(row + s.d);
}

template <class T, int V, bool kAligned, class Acc>
__device__ __forceinline__ void store(const View& view, const Span& s, int64_t k, const Acc (&value)[V]) {
  const Pack<T, V> in = pack<T, V>(value);
  T* row = row_pointer<T>(view, k, s.row);
  if (!kAligned && (view.access == Access::Strided || s.lo > 0 || s.hi < V)) {
    scatter<T>(view, s, row, in.v);
    return;
  }
  store_whole<T, V>(row + s.d, in);
}

// In the accumulation type where the view is wide.
template <class T, int V, bool kAligned, class Acc>
__device__ __forceinline__ void store_gradient(const View& view, const Span& s, const Acc (&value)[V]) {
  if (std::is_same_v<T, Acc> || view.wide) {
    store<Acc, V, kAligned>(view, s, 0, value);
  } else {
    store<T, V, kAligned>(view, s, 0, value);
  }
}

}  // namespace pygen::cuda
