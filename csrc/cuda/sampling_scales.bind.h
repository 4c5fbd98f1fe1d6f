// Python arguments of the sampler of several resolutions -> calls of its launcher.
#pragma once

#include <tuple>
#include <utility>

#include "cuda/sampling_cluster.bind.h"
#include "cuda/sampling_scales.h"

namespace pygen::cuda {

inline void bind_sampling_scales(py::module_& m) {
  m.attr("scales_fields") = py::make_tuple(kScalesMatrixFields, kScalesStepFields, kScalesPushFields);
  m.attr("scales_struct_bytes") = py::make_tuple(sizeof(ScalesMatrix), sizeof(ScalesStep), sizeof(ScalesPush));
  m.def("sampling_scales_clusters", &sampling_scales_clusters, "as sampling_clusters");
  m.def(
      "sampling_scales_draw",
      [](std::string dtype, std::tuple<int64_t, int64_t, int64_t, int64_t> images, const py::tuple& draws,
         std::tuple<int, int, int, bool> cluster, std::tuple<std::uintptr_t, int64_t> matrices,
         std::tuple<std::uintptr_t, int64_t, int64_t> steps, std::uintptr_t segments,
         std::tuple<std::uintptr_t, int64_t, int64_t> pushes,
         std::tuple<std::uintptr_t, int64_t, int64_t, int64_t> order, std::tuple<int64_t, double> mixture,
         std::tuple<std::uintptr_t, int64_t> weights, std::tuple<std::uintptr_t, int64_t> memory,
         std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t> pixel, int64_t early_positions,
         const SharedTuple& shared, int device, std::uintptr_t stream) {
        SamplingScalesCall call{};
        call.dtype = std::move(dtype);
        std::tie(call.n, call.channels, call.height, call.width) = images;
        call.groups = 1;
        call.draws = parse_draws(draws);
        std::tie(call.size, call.images, call.threads, call.messages) = cluster;
        std::tie(call.matrices, call.num_matrices) = matrices;
        std::tie(call.steps, call.num_early, call.num_late) = steps;
        call.segments = segments;
        std::tie(call.pushes, call.num_pushes, call.pushes_at) = pushes;
        std::tie(call.order, call.scales, call.order_pitch, call.order_at) = order;
        std::tie(call.num_mixtures, call.min_log_scale) = mixture;
        std::tie(call.weights, call.weight_bytes) = weights;
        std::tie(call.memory, call.image_bytes) = memory;
        std::tie(call.pixel_at, call.pixel_rows, call.pixel_pitch, call.pixel, call.pixel_pixel_pitch) = pixel;
        call.early_positions = early_positions;
        call.shared = shared_of(shared);
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        sampling_scales_draw(call);
      },
      "dtype, (n, C, H, W), draws, (blocks a cluster, its images, threads a block, whether by messages), (matrices, "
      "how "
      "many), (steps, how many early, late), segments, (pushes, how many, where in shared memory), (order, scales, "
      "pitch, where in shared memory), (mixtures, the floor of log-scales), (room for packed weights, its bytes), "
      "(memory, its bytes an image), (the drawn image's place, rows, pitch in memory, place, pitch in shared memory), "
      "pixels a block works on at once, (SamplingShared), device, stream");
}

}  // namespace pygen::cuda
