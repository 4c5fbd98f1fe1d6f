// What the bindings hand to the kernels of affine_coupling.
#pragma once

#include "common/affine_coupling.h"
#include "cpu/coupling.h"

namespace pygen {

// Views run over [images, sizes]: those of `live` over the part that holds the transformed places, those of `rest` over
// what is copied. With `parity` a place of `live` is transformed where the sum of weights times indices is odd, or with
// `even` where it is not.
struct AffineCoupling {
  DType dtype;
  CouplingScale scale;
  bool inverse, parity, even;
  double bound;
  int64_t images;
  int64_t sizes[3], weights[3];
  CouplingHalf live, rest;
  View input, shift, log_scale;  // input: backward alone
  void* log_det;                 // [images] of Real, or null
  View grad_shift, grad_log_scale;
  const void* grad_log_det;  // [images] of Real, or null
  int64_t grad_log_det_stride;
  int threads;
};

}  // namespace pygen
