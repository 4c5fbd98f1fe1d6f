// Python arguments of crf -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/crf.h"

namespace pygen::cuda {

// (dtype, (N, T, K), (address, strides) of emissions, addresses of transitions, start, end, tags, lengths and kept,
// whether forward keeps its states)
inline void parse_crf(py::tuple call, int device, std::uintptr_t stream, CrfCall& p) {
  const auto address = [&](int i) { return parse_address(call[static_cast<size_t>(i)]); };
  p.device = device;
  p.stream = stream;
  p.dtype = py::handle(call[0]).cast<std::string>();
  const py::tuple sizes = call[1];
  p.sequences = py::handle(sizes[0]).cast<int64_t>();
  p.steps = py::handle(sizes[1]).cast<int64_t>();
  p.tags = py::handle(sizes[2]).cast<int64_t>();
  p.emissions = parse_positions(call[2]);
  p.transitions = address(3);
  p.start = address(4);
  p.end = address(5);
  p.labels = address(6);
  p.lengths = address(7);
  p.kept = address(8);
  p.keep = py::handle(call[9]).cast<bool>();
}

inline void bind_crf(py::module_& m) {
  m.def(
      "crf_sizes",
      [](int64_t sequences, int64_t steps, int64_t tags) {
        return py::make_tuple(crf_weights(tags), crf_states(sequences, steps, tags), crf_sums(sequences, steps, tags));
      },
      "N, T, K: how many numbers every forward pass needs, how many more one that keeps its states, and how many "
      "backward works on.");
  m.def(
      "crf_forward",
      [](py::tuple call, py::handle nll, py::handle partial, bool reduce, double scale, int device,
         std::uintptr_t stream) {
        CrfForwardCall p;
        parse_crf(call, device, stream, p);
        p.nll = parse_address(nll);
        p.partial = parse_address(partial);
        p.reduce = reduce;
        p.scale = scale;
        crf_forward(p);
      },
      "the call, nll or None (written), [N] numbers where it is one number, whether it is, its scale, device, stream");
  m.def(
      "crf_backward",
      [](py::tuple call, py::handle grad, int64_t grad_stride, double scale, py::handle grad_emissions, py::tuple sums,
         int device, std::uintptr_t stream) {
        CrfBackwardCall p;
        parse_crf(call, device, stream, p);
        p.grad = parse_address(grad);
        p.grad_stride = grad_stride;
        p.scale = scale;
        p.grad_emissions = parse_positions(grad_emissions);
        p.sums = parse_address(sums[0]);
        p.grad_transitions = parse_address(sums[1]);
        p.grad_start = parse_address(sums[2]);
        p.grad_end = parse_address(sums[3]);
        crf_backward(p);
      },
      "the call, grad, its stride and scale, grad_emissions or None (written), (workspace, gradients of transitions, "
      "start and end), written, or Nones, device, stream");
  m.def(
      "crf_decode",
      [](py::tuple call, py::handle decoded, py::handle scores, int device, std::uintptr_t stream) {
        CrfDecodeCall p;
        parse_crf(call, device, stream, p);
        p.decoded = parse_address(decoded);
        p.scores = parse_address(scores);
        crf_decode(p);
      },
      "the call, tags and scores (written), device, stream");
  m.def(
      "crf_sample",
      [](py::tuple call, std::uintptr_t drawn, int64_t samples, std::uintptr_t seed, int device,
         std::uintptr_t stream) {
        CrfSampleCall p;
        parse_crf(call, device, stream, p);
        p.drawn = drawn;
        p.samples = samples;
        p.seed = seed;
        crf_sample(p);
      },
      "the call with what forward has kept, tags (written), how many samples, the seed's address, device, stream");
}

}  // namespace pygen::cuda
