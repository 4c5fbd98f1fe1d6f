// The softmaxes of am_softmax on CPUs. Formula: common/categorical_nll.h, of logits that are products scaled by row and
// column, the target's less a margin.
// Traffic: a product is read once, and where gradients are wanted written once; they take its place. Up to a tile of
// classes costs one exponential a product, more of them two.
#include "cpu/am_softmax.h"

#include "cpu/parallel.h"
#include "cpu/softmax_row.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kProductsPerThread = 16 << 10;  // about 10 us

template <class Real>
struct Tile {
  alignas(64) Real numbers[kTile];
};
template <class Real>
Real* tile() {
  return of_thread<Tile<Real>>().numbers;
}

template <class Real>
PYGEN_INLINE void one_row(const AmSoftmaxRows& p, int64_t row, Real* tile) {
  using V = Vector<Real>;
  Real* products = static_cast<Real*>(p.products) + row * p.classes;
  const Real* columns = static_cast<const Real*>(p.column_scale);
  const Real scale = static_cast<const Real*>(p.row_scale)[row];
  const int64_t given = p.target[row], target = given >= 0 && given < p.classes ? given : -1;
  const auto read = [&](int64_t first, int64_t count) PYGEN_INLINE_LAMBDA {
    const bool here = target >= first && target < first + count;
    Real product = 0;
    if (here) {  // its logit is the largest only if it is so less the margin
      product = products[target];
      products[target] = -std::numeric_limits<Real>::infinity();
    }
    Real largest = fill_tile<Real>(
        tile, count,
        [&](int64_t j)
            PYGEN_INLINE_LAMBDA { return V(load<V>(products + first + j) * (load<V>(columns + first + j) * scale)); },
        [&](int64_t j) PYGEN_INLINE_LAMBDA { return products[first + j] * (columns[first + j] * scale); });
    if (here) {
      products[target] = product;
      const Real logit = product * (columns[target] * scale) - static_cast<Real>(p.shift);
      tile[target - first] = logit;
      largest = logit > largest ? logit : largest;
    }
    return largest;
  };
  Real* nll = static_cast<Real*>(p.nll) + row;
  if (!p.upstream) {
    *nll = softmax_row<Real>(p.classes, target, tile, read);
    return;
  }
  const Real upstream = static_cast<const Real*>(p.upstream)[row];
  *nll = softmax_row<Real>(
      p.classes, target, tile, read, [&](int64_t first, int64_t count, Real inverse) PYGEN_INLINE_LAMBDA {
        const Real factor = inverse * upstream;
        for_each_vector<Real>(count, [&](int64_t j, auto zero) PYGEN_INLINE_LAMBDA {
          using W = decltype(zero);
          store(products + first + j, W(load<W>(tile + j) * factor * (load<W>(columns + first + j) * scale)));
        });
      });
}

template <class Real>
void run(const AmSoftmaxRows& p) {
  const int64_t per_thread = 1 + kProductsPerThread / std::max<int64_t>(p.classes, 1);
  parallel_blocks(p.rows, per_thread, p.threads, [&](int64_t row) { one_row<Real>(p, row, tile<Real>()); });
}

template <class Real>
PYGEN_INLINE Real dot(const Real* a, const Real* b, int64_t count) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = 4 * kW;
  V sum[4] = {};
  int64_t j = 0;
  for (; j + kStep <= count; j += kStep)
    for (int v = 0; v < 4; ++v) sum[v] = sum[v] + load<V>(a + j + v * kW) * load<V>(b + j + v * kW);
  Real rest = 0;
  for (; j < count; ++j) rest += a[j] * b[j];
  return static_cast<Real>(sum_lanes(V((sum[0] + sum[1]) + (sum[2] + sum[3])))) + rest;
}

template <class Real>
void run_across(const AmSoftmaxAcross& p) {
  const int64_t per_thread = 1 + kProductsPerThread / std::max<int64_t>(p.features, 1);
  const Real factor = p.factor ? *static_cast<const Real*>(p.factor) : Real(1);
  parallel_blocks(p.rows, per_thread, p.threads, [&](int64_t row) {
    Real* grad = static_cast<Real*>(p.grad) + row * p.features;
    const Real* t = static_cast<const Real*>(p.t) + row * p.features;
    const Real norm = static_cast<const Real*>(p.norm)[row];
    const bool has_direction = !(norm <= static_cast<Real>(p.least));
    const Real along = has_direction ? dot(t, grad, p.features) / norm / norm : Real(0);
    for_each_vector<Real>(p.features, [&](int64_t j, auto zero) PYGEN_INLINE_LAMBDA {
      using W = decltype(zero);
      const W g = load<W>(grad + j);
      store(grad + j, W((has_direction ? W(g - load<W>(t + j) * along) : g) * factor));
    });
  });
}

}  // namespace

void am_softmax_across(const AmSoftmaxAcross& p) { return p.wide ? run_across<double>(p) : run_across<float>(p); }

void am_softmax_rows(const AmSoftmaxRows& p) { return p.wide ? run<double>(p) : run<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
