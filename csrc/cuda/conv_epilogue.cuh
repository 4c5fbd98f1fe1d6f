// What becomes of the sums of a product's tile: what is added to them, rounding, and the way to the output through
// shared memory.
//
// What lies like the output and is added comes by the same way, so that all global accesses are of 16 bytes, along
// channels or (contiguous images) along pixels. Where a layout or an address allows none, element by element.
#pragma once

#include "cuda/conv_steps.cuh"

namespace pygen::cuda {

enum class Along { Elements, Channels, Pixels };

// Bytes of a staged row [n] of a pixel; turned, of a row [pixel] of a channel.
template <class Tr>
constexpr int kStagedPitch = Tr::kN * Tr::kSize + 16;
template <class Tr>
constexpr int kTurnedPitch = Tr::kM * Tr::kSize + 16;
template <class Tr>
constexpr int staged_bytes() {
  constexpr int kStraight = Tr::kM * kStagedPitch<Tr>, kTurned = Tr::kN * kTurnedPitch<Tr>;
  return kStraight > kTurned ? kStraight : kTurned;
}
template <class Tr, bool kTurned>
__device__ __forceinline__ typename Tr::Element* staged_at(unsigned char* staged, int row, int column) {
  return reinterpret_cast<typename Tr::Element*>(
      staged + (kTurned ? column * kTurnedPitch<Tr> + row * Tr::kSize : row * kStagedPitch<Tr> + column * Tr::kSize));
}

// Which channels a tile's columns are, where PairedTile does not say it.
template <class Tr>
struct Columns {
  const int64_t* order;
  int first, n_live;

  __device__ __forceinline__ Columns(const ConvParams& p, int n_first, int n_live)
      : order(p.order), first(n_first), n_live(n_live) {}
  __device__ __forceinline__ int live() const { return n_live; }
  __device__ __forceinline__ int64_t channel(int column) const {
    return Tr::kByDegree && order != nullptr ? order[first + column] : first + column;
  }
  __device__ __forceinline__ bool whole(int n, int per) const {
    return (!Tr::kByDegree || order == nullptr) && (first | n_live | n) % per == 0;
  }
};

// One access to a tile in shared memory and to what lies like the output.
template <class Tr, Along kAlong>
struct Unit {
  using T = typename Tr::Element;
  static constexpr int kPer = kAlong == Along::Elements ? 1 : 16 / Tr::kSize;
  using Access = std::conditional_t<kAlong == Along::Elements, T, uint4>;

  static __device__ __forceinline__ T* staged(unsigned char* memory, int row, int column) {
    return staged_at<Tr, kAlong == Along::Pixels>(memory, row, column);
  }
  static __device__ __forceinline__ Access load(const T* from) { return *reinterpret_cast<const Access*>(from); }
  static __device__ __forceinline__ void store(T* to, Access unit) { *reinterpret_cast<Access*>(to) = unit; }

  // go(row, column) for each unit of the first `live` of kColumns columns; the threads share them, neighbours along
  // the output.
  template <int kColumns, class Go>
  static __device__ __forceinline__ void for_each(const ConvParams& p, int live, int64_t pixel0, int thread, Go go) {
    constexpr int kRowsOf = kAlong == Along::Pixels ? kPer : 1, kColumnsOf = kAlong == Along::Channels ? kPer : 1;
    constexpr int kDown = Tr::kM / kRowsOf, kAcross = kColumns / kColumnsOf;
    const bool by_channels = kAlong == Along::Channels || (kAlong == Along::Elements && p.out_last);
    for (int i = thread; i < kDown * kAcross; i += Tr::kThreads) {
      const int row = (by_channels ? i / kAcross : i % kDown) * kRowsOf;
      const int column = (by_channels ? i % kAcross : i / kDown) * kColumnsOf;
      if (column < live && pixel0 + row < p.pixels) go(row, column);
    }
  }
};

// Where a pixel lies in the output and in what is like it.
template <Along kAlong>
struct PixelPlace {
  bool last;
  int64_t pixel, image;  // image: 0 where nobody asks

  __device__ __forceinline__ PixelPlace(const ConvParams& p, int64_t pixel, bool asks = false)
      : last(kAlong == Along::Elements ? p.out_last : kAlong == Along::Channels), pixel(pixel), image(0) {
    if (asks || !last)
      image = static_cast<int64_t>(divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(p.plane)));
  }
  __device__ __forceinline__ int64_t at(const ConvParams& p, int64_t channels, int64_t channel) const {
    return last ? pixel * channels + channel : (image * channels + channel) * p.plane + pixel - image * p.plane;
  }
};

// Whether a tile is staged along pixels: images are contiguous and whole units of 16 bytes.
template <class Tr>
__device__ __forceinline__ bool is_turned(const ConvParams& p) {
  return !Tr::kByDegree && p.aligned && !p.out_last && p.plane % (16 / Tr::kSize) == 0;
}

// go(Along as a type)
template <class Tr, class OfTile, class Go>
__device__ __forceinline__ void along_units(const ConvParams& p, const OfTile& columns, Go go) {
  constexpr int kPer = 16 / Tr::kSize;
  if constexpr (!Tr::kByDegree) {
    if (is_turned<Tr>(p)) return go(std::integral_constant<Along, Along::Pixels>());
  }
  if (p.aligned && p.out_last && columns.whole(p.n, kPer)) {
    go(std::integral_constant<Along, Along::Channels>());
  } else {
    go(std::integral_constant<Along, Along::Elements>());
  }
}

// What is added, to where its sums will be staged: on its way until the copies have been waited for.
template <class Tr, Along kAlong, class OfTile>
__device__ __forceinline__ void stage_add(const ConvParams& p, const OfTile& columns, unsigned char* staged,
                                          int64_t pixel0, int thread) {
  using At = Unit<Tr, kAlong>;
  const auto* const add = static_cast<const typename Tr::Element*>(p.add);
  At::template for_each<Tr::kN>(p, columns.live(), pixel0, thread, [&](int row, int column) {
    const auto* const from = add + PixelPlace<kAlong>(p, pixel0 + row).at(p, p.n, columns.channel(column));
    if constexpr (kAlong == Along::Elements) {
      *At::staged(staged, row, column) = *from;
    } else {
      copy_async(At::staged(staged, row, column), from, 16);
    }
  });
  commit_copies();
}

// What is added to the sums of this thread's columns, kCount spans from `first` on: loaded at once, as each load takes
// as long as all of them.
template <class Tr, class Tile, int kCount, class OfTile>
__device__ __forceinline__ void load_bias(const ConvParams& p, const Tile& tile, const OfTile& columns, int first,
                                          typename Tr::Acc (&bias)[kCount][Tile::kSpan]) {
  const auto* const from = static_cast<const typename Tr::Element*>(p.bias);
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < Tile::kSpan; ++i) {
      const int n = tile.column(first + j) + i;
      bias[j][i] = from != nullptr && n < columns.live() ? widen_to(from[columns.channel(n)]) : typename Tr::Acc(0);
    }
  }
}

// Sums + bias + (kAdds) what is staged, rounded once, kCount spans at once: tile.each(store(row, span, sums)) gives the
// sums of the calling thread, in spans of columns side by side. Beyond the tile's end what is staged is nothing, and
// what it becomes goes nowhere.
template <class Tr, bool kTurned, bool kAdds, int kCount, class Tile, class OfTile>
__device__ __forceinline__ void stage_sums(const ConvParams& p, const OfTile& columns, const Tile& tile,
                                           unsigned char* staged) {
  using T = typename Tr::Element;
  using Acc = typename Tr::Acc;
  constexpr int kPerAccess = kTurned ? 1 : Tile::kSpan;
  struct alignas(kPerAccess * sizeof(T)) Access {
    T v[kPerAccess];
  };
#pragma unroll
  for (int first = 0; first < Tile::kSpans; first += kCount) {
    Acc bias[kCount][Tile::kSpan];
    load_bias<Tr>(p, tile, columns, first, bias);
    const auto store = [&](int row, int span, const Acc(&sums)[Tile::kSpan]) {
#pragma unroll
      for (int i = 0; i < Tile::kSpan; i += kPerAccess) {
        auto* const there = reinterpret_cast<Access*>(staged_at<Tr, kTurned>(staged, row, tile.column(span) + i));
        Access access{};
        if constexpr (kAdds) access = *there;
#pragma unroll
        for (int e = 0; e < kPerAccess; ++e) {
          Acc value = sums[i + e] + bias[span - first][i + e];
          if constexpr (kAdds) value += widen_to(access.v[e]);
          access.v[e] = narrow_to<T>(value);
        }
        *there = access;
      }
    };
    tile.each(store, first, kCount);
  }
}

// What is staged, to the output.
template <class Tr, Along kAlong, class OfTile>
__device__ __forceinline__ void write_tile(const ConvParams& p, const OfTile& columns, unsigned char* staged,
                                           int64_t pixel0, int thread) {
  using At = Unit<Tr, kAlong>;
  auto* const out = static_cast<typename Tr::Element*>(p.out);
  At::template for_each<Tr::kN>(p, columns.live(), pixel0, thread, [&](int row, int column) {
    At::store(out + PixelPlace<kAlong>(p, pixel0 + row).at(p, p.n, columns.channel(column)),
              At::load(At::staged(staged, row, column)));
  });
}

}  // namespace pygen::cuda
