// What the bindings hand to the kernels of autoregressive_inverse.
#pragma once

#include <vector>

#include "common/affine_coupling.h"
#include "cpu/dense_network.h"
#include "cpu/interrupt.h"
#include "cpu/view.h"

namespace pygen {

// Solves y = x e^f + t for x, where t and f of an input are the network's outputs for it, made of the inputs before it.
struct AutoregressiveInverse {
  DType dtype;           // Float32 or Float64, of all numbers but log_det
  DenseNetwork network;  // of an input shift and log_scale, or the shift alone
  CouplingScale scale;
  double bound;
  const void* y;    // [n, inputs]
  void* x;          // [n, inputs], written
  double* log_det;  // [n], written: minus the sum of f
  int threads;
  Interrupt* interrupt;
};

// Solves J^T v = g for v, J being the derivative of y by x. The network is the transposed one, its inputs' turns the
// other way round: it takes two numbers of an input, gradients of its shift and log_scale, and gives one, x's gradient.
struct AutoregressiveInverseSolve {
  DType dtype;
  DenseNetwork network;
  const void* grad;            // g, [n, inputs]
  const void* root;            // e^(-f / 2); absent, with the next two, of an additive layer: there are shifts alone
  const void *slope, *offset;  // of the gradient of log_scale, slope v + offset
  std::vector<const void*> hidden;  // of each layer made: the units' values, [n, units], which pass where positive
  void* solved;                     // v, written
  int threads;
  Interrupt* interrupt;
};

}  // namespace pygen
