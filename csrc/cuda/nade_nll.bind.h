// Python arguments of nade_nll -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/nade_nll.h"

namespace pygen::cuda {

inline NadeCall parse_nade_nll(std::string dtype, py::tuple sizes, std::uintptr_t x, py::tuple parameters, int device,
                               std::uintptr_t stream) {
  NadeCall call{};
  call.device = device;
  call.stream = stream;
  call.dtype = std::move(dtype);
  call.images = py::handle(sizes[0]).cast<int64_t>();
  call.inputs = py::handle(sizes[1]).cast<int64_t>();
  call.hidden = py::handle(sizes[2]).cast<int64_t>();
  call.x = x;
  call.weight = parse_address(parameters[0]);
  call.hidden_bias = parse_address(parameters[1]);
  call.output_weight = parse_address(parameters[2]);
  return call;
}

inline void bind_nade_nll(py::module_& m) {
  m.def(
      "nade_nll_plan",
      [](const std::string& dtype, int64_t images, int64_t inputs, int64_t hidden) {
        const NadePlan plan = nade_nll_plan(dtype, images, inputs, hidden);
        return py::make_tuple(plan.tiles, plan.parts, plan.starts);
      },
      "dtype, N, D, H: partial sums of the logits and of the gradients, numbers of the workspace.");
  m.def(
      "nade_nll_forward",
      [](std::string dtype, py::tuple sizes, std::uintptr_t x, py::tuple parameters, std::uintptr_t logits, int device,
         std::uintptr_t stream) {
        NadeCall call = parse_nade_nll(std::move(dtype), sizes, x, parameters, device, stream);
        call.logits = logits;
        const py::gil_scoped_release release;
        nade_nll_forward(call);
      },
      "dtype of the parameters, sizes (N, D, H), x, (weight, hidden_bias, output_weight), partial logits [tiles, N, D] "
      "(written), device, stream");
  m.def(
      "nade_nll_backward",
      [](std::string dtype, py::tuple sizes, std::uintptr_t x, py::tuple parameters, std::uintptr_t grad_logits,
         py::tuple grads, std::uintptr_t starts, int device, std::uintptr_t stream) {
        NadeCall call = parse_nade_nll(std::move(dtype), sizes, x, parameters, device, stream);
        call.grad_logits = grad_logits;
        call.grad_weight = parse_address(grads[0]);
        call.grad_hidden_bias = parse_address(grads[1]);
        call.grad_output_weight = parse_address(grads[2]);
        call.starts = starts;
        const py::gil_scoped_release release;
        nade_nll_backward(call);
      },
      "dtype, sizes, x, parameters as above, grad_logits [N, D], partial gradients [parts, ...] of the three "
      "(written), "
      "the workspace, device, stream");
  m.def("nade_nll_most_hidden", &nade_nll_most_hidden, "dtype, device: how many hidden units nade_nll_draw takes.");
  m.def(
      "nade_nll_draw",
      [](std::string dtype, py::tuple sizes, py::tuple parameters, py::handle output_bias, py::handle thresholds,
         py::handle known, py::handle known_mask, py::handle levels, int device, std::uintptr_t stream) {
        NadeDrawCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.images = py::handle(sizes[0]).cast<int64_t>();
        call.inputs = py::handle(sizes[1]).cast<int64_t>();
        call.hidden = py::handle(sizes[2]).cast<int64_t>();
        call.weight = parse_address(parameters[0]);
        call.hidden_bias = parse_address(parameters[1]);
        call.output_weight = parse_address(parameters[2]);
        call.output_bias = parse_address(output_bias);
        call.thresholds = parse_address(thresholds);
        call.known = parse_address(known);
        call.known_mask = parse_address(known_mask);
        call.levels = parse_address(levels);
        const py::gil_scoped_release release;
        nade_nll_draw(call);
      },
      "dtype, sizes, (weight, hidden_bias, output_weight), output_bias, thresholds [N, D] of float64, known and "
      "known_mask [N, D] bytes or None, levels [N, D] bytes (written), device, stream");
}

}  // namespace pygen::cuda
