// Python arguments of restricted Boltzmann machines -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/interrupt.bind.h"
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

// rbm_rows(v, weight, visible_bias, hidden_bias): N of a plain call in the dtype computed in, else None.
inline PyObject* rbm_rows(PyObject*, PyObject* const* args, Py_ssize_t) {
  Plain v, t;
  if (!read_plain(args[0], &v) || v.ndim != 2 || !read_plain(args[1], &t) || t.dtype != v.dtype || t.ndim != 2 ||
      t.shape[1] != v.shape[1] || (v.dtype != DType::Float32 && v.dtype != DType::Float64))
    Py_RETURN_NONE;
  const int64_t hidden = t.shape[0];
  if (!read_linear(args[2], v.dtype, -1, v.shape[1], &t) || !read_linear(args[3], v.dtype, -1, hidden, &t))
    Py_RETURN_NONE;
  for (int i = 0; i < 4; ++i)
    if (is_negated(args[i])) Py_RETURN_NONE;
  return PyLong_FromLongLong(v.shape[0]);
}

// rbm_energy_plain(the same four, threads, energy [N], units [N, H] or None), of what rbm_rows took.
inline PyObject* rbm_energy_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  Plain v, w, b, c, energy, units{};
  if (!read_plain(args[0], &v) || !read_plain(args[1], &w) || !read_plain(args[2], &b) || !read_plain(args[3], &c) ||
      !read_plain(args[5], &energy) || (args[6] != Py_None && !read_plain(args[6], &units)))
    throw std::invalid_argument("rbm_energy_plain: expected plain tensors");
  Rbm p;
  p.dtype = v.dtype;
  p.images = v.shape[0];
  p.visible = v.shape[1];
  p.hidden = w.shape[0];
  p.weight = {w.data, {p.visible, 1}};
  p.v = v.data;
  p.visible_bias = b.data;
  p.hidden_bias = c.data;
  p.threads = static_cast<int>(PyLong_AsLong(args[4]));
  const RbmEnergy out{energy.data, units.data};
  {
    const py::gil_scoped_release release;
    constexpr decltype(&baseline::rbm_free_energy) table[] = PYGEN_ISA_TABLE(rbm_free_energy);
    table[isa_in_use()](p, out);
  }
  Py_RETURN_NONE;
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
        Signals signals;
        const RbmDraws draws{steps,
                             inverse_temperature,
                             static_cast<uint64_t>(seed),
                             static_cast<const uint8_t*>(parse_pointer(known_mask)),
                             reinterpret_cast<uint8_t*>(state),
                             reinterpret_cast<uint8_t*>(units),
                             &signals};
        constexpr decltype(&baseline::rbm_gibbs) table[] = PYGEN_ISA_TABLE(rbm_gibbs);
        run_interruptibly(signals, [&] { table[isa_in_use()](p, draws); });
      },
      "dtype, sizes, weight, tensors as above, steps, inverse temperature, seed, known_mask [N, D] bytes or None, "
      "state [N, D] and units [N, H] bytes (both written; state, where known, any byte), threads");
  define<rbm_rows>(m, "rbm_rows", "v, weight, visible_bias, hidden_bias: N of a plain call; None of another.");
  define<rbm_energy_plain>(m, "rbm_energy_plain", "the same four, threads, energy [N], units [N, H] or None");
}

}  // namespace pygen
