// What the bindings hand to the launcher of autoregressive_inverse.cu.
#pragma once

#include "common/rational_quadratic_spline_call.h"
#include "cuda/dense_network.h"

namespace pygen::cuda {

// Finds x of y, where what maps an input is said by the network's outputs for it, made of the inputs before it.
struct AutoregressiveInverseCall : DenseCall {
  std::string activation;
  std::uintptr_t y, x, log;  // [n, inputs]; the last two written: x, and its log-derivative
};

// y = x e^f + t
struct AutoregressiveAffineInverseCall : AutoregressiveInverseCall {  // outs: shift and log_scale, or the shift alone
  std::string scale;
  double bound;
};

// y is a spline of x, as rational_quadratic_spline's
struct AutoregressiveSplineInverseCall : AutoregressiveInverseCall {  // outs: a spline's numbers
  SplineOptions options;
};

// Solves J^T v = g for v, where J is the derivative by x of y, or of what is to be 0 at x. The network is the
// transposed one, its inputs' turns the other way round: it takes an input's gradients of its outputs, and gives one
// number, x's gradient.
struct AutoregressiveInverseSolveCall : DenseCall {
  std::uintptr_t grad;           // g, [n, inputs]
  std::uintptr_t root;           // its square is what v is multiplied by; or 0
  std::uintptr_t slope, offset;  // [n, inputs, factors]: the last gradients are slope v + offset each; where there is
  int64_t factors;               // one more gradient, the first, it is v
  std::uintptr_t gates;          // [n, act_size]: the derivatives of units by their sums
  std::uintptr_t solved;         // v, written
};

// The second of solves of at most one factor.
constexpr int kAutoregressiveInverseStepBytes = 16, kAutoregressiveInverseSolveStepNumbers = 4;

void autoregressive_inverse_solve(const AutoregressiveInverseSolveCall& call);
void autoregressive_inverse(const AutoregressiveAffineInverseCall& call);
void autoregressive_spline_inverse(const AutoregressiveSplineInverseCall& call);

}  // namespace pygen::cuda
