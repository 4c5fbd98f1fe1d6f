// What becomes of the sums of a product's tile: bias, rounding, and the way to the output through shared memory.
#pragma once

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

// Whether the output is [N][n][pixels of the image], and its images are whole units of 16 bytes.
template <class Tr>
__device__ __forceinline__ bool is_turned(const ConvParams& p) {
  return !p.out_last && p.plane % (16 / Tr::kSize) == 0;
}

// From staged [kN][kM] to such an output.
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
  const bool turned = !Tr::kByDegree && is_turned<Tr>(p);
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

}  // namespace pygen::cuda
