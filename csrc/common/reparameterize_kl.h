// The arithmetic of one element of reparameterize_kl and gaussian_kl, V = float, double or a SIMD vector.
//
//   z  = mu + exp(logvar / 2) eps
//   kl = (exp(d) - 1 - d + ((mu - prior_mu) exp(-prior_logvar / 2))^2) / 2,   d = logvar - prior_logvar
// (Kingma and Welling 2014, appendix B, for the standard prior: prior_mu = prior_logvar = 0). Nats.
#pragma once

#include "common/quick_exp.h"

namespace pygen {

template <class V>
struct GaussianKl {
  V std;          // exp(logvar / 2)
  V twice_kl;     // before free bits; half of a sum costs less than a sum of halves
  V grad_mu;      // d kl / d mu; d kl / d prior_mu is its negative
  V grad_logvar;  // d kl / d logvar
  V grad_prior_logvar;
};

// kNarrow: the inputs have 16 bits.
template <bool kNarrow = false, class V>
PYGEN_HD GaussianKl<V> gaussian_kl_standard(V mu, V logvar) {
  using Real = typename Lanes<V>::Real;
  const ExpTerms<V> e = quick_exp_terms<kNarrow>(logvar);
  GaussianKl<V> out;
  out.std = e.root;
  out.twice_kl = e.excess + mu * mu;
  out.grad_mu = mu;
  out.grad_logvar = e.em1 * Real(0.5);
  out.grad_prior_logvar = V{};
  return out;
}

template <bool kNarrow = false, class V>
PYGEN_HD GaussianKl<V> gaussian_kl_prior(V mu, V logvar, V prior_mu, V prior_logvar) {
  using Real = typename Lanes<V>::Real;
  const ExpTerms<V> e = quick_exp_terms<kNarrow>(logvar - prior_logvar);
  const V root = quick_exp_terms<kNarrow>(-prior_logvar).root;
  const V scale = Lanes<V>::at_most(root, Lanes<V>::kMax);  // finite, so that equal means contribute 0
  const V scaled = (mu - prior_mu) * scale;
  GaussianKl<V> out;
  out.std = quick_exp_terms<kNarrow>(logvar).root;
  out.twice_kl = e.excess + scaled * scaled;
  out.grad_mu = scaled * scale;
  out.grad_logvar = e.em1 * Real(0.5);
  out.grad_prior_logvar = (e.em1 + scaled * scaled) * Real(-0.5);
  return out;
}

// Free bits: kl below the floor counts as the floor and has no gradient. NaN is above every floor.
template <class V>
PYGEN_HD void apply_free_bits(GaussianKl<V>& t, typename Lanes<V>::Real free_bits) {
  const auto floor = free_bits + free_bits;
  const auto clamped = t.twice_kl <= floor;
  t.twice_kl = Lanes<V>::select(clamped, V{} + floor, t.twice_kl);
  t.grad_mu = Lanes<V>::select(clamped, V{}, t.grad_mu);
  t.grad_logvar = Lanes<V>::select(clamped, V{}, t.grad_logvar);
  t.grad_prior_logvar = Lanes<V>::select(clamped, V{}, t.grad_prior_logvar);
}

}  // namespace pygen
