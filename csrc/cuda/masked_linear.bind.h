// Python arguments of masked_linear -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/masked_linear.h"

namespace pygen::cuda {

inline void bind_masked_linear(py::module_& m) {
  const auto bind = [&m](const char* name, int64_t (*launch)(const MaskedLinearCall&), const char* doc) {
    m.def(
        name,
        [launch](std::string dtype, std::vector<int64_t> sizes, py::tuple orders, py::tuple source, py::tuple target,
                 py::tuple weight, py::handle bias, int device, std::uintptr_t stream, bool tf32,
                 py::handle workspace) {
          MaskedLinearCall call;
          call.device = device;
          call.stream = stream;
          call.dtype = std::move(dtype);
          call.rows = sizes[0];
          call.sources = sizes[1];
          call.targets = sizes[2];
          const auto order = [&](int i) { return reinterpret_cast<const int64_t*>(parse_address(orders[i])); };
          call.source_order = order(0);
          call.target_order = order(1);
          call.live = order(2);
          call.tf32 = tf32;
          call.source = parse_tensor(source, {sizes[0], sizes[1]});
          call.target = parse_tensor(target, {sizes[0], sizes[2]});
          call.weight = parse_tensor(weight, {sizes[2], sizes[1]});
          call.bias = parse_address(bias);
          call.workspace = parse_address(workspace);
          const py::gil_scoped_release release;
          return launch(call);
        },
        doc);
  };
  bind(
      "masked_linear_product", &masked_linear_product,
      "dtype, (rows, sources, targets), addresses of (source order or None, target order or None, live), (address, "
      "strides) of source, target (written) and weight as [targets, sources], address of bias or None, device, stream, "
      "tf32, address of the workspace or None -> its bytes");
  bind("masked_linear_grad_weight", &masked_linear_grad_weight,
       "the same; target is the output's gradient, weight is written, bias None");
}

}  // namespace pygen::cuda
