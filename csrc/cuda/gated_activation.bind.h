// Python arguments of gated_activation -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/gated_activation.h"

namespace pygen::cuda {

// (address, strides [N, C, pixels]) of a tensor with `halves` halves in each group, or None.
inline GateTensor parse_gate_tensor(py::handle arg, const GatedActivationCall& call, int halves) {
  GateTensor t;
  if (arg.is_none()) return t;
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = py::handle(pair[1]).cast<py::tuple>();
  const auto stride = [&](int d) { return py::handle(strides[d]).cast<int64_t>(); };
  t.address = py::handle(pair[0]).cast<std::uintptr_t>();
  t.image = stride(0);
  t.channel = stride(1);
  t.pixel = stride(2);
  t.half = halves == 2 ? call.channels * t.channel : 0;
  t.group = halves * call.channels * t.channel;
  return t;
}

inline GatedActivationCall parse_gate_call(std::string dtype, py::tuple sizes, int64_t groups, py::tuple input,
                                           py::handle cond, py::handle output, int device, std::uintptr_t stream) {
  GatedActivationCall call{};
  call.dtype = std::move(dtype);
  call.images = py::handle(sizes[0]).cast<int64_t>();
  call.groups = groups;
  call.channels = py::handle(sizes[1]).cast<int64_t>() / (2 * groups);
  call.pixels = py::handle(sizes[2]).cast<int64_t>();
  call.input = parse_gate_tensor(input, call, 2);
  call.cond = parse_gate_tensor(cond, call, 2);
  call.output = parse_gate_tensor(output, call, 1);
  call.device = device;
  call.stream = stream;
  return call;
}

inline void bind_gated_activation(py::module_& m) {
  m.def(
      "gated_activation_forward",
      [](std::string dtype, py::tuple sizes, int64_t groups, py::tuple input, py::handle cond, py::tuple output,
         int device, std::uintptr_t stream) {
        const GatedActivationCall call =
            parse_gate_call(std::move(dtype), sizes, groups, input, cond, output, device, stream);
        const py::gil_scoped_release release;
        gated_activation_forward(call);
      },
      "dtype, sizes [N, C, pixels], groups, (address, three strides) of input, of cond or None and of output "
      "(written), "
      "device, stream");
  m.def(
      "gated_activation_parts",
      [](std::string dtype, py::tuple sizes, int64_t groups, py::tuple input) {
        return gated_activation_parts(
            parse_gate_call(std::move(dtype), sizes, groups, input, py::none(), py::none(), 0, 0));
      },
      "dtype, sizes, groups, input -> how many sums over parts of the pixels backward writes for each channel");
  m.def(
      "gated_activation_backward",
      [](std::string dtype, py::tuple sizes, int64_t groups, py::tuple input, py::handle cond, py::tuple grad,
         py::handle grad_input, py::handle grad_cond, py::handle more, py::handle partial, int device,
         std::uintptr_t stream) {
        GatedActivationCall call = parse_gate_call(std::move(dtype), sizes, groups, input, cond, grad, device, stream);
        call.grad_input = parse_gate_tensor(grad_input, call, 2);
        call.grad_cond = parse_gate_tensor(grad_cond, call, 2);
        call.more = parse_gate_tensor(more, call, 2);
        call.partial = parse_address(partial);
        const py::gil_scoped_release release;
        gated_activation_backward(call);
      },
      "as forward, the output's gradient in its place; then what is written: gradients of input and cond or None; what "
      "is "
      "added to the input's gradient or None; written too: sums [parts, N, C] of cond's gradient (float, double for "
      "float64) or None; device, stream");
}

}  // namespace pygen::cuda
