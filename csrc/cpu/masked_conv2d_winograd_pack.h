// Packing for masked_conv2d by minimal filtering: a strip in even and odd columns, tiles of its pairs of pixels, and
// what a tile's products multiply.
#pragma once

#include "cpu/masked_conv2d_winograd.h"
#include "cpu/masked_conv2d_write.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Numbers kFirst, kFirst + 2, ... of two registers; and two registers' numbers in turn, the first or second half.
template <class V>
struct Lane {
  typedef std::conditional_t<sizeof(V{}[0]) == 4, int32_t, int64_t> Index __attribute__((vector_size(sizeof(V))));
  static constexpr int count = sizeof(V) / sizeof(V{}[0]);
};
template <class V>
PYGEN_INLINE V shuffle(V a, V b, typename Lane<V>::Index index) {
  return __builtin_shuffle(a, b, index);
}
template <int kFirst, class V>
PYGEN_INLINE V every_other(V a, V b) {
  typename Lane<V>::Index index;
  PYGEN_UNROLL
  for (int i = 0; i < Lane<V>::count; ++i) index[i] = 2 * i + kFirst;
  return shuffle(a, b, index);
}
template <int kHalf, class V>
PYGEN_INLINE V interleave(V a, V b) {
  constexpr int n = Lane<V>::count;
  typename Lane<V>::Index index;
  PYGEN_UNROLL
  for (int i = 0; i < n; ++i) index[i] = kHalf * n / 2 + i / 2 + i % 2 * n;
  return shuffle(a, b, index);
}

// A strip in even and odd columns, [channel][parity][row][pair], and masks that keep a shifted row from seeing the
// next.
template <class Real>
struct Halves {
  static constexpr int64_t lanes = kRegLanes<Real>;
  using Mask = typename Lane<Reg<Real>>::Index;
  int64_t pairs, rows, low = 0, high = 0, plane;
  std::vector<Real> masks;  // [shift][pair], bits all set or none

  Halves(const Plan& plan, const WinogradPlan& winograd, int64_t width, int64_t target_rows)
      : pairs((width + 1) / 2), rows(plan.above + target_rows + plan.below) {
    for (int m = 0; m < kWinogradSums; ++m)
      for (const auto* products : {&winograd.full[m], &winograd.centre[m]})
        for (const Product& product : *products) {
          low = std::min(low, product.dx >> 1);
          high = std::max(high, (product.dx + product.step) >> 1);
        }
    constexpr int64_t line = 64 / sizeof(Real);
    plane = ((lead() + rows * pairs + high + kTileVectors * lanes) / line | 1) * line + line;
    masks.resize((high - low + 1) * mask_size(target_rows));
    for (int64_t shift = low; shift <= high; ++shift)
      for (int64_t i = 0; i < mask_size(target_rows); ++i) {
        const bool there = i % pairs + shift >= 0 && i % pairs + shift < pairs;
        std::memset(&masks[(shift - low) * mask_size(target_rows) + i], there ? 0xff : 0, sizeof(Real));
      }
  }
  int64_t lead() const { return -low; }
  int64_t mask_size(int64_t target_rows) const { return target_rows * pairs + kTileVectors * lanes; }

  // Some rows of one channel, `out` at the first of its even ones; in = nullptr: zeros.
  void set(Real* out, int64_t count, const Real* in, int64_t pitch, int64_t width) const {
    Real *even = out, *odd = out + plane;
    if (!in) {
      std::fill_n(even, count * pairs, Real(0));
      std::fill_n(odd, count * pairs, Real(0));
      return;
    }
    if (pitch == width && width % 2 == 0) {  // one long row
      width *= count;
      count = 1;
    }
    for (int64_t r = 0; r < count; ++r, in += pitch, even += pairs, odd += pairs) {
      int64_t j = 0;
      for (; j + lanes <= width / 2; j += lanes) {
        const auto low = load<Reg<Real>>(in + 2 * j), high = load<Reg<Real>>(in + 2 * j + lanes);
        store(even + j, every_other<0>(low, high));
        store(odd + j, every_other<1>(low, high));
      }
      for (; j < width / 2; ++j) {
        even[j] = in[2 * j];
        odd[j] = in[2 * j + 1];
      }
      if (width % 2) {
        even[j] = in[width - 1];
        odd[j] = 0;
      }
    }
  }
};

struct Tile {
  int64_t first;  // pair of pixels
  int vectors;
};

// As wide as registers allow; two of two registers rather than one of a single one, which would wait for its sums.
inline std::vector<Tile> tiles_of(int64_t pairs, int64_t lanes) {
  std::vector<Tile> tiles;
  int64_t left = (pairs + lanes - 1) / lanes, at = 0;
  while (left) {
    const int take = static_cast<int>(left == 4 ? 2 : std::min<int64_t>(left, 3));
    tiles.push_back({at * lanes, take});
    at += take;
    left -= take;
  }
  return tiles;
}

// One product of some channels in one tile: source[c * from_pitch], ... to out[c * to_pitch], ...
template <class Real, int kVectors, int kSign, bool kMasked>
void pack_product(const Real* a, const Real* b, const Real* mask_a, const Real* mask_b, int64_t channels,
                  int64_t from_pitch, int64_t to_pitch, Real* out) {
  using V = Reg<Real>;
  using Bits = typename Lane<V>::Index;
  constexpr int lanes = kRegLanes<Real>;
  for (int64_t c = 0; c < channels; ++c, a += from_pitch, b += from_pitch, out += to_pitch) {
    PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      V x = load<V>(a + v * lanes), y = load<V>(b + v * lanes);
      if (kMasked) {
        x = reinterpret_cast<V>(reinterpret_cast<Bits>(x) & load<Bits>(mask_a + v * lanes));
        y = reinterpret_cast<V>(reinterpret_cast<Bits>(y) & load<Bits>(mask_b + v * lanes));
      }
      store(out + v * lanes, kSign == 0 ? x : kSign > 0 ? V(x + y) : V(x - y));
    }
  }
}
template <class Real, int kVectors, int kSign>
constexpr auto pack_of(bool masked) {
  return masked ? &pack_product<Real, kVectors, kSign, true> : &pack_product<Real, kVectors, kSign, false>;
}
template <class Real, int kVectors>
constexpr auto pack_of(int sign, bool masked) {
  return sign == 0  ? pack_of<Real, kVectors, 0>(masked)
         : sign > 0 ? pack_of<Real, kVectors, 1>(masked)
                    : pack_of<Real, kVectors, -1>(masked);
}
template <class Real>
auto pack_of(int vectors, int sign, bool masked) {
  return vectors == 1   ? pack_of<Real, 1>(sign, masked)
         : vectors == 2 ? pack_of<Real, 2>(sign, masked)
                        : pack_of<Real, 3>(sign, masked);
}

// All products of one sum of some channels, [channel][product][pair].
template <class Real>
void pack_tile(const Plan& plan, const Halves<Real>& halves, int64_t target_rows, const std::vector<Product>& products,
               int64_t channels, const Tile& tile, const Real* split, Real* out) {
  const int64_t wide = tile.vectors * kRegLanes<Real>, mask_size = halves.mask_size(target_rows);
  const auto at = [&](const Product& product, int64_t dx) {
    return split + (dx & 1 ? halves.plane : 0) + (plan.above + product.dy) * halves.pairs + (dx >> 1) + tile.first;
  };
  const auto mask = [&](int64_t dx) { return halves.masks.data() + ((dx >> 1) - halves.low) * mask_size + tile.first; };
  for (const Product& product : products) {
    const int64_t second = product.dx + product.step;
    pack_of<Real>(tile.vectors, product.sign, product.dx >> 1 || second >> 1)(
        at(product, product.dx), at(product, second), mask(product.dx), mask(second), channels, 2 * halves.plane,
        products.size() * wide, out);
    out += wide;
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
