// Python arguments of the dense sampler -> the call of its launcher.
#pragma once

#include "cuda/dense_network.bind.h"
#include "cuda/sampling_dense.h"
#include "cuda/sampling_draws.bind.h"

namespace pygen::cuda {

inline void bind_sampling_dense(py::module_& m) {
  m.attr("sampling_dense_step_bytes") = kSamplingDenseStepBytes;
  m.def(
      "sampling_dense_draw",
      [](const py::tuple& network, const py::tuple& draws, int device, std::uintptr_t stream) {
        SamplingDenseCall call;
        parse_dense_call(network, device, stream, call);
        call.draws = parse_draws(draws);
        const py::gil_scoped_release release;
        sampling_dense_draw(call);
      },
      "network (parse_dense_call), draws, device, stream");
}

}  // namespace pygen::cuda
