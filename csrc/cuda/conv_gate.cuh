// The epilogue of gated_masked_conv2d: what is added to a tile's sums, and the gate of what they become. Not yet run on
// a GPU.
//
// What is added comes through the same shared memory by which the sums leave, so that all global accesses are of 16
// bytes, along channels or (contiguous images) along pixels. Where a layout or an address allows none, element by
// element.
#pragma once

#include "common/gated_activation.h"
#include "cuda/conv_epilogue.cuh"

namespace pygen::cuda {

enum class Along { Elements, Channels, Pixels };

// How one unit of a tile of pairs lies in shared memory.
template <class Tr, Along kAlong>
struct PairUnit {
  using T = typename Tr::Element;
  static constexpr int kPer = kAlong == Along::Elements ? 1 : 16 / Tr::kSize;
  using Access = std::conditional_t<kAlong == Along::Elements, T, uint4>;

  static __device__ __forceinline__ T* staged(unsigned char* memory, int row, int column) {
    return reinterpret_cast<T*>(memory + (kAlong == Along::Pixels ? column * kTurnedPitch<Tr> + row * Tr::kSize
                                                                  : row * kStagedPitch<Tr> + column * Tr::kSize));
  }
  static __device__ __forceinline__ Access load(const T* from) { return *reinterpret_cast<const Access*>(from); }
  static __device__ __forceinline__ void store(T* to, Access unit) { *reinterpret_cast<Access*>(to) = unit; }

  // go(row, column) for each unit of the pairs' first halves; the threads share them, neighbours along the output.
  template <class Go>
  static __device__ __forceinline__ void for_each(const ConvParams& p, const PairedTile& pairs, int64_t pixel0,
                                                  int thread, Go go) {
    constexpr int kRows = kAlong == Along::Pixels ? kPer : 1, kColumns = kAlong == Along::Channels ? kPer : 1;
    constexpr int kDown = Tr::kM / kRows, kAcross = Tr::kN / 2 / kColumns;
    const bool by_channels = kAlong == Along::Channels || (kAlong == Along::Elements && p.out_last);
    for (int i = thread; i < kDown * kAcross; i += Tr::kThreads) {
      const int row = (by_channels ? i / kAcross : i % kDown) * kRows;
      const int column = (by_channels ? i % kAcross : i / kDown) * kColumns;
      if (column < pairs.half && pixel0 + row < p.pixels) go(row, column);
    }
  }
};

// Where a pixel lies in the output, in what is like it, and in the gate's.
struct PixelPlace {
  int64_t pixel, image, inside;  // inside: of the image

  __device__ __forceinline__ PixelPlace(const ConvParams& p, int64_t pixel)
      : pixel(pixel),
        image(static_cast<int64_t>(divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(p.plane)))),
        inside(pixel - image * p.plane) {}
  __device__ __forceinline__ int64_t at(const ConvParams& p, int64_t channels, int channel) const {
    return p.out_last ? pixel * channels + channel : (image * channels + channel) * p.plane + inside;
  }
};

// What is added, to where its sums will be staged: on its way until the copies have been waited for.
template <class Tr, Along kAlong>
__device__ __forceinline__ void stage_add(const ConvParams& p, const PairedTile& pairs, unsigned char* staged,
                                          int64_t pixel0, int thread) {
  using Unit = PairUnit<Tr, kAlong>;
  const auto* const add = static_cast<const typename Tr::Element*>(p.gate.add);
  Unit::for_each(p, pairs, pixel0, thread, [&](int row, int column) {
    const PixelPlace place(p, pixel0 + row);
    for (int c : {column, pairs.half + column}) {
      const auto* const from = add + place.at(p, p.n, pairs.channel(c));
      if constexpr (kAlong == Along::Elements) {
        *Unit::staged(staged, row, c) = *from;
      } else {
        copy_async(Unit::staged(staged, row, c), from, 16);
      }
    }
  });
  commit_copies();
}

// What is staged to the output, and its gate, of it as it was rounded, to the gate's.
template <class Tr, Along kAlong>
__device__ __forceinline__ void write_pairs(const ConvParams& p, const PairedTile& pairs, unsigned char* staged,
                                            int64_t pixel0, int thread) {
  using T = typename Tr::Element;
  using Unit = PairUnit<Tr, kAlong>;
  constexpr int kPer = Unit::kPer;
  const T* const cond = static_cast<const T*>(p.gate.cond);
  Unit::for_each(p, pairs, pixel0, thread, [&](int row, int column) {
    const PixelPlace place(p, pixel0 + row);
    typename Tr::Acc value[2][kPer];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int c = half * pairs.half + column, channel = pairs.channel(c);
      const int64_t at = place.at(p, p.n, channel);
      alignas(16) T numbers[kPer];
      const auto unit = Unit::load(Unit::staged(staged, row, c));
      Unit::store(static_cast<T*>(p.out) + at, unit);
      memcpy(static_cast<void*>(numbers), &unit, sizeof unit);
#pragma unroll
      for (int e = 0; e < kPer; ++e) value[half][e] = widen_to(numbers[e]);
      if (cond == nullptr) continue;
      if (p.gate.per_image && kAlong == Along::Pixels) {
        const auto shared = widen_to(cond[place.image * p.n + channel]);
#pragma unroll
        for (int e = 0; e < kPer; ++e) value[half][e] += shared;
        continue;
      }
      const auto more = Unit::load(cond + (p.gate.per_image ? place.image * p.n + channel : at));
      memcpy(static_cast<void*>(numbers), &more, sizeof more);
#pragma unroll
      for (int e = 0; e < kPer; ++e) value[half][e] += widen_to(numbers[e]);
    }
    if (p.gate.out == nullptr) return;  // masked_conv2d with something added
    alignas(16) T made[kPer];
#pragma unroll
    for (int e = 0; e < kPer; ++e) made[e] = narrow_to<T>(gate_value(value[0][e], value[1][e]));
    Unit::store(static_cast<T*>(p.gate.out) + place.at(p, p.n / 2, pairs.gated + column), Unit::load(made));
  });
}

// Sums + bias + add, rounded once, and their gate.
template <class Tr, Along kAlong, class Tile, class Sync>
__device__ __forceinline__ void finish_pairs(const ConvParams& p, const PairedTile& pairs, const Tile& tile,
                                             unsigned char* staged, int64_t pixel0, int n_live, int thread, Sync sync) {
  using T = typename Tr::Element;
  using Acc = typename Tr::Acc;
  using Unit = PairUnit<Tr, kAlong>;
  const bool adds = p.gate.add != nullptr;
  if (adds) {
    wait_copies<0>();
    sync();
  }
  const int64_t rows = p.pixels - pixel0;
  constexpr int kCount = Tile::kSpans / 4;  // at once: registers are few
#pragma unroll
  for (int first = 0; first < Tile::kSpans; first += kCount) {
    Acc bias[kCount][Tile::kSpan];
    load_bias<Tr>(p, tile, n_live, [&](int n) { return pairs.channel(n); }, first, bias);
    const auto store = [&](int row, int span, const Acc(&sums)[Tile::kSpan]) {
      Acc value[Tile::kSpan];
#pragma unroll
      for (int i = 0; i < Tile::kSpan; ++i) {
        const int n = tile.column(span) + i;
        value[i] = sums[i] + bias[span - first][i];
        if (adds && n < n_live && row < rows) value[i] += widen_to(*Unit::staged(staged, row, n));
        if constexpr (kAlong == Along::Pixels) *Unit::staged(staged, row, n) = narrow_to<T>(value[i]);
      }
      if constexpr (kAlong != Along::Pixels) {
        stage<T>(reinterpret_cast<unsigned char*>(Unit::staged(staged, row, tile.column(span))), value);
      }
    };
    tile.each(store, first, kCount);
  }
  sync();
  write_pairs<Tr, kAlong>(p, pairs, staged, pixel0, thread);
}

template <class Tr, class Go>
__device__ __forceinline__ void along_units(const ConvParams& p, const PairedTile& pairs, Go go) {
  constexpr int kPer = 16 / Tr::kSize;
  const bool channels = p.out_last && (pairs.first | pairs.apart | pairs.half | pairs.gated | p.n / 2) % kPer == 0;
  if (channels && p.gate.aligned) {
    go(std::integral_constant<Along, Along::Channels>());
  } else if (is_turned<Tr>(p) && p.gate.aligned) {
    go(std::integral_constant<Along, Along::Pixels>());
  } else {
    go(std::integral_constant<Along, Along::Elements>());
  }
}

// Before finish_gated_tile, and as early as all have left the shared memory at `staged`: while the product is under way
// what is added to it comes.
template <class Tr>
__device__ __forceinline__ void begin_gated_tile(const ConvParams& p, unsigned char* staged, int64_t pixel0,
                                                 int n_first, int thread) {
  if (p.gate.add == nullptr) return;
  const PairedTile pairs = p.pairs.at(n_first);
  along_units<Tr>(p, pairs, [&](auto along) { stage_add<Tr, along.value>(p, pairs, staged, pixel0, thread); });
}

// As finish_tile, of a product whose n are paired.
template <class Tr, class Tile, class Sync>
__device__ __forceinline__ void finish_gated_tile(const ConvParams& p, const Tile& tile, unsigned char* staged,
                                                  int64_t pixel0, int n_first, int n_live, int thread, Sync sync) {
  const PairedTile pairs = p.pairs.at(n_first);
  along_units<Tr>(p, pairs, [&](auto along) {
    finish_pairs<Tr, along.value>(p, pairs, tile, staged, pixel0, n_live, thread, sync);
  });
}

}  // namespace pygen::cuda
