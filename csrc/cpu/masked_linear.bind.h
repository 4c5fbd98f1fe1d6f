// Python arguments of masked_linear -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/masked_linear.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_linear_product(const MaskedLinear&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_linear_grad_weight(const MaskedLinear&))

// (address, strides) of a tensor of two dims.
inline Matrix parse_matrix(py::tuple arg) {
  const py::tuple strides = py::reinterpret_borrow<py::tuple>(arg[1]);
  return {reinterpret_cast<void*>(py::handle(arg[0]).cast<uintptr_t>()),
          {py::handle(strides[0]).cast<int64_t>(), py::handle(strides[1]).cast<int64_t>()}};
}

inline void bind_masked_linear(py::module_& m) {
  using Table = std::array<void (*)(const MaskedLinear&), kNumIsas>;
  const auto bind = [&m](const char* name, const Table& table, const char* doc) {
    m.def(
        name,
        [table](std::string_view dtype, py::tuple sizes, py::tuple orders, py::tuple source, py::tuple target,
                py::tuple weight, py::handle bias, int threads) {
          MaskedLinear p;
          p.dtype = parse_dtype(dtype);
          p.rows = py::handle(sizes[0]).cast<int64_t>();
          p.sources = py::handle(sizes[1]).cast<int64_t>();
          p.targets = py::handle(sizes[2]).cast<int64_t>();
          const auto order = [&](int i) { return static_cast<const int64_t*>(parse_pointer(orders[i])); };
          p.source_order = order(0);
          p.target_order = order(1);
          p.live = order(2);
          p.source = parse_matrix(source);
          p.target = parse_matrix(target);
          p.weight = parse_matrix(weight);
          p.bias = const_cast<void*>(parse_pointer(bias));
          p.threads = threads;
          const py::gil_scoped_release release;
          table[isa_in_use()](p);
        },
        doc);
  };
  bind(
      "masked_linear_product", Table PYGEN_ISA_TABLE(masked_linear_product),
      "dtype, (rows, sources, targets), addresses of (source order, target order, live), (address, strides) of source, "
      "target (written) and weight as [targets, sources], address of bias or None, threads");
  bind("masked_linear_grad_weight", Table PYGEN_ISA_TABLE(masked_linear_grad_weight),
       "the same; target is the output's gradient, weight (zeros) and bias are written");
}

}  // namespace pygen
