// Python arguments of restricted Boltzmann machines -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/masked_linear.bind.h"
#include "cpu/rbm.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void rbm_free_energy(const Rbm&, const RbmEnergy&);
                   void rbm_gibbs(const Rbm&, const RbmDraws&))

inline Rbm parse_rbm(std::string_view dtype, py::tuple sizes, py::tuple weight, py::tuple tensors, int threads) {
  Rbm p;
  p.dtype = parse_dtype(dtype);
  p.images = py::handle(sizes[0]).cast<int64_t>();
  p.visible = py::handle(sizes[1]).cast<int64_t>();
  p.hidden = py::handle(sizes[2]).cast<int64_t>();
  p.weight = parse_matrix(weight);
  p.v = parse_pointer(tensors[0]);
  p.visible_bias = parse_pointer(tensors[1]);
  p.hidden_bias = parse_pointer(tensors[2]);
  p.threads = threads;
  return p;
}

inline void bind_rbm(py::module_& m) {
  m.def(
      "rbm_free_energy",
      [](std::string_view dtype, py::tuple sizes, py::tuple weight, py::tuple tensors, uintptr_t energy,
         py::handle units, int threads) {
        const Rbm p = parse_rbm(dtype, sizes, weight, tensors, threads);
        const RbmEnergy out{reinterpret_cast<void*>(energy), const_cast<void*>(parse_pointer(units))};
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::rbm_free_energy) table[] = PYGEN_ISA_TABLE(rbm_free_energy);
        table[isa_in_use()](p, out);
      },
      "dtype of weight, sizes (N, D, H), (address, strides) of weight [H, D], addresses of (v [N, D], visible_bias, "
      "hidden_bias) in the dtype computed in, energy [N], units [N, H] or None (both written), threads");
  m.def(
      "rbm_gibbs",
      [](std::string_view dtype, py::tuple sizes, py::tuple weight, py::tuple tensors, int64_t steps,
         double inverse_temperature, int64_t seed, py::handle known_mask, uintptr_t state, uintptr_t units,
         int threads) {
        const Rbm p = parse_rbm(dtype, sizes, weight, tensors, threads);
        const RbmDraws draws{steps,
                             inverse_temperature,
                             static_cast<uint64_t>(seed),
                             static_cast<const uint8_t*>(parse_pointer(known_mask)),
                             reinterpret_cast<uint8_t*>(state),
                             reinterpret_cast<uint8_t*>(units)};
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::rbm_gibbs) table[] = PYGEN_ISA_TABLE(rbm_gibbs);
        table[isa_in_use()](p, draws);
      },
      "dtype, sizes, weight, tensors as above, steps, inverse temperature, seed, known_mask [N, D] bytes or None, "
      "state [N, D] and units [N, H] bytes (both written; state, where known, any byte), threads");
}

}  // namespace pygen
