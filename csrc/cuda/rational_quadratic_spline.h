// What the bindings hand to the launchers of rational_quadratic_spline.cu: addresses and strides, nothing of CUDA's
// headers.
#pragma once

#include <string>

#include "common/rational_quadratic_spline_call.h"
#include "cuda/coupling.h"

namespace pygen::cuda {

struct RationalQuadraticSplineCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  SplineOptions options;
  bool inverse;
  int64_t images;
  int64_t sizes[3], rest_sizes[3];      // of the part that holds the transformed places, and of what is copied
  CouplingArgument input;               // backward
  CouplingArgument from, to;            // forward: input and output; backward: their gradients
  CouplingArgument rest_from, rest_to;  // the same of the rest
  CouplingArgument params, grad_params;
  int64_t step, grad_step;                    // from one of a place's numbers to the next
  std::uintptr_t log_det = 0, workspace = 0;  // forward; float, double for float64
  std::uintptr_t grad_log_det = 0;            // backward, of that type
  int64_t grad_log_det_stride = 0;
};

// How many blocks share a sample: with more than one, forward's workspace holds as many sums for each.
int64_t rational_quadratic_spline_tiles(const RationalQuadraticSplineCall& call);
void rational_quadratic_spline_forward(const RationalQuadraticSplineCall& call);
void rational_quadratic_spline_backward(const RationalQuadraticSplineCall& call);

}  // namespace pygen::cuda
