// Python arguments of bernoulli_nll -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/bernoulli_nll.h"

namespace pygen::cuda {

inline void bind_bernoulli_nll(py::module_& m) {
  m.def("bernoulli_nll_workspace", &bernoulli_nll_workspace,
        "dtype, sizes [N, ...], reduce -> how many partial sums forward needs room for");
  m.def(
      "bernoulli_nll",
      [](std::string dtype, std::vector<int64_t> sizes, py::handle logits, py::handle x, std::string x_dtype,
         bool reduce, double scale, py::handle nll, py::handle grad_nll, int64_t grad_nll_stride,
         py::handle grad_logits, int device, std::uintptr_t stream, std::uintptr_t workspace) {
        BernoulliCall call;
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.x_dtype = std::move(x_dtype);
        call.shape = std::move(sizes);
        call.logits = parse_tensor(logits, call.shape);
        call.x = parse_tensor(x, call.shape);
        call.reduce = reduce;
        call.scale = scale;
        call.nll = parse_address(nll);
        call.grad_nll = parse_address(grad_nll);
        call.grad_nll_stride = grad_nll_stride;
        call.grad_logits = parse_tensor(grad_logits, call.shape);
        call.workspace = workspace;
        const py::gil_scoped_release release;
        bernoulli_nll(call);
      },
      "dtype, sizes [N, ...], logits, x, \"uint8\", \"int64\" or logits' dtype of x, whether nll is one number, its "
      "scale; nll or None (written); grad_nll or None, its stride; grad_logits or None (written); device, stream, "
      "workspace");
}

}  // namespace pygen::cuda
