// One decision from a mixture of logistics, by a warp.
#pragma once

#include "common/logistic_mixture_decide.h"
#include "cuda/sampling_decide.cuh"

namespace pygen::cuda {

constexpr int kMostMixtures = 32;  // a lane has one

// A warp's mixture for one channel: of a lane's component the weight, not normalised, its mean and one over its scale.
struct MixtureOfLanes {
  double weight;
  LogisticComponent component;
};

// The first level whose cumulated probability reaches u. Eight lanes each look at one of eight edges at a time, and
// share out the components: always in the same way, so that the sum does not depend on who draws what.
__device__ __forceinline__ int64_t decide_mixture(const LogisticMixture& m, const MixtureOfLanes& own, double u) {
  const int lane = static_cast<int>(threadIdx.x % 32), edge = lane % 8, part = lane / 8;
  const int count = static_cast<int>(m.components), turns = (count + 3) / 4;
  const double half = 1 / static_cast<double>(m.num_levels - 1);
  int64_t below = 0, step = 1;  // so many levels do not reach u
  while (step < m.num_levels) step *= 8;
  while ((step /= 8) > 0) {
    const int64_t more = below + edge * step;
    double cumulated = 0;
    for (int turn = 0; turn < turns; ++turn) {
      const int k = turn * 4 + part, from = min(k, count - 1);
      LogisticComponent c{};
      c.mean = __shfl_sync(kAllLanes, own.component.mean, from);
      c.inverse_scale = __shfl_sync(kAllLanes, own.component.inverse_scale, from);
      const double weight = __shfl_sync(kAllLanes, own.weight, from);
      if (k < count) cumulated += weight * logistic_below(c, more, half);
    }
    cumulated += __shfl_xor_sync(kAllLanes, cumulated, 8);
    cumulated += __shfl_xor_sync(kAllLanes, cumulated, 16);
    const bool short_of = edge > 0 && more < m.num_levels && cumulated < u;
    below += step * (__popc(__ballot_sync(kAllLanes, short_of) & 0xff));
  }
  return below;
}

// exp(own - the largest) over the sum of all lanes'. NaN anywhere: NaN.
__device__ __forceinline__ double normalised(double own) {
  double most = own, sum;
  for (int mask = 16; mask > 0; mask /= 2) most = fmax(most, __shfl_xor_sync(kAllLanes, most, mask));
  own = exp(own - most);
  sum = own;
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  return own / sum;
}

}  // namespace pygen::cuda
