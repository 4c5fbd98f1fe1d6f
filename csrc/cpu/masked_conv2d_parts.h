// What the kernels of masked_conv2d share: the plan of a correlation over live taps, and strips of rows in scratch
// memory.
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
  // Live (tap, source channel) pairs of one target channel in group g.
  int64_t steps(int64_t g) const {
    const Range r = joined(g);
    return full_taps() * sources + (centre ? r.end - r.begin : 0);
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

constexpr int64_t kTogether = 8;  // channels whose pixels lie side by side are read together

// Rows [row - above, row + rows + below) of some channels of image n of `source` into the planes, the first channel's
// first; zeros outside the image and in the gaps.
template <class T, class Real>
void fill_channels(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                   int64_t height, int64_t width, int64_t begin, int64_t end, Real* planes) {
  const T* image = static_cast<const T*>(source.data) + n * source.strides[0];
  const int64_t sc = source.strides[1], sh = source.strides[2], sw = source.strides[3];
  const int64_t first = row - plan.above, count = plan.above + strip.rows + plan.below;
  const int64_t gap = strip.pitch - width;
  for (int64_t c0 = begin; c0 < end; c0 += kTogether) {
    const int64_t c1 = std::min(c0 + kTogether, end);
    Real* base = planes + (c0 - begin) * strip.plane;
    for (int64_t c = c0; c < c1; ++c) std::fill_n(planes + (c - begin) * strip.plane, strip.lead, Real(0));
    for (int64_t r = 0; r < count; ++r) {
      const int64_t y = first + r;
      Real* out = base + strip.lead + r * strip.pitch;
      const bool inside = y >= 0 && y < height;
      if (inside && sw != 1 && sc == 1 && c1 - c0 == kTogether) {
        const T* in = image + c0 + y * sh;
        for (int64_t x = 0; x < width; ++x)
          for (int64_t k = 0; k < kTogether; ++k) out[k * strip.plane + x] = widen(in[x * sw + k]);
      }
      for (int64_t k = 0; k < c1 - c0; ++k, out += strip.plane) {
        if (!inside) {
          std::fill_n(out, strip.pitch, Real(0));
          continue;
        }
        const T* in = image + (c0 + k) * sc + y * sh;
        if (sw == 1) {
          widen_run(in, out, width);
        } else if (sc != 1 || c1 - c0 != kTogether) {
          for (int64_t x = 0; x < width; ++x) out[x] = widen(in[x * sw]);
        }
        for (int64_t x = width; x < width + gap; ++x) out[x] = 0;
      }
    }
  }
}

template <class T, class Real>
void fill_strip(const Tensor4& source, const Plan& plan, const StripLayout& strip, int64_t n, int64_t row,
                int64_t height, int64_t width, Real* planes) {
  fill_channels<T>(source, plan, strip, n, row, height, width, 0, plan.sources, planes);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
