// affine_coupling on CPUs. Formula: common/affine_coupling.h.
// Traffic of a transformed element, T = its bytes: forward reads 3 T and writes T, backward reads 3 T (of the inverse
// 4 T) and writes 3 T; of another element T is read and written. No index, no mask, no half is made in memory.
#include "cpu/affine_coupling.h"

#include <algorithm>
#include <vector>

#include "cpu/affine_coupling_pieces.h"
#include "cpu/coupling_blocks.h"
#include "cpu/loss_sums.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = kCouplingBlock;
constexpr int64_t kBlocksPerThread = 4;  // about 8 us of work
using Blocks = CouplingBlocks;

template <class Real>
struct Scratch {
  alignas(64) Real x[kBlock], t[kBlock], s[kBlock], grad[kBlock], grad_log_det[kBlock], live[kBlock], rest[kBlock];
  alignas(64) Real out[kBlock], log[kBlock], grad_t[kBlock], grad_s[kBlock];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

// Which places of a piece are transformed. Over two dims the answer has a period of two lines, and is made once.
template <class Real>
class LivePlaces {
 public:
  explicit LivePlaces(const AffineCoupling& p) : p_(p), period_(2 * p.sizes[2]) {
    if (!p.parity || p.sizes[0] != 1 || period_ > 4 * kBlock) return;
    pattern_.resize(period_ + kBlock);
    fill(0, pattern_.size(), pattern_.data());
  }
  const Real* of(int64_t start, int64_t n, Real* to) const {
    if (!p_.parity) return nullptr;
    const int64_t at = start % p_.live.count;
    if (!pattern_.empty() && (at + n <= p_.live.count || p_.live.count % period_ == 0))
      return pattern_.data() + at % period_;
    for (int64_t done = 0; done < n;) {  // sample by sample
      const int64_t first = (at + done) % p_.live.count, run = std::min(p_.live.count - first, n - done);
      fill(first, run, to + done);
      done += run;
    }
    return to;
  }

 private:
  void fill(int64_t at, int64_t n, Real* to) const {
    const int step = static_cast<int>(p_.weights[2] & 1);
    for (int64_t done = 0; done < n;) {
      const int64_t line = (at + done) / p_.sizes[2], first = at + done - line * p_.sizes[2];
      const int64_t outer = p_.sizes[0] == 1 ? 0 : line / p_.sizes[1], middle = line - outer * p_.sizes[1];
      const int64_t run = std::min(p_.sizes[2] - first, n - done);
      const int64_t sum = outer * p_.weights[0] + middle * p_.weights[1] + first * p_.weights[2] + p_.even;
      const int odd = static_cast<int>(sum & 1);
      for (int64_t i = 0; i < run; ++i) to[done + i] = static_cast<Real>(odd ^ (static_cast<int>(i) & step));
      done += run;
    }
  }

  const AffineCoupling& p_;
  int64_t period_;
  std::vector<Real> pattern_;
};

// Transformed and other places in turn in one run of memory, as of "even_odd": read and written as one.
template <class T>
struct Pairs {
  T* data = nullptr;  // null: they are not; the first of the first pair
  bool live_first = false;

  Pairs(const View& live, const View& rest) {
    const auto every_second = [](const View& v) { return v.ndim == 1 && v.strides[0] == 2; };
    if (!live.present() || !rest.present() || !every_second(live) || !every_second(rest)) return;
    T *a = static_cast<T*>(live.data), *b = static_cast<T*>(rest.data);
    if (live.sizes[0] != rest.sizes[0] || (a - b != 1 && b - a != 1)) return;
    live_first = a < b;
    data = live_first ? a : b;
  }
  template <class Real>
  void read(int64_t start, int64_t n, Real* live, Real* rest) const {
    const T* from = data + 2 * start;
    Real *first = live_first ? live : rest, *second = live_first ? rest : live;
    for (int64_t i = 0; i < n; ++i) {
      first[i] = widen(from[2 * i]);
      second[i] = widen(from[2 * i + 1]);
    }
  }
  template <class Real>
  void write(int64_t start, int64_t n, const Real* live, const Real* rest) const {
    T* to = data + 2 * start;
    const Real *first = live_first ? live : rest, *second = live_first ? rest : live;
    for (int64_t i = 0; i < n; ++i) {
      narrow(first[i], to + 2 * i);
      narrow(second[i], to + 2 * i + 1);
    }
  }
};

// Whether the piece of each tensor that is there is one run of T.
template <class T>
bool runs(std::initializer_list<const View*> views, int64_t start, int64_t n) {
  for (const View* v : views)
    if (v->present() && !run_in_place<T, T>(*v, start, n)) return false;
  return true;
}
template <class T>
T* run_of(const View& view, int64_t start, int64_t n, void* otherwise) {
  return view.present() ? run_in_place<T, T>(view, start, n) : static_cast<T*>(otherwise);
}

template <class T, class Real>
void forward(const AffineCoupling& p) {
  const Blocks blocks(p.images, p.live.count);
  LossSums<Real, Blocks> sums(blocks, false, p.log_det);
  const LivePlaces<Real> live(p);
  const Pairs<T> in(p.live.input, p.rest.input), out(p.live.output, p.rest.output);
  const bool paired = in.data && out.data;
  const auto direct = piece_function<T, Real>(p, false);
  const auto compute = piece_function<Real, Real>(p, false);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    for_each_piece(blocks, block, [&](int64_t start, int64_t at, int64_t n) {
      const Real *mask = live.of(start, n, s.live), bound = static_cast<Real>(p.bound);
      if (!std::is_same_v<T, Real> && runs<T>({&p.live.input, &p.shift, &p.log_scale, &p.live.output}, start, n)) {
        const auto run = [&](const View& v) { return run_of<T>(v, start, n, nullptr); };
        direct({run(p.live.input), run(p.shift), run(p.log_scale), nullptr, nullptr, mask, run(p.live.output), nullptr,
                nullptr, s.log + at, bound},
               n);
        return;
      }
      if (paired) in.read(start, n, s.x, s.rest);
      const Real* x = paired ? s.x : read_piece<T>(p.live.input, start, n, s.x);
      const Real* t = read_piece<T>(p.shift, start, n, s.t);
      const Real* log_scale = p.log_scale.present() ? read_piece<T>(p.log_scale, start, n, s.s) : nullptr;
      Real* to = paired ? s.out : piece_target<T>(p.live.output, start, n, s.out);
      compute({x, t, log_scale, nullptr, nullptr, mask, to, nullptr, nullptr, s.log + at, bound}, n);
      if (paired) return out.write(start, n, to, s.rest);
      write_piece<T>(p.live.output, start, n, to);
    });
    sums.add(block, s.log);
    if (!paired) copy_rest<T>(p.rest, blocks, block, s.x);
  });
  sums.finish(1.0);
}

template <class T, class Real>
void backward(const AffineCoupling& p) {
  const Blocks blocks(p.images, p.live.count);
  const LivePlaces<Real> live(p);
  const Pairs<T> in(p.live.input, p.rest.input), out(p.live.output, p.rest.output);
  const bool paired = in.data && out.data;
  View none;  // a tensor that is absent
  const auto direct = piece_function<T, Real>(p, true);
  const auto compute = piece_function<Real, Real>(p, true);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    for_each_piece(blocks, block, [&](int64_t start, int64_t, int64_t n) {
      const Real *mask = live.of(start, n, s.live), bound = static_cast<Real>(p.bound);
      const Real* to_log_det = p.log_scale.present() ? spread_log_det(p.grad_log_det, p.grad_log_det_stride,
                                                                      p.live.count, start, n, s.grad_log_det)
                                                     : nullptr;
      // Of log_det's gradient alone: zeros, of T too, and nothing that may be infinite or NaN times them.
      const bool alone = !p.live.input.present(), unread = alone && p.scale == CouplingScale::Exp;
      if (alone) {
        for (Real* zeros : {s.grad, s.x, s.t, s.s}) std::fill_n(zeros, n, Real(0));
      }
      const View* views[] = {alone ? &none : &p.input,
                             alone ? &none : &p.shift,
                             unread ? &none : &p.log_scale,
                             &p.live.input,
                             &p.live.output,
                             &p.grad_shift,
                             &p.grad_log_scale};
      if (!std::is_same_v<T, Real> &&
          runs<T>({views[0], views[1], views[2], views[3], views[4], views[5], views[6]}, start, n)) {
        const auto run = [&](int i, void* otherwise) { return run_of<T>(*views[i], start, n, otherwise); };
        direct({run(0, s.x), run(1, s.t), run(2, s.s), run(3, s.grad), to_log_det, mask, run(4, s.out),
                run(5, s.grad_t), run(6, s.grad_s), nullptr, bound},
               n);
        return;
      }
      const auto read = [&](int i, Real* to) {
        return views[i]->present() ? read_piece<T>(*views[i], start, n, to) : to;
      };
      const auto target = [&](int i, Real* to) {
        return views[i]->present() ? piece_target<T>(*views[i], start, n, to) : to;
      };
      if (paired) in.read(start, n, s.grad, s.rest);
      const Real* grad = paired ? s.grad : read(3, s.grad);
      const Piece<Real, Real> b{read(0, s.x),
                                read(1, s.t),
                                read(2, s.s),
                                grad,
                                to_log_det,
                                mask,
                                paired ? s.out : target(4, s.out),
                                target(5, s.grad_t),
                                target(6, s.grad_s),
                                nullptr,
                                bound};
      compute(b, n);
      if (paired) {
        out.write(start, n, b.out, s.rest);
      } else if (p.live.output.present()) {
        write_piece<T>(p.live.output, start, n, b.out);
      }
      if (p.grad_shift.present()) write_piece<T>(p.grad_shift, start, n, b.grad_t);
      if (p.grad_log_scale.present()) write_piece<T>(p.grad_log_scale, start, n, b.grad_s);
    });
    if (!paired) copy_rest<T>(p.rest, blocks, block, s.x);
  });
}

}  // namespace

void affine_coupling_forward(const AffineCoupling& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }
void affine_coupling_backward(const AffineCoupling& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
