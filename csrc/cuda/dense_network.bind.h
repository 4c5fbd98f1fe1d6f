// Python arguments of a dense network -> DenseCall; and of what sorts its weights.
#pragma once

#include <tuple>
#include <utility>

#include "cuda/arguments.h"
#include "cuda/dense_network.h"

namespace pygen::cuda {

// given: dtype, (n, inputs, numbers that each gives), (layers, table, order, how many layers), packed numbers, (biases
// of each image's own or 0, their pitch), (outputs of a step, steps of a panel), (sources, sums, both), (triangle at,
// steps at, a buffer's bytes, shared bytes), memory, images a block, threads a block.
inline void parse_dense_call(const py::tuple& given, int device, std::uintptr_t stream, DenseCall& call) {
  using Address = std::uintptr_t;
  call.dtype = given[0].cast<std::string>();
  std::tie(call.n, call.inputs, call.sources) = given[1].cast<std::tuple<int64_t, int64_t, int64_t>>();
  std::tie(call.layers, call.table, call.order, call.num_layers) =
      given[2].cast<std::tuple<Address, Address, Address, int64_t>>();
  call.packed = given[3].cast<Address>();
  std::tie(call.added, call.added_pitch) = given[4].cast<std::pair<Address, int64_t>>();
  std::tie(call.outs, call.panel) = given[5].cast<std::pair<int64_t, int64_t>>();
  std::tie(call.act_size, call.sum_size, call.image_size) = given[6].cast<std::tuple<int64_t, int64_t, int64_t>>();
  std::tie(call.triangle_at, call.steps_at, call.buffer_bytes, call.shared_bytes) =
      given[7].cast<std::tuple<int64_t, int64_t, int64_t, int64_t>>();
  call.memory = given[8].cast<Address>();
  call.images_per_block = given[9].cast<int64_t>();
  call.threads = given[10].cast<int>();
  call.device = device;
  call.stream_handle = stream;
}

inline void bind_dense_network(py::module_& m) {
  using Address = std::uintptr_t;
  m.attr("dense_layer_fields") = kDenseLayerFields;
  m.attr("dense_event_bytes") = kDenseEventBytes;
  m.attr("dense_images_in_memory") = kDenseImagesInMemory;
  m.def(
      "dense_pack",
      [](std::string dtype, std::tuple<Address, int64_t, int64_t> weight, std::pair<Address, int64_t> bias,
         std::tuple<Address, Address, Address> places, std::tuple<int64_t, int64_t, int64_t, int64_t> sizes,
         bool difference, std::pair<Address, Address> packed, int device, Address stream) {
        DensePack call;
        call.dtype = std::move(dtype);
        std::tie(call.weight, call.out_stride, call.in_stride) = weight;
        std::tie(call.bias, call.bias_stride) = bias;
        std::tie(call.rows, call.columns, call.seen) = places;
        std::tie(call.units, call.outs, call.row_step, call.pitch) = sizes;
        call.difference = difference;
        std::tie(call.packed_weight, call.packed_bias) = packed;
        call.device = device;
        call.stream_handle = stream;
        const py::gil_scoped_release release;
        dense_pack(call);
      },
      "dtype, (weight, strides), (bias, stride), (rows, columns, seen), (units, rows of each, their step, pitch), "
      "difference, (packed weight, packed bias), device, stream");
}

}  // namespace pygen::cuda
