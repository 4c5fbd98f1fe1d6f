// Several threads and one image. The first draws its pixels, the others make early streams ahead of it, as far as the
// pixels drawn allow: row after row, each pass at its own pace. Nobody meets anybody: where the first would have to
// wait, it takes the next piece of early work itself.
#pragma once

#include "cpu/sampling_worker.h"
#include "cpu/team.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
class SamplingTeam {
 public:
  // given_up: of all teams, set where a member cannot go on.
  SamplingTeam(const SamplingPlan<Real>& plan, const std::atomic<bool>& given_up)
      : plan_(plan), given_up_(given_up), passes_(plan.passes) {}

  // A member's share, from the first pixel to the last.
  void work(int64_t member, SamplingWorker<Real>& worker) {
    const int64_t height = plan_.p.height, width = plan_.p.width;
    if (member > 0) return wait_for(height * width, worker);
    int64_t ready = 0;
    for (int64_t y = 0; y < height && !stop(); ++y) {
      worker.enter_row(y);
      for (int64_t x = 0; x < width; ++x) {
        const int64_t wanted = y * width + std::min(x + plan_.late_right + 1, width);
        if (ready < wanted) {
          wait_for(wanted, worker);
          ready = made();
        }
        worker.pixel(x);
        drawn_.store(y * width + x + 1, std::memory_order_release);
      }
    }
  }

 private:
  // Pieces of early work, in columns of its streams: fewer do not fill the tiles, more keep others waiting. Even, for
  // pairs of pixels.
  static constexpr int64_t kLeastColumns = 4, kMostColumns = 6;
  struct alignas(64) Pass {
    std::atomic<int64_t> made{0};  // columns, of all rows
    std::atomic<bool> taken{false};
  };

  bool stop() const { return given_up_.load(std::memory_order_relaxed) || plan_.p.interrupt->stop(); }

  // Of every pass.
  int64_t made() const {
    int64_t least = plan_.p.height * plan_.p.width;
    for (const Pass& pass : passes_) least = std::min(least, pass.made.load(std::memory_order_acquire));
    return least;
  }

  void wait_for(int64_t wanted, SamplingWorker<Real>& worker) {
    for (Patience patience; made() < wanted && !stop();) {
      if (help(worker)) {
        patience = Patience();
      } else {
        patience.wait();
      }
    }
  }

  // Does a piece of early work, if there is any: of the pass that is furthest behind, as pixels wait for all of them.
  bool help(SamplingWorker<Real>& worker) {
    int behind = -1;
    int64_t least = 0;
    const int64_t all = made();
    for (int pass = 0; pass < plan_.passes; ++pass) {
      const int64_t begin = passes_[pass].made.load(std::memory_order_acquire);
      if ((behind >= 0 && begin >= least) || passes_[pass].taken.load(std::memory_order_relaxed)) continue;
      if (end_of_piece(pass, begin, all) == begin) continue;
      behind = pass;
      least = begin;
    }
    if (behind < 0) return false;
    Pass& own = passes_[behind];
    if (own.taken.exchange(true, std::memory_order_acquire)) return false;
    const int64_t begin = own.made.load(std::memory_order_acquire), end = end_of_piece(behind, begin, all);
    const int64_t row = begin / plan_.p.width, first = row * plan_.p.width;
    if (begin < end) worker.early(behind, row, begin - first, end - first);
    own.made.store(end, std::memory_order_release);
    own.taken.store(false, std::memory_order_release);
    return begin < end;
  }

  // How far the pass may go. It enters a row when all have left the one before, whose streams' memory it takes, and
  // when pixels are being drawn there. all: made() a moment ago.
  int64_t end_of_piece(int pass, int64_t begin, int64_t all) const {
    const int64_t width = plan_.p.width, first = begin / width * width;
    const int64_t above = drawn_.load(std::memory_order_acquire) - (first - width);  // pixels of the row above
    if (first == plan_.p.height * width || all < first || above < 0) return begin;
    const int64_t stride = plan_.pass_strides[pass];
    if (begin / width % stride) return first + width;  // a row that it does not have
    int64_t end = width;
    for (const SamplingNeed& need : plan_.needs[pass]) {
      const int64_t there = need.pass < 0 ? above : passes_[need.pass].made.load(std::memory_order_acquire) - first;
      if (there < width) end = std::min(end, there - need.right);
    }
    if (plan_.pass_scans[pass]) return end < width ? begin : first + width;
    end = std::min(end, begin - first + kMostColumns * stride);
    if (end < width) end -= end % (2 * stride);
    return end - (begin - first) < std::min(kLeastColumns * stride, width - (begin - first)) ? begin : first + end;
  }

  const SamplingPlan<Real>& plan_;
  const std::atomic<bool>& given_up_;
  std::vector<Pass> passes_;
  std::atomic<int64_t> drawn_{0};  // pixels
};

}  // namespace PYGEN_ISA
}  // namespace pygen
