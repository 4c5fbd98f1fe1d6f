// One unit of PixelRNN's LSTM, V = float, double or a SIMD vector:
//   o, f, i = sigmoid, g = tanh of the four sums,    c = f c_before + i g,    h = o tanh(c)
// and its gradients from those of h and c, with the activated gates and c as they were kept.
#pragma once

#include "common/gated_activation.h"

namespace pygen {

template <class V>
PYGEN_HD V lstm_sigmoid(V a) {
  const V e = exp_minus_abs(a);
  return divide_tame(V(sigmoid_numerator(a, e)), V(e + 1.0f));
}
template <class V>
PYGEN_HD V lstm_tanh(V a) {
  using L = Lanes<V>;
  const V m = expm1_minus(V(L::absolute(a) * 2.0f));
  return L::with_sign(divide_tame(V(-m), V(m + 2.0f)), a);
}

template <class V>
struct LstmUnit {
  V o, f, i, g, c;
};

// From the sums to what is kept, and h.
template <class V>
PYGEN_HD V lstm_step(LstmUnit<V>& u, V before) {
  u.o = lstm_sigmoid(u.o);
  u.f = lstm_sigmoid(u.f);
  u.i = lstm_sigmoid(u.i);
  u.g = lstm_tanh(u.g);
  u.c = u.f * before + u.i * u.g;
  return u.o * lstm_tanh(u.c);
}

// The gradients of the four sums, in o, f, i and g, and of `before`, in c.
template <class V>
PYGEN_HD LstmUnit<V> lstm_gradients(const LstmUnit<V>& u, V before, V grad_h, V grad_c) {
  const V tanh = lstm_tanh(u.c);
  const V down = grad_c + grad_h * u.o * (1.0f - tanh * tanh);
  LstmUnit<V> grad;
  grad.o = grad_h * tanh * u.o * (1.0f - u.o);
  grad.f = down * before * u.f * (1.0f - u.f);
  grad.i = down * u.g * u.i * (1.0f - u.i);
  grad.g = down * u.i * (1.0f - u.g * u.g);
  grad.c = down * u.f;
  return grad;
}

}  // namespace pygen
