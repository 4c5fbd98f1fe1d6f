// One value drawn from a mixture of discretised logistics, in double, like pygen/models/_mixture.py: the first level
// whose cumulated probability reaches u, by bisection over the edges between levels. A pixel's channels are drawn in
// turn: a component's weight is multiplied by the probability that it gave to each level before, and its means move
// with them. NaN gives level 0.
//
// Level x of 0 .. L-1 stands at 2 x / (L - 1) - 1 and owns 1 / (L - 1) to either side; the outer two bins are open.
// A pixel's parameters: K logits, then for each channel K means, K log scales and, of three channels, K coefficients.
#pragma once

#include "common/softplus.h"

namespace pygen {

struct LogisticMixture {
  int64_t components, channels, num_levels;
  double min_log_scale, temperature;  // temperature: weights to the power of 1 / T, scales times T

  PYGEN_HD int64_t params() const { return components * (channels == 1 ? 3 : 10); }
  // Which: 0 of the mean, 1 of the log scale, 2 of the coefficient of that channel.
  PYGEN_HD int64_t at(int64_t channel, int64_t which, int64_t component) const {
    return components * (1 + channel * (channels == 1 ? 2 : 3) + which) + component;
  }
};

// One component in one channel.
struct LogisticComponent {
  double mean, log_scale, inverse_scale;
};

// params: Real [P].  scaled: in [-1, 1], of the channels drawn before in this pixel.
template <class Real>
PYGEN_HD LogisticComponent logistic_component(const LogisticMixture& m, const Real* params, int64_t channel,
                                              int64_t component, const double* scaled) {
  double mean = static_cast<double>(params[m.at(channel, 0, component)]);
  // Green's coefficient lies with red, blue's with green and blue.
  for (int64_t before = 0; before < channel; ++before)
    mean += ::tanh(static_cast<double>(params[m.at(channel - 1 + before, 2, component)])) * scaled[before];
  const double low = Lanes<double>::at_least(static_cast<double>(params[m.at(channel, 1, component)]), m.min_log_scale);
  const double log_scale = low + ::log(m.temperature);
  return {mean, log_scale, ::exp(-log_scale)};
}

// log sigmoid(x)
PYGEN_HD double log_logistic(double x) { return Lanes<double>::at_most(x, 0.0) - ::log1p(exp_minus_abs(x)); }

// log-probability of a level: log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)), exact in the tails; a and b are
// its ends, less the mean, over the scale.
PYGEN_HD double logistic_level_log_prob(const LogisticComponent& c, int64_t level, int64_t num_levels) {
  const double last = static_cast<double>(num_levels - 1), twice = 2 * static_cast<double>(level) - last;
  const bool is_first = level == 0, is_last = level == num_levels - 1;
  const double above = is_last ? 0.0 : log_logistic(((twice + 1) / last - c.mean) * c.inverse_scale);
  const double below = is_first ? 0.0 : log_logistic((c.mean - (twice - 1) / last) * c.inverse_scale);
  if (is_first || is_last) return above + below;
  const double width = 2 / last, steps = width * c.inverse_scale;
  const double inside = steps < 1e-16 ? ::log(width) - c.log_scale
                        : steps < 1.0 ? ::log(-::expm1(-steps))
                                      : ::log1p(-::exp(-steps));
  return above + below + inside;
}

// sigmoid((edge - mean) / scale) of the edge below level `level`.
PYGEN_HD double logistic_below(const LogisticComponent& c, int64_t level, double half) {
  const double x = ((2 * static_cast<double>(level) - 1) * half - 1 - c.mean) * c.inverse_scale;
  return sigmoid_of(x, exp_minus_abs(x));
}

// The first level whose cumulated probability reaches u. weights [K]: not normalised.
PYGEN_HD int64_t logistic_mixture_decide(const LogisticMixture& m, const LogisticComponent* components,
                                         const double* log_weights, double* weights, float u) {
  double most = log_weights[0], total = 0;
  for (int64_t k = 1; k < m.components; ++k)
    if (log_weights[k] > most) most = log_weights[k];
  for (int64_t k = 0; k < m.components; ++k) total += weights[k] = ::exp(log_weights[k] - most);
  const double half = 1 / static_cast<double>(m.num_levels - 1), wanted = static_cast<double>(u);
  int64_t below = 0, step = 1;  // so many levels do not reach u
  while (step < m.num_levels) step *= 2;
  while ((step /= 2) > 0) {
    const int64_t more = below + step;
    if (more >= m.num_levels) continue;
    double cumulated = 0;
    for (int64_t k = 0; k < m.components; ++k)
      cumulated += weights[k] / total * logistic_below(components[k], more, half);
    if (cumulated < wanted) below = more;
  }
  return below;
}

}  // namespace pygen
