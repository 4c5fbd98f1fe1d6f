// Between memory in any dtype and layout, and contiguous blocks of float (double) in cache: kernels compute on the
// latter. A block is a range [start, start + n) of row-major logical indices.
#pragma once

#include <initializer_list>

#include "cpu/stored.h"
#include "cpu/view.h"

// Returns `call` with T what memory holds and Real what is computed with.
#define PYGEN_BY_DTYPE(dtype, call) \
  switch (dtype) {                  \
    case DType::Float64: {          \
      using T = double;             \
      using Real = double;          \
      return call;                  \
    }                               \
    case DType::Float32: {          \
      using T = float;              \
      using Real = float;           \
      return call;                  \
    }                               \
    case DType::BFloat16: {         \
      using T = BFloat16;           \
      using Real = float;           \
      return call;                  \
    }                               \
    case DType::Float16: {          \
      using T = Float16;            \
      using Real = float;           \
      return call;                  \
    }                               \
  }

namespace pygen {
inline namespace PYGEN_ISA {

// in and out apart: what is left of a run that has a vector ends with one more, over what has been done.
template <class T, class Real>
PYGEN_INLINE void widen_run(const T* in, Real* out, int64_t n) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    for (; i + kLanes <= n; i += kLanes) store(out + i, load_as<VecF>(in + i));
    if (i > 0 && i < n) {
      store(out + n - kLanes, load_as<VecF>(in + n - kLanes));
      return;
    }
  }
  for (; i < n; ++i) out[i] = widen(in[i]);
}
template <class T, class Real>
PYGEN_INLINE void narrow_run(const Real* in, T* out, int64_t n) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    for (; i + kLanes <= n; i += kLanes) store_as(out + i, load<VecF>(in + i));
    if (i > 0 && i < n) {
      store_as(out + n - kLanes, load<VecF>(in + n - kLanes));
      return;
    }
  }
  for (; i < n; ++i) narrow(in[i], out + i);
}

// As memory has it, or widened.
template <class Element, class T>
PYGEN_INLINE Element element_of(T x) {
  if constexpr (std::is_same_v<Element, T>) {
    return x;
  } else {
    return widen(x);
  }
}
template <class T, class Element>
PYGEN_INLINE void element_run(const T* in, Element* out, int64_t n) {
  if constexpr (std::is_same_v<Element, T>) {
    std::memcpy(static_cast<void*>(out), in, n * sizeof(T));
  } else {
    widen_run(in, out, n);
  }
}

// Calls run(offset, stride, at, count) for each innermost run of the block; `at` counts from the block's start.
template <class Run>
PYGEN_INLINE void for_each_run(const View& view, int64_t start, int64_t n, Run run) {
  const int inner = view.ndim - 1;
  int64_t index[kMaxDims];
  int64_t offset = 0;
  for (int d = inner; d >= 0; --d) {
    index[d] = start % view.sizes[d];
    start /= view.sizes[d];
    offset += index[d] * view.strides[d];
  }
  for (int64_t at = 0; at < n;) {
    const int64_t left = view.sizes[inner] - index[inner];
    const int64_t count = left < n - at ? left : n - at;
    run(offset, view.strides[inner], at, count);
    at += count;
    offset += count * view.strides[inner];
    index[inner] += count;
    for (int d = inner; d > 0 && index[d] == view.sizes[d]; --d) {
      offset += view.strides[d - 1] - index[d] * view.strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

// Where the block lies if it is one run of Real in memory, else nullptr.
template <class T, class Real>
PYGEN_INLINE Real* run_in_place(const View& view, int64_t start, int64_t n) {
  if constexpr (std::is_same_v<T, Real>) {
    Real* data = static_cast<Real*>(view.data);
    if (view.contiguous()) return data + start;
    const int inner = view.ndim - 1;
    const int64_t at = start % view.sizes[inner];
    if (view.strides[inner] != 1 || at + n > view.sizes[inner]) return nullptr;
    int64_t offset = at;
    start /= view.sizes[inner];
    for (int d = inner - 1; d >= 0; --d) {
      offset += start % view.sizes[d] * view.strides[d];
      start /= view.sizes[d];
    }
    return data + offset;
  }
  return nullptr;
}

// The block's values in `scratch`, or where they lie.
template <class T, class Real>
PYGEN_INLINE const Real* read_block(const View& view, int64_t start, int64_t n, Real* scratch) {
  if (const Real* there = run_in_place<T, Real>(view, start, n)) return there;
  const T* data = static_cast<const T*>(view.data);
  if (view.contiguous()) {
    widen_run(data + start, scratch, n);
    return scratch;
  }
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
    const T* in = data + offset;
    Real* out = scratch + at;
    if (stride == 1) {
      widen_run(in, out, count);
    } else if (stride == 0) {
      const Real x = widen(*in);
      for (int64_t i = 0; i < count; ++i) out[i] = x;
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] = widen(in[i * stride]);
    }
  });
  return scratch;
}

// Where to compute the block: the tensor itself where it is one run of Real, else `scratch`, which write_block then
// stores.
template <class T, class Real>
PYGEN_INLINE Real* block_target(const View& view, int64_t start, int64_t n, Real* scratch) {
  Real* there = run_in_place<T, Real>(view, start, n);
  return there ? there : scratch;
}
template <class T, class Real>
PYGEN_INLINE void write_block(const View& view, int64_t start, int64_t n, const Real* block) {
  if (run_in_place<T, Real>(view, start, n)) return;
  T* data = static_cast<T*>(view.data);
  if (view.contiguous()) return narrow_run(block, data + start, n);
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
    if (stride == 1) return narrow_run(block + at, data + offset, count);
    for (int64_t i = 0; i < count; ++i) narrow(block[at + i], data + offset + i * stride);
  });
}

// Where a block of a tensor of T is computed on. S = T: in place, the tensor is contiguous; S = Real: in place if that
// is T, else in scratch, for any layout.
template <class T, class S, class Real>
PYGEN_INLINE const S* read(const View& view, int64_t start, int64_t n, Real* scratch) {
  if constexpr (std::is_same_v<S, Real>) {
    return read_block<T>(view, start, n, scratch);
  } else {
    return static_cast<const T*>(view.data) + start;
  }
}
template <class T, class S, class Real>
PYGEN_INLINE S* target(const View& view, int64_t start, int64_t n, Real* scratch) {
  if constexpr (std::is_same_v<S, Real>) {
    return block_target<T>(view, start, n, scratch);
  } else {
    return static_cast<T*>(view.data) + start;
  }
}
template <class T, class S, class Real>
PYGEN_INLINE void write(const View& view, int64_t start, int64_t n, const S* block) {
  if constexpr (std::is_same_v<S, Real>) write_block<T>(view, start, n, block);
}
// A broadcast input's gradient, of Real whatever T is; only where S = Real.
template <class S, class Real>
PYGEN_INLINE S* wide_target(const View& view, int64_t start, int64_t n, Real* scratch) {
  if constexpr (std::is_same_v<S, Real>) return block_target<Real>(view, start, n, scratch);
  return nullptr;
}
inline bool in_place(std::initializer_list<const View*> views) {
  for (const View* v : views)
    if (v->present() && !v->contiguous()) return false;
  return true;
}

// body(i, V) over [0, n): vectors, then a tail of single numbers, so that nothing outside is touched.
template <class Real, class Body>
PYGEN_INLINE void for_each_vector(int64_t n, Body body) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    for (; i + kLanes <= n; i += kLanes) body(i, VecF{});
  }
  for (; i < n; ++i) body(i, Real{});
}

PYGEN_INLINE double sum_lanes(double v) { return v; }
PYGEN_INLINE double sum_lanes(float v) { return v; }
PYGEN_INLINE double sum_lanes(VecF v) {
  static_assert(kLanes % 4 == 0);
  float lane[kLanes];
  store(lane, v);
  double total[4] = {};  // four chains of additions: one would wait for itself
  for (int j = 0; j < kLanes; ++j) total[j % 4] += static_cast<double>(lane[j]);
  return (total[0] + total[1]) + (total[2] + total[3]);
}

// Sum by a tree that depends on n alone.
template <class Real>
PYGEN_INLINE double sum_block(const Real* x, int64_t n) {
  using V = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  V a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    a += load<V>(x + i);
    b += load<V>(x + i + kWidth);
    c += load<V>(x + i + 2 * kWidth);
    d += load<V>(x + i + 3 * kWidth);
  }
  double tail = 0;
  for (; i < n; ++i) tail += static_cast<double>(x[i]);
  return sum_lanes(V((a + b) + (c + d))) + tail;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
