// Python arguments of restricted Boltzmann machines -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/rbm.h"

namespace pygen::cuda {

// layer: (dtype, tf32, (rows, targets, sources), (address, pitch) of x and of weight, bias, live)
inline RbmLayerCall parse_rbm_layer(py::tuple layer, int device, std::uintptr_t stream) {
  RbmLayerCall call;
  call.device = device;
  call.stream = stream;
  call.dtype = py::handle(layer[0]).cast<std::string>();
  call.tf32 = py::handle(layer[1]).cast<bool>();
  const auto sizes = py::handle(layer[2]).cast<std::vector<int64_t>>();
  call.rows = sizes[0];
  call.targets = sizes[1];
  call.sources = sizes[2];
  const auto rows = [&](size_t i) { return py::handle(layer[i]).cast<std::pair<std::uintptr_t, int64_t>>(); };
  std::tie(call.x, call.x_pitch) = rows(3);
  std::tie(call.weight, call.weight_pitch) = rows(4);
  call.bias = py::handle(layer[5]).cast<std::uintptr_t>();
  call.live = py::handle(layer[6]).cast<std::uintptr_t>();
  return call;
}

inline void bind_rbm(py::module_& m) {
  m.def("rbm_tiles", &rbm_tiles, "targets: in how many tiles rbm_free_energy takes them.");
  m.def(
      "rbm_free_energy",
      [](py::tuple layer, std::uintptr_t partial, py::handle units, int device, std::uintptr_t stream) {
        const RbmEnergyCall call{parse_rbm_layer(layer, device, stream), partial, parse_address(units)};
        const py::gil_scoped_release release;
        rbm_free_energy(call);
      },
      "(dtype, tf32, (rows, targets, sources), (address, pitch) of x, of weight, bias, live), partial [rbm_tiles, "
      "rows], "
      "units [rows, targets] or None (both written), device, stream");
  m.def(
      "rbm_gibbs",
      [](py::tuple layer, double inverse_temperature, int64_t half, std::uintptr_t seed, std::uintptr_t out,
         std::uintptr_t given, int64_t out_pitch, py::handle known, int device, std::uintptr_t stream) {
        const RbmDrawCall call{parse_rbm_layer(layer, device, stream),
                               inverse_temperature,
                               half,
                               seed,
                               out,
                               given,
                               out_pitch,
                               parse_address(known)};
        const py::gil_scoped_release release;
        rbm_gibbs(call);
      },
      "layer as above, inverse temperature, half step, seed, out (written) and given [rows, pitch], their pitch, known "
      "[rows, targets] bool or None, device, stream");
}

}  // namespace pygen::cuda
