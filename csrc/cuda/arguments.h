// From what the launchers in pygen/native pass to tensors.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "cuda/positions.h"
#include "cuda/tensor_argument.h"

namespace pygen::cuda {
namespace py = pybind11;

// A tensor is None (absent), its address (contiguous) or (address, strides). More strides than sizes: the first one
// belongs to an axis of Monte-Carlo samples.
inline Tensor parse_tensor(py::handle arg, const std::vector<int64_t>& sizes) {
  Tensor tensor;
  if (arg.is_none()) return tensor;
  if (py::isinstance<py::int_>(arg)) {
    tensor.address = arg.cast<std::uintptr_t>();
    tensor.strides.resize(sizes.size());
    tensor.sample_stride = 1;
    for (size_t i = sizes.size(); i-- > 0; tensor.sample_stride *= sizes[i]) tensor.strides[i] = tensor.sample_stride;
    return tensor;
  }
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg);
  tensor.address = py::handle(pair[0]).cast<std::uintptr_t>();
  tensor.strides = py::handle(pair[1]).cast<std::vector<int64_t>>();
  if (tensor.strides.size() > sizes.size()) {
    tensor.sample_stride = tensor.strides.front();
    tensor.strides.erase(tensor.strides.begin());
  }
  return tensor;
}

// (address, (image, channel, position strides)), or None.
inline PositionsArgument parse_positions(py::handle arg) {
  if (arg.is_none()) return {};
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = pair[1];
  const auto stride = [&](int d) { return py::handle(strides[static_cast<size_t>(d)]).cast<int64_t>(); };
  return {py::handle(pair[0]).cast<std::uintptr_t>(), stride(0), stride(1), stride(2)};
}

inline std::uintptr_t parse_address(py::handle arg) { return arg.is_none() ? 0 : arg.cast<std::uintptr_t>(); }

}  // namespace pygen::cuda
