// From what the launchers in pygen/native pass to the kernels' views.
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string_view>

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {
namespace py = pybind11;

inline DType parse_dtype(std::string_view name) {
  if (name == "float32") return DType::Float32;
  if (name == "bfloat16") return DType::BFloat16;
  if (name == "float16") return DType::Float16;
  if (name == "float64") return DType::Float64;
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + std::string(name));
}

inline int64_t product(py::tuple sizes) {
  int64_t n = 1;
  for (py::handle s : sizes) n *= s.cast<int64_t>();
  return n;
}

// A tensor argument is None (absent), its address (contiguous) or (address, strides) of a tensor of `sizes`, with
// `lead` in front of them where it is not 0 (the Monte-Carlo samples).
inline View parse_view(py::handle arg, py::tuple sizes, int64_t lead = 0) {
  View view;
  if (arg.is_none()) return view;
  if (py::isinstance<py::int_>(arg)) {
    view.data = reinterpret_cast<void*>(arg.cast<uintptr_t>());
    view.set_contiguous(product(sizes) * (lead ? lead : 1));
    return view;
  }
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg);
  view.data = reinterpret_cast<void*>(py::handle(pair[0]).cast<uintptr_t>());
  const py::tuple strides = pair[1];
  size_t s = 0;
  if (strides.size() > sizes.size()) view.append(lead, py::handle(strides[s++]).cast<int64_t>());
  for (py::handle size : sizes) view.append(size.cast<int64_t>(), py::handle(strides[s++]).cast<int64_t>());
  view.finish();
  return view;
}

// (address, (image, channel, position strides)), or None.
inline Positions parse_positions(py::handle arg) {
  Positions t;
  if (arg.is_none()) return t;
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = pair[1];
  t.data = reinterpret_cast<void*>(py::handle(pair[0]).cast<uintptr_t>());
  t.image = py::handle(strides[0]).cast<int64_t>();
  t.channel = py::handle(strides[1]).cast<int64_t>();
  t.position = py::handle(strides[2]).cast<int64_t>();
  return t;
}

inline const void* parse_pointer(py::handle arg) {
  return arg.is_none() ? nullptr : reinterpret_cast<const void*>(arg.cast<uintptr_t>());
}

}  // namespace pygen
