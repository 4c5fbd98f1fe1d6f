// The gate of common/gated_activation.h as the kernels take it. What is rounded to 16 bits comes of the special units:
// three of their instructions and about fifteen others instead of 75, which would take longer than memory does.
//   tanh |a| = (1 - e) / (1 + e), e = exp(-2|a|); 1 - e has 16 bits from |a| = 2^-7 on; below it is |a| (1 + e)
#pragma once

#include "common/gated_activation.h"
#include "common/special.h"

namespace pygen::cuda {

struct FastGate {
  float ea, eb;           // exp(-2|a|), exp(-|b|)
  float tanh, tanh_over;  // numerator (of a's sign), denominator
  float sigmoid, sigmoid_over;

  __device__ __forceinline__ FastGate(float a, float b) {
    constexpr float kLog2e = 1.44269504088896341f;
    const float absolute = ::fabsf(a);
    ea = special_ex2(absolute * (-2.0f * kLog2e));
    eb = special_ex2(::fabsf(b) * -kLog2e);
    tanh_over = 1.0f + ea;
    sigmoid_over = 1.0f + eb;
    tanh = Lanes<float>::with_sign(absolute < 0x1p-7f ? absolute * tanh_over : 1.0f - ea, a);
    sigmoid = b < 0.0f ? eb : 1.0f;
  }
  // Both quotients' denominators.
  __device__ __forceinline__ float over() const { return special_rcp(tanh_over * sigmoid_over); }
};

// In numbers of T.
template <class T, class Acc>
__device__ __forceinline__ Acc gate_value_of(Acc a, Acc b) {
  if constexpr (sizeof(T) == 2) {
    const FastGate g(a, b);
    return g.tanh * g.sigmoid * g.over();
  } else {
    return gate_value<Acc>(a, b);
  }
}
template <class T, class Acc>
__device__ __forceinline__ void gate_gradients_of(Acc a, Acc b, Acc grad, Acc& grad_a, Acc& grad_b) {
  if constexpr (sizeof(T) == 2) {
    const FastGate g(a, b);
    const float over = g.over(), both = grad * over * over;
    grad_a = both * (g.sigmoid * g.sigmoid_over) * (g.ea * 4.0f);
    grad_b = both * (g.tanh * g.tanh_over) * g.eb;
  } else {
    gate_gradients<Acc>(a, b, grad, grad_a, grad_b);
  }
}

}  // namespace pygen::cuda
