// Python arguments of nade_nll -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/interrupt.bind.h"
#include "cpu/isa.h"
#include "cpu/nade_nll.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void nade_nll_forward(const NadeNll&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void nade_nll_backward(const NadeNll&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void nade_nll_draw(const NadeNll&, const NadeDraws&))

inline NadeNll parse_nade_nll(std::string_view dtype, py::tuple sizes, py::tuple parameters, int threads) {
  NadeNll p;
  p.dtype = parse_dtype(dtype);
  p.images = py::handle(sizes[0]).cast<int64_t>();
  p.inputs = py::handle(sizes[1]).cast<int64_t>();
  p.hidden = py::handle(sizes[2]).cast<int64_t>();
  p.x = nullptr;
  p.weight = parse_pointer(parameters[0]);
  p.hidden_bias = parse_pointer(parameters[1]);
  p.output_weight = parse_pointer(parameters[2]);
  p.threads = threads;
  return p;
}

inline void bind_nade_nll(py::module_& m) {
  m.def(
      "nade_nll_forward",
      [](std::string_view dtype, py::tuple sizes, py::handle x, py::tuple parameters, py::handle output_bias,
         py::handle logits, int threads) {
        NadeNll p = parse_nade_nll(dtype, sizes, parameters, threads);
        p.x = parse_pointer(x);
        p.output_bias = parse_pointer(output_bias);
        p.logits = const_cast<void*>(parse_pointer(logits));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::nade_nll_forward) table[] = PYGEN_ISA_TABLE(nade_nll_forward);
        table[isa_in_use()](p);
      },
      "\"float32\" or \"float64\", of which all are, sizes (N, D, H), x, (weight, hidden_bias, output_weight), "
      "output_bias, logits [N, D] (written), threads");
  m.def(
      "nade_nll_backward",
      [](std::string_view dtype, py::tuple sizes, py::handle x, py::tuple parameters, py::handle grad_logits,
         py::tuple grads, int threads) {
        NadeNll p = parse_nade_nll(dtype, sizes, parameters, threads);
        p.x = parse_pointer(x);
        p.grad_logits = parse_pointer(grad_logits);
        p.grad_weight = const_cast<void*>(parse_pointer(grads[0]));
        p.grad_hidden_bias = const_cast<void*>(parse_pointer(grads[1]));
        p.grad_output_weight = const_cast<void*>(parse_pointer(grads[2]));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::nade_nll_backward) table[] = PYGEN_ISA_TABLE(nade_nll_backward);
        table[isa_in_use()](p);
      },
      "dtype, sizes, x, parameters as above, grad_logits [N, D], the parameters' gradients (written), threads");
  m.def(
      "nade_nll_draw",
      [](std::string_view dtype, py::tuple sizes, py::tuple parameters, py::handle output_bias, py::handle thresholds,
         py::handle known, py::handle known_mask, py::handle levels, int threads) {
        NadeNll p = parse_nade_nll(dtype, sizes, parameters, threads);
        p.output_bias = parse_pointer(output_bias);
        NadeDraws draws;
        draws.thresholds = static_cast<const double*>(parse_pointer(thresholds));
        draws.known = static_cast<const uint8_t*>(parse_pointer(known));
        draws.known_mask = static_cast<const uint8_t*>(parse_pointer(known_mask));
        draws.levels = static_cast<uint8_t*>(const_cast<void*>(parse_pointer(levels)));
        Signals signals;
        p.interrupt = &signals;
        constexpr decltype(&baseline::nade_nll_draw) table[] = PYGEN_ISA_TABLE(nade_nll_draw);
        run_interruptibly(signals, [&] { table[isa_in_use()](p, draws); });
      },
      "dtype, sizes, parameters, output_bias as above, thresholds [N, D] of float64, known and known_mask [N, D] bytes "
      "or None, levels [N, D] bytes (written), threads");
}

}  // namespace pygen
