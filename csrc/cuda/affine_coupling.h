// What the bindings hand to the launchers of affine_coupling.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/coupling.h"

namespace pygen::cuda {

struct AffineCouplingCall {
  int device;
  std::uintptr_t stream;
  std::string dtype, scale;
  double bound;
  bool inverse;
  int64_t images;
  int64_t sizes[3], rest_sizes[3];  // of the part that holds the transformed places, and of what is copied
  bool parity,
      even;  // parity: transformed are the places whose weighted indices have an odd sum, or with even the others
  int64_t weights[3];
  CouplingArgument input, shift, log_scale;     // backward: what its formula needs
  CouplingArgument from, to;                    // forward: input and output; backward: their gradients
  CouplingArgument rest_from, rest_to;          // the same of the rest
  CouplingArgument grad_shift, grad_log_scale;  // backward
  std::uintptr_t log_det = 0, workspace = 0;    // forward; float, double for float64
  std::uintptr_t grad_log_det = 0;              // backward, of that type
  int64_t grad_log_det_stride = 0;
};

// How many blocks share a sample: with more than one, forward's workspace holds as many sums for each.
int64_t affine_coupling_tiles(const AffineCouplingCall& call);
void affine_coupling_forward(const AffineCouplingCall& call);
void affine_coupling_backward(const AffineCouplingCall& call);

}  // namespace pygen::cuda
