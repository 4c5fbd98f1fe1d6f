// The decisions of a pixel that ends in a mixture of logistics: channel after channel.
#pragma once

#include <vector>

#include "common/logistic_mixture_decide.h"
#include "cpu/sampling_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
class SamplingMixture {
 public:
  explicit SamplingMixture(const Sampling& p)
      : p_(p),
        mixture_{p.num_mixtures, p.in_channels, p.num_levels, p.min_log_scale, p.temperature},
        params_(p.num_mixtures ? mixture_.params() : 0),
        components_(p.num_mixtures),
        log_weights_(p.num_mixtures),
        weights_(p.num_mixtures),
        before_(p.in_channels) {
    if (p.num_mixtures && mixture_.params() != p.channels.back())
      throw std::invalid_argument("sampling: the last stream has other channels than the mixture's parameters");
  }

  void begin(const Real* of_pixel, const ChannelLayout& layout) {
    for (size_t i = 0; i < params_.size(); ++i) params_[i] = of_pixel[layout.at(static_cast<int64_t>(i))];
    for (int64_t k = 0; k < mixture_.components; ++k)
      log_weights_[k] = static_cast<double>(params_[k]) / p_.temperature;
  }

  // Decides level `at` of the next channel, or takes it over where it is known, and stores it; `u_at`: where its noise
  // lies.
  int64_t level(int64_t channel, int64_t at, int64_t u_at) {
    const bool known = p_.known_mask && p_.known_mask[at], last = channel + 1 == mixture_.channels;
    int64_t level = known ? p_.level_of(p_.known, at) : 0;
    if (!known || !last) {
      for (int64_t k = 0; k < mixture_.components; ++k)
        components_[k] = logistic_component(mixture_, params_.data(), channel, k, before_.data());
    }
    if (!known)
      level = logistic_mixture_decide(mixture_, components_.data(), log_weights_.data(), weights_.data(), p_.u[u_at]);
    p_.set_level(at, level);
    if (!last) {
      before_[channel] = static_cast<double>(static_cast<const Real*>(p_.scaled)[level]);
      for (int64_t k = 0; k < mixture_.components; ++k)
        log_weights_[k] += logistic_level_log_prob(components_[k], level, mixture_.num_levels);
    }
    return level;
  }

 private:
  const Sampling& p_;
  LogisticMixture mixture_;
  std::vector<Real> params_;
  std::vector<LogisticComponent> components_;
  std::vector<double> log_weights_, weights_, before_;
};

}  // namespace PYGEN_ISA
}  // namespace pygen
