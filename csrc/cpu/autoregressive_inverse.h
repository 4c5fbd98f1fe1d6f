// What the bindings hand to the kernels of autoregressive_inverse.
#pragma once

#include <vector>

#include "common/activation.h"
#include "common/affine_coupling.h"
#include "common/rational_quadratic_spline_call.h"
#include "cpu/dense_network.h"
#include "cpu/interrupt.h"
#include "cpu/view.h"

namespace pygen {

// Finds x of y, where what maps an input is said by the network's outputs for it, made of the inputs before it.
struct AutoregressiveInverse {
  DType dtype;  // Float32 or Float64, of all numbers but log_det
  DenseNetwork network;
  Activation activation;
  const void* y;    // [n, inputs]
  void* x;          // [n, inputs], written
  double* log_det;  // [n], written: of x by y
  int threads;
  Interrupt* interrupt;
};

// y = x e^f + t
struct AutoregressiveAffineInverse : AutoregressiveInverse {  // outputs: shift and log_scale, or the shift alone
  CouplingScale scale;
  double bound;
};

// y is a spline of x, as rational_quadratic_spline's
struct AutoregressiveSplineInverse : AutoregressiveInverse {  // outputs: a spline's numbers
  SplineOptions options;
};

// Solves J^T v = g for v, where J is the derivative by x of y, or of what is to be 0 at x. The network is the
// transposed one, its inputs' turns the other way round: it takes an input's gradients of its outputs, and gives one
// number, x's gradient.
struct AutoregressiveInverseSolve {
  DType dtype;
  DenseNetwork network;
  const void* grad;            // g, [n, inputs]
  const void* root;            // its square is what v is multiplied by; or absent
  const void *slope, *offset;  // [n, inputs, factors]: the last gradients are slope v + offset each; where there is
  int64_t factors;             // one more gradient, the first, it is v
  std::vector<const void*> hidden;  // of each layer made: [n, units], the derivatives of units by their sums
  void* solved;                     // v, written
  int threads;
  Interrupt* interrupt;
};

}  // namespace pygen
