// What a hidden unit makes of its sum, V = float, double or a SIMD vector. NaN goes through.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "common/gated_activation.h"

namespace pygen {

enum class Activation : int { Relu, Tanh, Elu, Silu };

inline Activation parse_activation(std::string_view name) {
  if (name == "relu") return Activation::Relu;
  if (name == "tanh") return Activation::Tanh;
  if (name == "elu") return Activation::Elu;
  if (name == "silu") return Activation::Silu;
  throw std::invalid_argument("activation: expected 'relu', 'tanh', 'elu' or 'silu', got '" + std::string(name) + "'");
}

template <Activation kOf, class V>
PYGEN_HD V activated(V x) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  if constexpr (kOf == Activation::Relu) {
    return L::select(x < Real(0), V{}, x);
  } else if constexpr (kOf == Activation::Tanh) {
    const V m = expm1_minus(V(L::absolute(x) * Real(2)));  // nothing cancels: tanh |x| = -m / (2 + m)
    return L::with_sign(V(-m / (m + Real(2))), x);
  } else if constexpr (kOf == Activation::Elu) {
    return L::select(x > Real(0), x, expm1_minus(V(L::absolute(x))));
  } else {
    return x * sigmoid_of(x, exp_minus_abs(x));
  }
}

}  // namespace pygen
