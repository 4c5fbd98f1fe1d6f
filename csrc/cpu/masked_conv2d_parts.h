// What the kernels of masked_conv2d share: the plan of a correlation over live taps, and where strips of rows lie in
// scratch memory.
//
// A strip holds some rows of one image, all channels, each channel a plane of rows with zeros between them: a row's
// pitch is its width and as many zeros as a tap may reach to either side. So a tap is one offset, whatever the pixel,
// and pixels are computed by the vector straight across row ends; what falls into the gap is thrown away.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "cpu/block_io.h"
#include "cpu/masked_conv2d.h"
#include "cpu/parallel.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Terms that are added up by themselves before they join the others: fewer roundings in a row, and less error.
constexpr int64_t kRun = 64;

// Which source channels the centre joins to one group of target channels.
struct Range {
  int64_t begin, end;
};

// target[p] = sum over taps of weight * source[p + (dy, dx)]: the convolution, or with `flip` its transpose.
struct Plan {
  struct Tap {
    int64_t dy, dx, index;
  };
  std::vector<Tap> taps;  // reaching all channels; then, if `centre`, the centre
  bool centre = false;
  int64_t groups, sources, targets;
  bool strict, flip;
  int64_t above = 0, below = 0, left = 0, right = 0;

  Plan(const MaskedConv2d& p, bool flip)
      : groups(p.color_groups),
        sources(flip ? p.out_channels : p.in_channels),
        targets(flip ? p.in_channels : p.out_channels),
        strict(p.strict),
        flip(flip) {
    for (int64_t index : p.taps) add(p, index);
    if (groups == 1) return;
    centre = true;
    taps.push_back({0, 0, p.kernel_height / 2 * p.kernel_width + p.kernel_width / 2});
  }
  int64_t full_taps() const { return static_cast<int64_t>(taps.size()) - centre; }

  // Source channels that the centre joins to target group g: a prefix of them, or a suffix where flipped.
  Range joined(int64_t g) const {
    const int64_t per_group = sources / groups;
    if (flip) return {(strict ? g + 1 : g) * per_group, sources};
    return {0, (strict ? g : g + 1) * per_group};
  }

 private:
  void add(const MaskedConv2d& p, int64_t index) {
    const int64_t sign = flip ? -1 : 1;
    const int64_t dy = sign * (index / p.kernel_width - p.kernel_height / 2) * p.dilation;
    const int64_t dx = sign * (index % p.kernel_width - p.kernel_width / 2) * p.dilation;
    if (std::abs(dy) >= p.height || std::abs(dx) >= p.width) return;  // reaches no pixel
    taps.push_back({dy, dx, index});
    above = std::max(above, -dy);
    below = std::max(below, dy);
    left = std::max(left, -dx);
    right = std::max(right, dx);
  }
};

// Where the source rows of a strip lie in scratch memory.
struct StripLayout {
  int64_t rows, pitch, lead, plane;  // rows of the target; elements
  StripLayout(const Plan& plan, int64_t width, int64_t rows, int64_t slack, int64_t line)
      : rows(rows), pitch(width + std::max(plan.left, plan.right)), lead(plan.left) {
    const int64_t n = lead + (plan.above + rows + plan.below) * pitch + slack;
    plane = ((n + line - 1) / line | 1) * line;  // odd in cache lines: the planes spread over all sets of the cache
  }
  int64_t offset(const Plan& plan, const Plan::Tap& tap) const { return lead + (plan.above + tap.dy) * pitch + tap.dx; }
};

// The number of rows, at most `most`, into which cutting the image costs least: cost(rows) of each strip, the last one
// shorter.
template <class Cost>
int64_t best_rows(int64_t height, int64_t most, Cost cost) {
  most = std::clamp<int64_t>(most, 1, height);
  int64_t best = most;
  double least = 0;
  for (int64_t rows = most; rows >= (most + 1) / 2; --rows) {
    const int64_t rest = height % rows;
    const double total = height / rows * cost(rows) + (rest ? cost(rest) : 0);
    if (rows == most || total < least) {
      least = total;
      best = rows;
    }
  }
  return best;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
