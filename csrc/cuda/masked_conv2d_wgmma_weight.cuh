// The weight's gradient of masked_conv2d on Hopper (sm_90a), for 16-bit elements. Not yet run on a GPU.
//
// The sums of masked_conv2d_weight.cuh, with as many taps at once as there are registers. The rows of the product are
// 64 input channels at one tap, its columns 128 output channels, and it sums over pixels: a block has up to four such
// sets of rows, dealt to two warpgroups, and takes a split of the pixels, 64 at a time. What it reads of the input, a
// run of pixels as in masked_conv2d_wgmma.cuh, serves all its taps and goes through registers, transposed by ldmatrix;
// gradients are read from shared memory by the instruction itself.
//
// Traffic for 64 pixels of a block at 3x3 B, 32x32, from L2: 14 KB of pixels and 16 KB of gradients, against 1024
// cycles of products: 29 bytes a cycle. A block for each tap would read 64.
#pragma once

#include "cuda/divider.cuh"
#include "cuda/masked_conv2d_weight.cuh"
#include "cuda/wgmma.cuh"

namespace pygen::cuda {

template <class T, int kChannels>
struct WgmmaWeightTraits {
  using Element = T;
  static constexpr int kThreads = 128, kGroups = 2;
  static constexpr int kSets = 2;       // of rows, at most, for each warpgroup
  static constexpr int kPixels = 64;    // of a step
  static constexpr int kIns = 64;       // 128 bytes
  static constexpr int kN = kChannels;  // of outs
  static constexpr int kParts = kPixels / 16;
  static constexpr int kHalfBytes = kPixels * kTileRowBytes;  // of gradients: 64 outs
  static constexpr int kGradBytes = kN / 64 * kHalfBytes;
  static_assert(kN == 64 || kN == 128);
};

constexpr int kRunBox = 16;  // rows of a run are copied by so many
constexpr int kMostStages = 8;

struct WgmmaWeightParams {
  CUtensorMap grad, x;  // boxes of 64 and of kRunBox pixels
  WeightParams weight;
  Divider plane, width;
  int row_sets, set_groups, out_tiles;  // a block has one group of row sets
  int stages, stage_bytes;
};

// What a block reads and writes: the row sets from first_set on; set = chunk of ins * positions + position.
template <class Tr>
struct WeightPlace {
  int first_set, sets, first_chunk, chunks, first_out;
  int64_t split, first_pixel, steps;
  int64_t first = 0;  // from a pixel to the run's first
  int run_rows;       // a multiple of kRunBox

  __host__ __device__ WeightPlace(const WgmmaWeightParams& p, int64_t block) {
    const int64_t group = block % p.set_groups, rest = block / p.set_groups;
    first_out = static_cast<int>(rest % p.out_tiles) * Tr::kN;
    split = rest / p.out_tiles;
    first_pixel = split * p.weight.per_split;
    const int64_t left = p.weight.pixels - first_pixel, pixels = left < p.weight.per_split ? left : p.weight.per_split;
    steps = (pixels + Tr::kPixels - 1) / Tr::kPixels;
    const int positions = p.weight.taps.positions();
    first_set = static_cast<int>(group * p.row_sets / p.set_groups);
    sets = static_cast<int>((group + 1) * p.row_sets / p.set_groups) - first_set;
    first_chunk = first_set / positions;
    chunks = (first_set + sets - 1) / positions - first_chunk + 1;
    int64_t last = 0;
    for (int i = 0; i < sets; ++i) {
      const int64_t offset = offset_of(p, (first_set + i) % positions);
      first = i == 0 || offset < first ? offset : first;
      last = i == 0 || offset > last ? offset : last;
    }
    run_rows = static_cast<int>((last - first + Tr::kPixels + kRunBox - 1) / kRunBox) * kRunBox;
  }
  static __host__ __device__ int64_t offset_of(const WgmmaWeightParams& p, int position) {
    return p.weight.taps.dy(position) * p.weight.width + p.weight.taps.dx(position);
  }
  // Those of a warpgroup: its m-th, and how many it has; the second may have none, and multiplies the first in vain.
  __device__ __forceinline__ int set_of(int group, int m) const {
    const int set = m * Tr::kGroups + group;
    return first_set + (set < sets ? set : 0);
  }
  __device__ __forceinline__ int sets_of(int group) const { return (sets - group + 1) / Tr::kGroups; }
  __host__ __device__ int stage_bytes() const { return Tr::kGradBytes + chunks * run_rows * kTileRowBytes; }
};

template <class Tr>
struct WeightMemory {
  unsigned char *stages, *zeros;
  uint64_t *full, *empty;

  static int bytes(int stages, int stage_bytes) {
    return 1024 + stages * stage_bytes + kTileRowBytes + 2 * kMostStages * static_cast<int>(sizeof(uint64_t));
  }
  __device__ __forceinline__ WeightMemory(const WgmmaWeightParams& p, char* memory) {
    stages = reinterpret_cast<unsigned char*>(memory) + (1024 - shared_address(memory) % 1024) % 1024;
    zeros = stages + p.stages * p.stage_bytes;
    full = reinterpret_cast<uint64_t*>(zeros + kTileRowBytes);
    empty = full + kMostStages;
  }
};

// One thread: gradients, then the run of each chunk, step by step.
template <class Tr>
__device__ __forceinline__ void copy_steps(const WgmmaWeightParams& p, const WeightPlace<Tr>& place,
                                           const WeightMemory<Tr>& memory) {
  RingPosition ring;
  prefetch_map(p.grad);
  prefetch_map(p.x);
  for (int64_t s = 0; s < place.steps; ++s) {
    await(memory.empty + ring.buffer, ring.round ^ 1);
    uint64_t* const full = memory.full + ring.buffer;
    unsigned char* to = memory.stages + ring.buffer * p.stage_bytes;
    arrive_expecting(full, place.stage_bytes());
    const int pixel = static_cast<int>(place.first_pixel + s * Tr::kPixels);
    for (int half = 0; half < Tr::kN / 64; ++half, to += Tr::kHalfBytes) {
      copy_box(to, p.grad, place.first_out + half * 64, pixel, full);
    }
    const int first = static_cast<int>(pixel + place.first);
    for (int chunk = 0; chunk < place.chunks; ++chunk) {
      for (int row = 0; row < place.run_rows; row += kRunBox, to += kRunBox * kTileRowBytes) {
        copy_box(to, p.x, (place.first_chunk + chunk) * Tr::kIns, first + row, full);
      }
    }
    ring.next(p.stages);
  }
}

// A warpgroup's sums, and two steps' pixels: of the one that is multiplied and of the next. kSets: known to the
// compiler, as a product on a condition would make it wait for each.
template <class Tr, int kSets>
struct WeightSums {
  float acc[kSets][1][Tr::kN / 8][4] = {};
  uint32_t a[2][kSets][Tr::kParts][4];
  uint32_t dy[kSets], dx[kSets];
  int run[kSets], shift[kSets];  // bytes from a stage's start to the chunk's run; rows from a pixel to its tap's
  const int warp, lane;

  __device__ __forceinline__ WeightSums(const WgmmaWeightParams& p, const WeightPlace<Tr>& place, int group)
      : warp(static_cast<int>(threadIdx.x) % Tr::kThreads / 32), lane(static_cast<int>(threadIdx.x) % 32) {
#pragma unroll
    for (int m = 0; m < kSets; ++m) {
      const int set = place.set_of(group, m), positions = p.weight.taps.positions();
      const int chunk = set / positions, position = set - chunk * positions;
      dy[m] = static_cast<uint32_t>(p.weight.taps.dy(position));
      dx[m] = static_cast<uint32_t>(p.weight.taps.dx(position));
      shift[m] = static_cast<int>(place.offset_of(p, position) - place.first);
      run[m] = Tr::kGradBytes + (chunk - place.first_chunk) * place.run_rows * kTileRowBytes;
    }
  }

  // Lane l names pixel l % 8 + l / 16 * 8 of 16, and the lower or upper half of the warp's 16 channels by l / 8 % 2.
  template <int kBuffer>
  __device__ __forceinline__ void load(const WgmmaWeightParams& p, uint32_t first_pixel, const unsigned char* stage,
                                       const unsigned char* zeros) {
    const int part_of_row = warp * 2 + (lane >> 3 & 1);
#pragma unroll
    for (int part = 0; part < Tr::kParts; ++part) {
      const int in_step = part * 16 + (lane & 7) + (lane >> 4) * 8;
      const uint32_t pixel = first_pixel + static_cast<uint32_t>(in_step);
      const uint32_t inside = pixel - p.plane.quotient(pixel) * p.plane.divisor;
      // Beyond the last pixel an image that is not there would begin: all that its taps see are zeros, too.
      const uint32_t y = p.width.quotient(inside), x = inside - y * p.width.divisor;
#pragma unroll
      for (int m = 0; m < kSets; ++m) {
        const bool there =
            y + dy[m] < static_cast<uint32_t>(p.weight.height) && x + dx[m] < static_cast<uint32_t>(p.weight.width);
        const int at = in_step + shift[m];
        const unsigned char* from = there ? stage + run[m] + at * kTileRowBytes : zeros;
        load_matrices_transposed(a[kBuffer][m][part],
                                 from + ((there ? part_of_row ^ turn<kTileRowBytes>(at) : part_of_row) << 4));
      }
    }
  }
  template <int kBuffer>
  __device__ __forceinline__ void multiply(const unsigned char* stage) {
    const uint64_t grad = matrix_descriptor(shared_address(stage), Tr::kHalfBytes);
    begin_products();
#pragma unroll
    for (int m = 0; m < kSets; ++m) {
#pragma unroll
      for (int part = 0; part < Tr::kParts; ++part) {
        multiply_async<typename Tr::Element, true>(acc[m][0], a[kBuffer][m][part],
                                                   grad + part * (16 * kTileRowBytes >> 4));
      }
    }
    commit_products();
  }
};

template <class Tr, int kSets>
__device__ __forceinline__ void sum_steps(const WgmmaWeightParams& p, const WeightPlace<Tr>& place,
                                          const WeightMemory<Tr>& memory, int group) {
  WeightSums<Tr, kSets> sums(p, place, group);
  RingPosition before, now, ahead;
  const auto stage = [&](const RingPosition& at) { return memory.stages + at.buffer * p.stage_bytes; };
  const auto load = [&](auto buffer, int64_t s) {
    await(memory.full + ahead.buffer, ahead.round);
    sums.template load<decltype(buffer)::value>(p, static_cast<uint32_t>(place.first_pixel + s * Tr::kPixels),
                                                stage(ahead), memory.zeros);
    ahead.next(p.stages);
  };
  const auto step = [&](auto buffer, int64_t s) {
    constexpr int kBuffer = decltype(buffer)::value;
    sums.template multiply<kBuffer>(stage(now));
    await_products<1>();
    if (s > 0) leave(memory.empty + before.buffer);  // the step before has been multiplied
    before = now;
    now.next(p.stages);
    if (s + 1 < place.steps) load(std::integral_constant<int, 1 - kBuffer>(), s + 1);
  };
  if (place.steps > 0) load(std::integral_constant<int, 0>(), 0);
  for (int64_t s = 0; s < place.steps; s += 2) {
    step(std::integral_constant<int, 0>(), s);
    if (s + 1 < place.steps) step(std::integral_constant<int, 1>(), s + 1);
  }
  await_products<0>();
  for (auto& of_set : sums.acc) end_products(of_set[0]);
  auto* const partial = static_cast<float*>(p.weight.partial);
  const int positions = p.weight.taps.positions();
#pragma unroll
  for (int m = 0; m < kSets; ++m) {
    if (m >= place.sets_of(group)) continue;
    const int set = place.set_of(group, m), chunk = set / positions, position = set - chunk * positions;
    each_sum(sums.acc[m], sums.warp * 16, 0, [&](int row, int n, float sum) {
      const int i = chunk * Tr::kIns + row, o = place.first_out + n;
      if (i >= p.weight.ins || o >= p.weight.outs) return;
      partial[((place.split * positions + position) * p.weight.outs + o) * p.weight.ins + i] = sum;
    });
  }
}

template <class Tr>
__global__ void __launch_bounds__((1 + Tr::kGroups) * Tr::kThreads, 1)
    masked_conv2d_wgmma_weight_kernel(const __grid_constant__ WgmmaWeightParams p) {
#ifdef PYGEN_HAS_WGMMA
  PYGEN_DYNAMIC_SHARED(dynamic);
  const WeightMemory<Tr> memory(p, dynamic);
  const WeightPlace<Tr> place(p, blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kTileRowBytes / 16) reinterpret_cast<uint4*>(memory.zeros)[thread] = make_uint4(0, 0, 0, 0);
  if (thread == 0) {
    for (int i = 0; i < kMostStages; ++i) {
      init_barrier(memory.full + i, 1);
      init_barrier(memory.empty + i, Tr::kGroups * Tr::kThreads / 32);
    }
    publish_barriers();
  }
  __syncthreads();
  if (thread < Tr::kThreads) {
    keep_registers<40>();
    if (thread == 0) copy_steps<Tr>(p, place, memory);
  } else {
    take_registers<232>();
    const int group = thread / Tr::kThreads - 1;
    if (place.sets_of(group) == Tr::kSets) {
      sum_steps<Tr, Tr::kSets>(p, place, memory, group);
    } else {
      sum_steps<Tr, 1>(p, place, memory, group);
    }
  }
#endif
}

}  // namespace pygen::cuda
