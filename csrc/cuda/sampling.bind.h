// Python arguments of the sampler -> calls of its launcher.
#pragma once

#include <tuple>
#include <utility>

#include "cuda/sampling.h"
#include "cuda/sampling_draws.bind.h"

namespace pygen::cuda {

inline void bind_sampling(py::module_& m) {
  m.attr("sampling_stage_fields") = kSamplingStageFields;
  m.attr("sampling_stream_fields") = kSamplingStreamFields;
  m.attr("sampling_parts") = kSamplingParts;
  m.def(
      "sampling_limits",
      [](int device) {
        int processors = 0, shared_bytes = 0;
        sampling_limits(device, &processors, &shared_bytes);
        return std::pair<int, int>(processors, shared_bytes);
      },
      "device -> (processors, bytes of shared memory that one block may have)");
  m.def(
      "sampling_draw",
      [](std::string dtype, std::tuple<int64_t, int64_t, int64_t, int64_t> images, int64_t groups,
         const py::tuple& draws, std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t, int64_t> program,
         std::uintptr_t weights, int64_t shared_weights, std::uintptr_t rings, int64_t ring_size,
         int64_t shared_ring_size, int64_t images_per_block, int threads, int device, std::uintptr_t stream) {
        SamplingCall call;
        call.dtype = std::move(dtype);
        std::tie(call.n, call.channels, call.height, call.width) = images;
        call.groups = groups;
        call.draws = parse_draws(draws);
        std::tie(call.stages, call.streams, call.taps, call.num_stages) = program;
        call.weights = weights;
        call.shared_weights = shared_weights;
        call.rings = rings;
        call.ring_size = ring_size;
        call.shared_ring_size = shared_ring_size;
        call.images_per_block = images_per_block;
        call.threads = threads;
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        sampling_draw(call);
      },
      "dtype, (n, C, H, W), groups, draws, (stages, streams, taps, how many stages), weights, how many of them in "
      "shared memory, rings, their elements an image in device and in shared memory, images a block, threads a block, "
      "device, stream");
}

}  // namespace pygen::cuda
