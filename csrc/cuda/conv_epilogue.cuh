// What becomes of the sums of a product's tile: bias, rounding, and the way to the output through shared memory.
#pragma once

#include "cuda/conv_steps.cuh"

namespace pygen::cuda {

template <class Tr>
constexpr int kStagedPitch = Tr::kN * Tr::kSize + 16;  // bytes

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

// The sums of a tile, which Tr::kThreads threads hold, to the output: tile.each(store(row, n, sum)) gives those of the
// calling one, `thread` of them; sync is their barrier. All must have left the shared memory at `staged` before.
template <class Tr, class Tile, class Sync>
__device__ __forceinline__ void finish_tile(const ConvParams& p, const Tile& tile, unsigned char* staged,
                                            int64_t pixel0, int n_first, int n_live, int thread, Sync sync) {
  using T = typename Tr::Element;
  const T* const bias = static_cast<const T*>(p.bias);
  tile.each([&](int row, int n, auto sum) {
    if (bias != nullptr && n < n_live) {
      const int at = n_first + n;
      sum += widen_to(bias[Tr::kByDegree && p.order != nullptr ? p.order[at] : at]);
    }
    *reinterpret_cast<T*>(staged + row * kStagedPitch<Tr> + n * Tr::kSize) = narrow_to<T>(sum);
  });
  sync();
  write_tile<Tr>(p, staged, pixel0, n_first, n_live, thread);
}

}  // namespace pygen::cuda
