// Python arguments of the cluster sampler -> calls of its launcher.
#pragma once

#include <tuple>
#include <utility>

#include "cuda/sampling_cluster.h"
#include "cuda/sampling_draws.bind.h"

namespace pygen::cuda {

using SharedTuple =
    std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
inline SamplingShared shared_of(const SharedTuple& given) {
  SamplingShared s{};
  std::tie(s.segments, s.messages, s.resident, s.resident_bytes, s.pixels, s.rings, s.sums, s.logits, s.early,
           s.bytes) = given;
  return s;
}

inline void bind_sampling_cluster(py::module_& m) {
  m.attr("sampling_step_fields") = kSamplingStepFields;
  m.attr("sampling_segment_fields") = kSamplingSegmentFields;
  m.attr("sampling_struct_bytes") = py::make_tuple(sizeof(SamplingStep), sizeof(SamplingSegment));
  m.def("sampling_clusters", &sampling_clusters,
        "device, dtype, blocks a cluster, threads a block, bytes of shared memory a block -> how many clusters run at "
        "once, 0 if none can");
  m.def(
      "sampling_cluster_draw",
      [](std::string dtype, std::tuple<int64_t, int64_t, int64_t, int64_t> images, int64_t groups,
         const py::tuple& draws, std::tuple<int, int, int, bool> cluster,
         std::tuple<std::uintptr_t, std::uintptr_t, int64_t, int64_t, int64_t> program,
         std::tuple<std::uintptr_t, int64_t> weights, std::tuple<std::uintptr_t, int64_t> memory,
         std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t> pixel, int64_t early_positions,
         const SharedTuple& shared, int device, std::uintptr_t stream) {
        SamplingClusterCall call{};
        call.dtype = std::move(dtype);
        std::tie(call.n, call.channels, call.height, call.width) = images;
        call.groups = groups;
        call.draws = parse_draws(draws);
        std::tie(call.size, call.images, call.threads, call.messages) = cluster;
        std::tie(call.steps, call.segments, call.num_early, call.num_late, call.num_segments) = program;
        std::tie(call.weights, call.weight_bytes) = weights;
        std::tie(call.memory, call.image_bytes) = memory;
        std::tie(call.pixel_at, call.pixel_rows, call.pixel_pitch, call.pixel, call.pixel_pixel_pitch) = pixel;
        call.early_positions = early_positions;
        call.shared = shared_of(shared);
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        sampling_cluster_draw(call);
      },
      "dtype, (n, C, H, W), groups, draws, (blocks a cluster, its images, threads a block, whether by messages), "
      "(steps, segments, how many "
      "early, late, late segments), (room for packed weights, its bytes), (memory, its bytes an image), (the drawn "
      "image's place, rows, pitch in memory, place, pitch in shared memory), pixels a block works on at once, "
      "(SamplingShared), device, stream");
}

}  // namespace pygen::cuda
