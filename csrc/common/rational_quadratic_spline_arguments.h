// Python arguments of rational_quadratic_spline's options, for the bindings of either device.
#pragma once

#include <pybind11/pybind11.h>

#include "common/rational_quadratic_spline_call.h"

namespace pygen {
namespace py = pybind11;

// low, high, least widths, heights and slopes, beta; bins; whether tails are linear
inline SplineOptions parse_spline_options(py::tuple options) {
  SplineOptions parsed{};
  const py::tuple numbers = options[0];
  const auto number = [&](size_t i) { return py::handle(numbers[i]).cast<double>(); };
  for (size_t i = 0; i < 2; ++i) parsed.ends[i] = number(i);
  for (size_t i = 0; i < 3; ++i) parsed.least[i] = number(2 + i);
  parsed.beta = number(5);
  parsed.bins = py::handle(options[1]).cast<int64_t>();
  parsed.linear = py::handle(options[2]).cast<bool>();
  return parsed;
}

}  // namespace pygen
