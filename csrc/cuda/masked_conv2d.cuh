// The kernel of masked_conv2d forward and, with opposite offsets and n, k exchanged, of the input's gradient.
//
//   out[p, n] = bias[n] + sum over live (tap, k) of x[p + offset(tap), k] weight[tap, n, k]
//
// An implicit matrix product, pixels p of all images by channels n, k in steps of 64 bytes. Images lie as
// [pixel][channel], so what all taps of a tile read is one run of pixels: it is copied to shared memory once for each
// step of k and read at the tap's offset; where a tap leaves the image, a row of zeros is read instead. Traffic: the
// input 1 + (reach of the taps) / 128 times and once more for each tile of n, from L2; the weight once for each tile of
// pixels, from L2.
#pragma once

#include "cuda/conv_tile.cuh"

namespace pygen::cuda {

struct ConvParams {
  const unsigned char* x;       // [pixels][x_pitch bytes]
  const unsigned char* weight;  // [positions][n][weight_pitch bytes]
  const void* bias;             // [n], or null
  void* out;                    // [pixels][n], or [N][n][H * W]
  int64_t x_pitch, weight_pitch;
  int64_t pixels, plane, height, width;
  int n, k;
  int groups, group_n, group_k, tiles_per_group;
  bool backward, strict, out_last;
  bool halo;   // one run of pixels for all taps; else each its own
  int a_rows;  // of a run
  int a_buffers;
  int64_t first;  // offset of the run's first pixel
  Taps taps;

  // How many of k are live for the centre in a group of n; k is reversed in backward, so that they are the first.
  __host__ __device__ int centre_k(int group) const {
    return taps.centre ? ((backward ? groups - group : group + 1) - strict) * group_k : 0;
  }
};

// The steps of a tile in order: k outermost, taps inside, so that a run serves all of them; then the centre by groups.
struct ConvStep {
  int position = 0, k = 0, k_end;
  bool centre = false;

  __device__ __forceinline__ ConvStep(const ConvParams& p, int centre_k) : k_end(p.k) {
    if (p.taps.count == 0 || p.k == 0) enter_centre(p, centre_k);
  }
  __device__ __forceinline__ void next(const ConvParams& p, int centre_k, int step) {
    if (!centre && ++position < p.taps.count) return;
    k += step;
    if (centre) return;
    position = 0;
    if (k >= p.k) enter_centre(p, centre_k);
  }
  __device__ __forceinline__ bool new_run(const ConvParams& p) const { return position == 0 || centre || !p.halo; }
  __device__ __forceinline__ int64_t offset(const ConvParams& p) const {
    return p.taps.dy(position) * p.width + p.taps.dx(position);
  }
  // From a tile's first pixel to that of the run the step reads.
  __device__ __forceinline__ int64_t first(const ConvParams& p) const {
    return centre ? 0 : p.halo ? p.first : offset(p);
  }

 private:
  __device__ __forceinline__ void enter_centre(const ConvParams& p, int centre_k) {
    centre = true;
    position = p.taps.count;
    k = 0;
    k_end = centre_k;
  }
};

// The rows of a tile that one thread reads: where they lie in their images, and where in the step's run.
template <int kRows>
struct TileRows {
  uint32_t y[kRows], x[kRows];  // y is beyond the image where the tile ends before the row
  const unsigned char* address[kRows];
  int turns[kRows];

  template <class RowOf>
  __device__ __forceinline__ TileRows(const ConvParams& p, int64_t pixel0, RowOf row_of) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t pixel = pixel0 + row_of(i);
      const Pixel at = place(pixel < p.pixels ? pixel : 0, p.plane, p.width);
      y[i] = pixel < p.pixels ? static_cast<uint32_t>(at.y) : 0x80000000u;
      x[i] = static_cast<uint32_t>(at.x);
    }
  }
  template <class RowOf>
  __device__ __forceinline__ void at(const ConvParams& p, const ConvStep& step, const unsigned char* run,
                                     const unsigned char* zeros, RowOf row_of) {
    const auto dy = static_cast<uint32_t>(p.taps.dy(step.position)),
               dx = static_cast<uint32_t>(p.taps.dx(step.position));
    const int shift = static_cast<int>(step.offset(p) - step.first(p));
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const bool inside = y[i] != 0x80000000u && y[i] + dy < static_cast<uint32_t>(p.height) &&
                          x[i] + dx < static_cast<uint32_t>(p.width);
      const int row = row_of(i) + shift;
      address[i] = inside ? run + row * kRowBytes : zeros;
      turns[i] = inside ? turn(row) : 0;
    }
  }
  __device__ __forceinline__ const unsigned char* part(int i, int part) const {
    return address[i] + ((part ^ turns[i]) << 4);
  }
};

template <class Tr>
constexpr int kStagedPitch = Tr::kN * Tr::kSize + 16;  // bytes

// From staged [kM][kN] to the output, along its nearer dim.
template <class Tr>
__device__ __forceinline__ void write_tile(const ConvParams& p, const unsigned char* staged, int64_t pixel0,
                                           int n_first, int n_live) {
  using T = typename Tr::Element;
  const int thread = static_cast<int>(threadIdx.x);
  T* out = static_cast<T*>(p.out);
  constexpr int kPer = 16 / Tr::kSize, kUnits = Tr::kN / kPer;
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

// One warp's part of a tile on tensor cores.
template <class Tr>
struct TensorTile {
  using T = typename Tr::Element;
  float acc[Tr::kTilesM][Tr::kTilesN][4] = {};
  int lane, first_m, first_n;
  TileRows<Tr::kTilesM> rows;

  __device__ __forceinline__ TensorTile(const ConvParams& p, int64_t pixel0)
      : lane(static_cast<int>(threadIdx.x) % 32),
        first_m(static_cast<int>(threadIdx.x) / 32 / Tr::kWarpsN * Tr::kTilesM * 16),
        first_n(static_cast<int>(threadIdx.x) / 32 % Tr::kWarpsN * 32),
        rows(p, pixel0, [this](int i) { return row_of(i); }) {}
  __device__ __forceinline__ int row_of(int i) const { return first_m + i * 16 + (lane & 15); }

  __device__ __forceinline__ void multiply(const ConvParams& p, const ConvStep& step, const unsigned char* run,
                                           const unsigned char* zeros, unsigned char* b_tile) {
    rows.at(p, step, run, zeros, [this](int i) { return row_of(i); });
#pragma unroll
    for (int half = 0; half < kRowBytes; half += 32) {
      uint32_t a[Tr::kTilesM][4], b[Tr::kTilesN][2];
#pragma unroll
      for (int m = 0; m < Tr::kTilesM; ++m) load_matrices(a[m], rows.part(m, half / 16 + (lane >> 4)));
#pragma unroll
      for (int n = 0; n < Tr::kTilesN; n += 2) {
        uint32_t r[4];
        const int row = first_n + n * 8 + (lane & 7) + (lane >> 4 << 3);
        load_matrices(r, part_of_row(b_tile, row, half / 16 + (lane >> 3 & 1)));
        b[n][0] = r[0];
        b[n][1] = r[1];
        b[n + 1][0] = r[2];
        b[n + 1][1] = r[3];
      }
      if constexpr (std::is_same_v<typename Tr::Multiply, Tf32>) {
#pragma unroll
        for (int m = 0; m < Tr::kTilesM; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[m][i] = round_tf32(a[m][i]);
        }
#pragma unroll
        for (int n = 0; n < Tr::kTilesN; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) b[n][i] = round_tf32(b[n][i]);
        }
      }
      multiply_tiles<typename Tr::Multiply>(acc, a, b);
    }
  }
  template <class Store>
  __device__ __forceinline__ void each(Store store) const {
#pragma unroll
    for (int m = 0; m < Tr::kTilesM; ++m) {
#pragma unroll
      for (int n = 0; n < Tr::kTilesN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          store(first_m + m * 16 + (lane >> 2) + i / 2 * 8, first_n + n * 8 + (lane & 3) * 2 + i % 2, acc[m][n][i]);
        }
      }
    }
  }
};

// One thread's part of a tile by multiply-adds.
template <class Tr>
struct ScalarTile {
  using T = typename Tr::Element;
  static constexpr int kPer = 16 / Tr::kSize;
  T acc[Tr::kRows][Tr::kColumns] = {};
  int row0, column0;
  TileRows<Tr::kRows> rows;

  __device__ __forceinline__ ScalarTile(const ConvParams& p, int64_t pixel0)
      : row0(static_cast<int>(threadIdx.x) / 16),
        column0(static_cast<int>(threadIdx.x) % 16),
        rows(p, pixel0, [this](int i) { return row0 + 16 * i; }) {}

  __device__ __forceinline__ void multiply(const ConvParams& p, const ConvStep& step, const unsigned char* run,
                                           const unsigned char* zeros, unsigned char* b_tile) {
    rows.at(p, step, run, zeros, [this](int i) { return row0 + 16 * i; });
#pragma unroll 1
    for (int part = 0; part < kRowBytes / 16; ++part) {
      T a[Tr::kRows][kPer];
#pragma unroll
      for (int i = 0; i < Tr::kRows; ++i) load16(a[i], rows.part(i, part));
#pragma unroll
      for (int j = 0; j < Tr::kColumns; ++j) {
        T b[kPer];
        load16(b, part_of_row(b_tile, column0 + 16 * j, part));
#pragma unroll
        for (int i = 0; i < Tr::kRows; ++i) {
#pragma unroll
          for (int e = 0; e < kPer; ++e) acc[i][j] += a[i][e] * b[e];
        }
      }
    }
  }
  static __device__ __forceinline__ void load16(T (&to)[kPer], const unsigned char* from) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    memcpy(to, &bits, 16);
  }
  template <class Store>
  __device__ __forceinline__ void each(Store store) const {
#pragma unroll
    for (int i = 0; i < Tr::kRows; ++i) {
#pragma unroll
      for (int j = 0; j < Tr::kColumns; ++j) store(row0 + 16 * i, column0 + 16 * j, acc[i][j]);
    }
  }
};

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) masked_conv2d_fwd_kernel(ConvParams p) {
  using T = typename Tr::Element;
  PYGEN_DYNAMIC_SHARED(memory);
  unsigned char* const zeros = reinterpret_cast<unsigned char*>(memory);
  unsigned char* const b_tiles = zeros + 128;
  unsigned char* const a_runs = b_tiles + kStages * Tr::kN * kRowBytes;
  const int thread = static_cast<int>(threadIdx.x);
  const int n_tiles = p.groups * p.tiles_per_group, n_tile = static_cast<int>(blockIdx.x % n_tiles);
  const int group = n_tile / p.tiles_per_group, in_group = (n_tile - group * p.tiles_per_group) * Tr::kN;
  const int n_first = group * p.group_n + in_group, n_live = min(Tr::kN, p.group_n - in_group);
  const int64_t pixel0 = static_cast<int64_t>(blockIdx.x / n_tiles) * Tr::kM;
  const int centre_k = p.centre_k(group);
  const int steps = p.taps.count * ((p.k + Tr::kStep - 1) / Tr::kStep) + (centre_k + Tr::kStep - 1) / Tr::kStep;
  if (thread < kRowBytes / 16) reinterpret_cast<uint4*>(zeros)[thread] = make_uint4(0, 0, 0, 0);

  ConvStep ahead(p, centre_k), now(p, centre_k);
  int ahead_run = -1, now_run = -1, ahead_stage = 0, now_stage = 0;
  const auto next_of = [](int i, int count) { return i + 1 == count ? 0 : i + 1; };
  const auto copy_step = [&] {
    const int64_t left = static_cast<int64_t>(ahead.k_end - ahead.k) * Tr::kSize;
    const int64_t k_bytes = static_cast<int64_t>(ahead.k) * Tr::kSize;
    if (ahead.new_run(p)) {
      ahead_run = next_of(ahead_run, p.a_buffers);
      unsigned char* const run = a_runs + ahead_run * p.a_rows * kRowBytes;
      const int64_t first = pixel0 + ahead.first(p);
      const int parts = (ahead.centre ? Tr::kM : p.a_rows) * (kRowBytes / 16);
      for (int i = thread; i < parts; i += Tr::kThreads) {
        const int row = i / (kRowBytes / 16), part = i % (kRowBytes / 16);
        const int64_t pixel = first + row;
        const int bytes = pixel >= 0 && pixel < p.pixels ? clamp_bytes(left - part * 16) : 0;
        copy_async(part_of_row(run, row, part), bytes ? p.x + pixel * p.x_pitch + k_bytes + part * 16 : p.x, bytes);
      }
    }
    unsigned char* const b_tile = b_tiles + ahead_stage * Tr::kN * kRowBytes;
    const unsigned char* const weight =
        p.weight + (static_cast<int64_t>(ahead.position) * p.n + n_first) * p.weight_pitch;
    for (int i = thread; i < Tr::kN * (kRowBytes / 16); i += Tr::kThreads) {
      const int row = i / (kRowBytes / 16), part = i % (kRowBytes / 16);
      const int bytes = row < n_live ? clamp_bytes(left - part * 16) : 0;
      copy_async(part_of_row(b_tile, row, part), bytes ? weight + row * p.weight_pitch + k_bytes + part * 16 : p.weight,
                 bytes);
    }
    ahead_stage = next_of(ahead_stage, kStages);
    ahead.next(p, centre_k, Tr::kStep);
  };

  std::conditional_t<Tr::kTensor, TensorTile<Tr>, ScalarTile<Tr>> tile(p, pixel0);
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) copy_step();
    commit_copies();
  }
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the copies of all threads are there, and the buffers of the last step are free
    if (s + kStages - 1 < steps) copy_step();
    commit_copies();
    if (now.new_run(p)) now_run = next_of(now_run, p.a_buffers);
    tile.multiply(p, now, a_runs + now_run * p.a_rows * kRowBytes, zeros, b_tiles + now_stage * Tr::kN * kRowBytes);
    now_stage = next_of(now_stage, kStages);
    now.next(p, centre_k, Tr::kStep);
  }
  wait_copies<0>();
  __syncthreads();
  unsigned char* const staged = zeros;
  const T* const bias = static_cast<const T*>(p.bias);
  tile.each([&](int row, int n, auto sum) {
    if (bias != nullptr && n < n_live) sum += widen_to(bias[n_first + n]);
    *reinterpret_cast<T*>(staged + row * kStagedPitch<Tr> + n * Tr::kSize) = narrow_to<T>(sum);
  });
  __syncthreads();
  write_tile<Tr>(p, staged, pixel0, n_first, n_live);
}

template <class Tr>
int shared_bytes(const ConvParams& p) {
  const int pipeline = 128 + (kStages * Tr::kN + p.a_buffers * p.a_rows) * kRowBytes;
  return std::max(pipeline, Tr::kM * kStagedPitch<Tr>);
}

}  // namespace pygen::cuda
