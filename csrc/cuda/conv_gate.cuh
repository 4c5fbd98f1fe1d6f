// The way of a tile's sums to the output, and the epilogue of gated_masked_conv2d: the gate of what they become. Not
// yet run on a GPU.
#pragma once

#include "cuda/conv_epilogue.cuh"
#include "cuda/gate.cuh"

namespace pygen::cuda {

// What is staged to the output, and its gate, of it as it was rounded, to the gate's.
template <class Tr, Along kAlong>
__device__ __forceinline__ void write_pairs(const ConvParams& p, const PairedTile& pairs, unsigned char* staged,
                                            int64_t pixel0, int thread) {
  using T = typename Tr::Element;
  using At = Unit<Tr, kAlong>;
  constexpr int kPer = At::kPer;
  const T* const cond = static_cast<const T*>(p.gate.cond);
  At::template for_each<Tr::kN / 2>(p, pairs.half, pixel0, thread, [&](int row, int column) {
    const PixelPlace<kAlong> place(p, pixel0 + row, p.gate.per_image);
    typename Tr::Acc value[2][kPer];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int c = half * pairs.half + column, channel = pairs.channel(c);
      const int64_t at = place.at(p, p.n, channel);
      alignas(16) T numbers[kPer];
      const auto unit = At::load(At::staged(staged, row, c));
      At::store(static_cast<T*>(p.out) + at, unit);
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
      const auto more = At::load(cond + (p.gate.per_image ? place.image * p.n + channel : at));
      memcpy(static_cast<void*>(numbers), &more, sizeof more);
#pragma unroll
      for (int e = 0; e < kPer; ++e) value[half][e] += widen_to(numbers[e]);
    }
    alignas(16) T made[kPer];
#pragma unroll
    for (int e = 0; e < kPer; ++e) made[e] = narrow_to<T>(gate_value_of<T>(value[0][e], value[1][e]));
    At::store(static_cast<T*>(p.gate.out) + place.at(p, p.n / 2, pairs.gated + column), At::load(made));
  });
}

template <class Tr, bool kGated>
__device__ __forceinline__ auto columns_of(const ConvParams& p, int n_first, int n_live) {
  if constexpr (kGated) {
    return p.pairs.at(n_first);
  } else {
    return Columns<Tr>(p, n_first, n_live);
  }
}

// Before finish_tile where something is added, and as early as all have left the shared memory at `staged`: while the
// product is under way it comes.
template <class Tr, class OfTile>
__device__ __forceinline__ void begin_tile(const ConvParams& p, const OfTile& columns, unsigned char* staged,
                                           int64_t pixel0, int thread) {
  along_units<Tr>(p, columns, [&](auto along) { stage_add<Tr, along.value>(p, columns, staged, pixel0, thread); });
}

// The sums of a tile, which Tr::kThreads threads hold, to the output: `thread` of them is the calling one, sync their
// barrier. All must have left the shared memory at `staged` before.
template <class Tr, bool kGated, class Tile, class OfTile, class Sync>
__device__ __forceinline__ void finish_tile(const ConvParams& p, const OfTile& columns, const Tile& tile,
                                            unsigned char* staged, int64_t pixel0, int thread, Sync sync) {
  const auto stage = [&](auto turned, auto adds) {
    constexpr int kCount = Tile::kSpans / (kGated ? 4 : adds.value ? 2 : 1);  // as many as registers hold
    stage_sums<Tr, turned.value, adds.value, kCount>(p, columns, tile, staged);
  };
  const bool turned = is_turned<Tr>(p);
  if (!Tr::kByDegree && p.add != nullptr) {
    wait_copies<0>();
    sync();
    turned ? stage(std::true_type(), std::true_type()) : stage(std::false_type(), std::true_type());
  } else {
    turned ? stage(std::true_type(), std::false_type()) : stage(std::false_type(), std::false_type());
  }
  sync();
  along_units<Tr>(p, columns, [&](auto along) {
    if constexpr (kGated) {
      write_pairs<Tr, along.value>(p, columns, staged, pixel0, thread);
    } else {
      write_tile<Tr, along.value>(p, columns, staged, pixel0, thread);
    }
  });
}

}  // namespace pygen::cuda
