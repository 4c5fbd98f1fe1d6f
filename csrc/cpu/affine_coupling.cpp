// affine_coupling on CPUs. Formula: common/affine_coupling.h.
// Traffic of a transformed element, T = its bytes: forward reads 3 T and writes T, backward reads 3 T (of the inverse
// 4 T) and writes 3 T; of another element T is read and written. No index, no mask, no half is made in memory.
#include "cpu/affine_coupling.h"

#include <algorithm>

#include "cpu/loss_sums.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 1024;         // places; a block's scratch fits the L1 and L2 caches
constexpr int64_t kBlocksPerThread = 4;  // about 8 us of work
constexpr int64_t kRow = 64;  // rows this long are looked at one by one: many lie in memory as they are needed
using Blocks = RowBlocks<kBlock>;

// One piece of a block, in Real.
template <class Real>
struct Piece {
  const Real *x, *t, *s, *grad, *grad_log_det;
  const Real* live;  // 1 where a place is transformed, else 0
  Real *out, *log, *grad_t, *grad_s;
  Real bound;
};

template <class Real>
struct Scratch {
  alignas(64) Real x[kBlock], t[kBlock], s[kBlock], grad[kBlock], grad_log_det[kBlock], live[kBlock];
  alignas(64) Real out[kBlock], log[kBlock], grad_t[kBlock], grad_s[kBlock];
};
template <class Real>
__attribute__((noinline)) Scratch<Real>& scratch() {
  static thread_local Scratch<Real> s;
  return s;
}

// Once in the module, as so many calls of them inlined would make most of its size.
template <class T, class Real>
__attribute__((noinline)) const Real* read_piece(const View& view, int64_t start, int64_t n, Real* to) {
  return read_block<T>(view, start, n, to);
}
template <class T, class Real>
__attribute__((noinline)) Real* piece_target(const View& view, int64_t start, int64_t n, Real* scratch) {
  return block_target<T>(view, start, n, scratch);
}
template <class T, class Real>
__attribute__((noinline)) void write_piece(const View& view, int64_t start, int64_t n, const Real* from) {
  write_block<T>(view, start, n, from);
}

template <class Real, CouplingScale kScale, bool kInverse, bool kParity>
void forward_piece(const Piece<Real>& b, int64_t n) {
  using S = CouplingScale;
  for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    const V x = load<V>(b.x + i), s = kScale == S::None ? V{} : load<V>(b.s + i);
    const auto f = coupling_factor<kScale, kInverse>(s, b.bound);
    V out = coupling_value<kScale, kInverse>(x, load<V>(b.t + i), f), log = kInverse ? V(-f.log) : f.log;
    if constexpr (kParity) {
      const auto live = load<V>(b.live + i) != Real(0);
      out = Lanes<V>::select(live, out, x);
      log = Lanes<V>::select(live, log, V{});
    }
    store(b.out + i, out);
    if constexpr (kScale != S::None) store(b.log + i, log);
  });
}

template <class Real, CouplingScale kScale, bool kInverse, bool kParity>
void backward_piece(const Piece<Real>& b, int64_t n) {
  using S = CouplingScale;
  for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    const auto read = [&](const Real* p, bool wanted) PYGEN_INLINE_LAMBDA { return wanted ? load<V>(p + i) : V{}; };
    constexpr bool kAffine = kScale != S::None;
    const V g = load<V>(b.grad + i);
    const auto f = coupling_factor<kScale, kInverse>(read(b.s, kAffine), b.bound);
    V grad_x, grad_t, grad_s{};
    coupling_gradients<kScale, kInverse>(read(b.x, kAffine), read(b.t, kAffine && kInverse), g,
                                         read(b.grad_log_det, kAffine), f, grad_x, grad_t, grad_s);
    if constexpr (kParity) {
      const auto live = load<V>(b.live + i) != Real(0);
      grad_x = Lanes<V>::select(live, grad_x, g);
      grad_t = Lanes<V>::select(live, grad_t, V{});
      grad_s = Lanes<V>::select(live, grad_s, V{});
    }
    store(b.out + i, grad_x);
    store(b.grad_t + i, grad_t);
    if constexpr (kAffine) store(b.grad_s + i, grad_s);
  });
}

template <class Real>
using PieceFunction = void (*)(const Piece<Real>&, int64_t);

template <class Real, CouplingScale kScale>
PieceFunction<Real> piece_function(const AffineCoupling& p, bool backward) {
#define PYGEN_COUPLING_PIECES(inverse, parity)                                                    \
  {                                                                                               \
    &forward_piece<Real, kScale, inverse, parity>, &backward_piece<Real, kScale, inverse, parity> \
  }
  static constexpr PieceFunction<Real> table[2][2][2] = {
      {PYGEN_COUPLING_PIECES(false, false), PYGEN_COUPLING_PIECES(false, true)},
      {PYGEN_COUPLING_PIECES(true, false), PYGEN_COUPLING_PIECES(true, true)}};
#undef PYGEN_COUPLING_PIECES
  return table[p.inverse][p.parity][backward];
}
template <class Real>
PieceFunction<Real> choose_piece(const AffineCoupling& p, bool backward) {
  using S = CouplingScale;
  switch (p.scale) {
    case S::None:
      return piece_function<Real, S::None>(p, backward);
    case S::Exp:
      return piece_function<Real, S::Exp>(p, backward);
    case S::Tanh:
      return piece_function<Real, S::Tanh>(p, backward);
    default:
      return piece_function<Real, S::Sigmoid>(p, backward);
  }
}

// Which places of [start, start + n) are transformed.
template <class Real>
void fill_live(const AffineCoupling& p, int64_t start, int64_t n, Real* live) {
  int64_t at = start % p.live.count;
  for (int64_t done = 0; done < n;) {
    const int64_t line = at / p.sizes[2], first = at - line * p.sizes[2];
    const int64_t outer = line % (p.sizes[0] * p.sizes[1]) / p.sizes[1], middle = line % p.sizes[1];
    const int64_t run = std::min(p.sizes[2] - first, n - done);
    int odd = static_cast<int>((outer * p.weights[0] + middle * p.weights[1] + first * p.weights[2] + p.even) & 1);
    const int step = static_cast<int>(p.weights[2] & 1);
    for (int64_t i = 0; i < run; ++i) live[done + i] = static_cast<Real>(odd ^ (static_cast<int>(i) & step));
    done += run;
    at += run;
  }
}

// body(start, at, n) for the pieces of a block; `at` counts from the block's start.
template <class Body>
PYGEN_INLINE void for_each_piece(const Blocks& blocks, int64_t block, Body body) {
  const int64_t start = blocks.start(block), size = blocks.size(block);
  const int64_t step = blocks.blocks_per_row == 1 && blocks.cols >= kRow ? blocks.cols : size;
  for (int64_t at = 0; at < size; at += step) body(start + at, at, std::min(step, size - at));
}

// The places that pass unchanged of a block's rows, or its share of them.
template <class T, class Real>
PYGEN_INLINE void copy_rest(const AffineCoupling::Half& rest, const Blocks& blocks, int64_t block, Real* scratch) {
  if (rest.count == 0 || !rest.output.present()) return;
  const int64_t parts = blocks.blocks_per_row, part = parts > 1 ? block % parts : 0;
  const int64_t row = blocks.first_row(block), rows = parts > 1 ? 1 : blocks.num_rows(block);
  const int64_t first = row * rest.count + rest.count * part / parts;
  const int64_t end = parts > 1 ? row * rest.count + rest.count * (part + 1) / parts : first + rows * rest.count;
  for (int64_t at = first; at < end;) {
    const int64_t left = rest.count >= kRow ? rest.count - at % rest.count : end - at;
    const int64_t n = std::min(std::min(kBlock, end - at), left);
    const Real* from = rest.input.present() ? read_piece<T>(rest.input, at, n, scratch) : nullptr;
    Real* to = piece_target<T>(rest.output, at, n, scratch);
    if (!from) std::fill_n(to, n, Real(0));
    if (from && to != from) std::copy_n(from, n, to);
    write_piece<T>(rest.output, at, n, to);
    at += n;
  }
}

template <class T, class Real>
void forward(const AffineCoupling& p) {
  const Blocks blocks(p.images, p.live.count);
  LossSums<Real, Blocks> sums(blocks, false, p.log_det);
  const PieceFunction<Real> compute = choose_piece<Real>(p, false);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    for_each_piece(blocks, block, [&](int64_t start, int64_t at, int64_t n) {
      Piece<Real> b{};
      b.bound = static_cast<Real>(p.bound);
      b.x = read_piece<T>(p.live.input, start, n, s.x);
      b.t = read_piece<T>(p.shift, start, n, s.t);
      if (p.log_scale.present()) b.s = read_piece<T>(p.log_scale, start, n, s.s);
      if (p.parity) fill_live(p, start, n, s.live);
      b.live = s.live;
      b.out = piece_target<T>(p.live.output, start, n, s.out);
      b.log = s.log + at;
      compute(b, n);
      write_piece<T>(p.live.output, start, n, b.out);
    });
    sums.add(block, s.log);
    copy_rest<T>(p.rest, blocks, block, s.x);
  });
  sums.finish(1.0);
}

template <class T, class Real>
void backward(const AffineCoupling& p) {
  const Blocks blocks(p.images, p.live.count);
  const PieceFunction<Real> compute = choose_piece<Real>(p, true);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    for_each_piece(blocks, block, [&](int64_t start, int64_t, int64_t n) {
      Piece<Real> b{};
      b.bound = static_cast<Real>(p.bound);
      const auto read = [&](const View& view, Real* to) -> const Real* {
        return view.present() ? read_piece<T>(view, start, n, to) : nullptr;
      };
      b.x = read(p.input, s.x);
      b.t = read(p.shift, s.t);
      b.s = read(p.log_scale, s.s);
      b.grad = read(p.live.input, s.grad);
      if (!b.grad) b.grad = std::fill_n(s.grad, n, Real(0)) - n;
      for (int64_t i = 0; i < n;) {
        const int64_t row = (start + i) / p.live.count, run = std::min((row + 1) * p.live.count - start, n) - i;
        const Real* from = static_cast<const Real*>(p.grad_log_det);
        std::fill_n(s.grad_log_det + i, run, from ? from[row * p.grad_log_det_stride] : Real(0));
        i += run;
      }
      b.grad_log_det = s.grad_log_det;
      if (p.parity) fill_live(p, start, n, s.live);
      b.live = s.live;
      const auto target = [&](const View& view, Real* to) {
        return view.present() ? piece_target<T>(view, start, n, to) : to;
      };
      b.out = target(p.live.output, s.out);
      b.grad_t = target(p.grad_shift, s.grad_t);
      b.grad_s = target(p.grad_log_scale, s.grad_s);
      compute(b, n);
      if (p.live.output.present()) write_piece<T>(p.live.output, start, n, b.out);
      if (p.grad_shift.present()) write_piece<T>(p.grad_shift, start, n, b.grad_t);
      if (p.grad_log_scale.present()) write_piece<T>(p.grad_log_scale, start, n, b.grad_s);
    });
    copy_rest<T>(p.rest, blocks, block, s.x);
  });
}

}  // namespace

void affine_coupling_forward(const AffineCoupling& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }
void affine_coupling_backward(const AffineCoupling& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
