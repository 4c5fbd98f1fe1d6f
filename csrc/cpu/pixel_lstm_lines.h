// Lines of an image, of some images side by side, and products of a weight with them.
//
// A tile is [channels, pitch]: column q = p * position + b * image holds pixel p of the line, image b. Along diagonals
// images lie innermost, so that the pixels which a line has are one run of columns, whichever they are; along rows
// pixels do, and each image has `pad` columns of zeros, those that the taps read beyond its edges.
#pragma once

#include <algorithm>
#include <vector>

#include "common/pixel_lstm.h"
#include "cpu/block_io.h"
#include "cpu/parallel.h"
#include "cpu/pixel_lstm.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int64_t kMostImages = 16;        // of a block
constexpr int64_t kRowBlockColumns = 256;  // about as many, of rows
constexpr int64_t kWide = 48;              // columns that go through all channels together
constexpr int kRegsAbreast = 3;
constexpr int kRowsAbreast = kAccumulators / kRegsAbreast;
constexpr int64_t kUnitsAbreast = kRowsAbreast / 4;
static_assert(kWide % kLanes == 0 && kRowsAbreast % 4 == 0);

template <class Real>
constexpr int64_t kPart = kRegsAbreast * kRegLanes<Real>;  // columns of one product
template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;

// The lines of a block of images.
struct Lines {
  const PixelLstm& p;
  int64_t count, length;    // lines; pixels of the longest
  int64_t first, images;    // of the block
  int64_t position, image;  // strides of columns
  int64_t before, pitch;    // columns in front of the first pixel's; of a row of a tile

  Lines(const PixelLstm& p, int64_t first, int64_t images) : p(p), first(first), images(images) {
    count = p.down ? p.rows : p.rows + p.columns - 1;
    length = p.down ? p.columns : p.rows;
    const int64_t pad = p.down ? p.kernel / 2 : 1;
    position = p.down ? 1 : images;
    image = p.down ? length + pad : 1;
    before = pad * position;
    const int64_t columns = before + (p.down ? images * image : (length + 1) * images) + kWide;
    pitch = (columns + 15) / 16 * 16 + 16;  // not a power of two, whose rows share sets of the caches
  }
  // Pixels [begin, end) of line d.
  int64_t begin(int64_t d) const { return p.down ? 0 : std::max<int64_t>(0, d - p.columns + 1); }
  int64_t end(int64_t d) const { return p.down ? length : std::min(length, d + 1); }
  // The columns that hold them, of rows those between the images too.
  int64_t begin_column(int64_t d) const { return p.down ? 0 : begin(d) * images; }
  int64_t end_column(int64_t d) const { return p.down ? images * image : end(d) * images; }
  // Where a tap reads, from a column.
  int64_t shift(int64_t tap) const { return (p.down ? tap - p.kernel / 2 : tap - 1) * position; }

  // Element of channel 0, image `first`, pixel 0 of a line, and from pixel to pixel.
  int64_t origin(const LstmImages& t, int64_t d) const {
    const int64_t along = p.down ? d * t.row : (p.mirrored ? p.columns - 1 - d : d) * t.column;
    return first * t.image + along;
  }
  int64_t step(const LstmImages& t) const {
    return p.down ? t.column : p.mirrored ? t.row + t.column : t.row - t.column;
  }
  // Of a gate of a unit; of what is kept the gates follow each other.
  int64_t channel(int64_t gate, int64_t unit) const {
    const int64_t each = p.hidden / p.groups;
    return unit / each * 4 * each + gate * each + unit % each;
  }
};

// body(offset, column, n, memory's stride) over the runs of columns of a line, in an order that suits memory.
template <class Body>
PYGEN_INLINE void for_each_run(const Lines& l, const LstmImages& t, int64_t d, Body body) {
  const int64_t begin = l.begin(d), end = l.end(d), origin = l.origin(t, d), step = l.step(t);
  if (l.p.down) {
    for (int64_t b = 0; b < l.images; ++b)
      body(origin + b * t.image + begin * step, b * l.image + begin, end - begin, step);
  } else {
    for (int64_t p = begin; p < end; ++p) body(origin + p * step, p * l.images, l.images, t.image);
  }
}

// A line's `channels` channels as a tile; channel_of(c): which one its row c is.
template <class T, class Real, class ChannelOf>
__attribute__((noinline)) void read_line(const Lines& l, const LstmImages& t, int64_t d, int64_t channels,
                                         ChannelOf channel_of, Real* tile) {
  const T* data = static_cast<const T*>(t.data);
  const auto run = [&](const T* in, int64_t n, int64_t stride, Real* out) PYGEN_INLINE_LAMBDA {
    if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) out[i] = widen(in[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = widen(in[i * stride]);
    }
  };
  if (t.channel == 1) {
    for_each_run(l, t, d, [&](int64_t offset, int64_t column, int64_t n, int64_t stride) PYGEN_INLINE_LAMBDA {
      for (int64_t c = 0; c < channels; ++c) run(data + offset + channel_of(c), n, stride, tile + c * l.pitch + column);
    });
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    const T* in = data + channel_of(c) * t.channel;
    for_each_run(l, t, d, [&](int64_t offset, int64_t column, int64_t n, int64_t stride) PYGEN_INLINE_LAMBDA {
      run(in + offset, n, stride, tile + c * l.pitch + column);
    });
  }
}

// The reverse.
template <class T, class Real, class ChannelOf>
__attribute__((noinline)) void write_line(const Lines& l, const LstmImages& t, int64_t d, int64_t channels,
                                          ChannelOf channel_of, const Real* tile) {
  T* data = static_cast<T*>(t.data);
  const auto run = [&](const Real* in, int64_t n, int64_t stride, T* out) PYGEN_INLINE_LAMBDA {
    if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) narrow(in[i], out + i);
    } else {
      for (int64_t i = 0; i < n; ++i) narrow(in[i], out + i * stride);
    }
  };
  if (t.channel == 1) {
    for_each_run(l, t, d, [&](int64_t offset, int64_t column, int64_t n, int64_t stride) PYGEN_INLINE_LAMBDA {
      for (int64_t c = 0; c < channels; ++c) run(tile + c * l.pitch + column, n, stride, data + offset + channel_of(c));
    });
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    T* out = data + channel_of(c) * t.channel;
    for_each_run(l, t, d, [&](int64_t offset, int64_t column, int64_t n, int64_t stride) PYGEN_INLINE_LAMBDA {
      run(tile + c * l.pitch + column, n, stride, out + offset);
    });
  }
}

// What a product reads: rows of a tile, tap after tap `step` columns further.
template <class Real>
struct Seen {
  const Real* rows;
  int64_t step, pitch;
};

// sums[row, 0 .. R registers) of one panel [taps, depth][kRowsAbreast].
template <int R, class Real>
PYGEN_INLINE void product_part(const Real* panel, int64_t taps, int64_t depth, const Seen<Real>& seen, Real* sums) {
  using V = Reg<Real>;
  V sum[kRowsAbreast][R] = {};
  for (int64_t t = 0; t < taps; ++t) {
    const Real* x = seen.rows + t * seen.step;
    for (int64_t k = 0; k < depth; ++k, x += seen.pitch, panel += kRowsAbreast) {
      V column[R];
      PYGEN_UNROLL
      for (int r = 0; r < R; ++r) column[r] = load<V>(x + r * kRegLanes<Real>);
      PYGEN_UNROLL
      for (int row = 0; row < kRowsAbreast; ++row) {
        PYGEN_UNROLL
        for (int r = 0; r < R; ++r) sum[row][r] += column[r] * panel[row];
      }
    }
  }
  for (int row = 0; row < kRowsAbreast; ++row)
    for (int r = 0; r < R; ++r) store(sums + row * kWide + r * kRegLanes<Real>, sum[row][r]);
}

// Of columns [0, n), n <= kWide.
template <class Real>
__attribute__((noinline)) void product(const Real* panel, int64_t taps, int64_t depth, Seen<Real> seen, int64_t n,
                                       Real* sums) {
  for (int64_t q = 0; q < n; q += kPart<Real>, seen.rows += kPart<Real>) {
    const int64_t left = n - q;
    if (left > 2 * kRegLanes<Real>) {
      product_part<3>(panel, taps, depth, seen, sums + q);
    } else if (left > kRegLanes<Real>) {
      product_part<2>(panel, taps, depth, seen, sums + q);
    } else {
      product_part<1>(panel, taps, depth, seen, sums + q);
    }
  }
}

// Zeros between the images of rows, where taps read beyond an image's edge.
template <class Real>
void clear_between(const Lines& l, int64_t channels, Real* tile) {
  if (!l.p.down || l.image == l.length) return;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t b = 0; b < l.images; ++b)
      std::fill_n(tile + c * l.pitch + b * l.image + l.length, l.image - l.length, Real(0));
}

// Copies the first n numbers, which may be fewer than a vector.
template <class Real, class V>
PYGEN_INLINE void store_first(Real* out, V v, int64_t n) {
  constexpr int64_t lanes = sizeof(V) / sizeof(Real);
  if (n >= lanes) {
    store(out, v);
    return;
  }
  Real all[lanes];
  store(all, v);
  std::copy_n(all, n, out);
}

// Images of a block: an image's numbers do not depend on it, so that may depend on the threads.
inline int64_t images_of_block(const PixelLstm& p) {
  const int64_t share = (p.images + p.threads - 1) / p.threads;
  const int64_t most = p.down ? std::max<int64_t>(1, kRowBlockColumns / std::max<int64_t>(p.columns, 1)) : kMostImages;
  return std::clamp<int64_t>(share, 1, most);
}

// body(lines) for the blocks of images.
template <class Body>
void for_each_block(const PixelLstm& p, const Body& body) {
  if (p.images * p.hidden * p.rows * p.columns == 0) return;
  const int64_t each = images_of_block(p), blocks = (p.images + each - 1) / each;
  const double work = 4.0 * p.hidden * p.hidden * p.kernel * p.rows * p.columns * each;
  parallel_blocks(blocks, units_per_thread(work), p.threads, [&](int64_t block) {
    const int64_t first = block * each;
    body(Lines(p, first, std::min(each, p.images - first)));
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
