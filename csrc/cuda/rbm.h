// What the bindings hand to the launchers of rbm.cu: addresses and sizes.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

// One layer given the other. Rows of x and of weight are of whole 16 bytes, pitches in elements.
struct RbmLayerCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  bool tf32;  // float32 may be multiplied so
  int64_t rows, targets, sources;
  std::uintptr_t x, weight;  // [rows, x_pitch], [targets, weight_pitch]
  int64_t x_pitch, weight_pitch;
  std::uintptr_t bias;  // [targets]
  std::uintptr_t live;  // [targets] int64, each `sources`
};

struct RbmEnergyCall {
  RbmLayerCall layer;
  std::uintptr_t partial;  // [tiles of targets, rows] float (double), written: rbm_tiles says how many
  std::uintptr_t units;    // [rows, targets] float (double), written; 0: not wanted
};
int64_t rbm_tiles(int64_t targets);
void rbm_free_energy(const RbmEnergyCall& call);

struct RbmDrawCall {
  RbmLayerCall layer;
  double inverse_temperature;
  int64_t half;               // 2 step of the hidden units, 2 step + 1 of the visible ones
  std::uintptr_t seed;        // int64, on the device
  std::uintptr_t out, given;  // [rows, out_pitch], of dtype; written; what is known
  int64_t out_pitch;          // of both
  std::uintptr_t known;       // [rows, targets] bool; 0: nothing
};
void rbm_gibbs(const RbmDrawCall& call);

}  // namespace pygen::cuda
