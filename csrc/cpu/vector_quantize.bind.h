// Python arguments of vector_quantize -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/vector_quantize.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void vector_quantize_nearest(const VectorQuantize&);
                   void vector_quantize_grad_input(const VectorQuantize&);
                   void vector_quantize_sums(const VectorQuantize&))

inline VectorQuantize parse_vector_quantize(std::string_view dtype, py::tuple sizes, py::tuple input,
                                            py::handle codebook, uintptr_t indices, int threads) {
  VectorQuantize p;
  p.dtype = parse_dtype(dtype);
  p.images = py::handle(sizes[0]).cast<int64_t>();
  p.channels = py::handle(sizes[1]).cast<int64_t>();
  p.positions = py::handle(sizes[2]).cast<int64_t>();
  p.codes = py::handle(sizes[3]).cast<int64_t>();
  p.input = parse_positions(input);
  p.codebook = parse_pointer(codebook);
  p.indices = reinterpret_cast<int64_t*>(indices);
  p.distances = nullptr;
  p.factor = nullptr;
  p.sums = nullptr;
  p.threads = threads;
  return p;
}

inline void bind_vector_quantize(py::module_& m) {
  m.def(
      "vector_quantize_nearest",
      [](std::string_view dtype, py::tuple sizes, py::tuple input, py::handle codebook, uintptr_t indices,
         py::tuple quantized, uintptr_t distances, int threads) {
        VectorQuantize p = parse_vector_quantize(dtype, sizes, input, codebook, indices, threads);
        p.quantized = parse_positions(quantized);
        p.distances = reinterpret_cast<void*>(distances);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::vector_quantize_nearest) table[] = PYGEN_ISA_TABLE(vector_quantize_nearest);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, D, positions, K), (address, strides) of input [N, D, positions], codebook [K, D]; indices [N, "
      "positions] (int64), (address, strides) of quantized [N, D, positions], distances [N, positions] (all written), "
      "threads");
  m.def(
      "vector_quantize_grad_input",
      [](std::string_view dtype, py::tuple sizes, py::tuple input, py::handle codebook, uintptr_t indices,
         py::handle grad_quantized, uintptr_t factor, py::tuple grad_input, int threads) {
        VectorQuantize p = parse_vector_quantize(dtype, sizes, input, codebook, indices, threads);
        p.grad_quantized = parse_positions(grad_quantized);
        p.factor = reinterpret_cast<const void*>(factor);
        p.quantized = parse_positions(grad_input);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::vector_quantize_grad_input) table[] = PYGEN_ISA_TABLE(vector_quantize_grad_input);
        table[isa_in_use()](p);
      },
      "dtype, sizes, input, codebook, indices as above, (address, strides) of grad_quantized [N, D, positions] or "
      "None, "
      "factor [N], (address, strides) of grad_input [N, D, positions] (written), threads");
  m.def(
      "vector_quantize_sums",
      [](std::string_view dtype, py::tuple sizes, py::tuple input, py::handle codebook, uintptr_t indices,
         py::handle factor, uintptr_t sums, int threads) {
        VectorQuantize p = parse_vector_quantize(dtype, sizes, input, codebook, indices, threads);
        p.factor = parse_pointer(factor);
        p.sums = reinterpret_cast<void*>(sums);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::vector_quantize_sums) table[] = PYGEN_ISA_TABLE(vector_quantize_sums);
        table[isa_in_use()](p);
      },
      "dtype, sizes, input, codebook or None, indices as above, factor [N] or None, sums [K, D] (written), threads");
}

}  // namespace pygen
