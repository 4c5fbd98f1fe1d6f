// Python arguments of vector_quantize -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/vector_quantize.h"

namespace pygen::cuda {

inline QuantizeCall parse_quantize(std::string dtype, const std::vector<int64_t>& sizes, py::handle input,
                                   py::handle codebook, int device, std::uintptr_t stream) {
  QuantizeCall call{};
  call.device = device;
  call.stream = stream;
  call.dtype = std::move(dtype);
  call.images = sizes[0];
  call.channels = sizes[1];
  call.positions = sizes[2];
  call.codes = sizes[3];
  call.input = parse_positions(input);
  call.codebook = parse_address(codebook);
  return call;
}

inline void bind_vector_quantize(py::module_& m) {
  m.def(
      "vector_quantize_nearest",
      [](std::string dtype, std::vector<int64_t> sizes, py::handle input, py::handle codebook, std::uintptr_t indices,
         py::handle quantized, std::uintptr_t distances, std::uintptr_t half, int device, std::uintptr_t stream) {
        QuantizeCall call = parse_quantize(std::move(dtype), sizes, input, codebook, device, stream);
        call.indices = indices;
        call.out = parse_positions(quantized);
        call.distances = distances;
        call.half = half;
        const py::gil_scoped_release release;
        vector_quantize_nearest(call);
      },
      "dtype, sizes (N, D, positions, K), (address, strides) of input [N, D, positions], codebook [K, D]; indices [N, "
      "positions] (int64), (address, strides) of quantized, distances [N, positions] (all written); half of |e|^2 [K], "
      "device, stream");
  m.def(
      "vector_quantize_grad_input",
      [](std::string dtype, std::vector<int64_t> sizes, py::handle input, py::handle codebook, std::uintptr_t indices,
         py::handle grad_quantized, std::uintptr_t factor, py::handle grad_input, int device, std::uintptr_t stream) {
        QuantizeCall call = parse_quantize(std::move(dtype), sizes, input, codebook, device, stream);
        call.indices = indices;
        call.grad_quantized = parse_positions(grad_quantized);
        call.factor = factor;
        call.out = parse_positions(grad_input);
        const py::gil_scoped_release release;
        vector_quantize_grad_input(call);
      },
      "dtype, sizes, input, codebook, indices as above, (address, strides) of grad_quantized [N, D, positions] or "
      "None, "
      "factor [N], (address, strides) of grad_input [N, D, positions] (written), device, stream");
  m.def(
      "vector_quantize_sums",
      [](std::string dtype, std::vector<int64_t> sizes, py::handle input, py::handle codebook, std::uintptr_t order,
         std::uintptr_t begins, py::handle factor, std::uintptr_t sums, int device, std::uintptr_t stream) {
        QuantizeCall call = parse_quantize(std::move(dtype), sizes, input, codebook, device, stream);
        call.order = order;
        call.begins = begins;
        call.factor = parse_address(factor);
        call.sums = sums;
        const py::gil_scoped_release release;
        vector_quantize_sums(call);
      },
      "dtype, sizes, input, codebook [K, D] or None, positions by code [N positions] and where codes begin [K + 1] "
      "(int64), factor [N] or None, sums [K, D] (written), device, stream");
}

}  // namespace pygen::cuda
