// What the bindings hand to the launcher of autoregressive_inverse.cu.
#pragma once

#include "cuda/dense_network.h"

namespace pygen::cuda {

// Solves y = x e^f + t for x, where t and f of an input are the network's outputs for it, made of the inputs before it.
struct AutoregressiveInverseCall : DenseCall {  // outs: shift and log_scale, or the shift alone
  std::string scale;
  double bound;
  std::uintptr_t y, x, log;  // [n, inputs]; the last two written: x, and f
};

// Solves J^T v = g for v, J being the derivative of y by x. The network is the transposed one, its inputs' turns the
// other way round: it takes two numbers of an input, gradients of its shift and log_scale, and gives one, x's gradient.
struct AutoregressiveInverseSolveCall : DenseCall {
  std::uintptr_t grad;                 // g, [n, inputs]
  std::uintptr_t root, slope, offset;  // of a layer with scales e^(-f / 2) and the gradient of log_scale, slope v +
                                       // offset; 0 of an additive one, whose network takes shifts alone
  std::uintptr_t gates;                // [n, act_size]: 1 where a unit passes its gradient, else 0
  std::uintptr_t solved;               // v, written
};

constexpr int kAutoregressiveInverseStepBytes = 16, kAutoregressiveInverseSolveStepNumbers = 4;

void autoregressive_inverse_solve(const AutoregressiveInverseSolveCall& call);
void autoregressive_inverse(const AutoregressiveInverseCall& call);

}  // namespace pygen::cuda
