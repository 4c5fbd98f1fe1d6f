// Between memory in any dtype and layout, and contiguous blocks of float (double) in cache: kernels compute on the
// latter. A block is a range [start, start + n) of row-major logical indices.
#pragma once

#include <initializer_list>

#include "cpu/stored.h"
#include "cpu/view.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class T, class Real>
PYGEN_INLINE void widen_run(const T* in, Real* out, int64_t n) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    for (; i + kLanes <= n; i += kLanes) store(out + i, load_as<VecF>(in + i));
  }
  for (; i < n; ++i) out[i] = widen(in[i]);
}
template <class T, class Real>
PYGEN_INLINE void narrow_run(const Real* in, T* out, int64_t n) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    for (; i + kLanes <= n; i += kLanes) store_as(out + i, load<VecF>(in + i));
  }
  for (; i < n; ++i) narrow(in[i], out + i);
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

// The block's values in `scratch`, or where they lie if that is already contiguous Real.
template <class T, class Real>
PYGEN_INLINE const Real* read_block(const View& view, int64_t start, int64_t n, Real* scratch) {
  const T* data = static_cast<const T*>(view.data);
  if (view.contiguous()) {
    if constexpr (std::is_same_v<T, Real>) return data + start;
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

// Where to compute the block: the tensor itself if it is contiguous Real, else `scratch`, which write_block then
// stores.
template <class T, class Real>
PYGEN_INLINE Real* block_target(const View& view, int64_t start, Real* scratch) {
  if constexpr (std::is_same_v<T, Real>) {
    if (view.contiguous()) return static_cast<Real*>(view.data) + start;
  }
  return scratch;
}
template <class T, class Real>
PYGEN_INLINE void write_block(const View& view, int64_t start, int64_t n, const Real* block) {
  T* data = static_cast<T*>(view.data);
  if (view.contiguous()) {
    if constexpr (!std::is_same_v<T, Real>) narrow_run(block, data + start, n);
    return;
  }
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
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
PYGEN_INLINE S* target(const View& view, int64_t start, Real* scratch) {
  if constexpr (std::is_same_v<S, Real>) {
    return block_target<T>(view, start, scratch);
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
PYGEN_INLINE S* wide_target(const View& view, int64_t start, Real* scratch) {
  if constexpr (std::is_same_v<S, Real>) return block_target<Real>(view, start, scratch);
  return nullptr;
}
inline bool in_place(std::initializer_list<const View*> views) {
  for (const View* v : views)
    if (v->present() && !v->contiguous()) return false;
  return true;
}

// Sum by a tree that depends on n alone.
template <class Real>
PYGEN_INLINE double sum_block(const Real* x, int64_t n) {
  constexpr int kWays = 16;
  Real lane[kWays] = {};
  int64_t i = 0;
  for (; i + kWays <= n; i += kWays)
    for (int w = 0; w < kWays; ++w) lane[w] += x[i + w];
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(x[i]);
  for (int w = 0; w < kWays; ++w) total += static_cast<double>(lane[w]);
  return total;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
