// A coupling's (address, strides) -> its argument.
#pragma once

#include "cuda/arguments.h"
#include "cuda/coupling.h"

namespace pygen::cuda {

inline CouplingArgument parse_coupling_argument(py::handle arg) {
  CouplingArgument t;
  if (arg.is_none()) return t;
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = py::handle(pair[1]).cast<py::tuple>();
  t.address = py::handle(pair[0]).cast<std::uintptr_t>();
  for (size_t d = 0; d < 4; ++d) t.strides[d] = py::handle(strides[d]).cast<int64_t>();
  return t;
}

}  // namespace pygen::cuda
