// What the bindings hand to the kernels of rational_quadratic_spline.
#pragma once

#include "cpu/coupling.h"

namespace pygen {

// Views run over [images, sizes], those of `live` and of the parameters over the part that holds the transformed
// places, those of `rest` over what is copied. params and grad_params: the first of a place's numbers, `step` apart.
struct RationalQuadraticSpline {
  DType dtype;
  bool inverse, linear;
  double ends[2], least[3], beta;  // least: of widths, heights and slopes
  int64_t images, bins;
  CouplingHalf live, rest;
  View input, params, grad_params;  // input: backward alone
  int64_t step, grad_step;
  void* log_det;             // [images] of Real; forward
  const void* grad_log_det;  // [images] of Real, or null
  int64_t grad_log_det_stride;
  int threads;
};

}  // namespace pygen
