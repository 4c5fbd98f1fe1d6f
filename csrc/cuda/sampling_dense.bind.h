// Python arguments of the dense sampler -> calls of its launchers.
#pragma once

#include <tuple>
#include <utility>

#include "cuda/sampling_dense.h"
#include "cuda/sampling_draws.bind.h"

namespace pygen::cuda {

inline void bind_sampling_dense(py::module_& m) {
  using Address = std::uintptr_t;
  m.attr("sampling_dense_layer_fields") = kSamplingDenseLayerFields;
  m.attr("sampling_dense_event_bytes") = kSamplingDenseEventBytes;
  m.attr("sampling_dense_images_in_memory") = kSamplingDenseImagesInMemory;
  m.attr("sampling_dense_draw_bytes") = kSamplingDenseDrawBytes;
  m.def(
      "sampling_dense_pack",
      [](std::string dtype, std::tuple<Address, int64_t, int64_t> weight, std::pair<Address, int64_t> bias,
         std::tuple<Address, Address, Address> places, std::tuple<int64_t, int64_t, int64_t> sizes, bool difference,
         std::pair<Address, Address> packed, int device, Address stream) {
        SamplingDensePack call;
        call.dtype = std::move(dtype);
        std::tie(call.weight, call.out_stride, call.in_stride) = weight;
        std::tie(call.bias, call.bias_stride) = bias;
        std::tie(call.rows, call.columns, call.seen) = places;
        std::tie(call.units, call.outs, call.pitch) = sizes;
        call.difference = difference;
        std::tie(call.packed_weight, call.packed_bias) = packed;
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        sampling_dense_pack(call);
      },
      "dtype, (weight, strides), (bias, stride), (rows, columns, seen), (units, outs, pitch), difference, (packed "
      "weight, packed bias), device, stream");
  m.def(
      "sampling_dense_draw",
      [](std::string dtype, std::pair<int64_t, int64_t> size, const py::tuple& draws,
         std::tuple<Address, Address, Address, int64_t> program, Address packed, std::pair<int64_t, int64_t> steps,
         std::tuple<int64_t, int64_t, int64_t> image, std::tuple<int64_t, int64_t, int64_t, int64_t> shared,
         Address memory, int64_t images_per_block, int threads, int device, Address stream) {
        SamplingDenseCall call;
        call.dtype = std::move(dtype);
        std::tie(call.n, call.inputs) = size;
        call.draws = parse_draws(draws);
        std::tie(call.layers, call.table, call.order, call.num_layers) = program;
        call.packed = packed;
        std::tie(call.outs, call.panel) = steps;
        std::tie(call.act_size, call.sum_size, call.image_size) = image;
        std::tie(call.triangle_at, call.draws_at, call.buffer_bytes, call.shared_bytes) = shared;
        call.memory = memory;
        call.images_per_block = images_per_block;
        call.threads = threads;
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        sampling_dense_draw(call);
      },
      "dtype, (n, inputs), draws, (layers, table, order, how many layers), packed numbers, (logits of a step, steps of "
      "a "
      "panel), (sources, sums, both), (triangle at, draws at, a buffer's bytes, shared bytes), memory, images a block, "
      "threads a block, device, stream");
}

}  // namespace pygen::cuda
