// What is made a row at a time: the early steps of the cluster sampler, matrix products of weights by the row's pixels
// of all the cluster's images. The blocks share out rows of weights and pixels, and meet where a step reads what
// another block has made.
//
// A warp has 32 rows by 64 pixels. Pixels' channels come through shared memory, 64 bytes of each at a time, kFetched
// ahead; weights, packed as they are multiplied, come straight into registers.
#pragma once

#include "cuda/sampling_place.cuh"

namespace pygen::cuda {

constexpr int kWarpPixels = 64, kWarpEights = kWarpPixels / 8, kFetched = 4;

// Of a step's work: `pixels` from the row's flattened [images, width], and warps along both.
struct EarlyItem {
  int pair0, pairs;  // of tiles
  int pixel0, pixels;
};

template <class T>
struct Early {
  using Place = ClusterPlace<T>;

  // Which image and column each of the block's pixels is; beyond the last one image -1.
  static __device__ __forceinline__ short2* places(const Place& place) {
    return reinterpret_cast<short2*>(place.shared + place.p.shared.early);
  }
  static __device__ __forceinline__ char* fetched(const Place& place, int slot) {
    const int pixels = place.p.early_positions;
    return place.shared + place.p.shared.early + pixels * static_cast<int>(sizeof(short2)) +
           slot * pixels * kBlockBytes;
  }

  static __device__ __forceinline__ void run(const Place& place, const SamplingStep& step, int y) {
    // Warps along the weights' rows, as far as there are some, but four at most: else the pixels' share is too small.
    const int pairs = (step.tiles + 1) / 2, pixels = place.images * place.p.width;
    int down = 1;
    while (down < 4 && down < pairs && 2 * down <= place.warps) down *= 2;
    const int across = min(place.warps / down, place.p.early_positions / kWarpPixels);
    const int pair_groups = (pairs + down - 1) / down, each = across * kWarpPixels;
    const int items = pair_groups * ((pixels + each - 1) / each);
    for (int item = place.rank; item < items; item += place.p.size) {
      const int pair0 = item % pair_groups * down, pixel0 = item / pair_groups * each;
      multiply(place, step, y, {pair0, min(down, pairs - pair0), pixel0, min(each, pixels - pixel0)}, down, across);
    }
  }

  // The runs of the step's channels, tap after tap; those above the image are left out.
  struct Run {
    int segment, block;
  };
  static __device__ __forceinline__ bool settle(const Place& place, const SamplingStep& step, int y, Run& run) {
    for (; run.segment < step.num_segments; ++run.segment, run.block = 0) {
      const SamplingSegment s = place.p.segments[step.segments + run.segment];
      if (y + s.dy >= 0 && run.block * kBlockBytes < s.channels * static_cast<int>(sizeof(T))) return true;
    }
    return false;
  }

  static __device__ __forceinline__ void fetch(const Place& place, const SamplingStep& step, int y, const Run& run,
                                               const EarlyItem& of, int slot) {
    const SamplingSegment s = place.p.segments[step.segments + run.segment];
    char* const to = fetched(place, slot);
    const int at = run.block * kBlockBytes, bytes = s.channels * static_cast<int>(sizeof(T));
    for (int i = static_cast<int>(threadIdx.x); i < of.pixels * 4; i += static_cast<int>(blockDim.x)) {
      const short2 where = places(place)[i / 4];
      const int x = where.y + s.dx, from = at + i % 4 * 16;
      const bool there = x >= 0 && x < place.p.width;
      const char* const row =
          place.row_in_memory(step.source_at, step.source_rows, step.source_pitch, where.x, y + s.dy);
      const int some = there ? max(0, min(16, bytes - from)) : 0;
      copy_async(to + i * 16, some > 0 ? row + int64_t(x) * step.source_pitch + from : row, some);
    }
  }

  // Weights of a pair of tiles; of an odd number's last pair the first one's twice.
  static __device__ __forceinline__ void load(const Place& place, const SamplingStep& step, int pair, const Run& run,
                                              uint4 (&a)[2][2]) {
    const int block = place.p.segments[step.segments + run.segment].block + run.block;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int64_t tile = min(2 * pair + m, step.tiles - 1);
      const char* const at = place.p.weights + step.weight + (tile * step.blocks + block) * kTileBytes;
      const uint4* const w = reinterpret_cast<const uint4*>(at) + static_cast<int>(threadIdx.x) % 32;
      a[m][0] = w[0];
      a[m][1] = w[32];
    }
  }

  static __device__ __forceinline__ void multiply(const Place& place, const SamplingStep& step, int y,
                                                  const EarlyItem& of, int down, int across) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int pair = of.pair0 + place.warp % down, column = place.warp / down * kWarpPixels;
    const bool works = place.warp < down * across && place.warp % down < of.pairs && column < of.pixels;
    __syncthreads();  // the item before has been read
    for (int i = static_cast<int>(threadIdx.x); i < of.pixels; i += static_cast<int>(blockDim.x)) {
      const int pixel = of.pixel0 + i;
      places(place)[i] = {static_cast<short>(pixel / place.p.width), static_cast<short>(pixel % place.p.width)};
    }
    __syncthreads();
    float d[2][kWarpEights][4] = {};
    Run next{0, 0}, run{0, 0};
    bool more = settle(place, step, y, next);
    for (int slot = 0; slot < kFetched - 1; ++slot) {
      if (more) {
        fetch(place, step, y, next, of, slot);
        ++next.block;
        more = settle(place, step, y, next);
      }
      commit_copies();
    }
    uint4 a[2][2] = {}, after[2][2] = {};
    bool turns = settle(place, step, y, run);
    if (turns && works) load(place, step, pair, run, a);
    for (int turn = 0; turns; ++turn) {
      wait_copies<kFetched - 2>();
      __syncthreads();
      if (more) {
        fetch(place, step, y, next, of, (turn + kFetched - 1) % kFetched);
        ++next.block;
        more = settle(place, step, y, next);
      }
      commit_copies();
      ++run.block;
      turns = settle(place, step, y, run);
      if (!works) continue;
      if (turns) load(place, step, pair, run, after);
      const uint4* const pixels =
          reinterpret_cast<const uint4*>(fetched(place, turn % kFetched) + column * kBlockBytes);
      uint4 in[kWarpEights];
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n) {
        in[n] = pixels[n * 32 + lane];
        if (step.relu) rectify<T>(in[n]);
      }
      multiply_block<T>(d, a, in);
      memcpy(a, after, sizeof a);
    }
    wait_copies<0>();
    if (works) finish(place, step, y, of, d, pair, column);
  }

  static __device__ __forceinline__ void finish(const Place& place, const SamplingStep& step, int y,
                                                const EarlyItem& of, const float (&d)[2][kWarpEights][4], int pair,
                                                int column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int tile = 2 * pair + m;
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (step.gate && i >= 2) continue;  // beside the first half
          const int pixel = column + n * 8 + lane % 4 * 2 + i % 2;
          const int channel = step.gate ? tile * 8 + lane / 4 : tile * 16 + lane / 4 + i / 2 * 8;
          if (tile >= step.tiles || pixel >= of.pixels || channel >= step.outs) continue;
          const short2 where = places(place)[pixel];
          Pair sum = place.base(step, channel, where.x, y, where.y);
          sum.a += d[m][n][i];
          sum.b += d[m][n][i | 2];
          if (step.conv_at >= 0) {
            T* const conv =
                place.in_memory(step.conv_at, step.conv_rows, step.conv_pitch, where.x, y, where.y, channel);
            conv[0] = to_type<T>(sum.a);
            if (step.gate) conv[step.outs] = to_type<T>(sum.b);
          }
          if (step.out_at < 0) continue;
          place.condition(sum, step, channel, where.x, y, where.y);
          *place.in_memory(step.out_at, step.out_rows, step.out_pitch, where.x, y, where.y, channel) =
              to_type<T>(step.gate ? gate_of(sum.a, sum.b) : sum.a);
        }
      }
    }
  }
};

}  // namespace pygen::cuda
