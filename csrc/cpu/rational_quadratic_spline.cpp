// rational_quadratic_spline on CPUs. Formulas: common/rational_quadratic_spline.h.
// Traffic of a transformed element of P = 3 K -+ 1 numbers, T = its bytes: forward reads (P + 1) T and writes T,
// backward reads (P + 2) T and writes (P + 1) T; of another element T is read and written. Exponentials, 2 K of an
// element, set the pace: 200 instructions of a vector of 8 with K = 8, beside 24 loads.
//
// Every element is computed by vectors, those of a tile's end among numbers that stand for nothing: its bits do not
// depend on where it stands.
#include "cpu/rational_quadratic_spline.h"

#include <utility>

#include "cpu/coupling_blocks.h"
#include "cpu/loss_sums.h"
#include "cpu/parallel.h"
#include "cpu/rational_quadratic_spline_compute.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlocksPerThread = 1;  // a block is 10 us of work
using Blocks = CouplingBlocks;

template <class Real>
using Compute = void (*)(const SplineTile<Real>&, const SplineConstants<Real>&, int64_t);

template <class Real>
struct Scratch {
  static constexpr int64_t kLanesMost = sizeof(VecF) / sizeof(float);
  Real *v, *g, *g_log, *out, *log, *rest, *tile_v, *tile_g, *tile_g_log, *tile_out, *tile_log, *params, *grads, *e;
  Scratch(int64_t bins, int64_t numbers) {
    constexpr int64_t kBlock = kCouplingBlock;
    Real* at = thread_scratch<Real, 90>(6 * kBlock + (5 + 2 * numbers) * kTile + 2 * bins * kLanesMost);
    for (Real** p : {&v, &g, &g_log, &out, &log, &rest}) *p = std::exchange(at, at + kBlock);
    for (Real** p : {&tile_v, &tile_g, &tile_g_log, &tile_out, &tile_log}) *p = std::exchange(at, at + kTile);
    params = std::exchange(at, at + numbers * kTile);
    grads = std::exchange(at, at + numbers * kTile);
    e = at;
  }
};

// Where a tile's parameters lie if they do as it wants them.
template <class T, class Real>
const Real* params_in_place(const RationalQuadraticSpline& p, int64_t start, int64_t n) {
  return n == kTile ? run_in_place<T, Real>(p.params, start, n) : nullptr;
}

template <bool kBackward, class T, class Real>
void run(const RationalQuadraticSpline& p) {
  const Blocks blocks(p.images, p.live.count);
  LossSums<Real, Blocks> sums(blocks, false, kBackward ? nullptr : p.log_det);
  const auto constants = spline_constants<Real>(p.options);
  const int64_t numbers = constants.numbers();
  const Compute<Real> kernel = p.inverse ? &spline_tile<true, kBackward, Real> : &spline_tile<false, kBackward, Real>;
  const View& values = kBackward ? p.input : p.live.input;
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    const Scratch<Real> s(p.options.bins, numbers);
    for_each_piece(blocks, block, [&](int64_t start, int64_t at, int64_t n) {
      const Real *v = read_piece<T>(values, start, n, s.v), *g = s.g, *g_log = s.g_log;
      if (kBackward) {
        g_log = spread_log_det(p.grad_log_det, p.grad_log_det_stride, p.live.count, start, n, s.g_log);
        if (p.live.input.present()) {
          g = read_piece<T>(p.live.input, start, n, s.g);
        } else {
          std::fill_n(s.g, n, Real(0));
        }
      }
      Real* out = p.live.output.present() ? piece_target<T>(p.live.output, start, n, s.out) : s.out;
      for (int64_t i = 0; i < n; i += kTile) {
        const int64_t count = std::min(kTile, n - i);
        SplineTile<Real> tile{v + i,
                              params_in_place<T, Real>(p, start + i, count),
                              p.step,
                              g + i,
                              g_log + i,
                              out + i,
                              s.log + at + i,
                              s.grads,
                              s.e};
        if (!tile.params) {
          read_tile<T>(p.params, p.step, numbers, start + i, count, s.params);
          tile.params = s.params;
          tile.stride = kTile;
        }
        if (count < kTile) {  // up to a whole vector
          for (int64_t k = 0; k < numbers; ++k)
            std::fill(s.params + k * kTile + count, s.params + (k + 1) * kTile, Real(0));
          const Real* from[] = {tile.v, tile.g, tile.g_log};
          Real* to[] = {s.tile_v, s.tile_g, s.tile_g_log};
          for (int j = 0; j < (kBackward ? 3 : 1); ++j)
            std::fill(std::copy_n(from[j], count, to[j]), to[j] + kTile, Real(0));
          tile.v = s.tile_v;
          tile.g = s.tile_g;
          tile.g_log = s.tile_g_log;
          tile.out = s.tile_out;
          tile.log = s.tile_log;
        }
        kernel(tile, constants, count);
        if (count < kTile) {
          std::copy_n(s.tile_out, count, out + i);
          if (!kBackward) std::copy_n(s.tile_log, count, s.log + at + i);
        }
        if (kBackward && p.grad_params.present())
          write_tile<T>(p.grad_params, p.grad_step, numbers, start + i, count, s.grads);
      }
      if (p.live.output.present()) write_piece<T>(p.live.output, start, n, out);
    });
    if (!kBackward) sums.add(block, s.log);
    copy_rest<T>(p.rest, blocks, block, s.rest);
  });
  sums.finish(1.0);
}

}  // namespace

void rational_quadratic_spline_forward(const RationalQuadraticSpline& p) {
  PYGEN_BY_DTYPE(p.dtype, (run<false, T, Real>(p)))
}
void rational_quadratic_spline_backward(const RationalQuadraticSpline& p) {
  PYGEN_BY_DTYPE(p.dtype, (run<true, T, Real>(p)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
