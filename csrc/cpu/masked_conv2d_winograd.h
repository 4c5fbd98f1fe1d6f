// masked_conv2d with fewer multiplications: Winograd's minimal filtering along rows (Lavin and Gray 2016, "Fast
// Algorithms for Convolutional Neural Networks"), F(2, 3) and F(2, 2).
//
// Two neighbouring pixels of the target, 2j and 2j + 1, share products: three live taps side by side cost 4 of them
// instead of 6, two cost 3 instead of 4, so type B of 3 x 3 costs 7 instead of 10. Each product goes to one of four
// sums:
//     even = sums[0] + sums[1] + sums[2]        odd = sums[1] - sums[2] + sums[3]
// A pixel of the target depends on its own live taps alone, here too: what it must not see stands in no product of its
// sums. (Taller tiles, F(4, 3) or two dimensions, would not keep that, and lose digits.)
#pragma once

#include "cpu/masked_conv2d_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int kWinogradSums = 4;

// weight combination * (source[x] + sign * source[x + step]), where x = 2j + dx in row y + dy.
struct Product {
  int64_t dy, dx, step;
  int sign;  // 0: the pixel alone
  int count;
  int64_t index[3];       // of the taps,
  double coefficient[3];  // and what their weights are multiplied by
};

// The products of each sum, by channel: those for all channels, and those of the centre where it goes by groups.
struct WinogradPlan {
  std::vector<Product> full[kWinogradSums], centre[kWinogradSums];
  int64_t products = 0;  // for a pair of pixels, against two for each tap

  explicit WinogradPlan(const Plan& plan) {
    std::vector<Plan::Tap> taps(plan.taps.begin(), plan.taps.begin() + plan.full_taps());
    std::sort(taps.begin(), taps.end(),
              [](const Plan::Tap& a, const Plan::Tap& b) { return a.dy != b.dy ? a.dy < b.dy : a.dx < b.dx; });
    for (size_t at = 0; at < taps.size();) {
      size_t run = 1;
      while (at + run < taps.size() && taps[at + run].dy == taps[at].dy &&
             taps[at + run].dx == taps[at].dx + static_cast<int64_t>(run))
        ++run;
      const size_t end = at + run;
      while (at < end) {
        // Four taps are two pairs: no dearer than three and one, and with smaller coefficients.
        const int take = end - at == 4 ? 2 : static_cast<int>(std::min<size_t>(end - at, 3));
        add(&taps[at], take);
        at += take;
      }
    }
    if (plan.centre) {
      const int64_t index = plan.taps.back().index;
      centre[0].push_back({0, 0, 0, 0, 1, {index}, {1}});
      centre[3].push_back({0, 1, 0, 0, 1, {index}, {1}});
    }
    for (int m = 0; m < kWinogradSums; ++m) products += full[m].size() + centre[m].size();
  }

 private:
  void add(const Plan::Tap* t, int count) {
    const int64_t dy = t[0].dy, a = t[0].dx;
    if (count == 3) {
      full[0].push_back({dy, a, 2, -1, 1, {t[0].index}, {1}});
      full[1].push_back({dy, a + 1, 1, 1, 3, {t[0].index, t[1].index, t[2].index}, {0.5, 0.5, 0.5}});
      full[2].push_back({dy, a + 1, 1, -1, 3, {t[0].index, t[1].index, t[2].index}, {-0.5, 0.5, -0.5}});
      full[3].push_back({dy, a + 1, 2, -1, 1, {t[2].index}, {-1}});
    } else if (count == 2) {
      full[0].push_back({dy, a, 1, -1, 1, {t[0].index}, {1}});
      full[1].push_back({dy, a + 1, 0, 0, 2, {t[0].index, t[1].index}, {1, 1}});
      full[3].push_back({dy, a + 1, 1, -1, 1, {t[1].index}, {-1}});
    } else {
      full[0].push_back({dy, a, 0, 0, 1, {t[0].index}, {1}});
      full[3].push_back({dy, a + 1, 0, 0, 1, {t[0].index}, {1}});
    }
  }
};

// A product of two small matrices, [steps][kVectors registers] and [steps][kChannels], to or onto sums.
template <class Real>
struct GemmArguments {
  const Real *source, *weights;
  int64_t steps;
  Real* sums;  // [kChannels][kVectors registers]
  bool onto;
};

template <class Real, int kVectors, int kChannels>
__attribute__((noinline)) void gemm(const GemmArguments<Real>& a) {
  using V = Reg<Real>;
  constexpr int kWide = kVectors * kRegLanes<Real>;
  bool onto = a.onto;
  const Real *in = a.source, *w = a.weights;
  int64_t left = a.steps;
  do {
    V sum[kChannels][kVectors]{};
    for (const Real* const end = w + std::min(left, kRun) * kChannels; w < end; w += kChannels, in += kWide) {
      V x[kVectors];
      PYGEN_UNROLL
      for (int v = 0; v < kVectors; ++v) x[v] = load<V>(in + v * kRegLanes<Real>);
      PYGEN_UNROLL
      for (int o = 0; o < kChannels; ++o) {
        const Real weight = w[o];
        PYGEN_UNROLL
        for (int v = 0; v < kVectors; ++v) sum[o][v] += x[v] * weight;
      }
    }
    PYGEN_UNROLL
    for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Real* const at = a.sums + o * kWide + v * kRegLanes<Real>;
      store(at, onto ? load<V>(at) + sum[o][v] : sum[o][v]);
    }
    left -= kRun;
    onto = true;
  } while (left > 0);
}

// Whether it is faster than the direct kernel; and the convolution itself.
bool winograd_pays(const MaskedConv2d& p, const Plan& plan);
bool correlate_winograd(const MaskedConv2d& p, const Plan& plan);  // false: too much is not finite

}  // namespace PYGEN_ISA
}  // namespace pygen
