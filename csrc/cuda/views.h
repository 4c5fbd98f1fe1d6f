// Host side of tensor.cuh: from an address and strides to the access that fits.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/tensor.cuh"
#include "cuda/tensor_argument.h"

namespace pygen::cuda {

struct Dim {
  int64_t size, stride;
};

// The dimensions from `first` on, innermost first; neighbours that one stride serves are merged.
inline std::vector<Dim> merge_dims(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                                   size_t first) {
  std::vector<Dim> merged;
  for (size_t i = shape.size(); i-- > first;) {
    if (shape[i] == 1) continue;
    if (!merged.empty() && strides[i] == merged.back().stride * merged.back().size) {
      merged.back().size *= shape[i];
    } else {
      merged.push_back({shape[i], strides[i]});
    }
  }
  return merged;
}

// What a call's tensors have in common: a shape, seen as rows of row_size elements.
struct Frame {
  std::vector<int64_t> shape;
  int64_t num_samples, rows, row_size;
  int unit;
  size_t first_inner;  // dimensions from here on lie inside a row
};

inline Frame make_frame(const std::vector<int64_t>& shape, int64_t num_samples, int unit) {
  Frame frame{shape, num_samples, shape.at(0), 1, unit, 1};
  for (size_t i = 1; i < shape.size(); ++i) frame.row_size *= shape[i];
  return frame;
}

// Where nothing is summed per row and every tensor is one run of memory or one value, all rows make one long row.
inline void join_rows(Frame& frame, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* t : tensors) {
    if (t->address == 0) continue;
    const std::vector<Dim> dims = merge_dims(frame.shape, t->strides, 0);
    if (dims.size() > 1 || (dims.size() == 1 && dims[0].stride > 1)) return;
  }
  frame.row_size *= frame.rows;
  frame.rows = 1;
  frame.first_inner = 0;
}

// `bytes`: that one access to a unit takes, and its address must be a multiple of.
inline View make_view(const Frame& frame, const Tensor& tensor, bool wide = false, int bytes = 16) {
  View view{};
  view.data = reinterpret_cast<char*>(tensor.address);
  view.wide = wide;
  view.access = tensor.address == 0 ? Access::Dense : Access::Strided;
  if (tensor.address == 0) return view;
  std::vector<Dim> dims = merge_dims(frame.shape, tensor.strides, frame.first_inner);
  if (dims.size() > kMaxInner) {
    throw std::invalid_argument("strides: at most " + std::to_string(kMaxInner) +
                                " inner dimensions that cannot be merged, got " + std::to_string(dims.size()));
  }
  if (dims.empty()) dims.push_back({1, 1});
  view.sample_stride = tensor.sample_stride;
  view.row_stride = frame.first_inner == 1 ? tensor.strides[0] : 0;
  view.rank = static_cast<int>(dims.size());
  for (int i = 0; i < view.rank; ++i) {
    view.size[i] = dims[i].size;
    view.stride[i] = dims[i].stride;
  }
  // A unit starts at a multiple of `unit` in logical indices; the address must do so too, in every row and sample.
  const bool aligned = tensor.address % static_cast<std::uintptr_t>(bytes) == 0 &&
                       (frame.rows == 1 || (view.row_stride - frame.row_size) % frame.unit == 0) &&
                       (frame.num_samples <= 1 || view.sample_stride % frame.unit == 0);
  if (view.rank == 1 && view.stride[0] == 1 && aligned) view.access = Access::Dense;
  return view;
}

// Every view dense and every unit whole: the fast kernel may run.
inline bool all_aligned(const Frame& frame, std::initializer_list<View> views) {
  for (const View& view : views) {
    if (view.access == Access::Strided) return false;
  }
  return frame.row_size % frame.unit == 0;
}

}  // namespace pygen::cuda
