// sample_dot on CPUs: forward sums[n] = sum of x[n] y[n], backward out[n] = factor[n] x[n].
// Traffic, T = bytes of x: forward reads T (2 T with a y of its own), backward reads and writes T.
#include "cpu/sample_dot.h"

#include <vector>

#include "cpu/block_io.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 4096;          // elements: a part of a long row, or several short rows
constexpr int64_t kBlocksPerThread = 16;  // about 10 us

// Rows cut into blocks by their size alone, so that a row's sum does not depend on its batch.
struct RowBlocks {
  int64_t rows, row_size, per_row, together;  // blocks of a row, or rows of a block
  RowBlocks(const SampleDot& p)
      : rows(p.rows),
        row_size(p.row_size),
        per_row((row_size + kBlock - 1) / kBlock),
        together(row_size <= kBlock ? kBlock / (row_size > 0 ? row_size : 1) : 1) {
    if (per_row == 0) per_row = 1;
  }
  // body(first row, rows, start in the row, elements of each row, block)
  template <class Body>
  void run(int threads, const Body& body) const {
    const int64_t count = (rows + together - 1) / together * per_row;
    parallel_blocks(count, kBlocksPerThread, threads, [&](int64_t block) {
      const int64_t row = block / per_row * together, start = block % per_row * kBlock;
      const int64_t left = row_size - start, n = left < kBlock ? left : kBlock;
      body(row, rows - row < together ? rows - row : together, start, n, block);
    });
  }
};

template <class Real>
struct Scratch {
  alignas(64) Real x[kBlock], y[kBlock];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

template <class Real>
PYGEN_INLINE double dot_run(const Real* x, const Real* y, int64_t n) {
  using V = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
  constexpr int kWays = 4;  // chains of additions
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real), kStep = kWays * kWidth;
  V sum[kWays] = {};
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep)
    for (int w = 0; w < kWays; ++w) sum[w] += load<V>(x + i + w * kWidth) * load<V>(y + i + w * kWidth);
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return total + sum_lanes(V((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

template <class T, class Real>
void forward(const SampleDot& p) {
  const RowBlocks blocks(p);
  Real* sums = static_cast<Real*>(p.sums);
  std::vector<double> partial(blocks.per_row > 1 ? p.rows * blocks.per_row : 0);
  blocks.run(p.threads, [&](int64_t row, int64_t rows, int64_t start, int64_t n, int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t at = row * p.row_size + start;
    const Real* x = read_block<T>(p.x, at, rows * n, s.x);
    const Real* y = p.y.present() ? read_block<T>(p.y, at, rows * n, s.y) : x;
    if (blocks.per_row > 1) {
      partial[block] = dot_run(x, y, n);
      return;
    }
    for (int64_t r = 0; r < rows; ++r) sums[row + r] = static_cast<Real>(dot_run(x + r * n, y + r * n, n));
  });
  for (int64_t row = 0; blocks.per_row > 1 && row < p.rows; ++row) {
    double total = 0;
    for (int64_t i = 0; i < blocks.per_row; ++i) total += partial[row * blocks.per_row + i];
    sums[row] = static_cast<Real>(total);
  }
}

template <class T, class Real>
void backward(const SampleDot& p) {
  const RowBlocks blocks(p);
  const Real* factor = static_cast<const Real*>(p.factor);
  blocks.run(p.threads, [&](int64_t row, int64_t rows, int64_t start, int64_t n, int64_t) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t at = row * p.row_size + start;
    const Real* x = read_block<T>(p.x, at, rows * n, s.x);
    Real* out = block_target<T>(p.out, at, rows * n, s.y);
    for (int64_t r = 0; r < rows; ++r) {
      const Real f = factor[(row + r) * p.factor_stride] * (p.twice ? 2 : 1);
      for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
        using V = decltype(zero);
        store(out + r * n + i, V(load<V>(x + r * n + i) * f));
      });
    }
    write_block<T>(p.out, at, rows * n, out);
  });
}

}  // namespace

void sample_dot_forward(const SampleDot& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }
void sample_dot_backward(const SampleDot& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
