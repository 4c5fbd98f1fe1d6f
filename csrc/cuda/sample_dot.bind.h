// Python arguments of sample_dot -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/sample_dot.h"

namespace pygen::cuda {

inline void bind_sample_dot(py::module_& m) {
  m.def("sample_dot_workspace", &sample_dot_workspace, "dtype, sizes: how many partial sums forward needs room for.");
  m.def(
      "sample_dot_forward",
      [](std::string dtype, std::vector<int64_t> sizes, py::handle x, py::handle y, std::uintptr_t sums, int device,
         std::uintptr_t stream, std::uintptr_t workspace) {
        SampleDotCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.shape = std::move(sizes);
        call.x = parse_tensor(x, call.shape);
        call.y = parse_tensor(y, call.shape);
        call.sums = sums;
        call.workspace = workspace;
        const py::gil_scoped_release release;
        sample_dot_forward(call);
      },
      "dtype, sizes [N >= 1, ...], x, y or None, sums (written), device, stream, workspace");
  m.def(
      "sample_dot_backward",
      [](std::string dtype, std::vector<int64_t> sizes, std::uintptr_t factor, int64_t factor_stride, py::handle x,
         py::handle out, int device, std::uintptr_t stream) {
        SampleDotCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.shape = std::move(sizes);
        call.factor = factor;
        call.factor_stride = factor_stride;
        call.x = parse_tensor(x, call.shape);
        call.out = parse_tensor(out, call.shape);
        const py::gil_scoped_release release;
        sample_dot_backward(call);
      },
      "dtype, sizes, factor, its stride, x, out (written), device, stream");
}

}  // namespace pygen::cuda
