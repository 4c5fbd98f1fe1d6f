// What the bindings hand to the kernels of rational_quadratic_spline.
#pragma once

#include "common/rational_quadratic_spline_call.h"
#include "cpu/coupling.h"

namespace pygen {

// Views run over [images, sizes], those of `live` and of the parameters over the part that holds the transformed
// places, those of `rest` over what is copied. params and grad_params: the first of a place's numbers, `step` apart.
struct RationalQuadraticSpline {
  DType dtype;
  SplineOptions options;
  bool inverse;
  int64_t images;
  CouplingHalf live, rest;
  View input, params, grad_params;  // input: backward alone
  int64_t step, grad_step;
  void* log_det;             // [images] of Real; forward
  const void* grad_log_det;  // [images] of Real, or null
  int64_t grad_log_det_stride;
  int threads;
};

}  // namespace pygen
