// What becomes of the sums of a product's tile: bias, rounding, and the way to the output through shared memory; in
// gated_masked_conv2d also what is added, and the gate.
#pragma once

#include "common/gated_activation.h"
#include "cuda/conv_steps.cuh"

namespace pygen::cuda {

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

// From staged [kM][kN] to the output, along its nearer dim.
template <class Tr>
__device__ __forceinline__ void write_tile(const ConvParams& p, const unsigned char* staged, int64_t pixel0,
                                           int n_first, int n_live, int thread) {
  using T = typename Tr::Element;
  T* out = static_cast<T*>(p.out);
  constexpr int kPer = 16 / Tr::kSize, kUnits = Tr::kN / kPer;
  if constexpr (Tr::kByDegree) {
    if (p.order != nullptr) {
      for (int i = thread; i < Tr::kM * Tr::kN; i += Tr::kThreads) {
        const int row = i / Tr::kN, n = i % Tr::kN;
        if (n >= n_live || pixel0 + row >= p.pixels) continue;
        out[(pixel0 + row) * p.n + p.order[n_first + n]] =
            *reinterpret_cast<const T*>(staged + row * kStagedPitch<Tr> + n * Tr::kSize);
      }
      return;
    }
  }
  if (p.out_last && (n_first | n_live | p.n) % kPer == 0) {
    for (int i = thread; i < Tr::kM * kUnits; i += Tr::kThreads) {
      const int row = i / kUnits, n = i % kUnits * kPer;
      if (n >= n_live || pixel0 + row >= p.pixels) continue;
      *reinterpret_cast<uint4*>(out + (pixel0 + row) * p.n + n_first + n) =
          *reinterpret_cast<const uint4*>(staged + row * kStagedPitch<Tr> + n * Tr::kSize);
    }
    return;
  }
  for (int i = thread; i < Tr::kM * Tr::kN; i += Tr::kThreads) {
    const int row = p.out_last ? i / Tr::kN : i % Tr::kM, n = p.out_last ? i % Tr::kN : i / Tr::kM;
    const int64_t pixel = pixel0 + row;
    if (n >= n_live || pixel >= p.pixels) continue;
    const T value = *reinterpret_cast<const T*>(staged + row * kStagedPitch<Tr> + n * Tr::kSize);
    if (p.out_last) {
      out[pixel * p.n + n_first + n] = value;
    } else {
      const auto image = static_cast<int64_t>(divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(p.plane)));
      out[(image * p.n + n_first + n) * p.plane + pixel - image * p.plane] = value;
    }
  }
}

// From staged [kN][kM] to an output [N][n][pixels of the image] whose images are whole units of 16 bytes.
template <class Tr>
__device__ __forceinline__ void write_turned_tile(const ConvParams& p, const unsigned char* staged, int64_t pixel0,
                                                  int n_first, int n_live, int thread) {
  using T = typename Tr::Element;
  constexpr int kPer = 16 / Tr::kSize, kUnits = Tr::kM / kPer;
  for (int i = thread; i < Tr::kN * kUnits; i += Tr::kThreads) {
    const int n = i / kUnits, row = i % kUnits * kPer;
    const int64_t pixel = pixel0 + row;
    if (n >= n_live || pixel >= p.pixels) continue;
    const auto image = static_cast<int64_t>(divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(p.plane)));
    const int64_t at = (image * p.n + n_first + n) * p.plane + pixel - image * p.plane;
    *reinterpret_cast<uint4*>(static_cast<T*>(p.out) + at) =
        *reinterpret_cast<const uint4*>(staged + n * kTurnedPitch<Tr> + row * Tr::kSize);
  }
}

// What is added to the sums of this thread's columns, kCount spans from `first` on: loaded at once, as each load takes
// as long as all of them.
template <class Tr, class Tile, int kCount, class ChannelOf>
__device__ __forceinline__ void load_bias(const ConvParams& p, const Tile& tile, int n_live, ChannelOf channel_of,
                                          int first, typename Tr::Acc (&bias)[kCount][Tile::kSpan]) {
  const auto* const from = static_cast<const typename Tr::Element*>(p.bias);
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int i = 0; i < Tile::kSpan; ++i) {
      const int n = tile.column(first + j) + i;
      bias[j][i] = from != nullptr && n < n_live ? widen_to(from[channel_of(n)]) : typename Tr::Acc(0);
    }
  }
}

// Rounded, side by side.
template <class T, class Acc, int kSpan>
__device__ __forceinline__ void stage(unsigned char* to, const Acc (&value)[kSpan]) {
  struct alignas(kSpan * sizeof(T)) Span {
    T v[kSpan];
  };
  Span rounded;
#pragma unroll
  for (int i = 0; i < kSpan; ++i) rounded.v[i] = narrow_to<T>(value[i]);
  *reinterpret_cast<Span*>(to) = rounded;
}

// The sums of a tile, which Tr::kThreads threads hold, to the output: tile.each(store(row, span, sums)) gives those of
// the calling one, `thread` of them, in spans of columns side by side; sync is their barrier. All must have left the
// shared memory at `staged` before.
template <class Tr, class Tile, class Sync>
__device__ __forceinline__ void finish_tile(const ConvParams& p, const Tile& tile, unsigned char* staged,
                                            int64_t pixel0, int n_first, int n_live, int thread, Sync sync) {
  using T = typename Tr::Element;
  using Acc = typename Tr::Acc;
  Acc bias[Tile::kSpans][Tile::kSpan];
  const auto channel_of = [&](int n) -> int64_t {
    return Tr::kByDegree && p.order != nullptr ? p.order[n_first + n] : n_first + n;
  };
  load_bias<Tr>(p, tile, n_live, channel_of, 0, bias);
  const bool turned = !Tr::kByDegree && !p.out_last && p.plane % (16 / Tr::kSize) == 0;
  if (turned) {
    tile.each([&](int row, int span, const Acc(&sums)[Tile::kSpan]) {
#pragma unroll
      for (int i = 0; i < Tile::kSpan; ++i) {
        *reinterpret_cast<T*>(staged + (tile.column(span) + i) * kTurnedPitch<Tr> + row * Tr::kSize) =
            narrow_to<T>(sums[i] + bias[span][i]);
      }
    });
    sync();
    write_turned_tile<Tr>(p, staged, pixel0, n_first, n_live, thread);
    return;
  }
  tile.each([&](int row, int span, const Acc(&sums)[Tile::kSpan]) {
    Acc value[Tile::kSpan];
#pragma unroll
    for (int i = 0; i < Tile::kSpan; ++i) value[i] = sums[i] + bias[span][i];
    stage<T>(staged + row * kStagedPitch<Tr> + tile.column(span) * Tr::kSize, value);
  });
  sync();
  write_tile<Tr>(p, staged, pixel0, n_first, n_live, thread);
}

// A pair of a gated tile: where it lies in the output, in what is like it, and in the gate's.
struct PairPlace {
  int64_t pixel, image, inside;  // inside: of the image

  __device__ __forceinline__ PairPlace(const ConvParams& p, int64_t pixel)
      : pixel(pixel),
        image(static_cast<int64_t>(divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(p.plane)))),
        inside(pixel - image * p.plane) {}
  __device__ __forceinline__ int64_t at(const ConvParams& p, int64_t channels, int channel) const {
    return p.out_last ? pixel * channels + channel : (image * channels + channel) * p.plane + inside;
  }
};

// go(row, column) for the first columns of pairs, which the threads share out: along the output's nearer dim, or
// (kWhole) so many channels at once as 16 bytes hold.
template <class Tr, bool kWhole, class Go>
__device__ __forceinline__ void for_each_pair(const ConvParams& p, const PairedTile& pairs, int64_t pixel0, int thread,
                                              Go go) {
  constexpr int kPer = kWhole ? 16 / Tr::kSize : 1, kUnits = Tr::kN / 2 / kPer;
  for (int i = thread; i < Tr::kM * kUnits; i += Tr::kThreads) {
    const bool along_channels = kWhole || p.out_last;
    const int row = along_channels ? i / kUnits : i % Tr::kM;
    const int column = (along_channels ? i % kUnits : i / Tr::kM) * kPer;
    if (column < pairs.half && pixel0 + row < p.pixels) go(row, column);
  }
}

// What is added, to where its sums will be staged.
template <class Tr, bool kWhole>
__device__ __forceinline__ void stage_add(const ConvParams& p, const PairedTile& pairs, unsigned char* staged,
                                          int64_t pixel0, int thread) {
  using T = typename Tr::Element;
  using Unit = std::conditional_t<kWhole, uint4, T>;
  const T* const add = static_cast<const T*>(p.gate.add);
  for_each_pair<Tr, kWhole>(p, pairs, pixel0, thread, [&](int row, int column) {
    const PairPlace place(p, pixel0 + row);
    for (int c : {column, pairs.half + column}) {
      *reinterpret_cast<Unit*>(staged + row * kStagedPitch<Tr> + c * Tr::kSize) =
          *reinterpret_cast<const Unit*>(add + place.at(p, p.n, pairs.channel(c)));
    }
  });
}

// From staged [kM][2 * half] to the output, and its gate to the gate's: computed from what is staged, that is rounded.
template <class Tr, bool kWhole>
__device__ __forceinline__ void write_gated_tile(const ConvParams& p, const PairedTile& pairs,
                                                 const unsigned char* staged, int64_t pixel0, int thread) {
  using T = typename Tr::Element;
  using Acc = typename Element<T>::Acc;
  using Unit = std::conditional_t<kWhole, uint4, T>;
  constexpr int kPer = sizeof(Unit) / sizeof(T);
  T* const out = static_cast<T*>(p.out);
  const T* const cond = static_cast<const T*>(p.gate.cond);
  for_each_pair<Tr, kWhole>(p, pairs, pixel0, thread, [&](int row, int column) {
    const PairPlace place(p, pixel0 + row);
    alignas(16) T value[2][kPer], more[2][kPer], made[kPer];
    for (int half = 0; half < 2; ++half) {
      const int c = half * pairs.half + column, channel = pairs.channel(c);
      const int64_t at = place.at(p, p.n, channel);
      const Unit unit = *reinterpret_cast<const Unit*>(staged + row * kStagedPitch<Tr> + c * Tr::kSize);
      *reinterpret_cast<Unit*>(out + at) = unit;
      memcpy(static_cast<void*>(value[half]), &unit, sizeof unit);
      if (cond == nullptr) continue;
      const Unit beside = *reinterpret_cast<const Unit*>(cond + (p.gate.per_image ? place.image * p.n + channel : at));
      memcpy(static_cast<void*>(more[half]), &beside, sizeof beside);
    }
#pragma unroll
    for (int e = 0; e < kPer; ++e) {
      Acc a = widen_to(value[0][e]), b = widen_to(value[1][e]);
      if (cond != nullptr) {
        a += widen_to(more[0][e]);
        b += widen_to(more[1][e]);
      }
      made[e] = narrow_to<T>(gate_value<Acc>(a, b));
    }
    Unit unit;
    memcpy(&unit, static_cast<const void*>(made), sizeof unit);
    *reinterpret_cast<Unit*>(static_cast<T*>(p.gate.out) + place.at(p, p.n / 2, pairs.gated + column)) = unit;
  });
}

// As finish_tile, of a product whose n are paired: sums + bias + add, rounded once, and their gate.
template <class Tr, class Tile, class Sync>
__device__ __forceinline__ void finish_gated_tile(const ConvParams& p, const Tile& tile, unsigned char* staged,
                                                  int64_t pixel0, int n_first, int n_live, int thread, Sync sync) {
  using T = typename Tr::Element;
  using Acc = typename Tr::Acc;
  const PairedTile pairs = p.pairs.at(n_first);
  constexpr int kPer = 16 / Tr::kSize;
  const bool whole =
      p.out_last && p.gate.aligned && (pairs.first | pairs.apart | pairs.half | pairs.gated | p.n / 2) % kPer == 0;
  const bool adds = p.gate.add != nullptr;
  if (adds) {
    if (whole) {
      stage_add<Tr, true>(p, pairs, staged, pixel0, thread);
    } else {
      stage_add<Tr, false>(p, pairs, staged, pixel0, thread);
    }
    sync();
  }
  const int64_t rows = p.pixels - pixel0;
  constexpr int kCount = Tile::kSpans / 4;  // at once: registers are few
#pragma unroll
  for (int first = 0; first < Tile::kSpans; first += kCount) {
    Acc bias[kCount][Tile::kSpan];
    load_bias<Tr>(p, tile, n_live, [&](int n) { return pairs.channel(n); }, first, bias);
    const auto store = [&](int row, int span, const Acc(&sums)[Tile::kSpan]) {
      unsigned char* const to = staged + row * kStagedPitch<Tr> + tile.column(span) * Tr::kSize;
      Acc value[Tile::kSpan];
#pragma unroll
      for (int i = 0; i < Tile::kSpan; ++i) {
        value[i] = sums[i] + bias[span - first][i];
        if (adds && tile.column(span) + i < n_live && row < rows)
          value[i] += widen_to(reinterpret_cast<const T*>(to)[i]);
      }
      stage<T>(to, value);
    };
    tile.each(store, first, kCount);
  }
  sync();
  if (whole) {
    write_gated_tile<Tr, true>(p, pairs, staged, pixel0, thread);
  } else {
    write_gated_tile<Tr, false>(p, pairs, staged, pixel0, thread);
  }
}

}  // namespace pygen::cuda
