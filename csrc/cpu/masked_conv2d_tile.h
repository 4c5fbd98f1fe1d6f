// The micro-kernel of masked_conv2d's forward and gradient of the input, and the vectors it computes on.
//
// A tile of kTileVectors registers of pixels by kTileChannels target channels stays in registers over live (channel,
// tap) pairs; each pair costs 3 loads and 4 broadcasts for 12 multiply-adds (AVX2). No vector crosses a row's end:
// where half a register or less is left of each row, two rows share one.
#pragma once

#include <utility>

#include "cpu/masked_conv2d_write.h"
#include "cpu/product.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Whether all tiles are whole: in float64 narrow ones would be faster, but code has a size too.
template <class Real>
constexpr bool kEven = sizeof(Real) == 8;

// Where the pixels of one register lie: whole from [0] on, or half from [0] and half from [1].
struct Slot {
  int64_t source[2], target[2];
};

// All pixels of a strip. The target's rows lie `target_pitch` apart, or as close as registers allow if that is 0. The
// last of an odd number of half rows is there twice.
struct Slots {
  std::vector<Slot> whole, halves;
  int64_t pitch;

  // even: the last pixels come several times instead of in a narrow tile.
  Slots(int64_t rows, int64_t width, int64_t source_pitch, int64_t lanes, bool even, int64_t target_pitch = 0) {
    const int64_t whole_lanes = width / lanes * lanes, rest = width - whole_lanes, half = lanes / 2;
    const bool shared = rest > 0 && rest <= half;
    pitch = target_pitch ? target_pitch : whole_lanes + (rest == 0 ? 0 : shared ? half : lanes);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t x = 0; x < whole_lanes + (rest && !shared ? 1 : 0); x += lanes) {
        const int64_t source = r * source_pitch + x, target = r * pitch + x;
        whole.push_back({{source, source + half}, {target, target + half}});
      }
    for (int64_t r = 0; shared && r < rows; r += 2) {
      const int64_t other = std::min(r + 1, rows - 1);
      halves.push_back({{r * source_pitch + whole_lanes, other * source_pitch + whole_lanes},
                        {r * pitch + whole_lanes, other * pitch + whole_lanes}});
    }
    if (even) {
      for (auto* slots : {&whole, &halves})
        while (slots->size() % kTileVectors) slots->push_back(slots->back());
      return;
    }
    // What would be a narrow tile of whole registers fills up one of halves.
    const size_t left = whole.size() % kTileVectors;
    if (!halves.empty() && left && (halves.size() % kTileVectors + left) <= kTileVectors) {
      halves.insert(halves.end(), whole.end() - left, whole.end());
      whole.resize(whole.size() - left);
    }
  }
  // In units of a whole tile; a narrow one waits for its multiply-adds.
  double tiles() const {
    double n = 0;
    for (const size_t size : {whole.size(), halves.size()}) n += size / kTileVectors + (size % kTileVectors ? 0.67 : 0);
    return n;
  }
};

// The live taps of some consecutive planes of source channels: a prefix or suffix of them also has the centre.
struct Segment {
  int64_t planes, taps;
};

template <class Product>
struct TileArguments {
  using Real = typename Product::Real;
  using Element = typename Product::Element;
  const Element* source;   // the strip's pixel 0 in the first plane, before any tap's offset
  int64_t plane;           // from plane to plane
  const int64_t* offsets;  // of the taps, the centre last
  Segment segments[2];
  const Element* weights;  // [plane][tap][kChannels]
  const Real* bias;        // [kChannels]
  Real* target;            // [kChannels][target_pitch]
  int64_t target_pitch;
  const Slot* slots;
};

// A register out of two halves.
template <class V, class Real>
PYGEN_INLINE V load_halves(const Real* low, const Real* high) {
#if defined(__AVX512F__)
  return reinterpret_cast<V>(_mm512_insertf64x4(_mm512_castpd256_pd512(load<__m256d>(low)), load<__m256d>(high), 1));
#elif defined(__AVX2__)
  return reinterpret_cast<V>(_mm256_insertf128_pd(_mm256_castpd128_pd256(load<__m128d>(low)), load<__m128d>(high), 1));
#else
  V v;
  std::memcpy(&v, low, sizeof v / 2);
  std::memcpy(reinterpret_cast<char*>(&v) + sizeof v / 2, high, sizeof v / 2);
  return v;
#endif
}
template <class V, class Real>
PYGEN_INLINE void store_halves(Real* low, Real* high, V v) {
  std::memcpy(low, &v, sizeof v / 2);
  std::memcpy(high, reinterpret_cast<const char*>(&v) + sizeof v / 2, sizeof v / 2);
}

template <class Product, bool kHalves, int kVectors, int kChannels>
__attribute__((noinline)) void tile(const TileArguments<Product>& a) {
  using Real = typename Product::Real;
  using Element = typename Product::Element;
  using V = Reg<Real>;
  V sum[kChannels][kVectors];
  PYGEN_UNROLL
  for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
  for (int v = 0; v < kVectors; ++v) sum[o][v] = V{};
  const Element *in[kVectors], *in_high[kVectors], *w = a.weights;
  PYGEN_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    in[v] = a.source + a.slots[v].source[0];
    in_high[v] = a.source + a.slots[v].source[1];
  }
  V before[kChannels][kVectors]{};  // the sums of earlier runs
  int64_t plane = 0, runs = 0;
  constexpr int64_t run = kRun / Product::kTerms;
  for (const Segment& segment : a.segments) {
    const int64_t* const end = a.offsets + segment.taps;
    const int64_t together = segment.taps < run ? run / std::max<int64_t>(segment.taps, 1) : 1;
    for (int64_t left = segment.planes; left > 0; left -= together, ++runs) {
      if (runs) {
        PYGEN_UNROLL
        for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          before[o][v] += sum[o][v];
          sum[o][v] = V{};
        }
      }
      for (int64_t c = std::min(together, left); c > 0; --c, plane += a.plane) {
        for (const int64_t* offset = a.offsets; offset < end; ++offset, w += kChannels) {
          const int64_t at = plane + *offset;
          V x[kVectors];
          PYGEN_UNROLL
          for (int v = 0; v < kVectors; ++v)
            x[v] = kHalves ? load_halves<V>(in[v] + at, in_high[v] + at) : load<V>(in[v] + at);
          PYGEN_UNROLL
          for (int o = 0; o < kChannels; ++o) {
            const Element weight = w[o];
            PYGEN_UNROLL
            for (int v = 0; v < kVectors; ++v) sum[o][v] = Product::multiply_add(x[v], weight, sum[o][v]);
          }
        }
      }
    }
  }
  if (runs > 1) {
    PYGEN_UNROLL
    for (int o = 0; o < kChannels; ++o) PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[o][v] += before[o][v];
  }
  PYGEN_UNROLL
  for (int o = 0; o < kChannels; ++o) {
    Real* target = a.target + o * a.target_pitch;
    const Real bias = a.bias[o];  // last: a sum that starts from it rounds every small product to its digits
    PYGEN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t* at = a.slots[v].target;
      if (kHalves) {
        store_halves(target + at[0], target + at[1], sum[o][v] + bias);
      } else {
        store(target + at[0], sum[o][v] + bias);
      }
    }
  }
}

template <class Product>
using TileFunction = void (*)(const TileArguments<Product>&);

template <class Product, bool kHalves, int kVectors, int... kChannels>
constexpr TileFunction<Product> tile_of(int channels, std::integer_sequence<int, kChannels...>) {
  constexpr TileFunction<Product> table[] = {&tile<Product, kHalves, kVectors, kChannels + 1>...};
  return table[channels - 1];
}
template <class Product, bool kHalves>
TileFunction<Product> tile_of(size_t vectors, int channels) {
  constexpr auto each = std::make_integer_sequence<int, kTileChannels>();
  if constexpr (!kEven<typename Product::Real>) {
    if (vectors == 1) return tile_of<Product, kHalves, 1>(channels, each);
    if (vectors == 2) return tile_of<Product, kHalves, 2>(channels, each);
  }
  return tile_of<Product, kHalves, kTileVectors>(channels, each);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
