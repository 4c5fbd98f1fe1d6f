// A tensor as the bindings pass it, and the dtypes that the kernels read and write.
#pragma once

#include <cstdint>

namespace pygen {

enum class DType : int { Float64, Float32, BFloat16, Float16 };

constexpr int kMaxDims = 64;  // as many as torch has

// data [sizes], strides in elements. Adjacent dims that step through memory as one are merged; a contiguous tensor has
// one dim of stride 1. data == nullptr: the tensor is absent.
struct View {
  void* data = nullptr;
  int ndim = 0;
  int64_t sizes[kMaxDims];
  int64_t strides[kMaxDims];

  bool present() const { return data != nullptr; }
  bool contiguous() const { return ndim == 1 && strides[0] == 1; }

  void set_contiguous(int64_t numel) {
    ndim = 1;
    sizes[0] = numel;
    strides[0] = 1;
  }
  // Adds the next dim, outermost first.
  void append(int64_t size, int64_t stride) {
    if (size == 1) return;
    if (ndim > 0 && strides[ndim - 1] == stride * size) {
      sizes[ndim - 1] *= size;
      strides[ndim - 1] = stride;
      return;
    }
    sizes[ndim] = size;
    strides[ndim++] = stride;
  }
  void finish() {
    if (ndim == 0) set_contiguous(1);
  }
};

}  // namespace pygen
