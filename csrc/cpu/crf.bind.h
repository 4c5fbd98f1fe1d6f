// Python arguments of crf -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/crf.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void crf_forward(const CrfForward&); void crf_backward(const CrfBackward&);
                   void crf_decode(const CrfDecode&); void crf_sample(const CrfSample&))

// (dtype, (N, T, K), (address, strides) of emissions, addresses of transitions, start, end, tags, lengths and kept,
// whether there is that, which None says too)
inline void parse_crf(py::tuple call, Crf& p) {
  const auto address = [&](int i) { return const_cast<void*>(parse_pointer(call[static_cast<size_t>(i)])); };
  p.dtype = parse_dtype(py::handle(call[0]).cast<std::string_view>());
  const py::tuple sizes = call[1];
  p.sequences = py::handle(sizes[0]).cast<int64_t>();
  p.steps = py::handle(sizes[1]).cast<int64_t>();
  p.tags = py::handle(sizes[2]).cast<int64_t>();
  p.emissions = parse_positions(call[2]);
  p.transitions = address(3);
  p.start = address(4);
  p.end = address(5);
  p.labels = static_cast<const int64_t*>(address(6));
  p.lengths = static_cast<const int64_t*>(address(7));
  p.kept = address(8);
}

inline void bind_crf(py::module_& m) {
  m.def(
      "crf_sizes",
      [](int64_t sequences, int64_t steps, int64_t tags) {
        Crf p{};
        p.sequences = sequences;
        p.steps = steps;
        p.tags = tags;
        return py::make_tuple(0, p.blocks() * steps * p.pitch(),
                              (p.groups() + 1) * (2 * tags + 2) * tags);  // never none: no address
      },
      "N, T, K: 0, how many numbers forward keeps, and how many backward works on.");
  m.def(
      "crf_forward",
      [](py::tuple call, py::handle nll, py::handle, bool reduce, double scale, int threads) {
        CrfForward p;
        parse_crf(call, p);
        p.nll = const_cast<void*>(parse_pointer(nll));
        p.reduce = reduce;
        p.scale = scale;
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::crf_forward) table[] = PYGEN_ISA_TABLE(crf_forward);
        table[isa_in_use()](p);
      },
      "the call (kept or None is written), nll or None (written), None, whether it is one number, its scale, threads");
  m.def(
      "crf_backward",
      [](py::tuple call, py::handle grad, int64_t grad_stride, double scale, py::handle grad_emissions, py::tuple sums,
         int threads) {
        CrfBackward p;
        parse_crf(call, p);
        p.grad = parse_pointer(grad);
        p.grad_stride = grad_stride;
        p.scale = scale;
        p.grad_emissions = parse_positions(grad_emissions);
        const auto written = [&](int i) { return const_cast<void*>(parse_pointer(sums[static_cast<size_t>(i)])); };
        p.sums = written(0);
        p.grad_transitions = written(1);
        p.grad_start = written(2);
        p.grad_end = written(3);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::crf_backward) table[] = PYGEN_ISA_TABLE(crf_backward);
        table[isa_in_use()](p);
      },
      "the call, grad, its stride and scale, grad_emissions or None (written), (workspace, gradients of transitions, "
      "start and end), written, or Nones, threads");
  m.def(
      "crf_decode",
      [](py::tuple call, py::handle decoded, py::handle scores, int threads) {
        CrfDecode p;
        parse_crf(call, p);
        p.decoded = static_cast<int64_t*>(const_cast<void*>(parse_pointer(decoded)));
        p.scores = const_cast<void*>(parse_pointer(scores));
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::crf_decode) table[] = PYGEN_ISA_TABLE(crf_decode);
        table[isa_in_use()](p);
      },
      "the call, tags and scores (written), threads");
  m.def(
      "crf_sample",
      [](py::tuple call, py::handle drawn, int64_t samples, int64_t seed, int threads) {
        CrfSample p;
        parse_crf(call, p);
        p.drawn = static_cast<int64_t*>(const_cast<void*>(parse_pointer(drawn)));
        p.samples = samples;
        p.seed = static_cast<uint64_t>(seed);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::crf_sample) table[] = PYGEN_ISA_TABLE(crf_sample);
        table[isa_in_use()](p);
      },
      "the call with what forward has kept, tags (written), how many samples, seed, threads");
}

}  // namespace pygen
