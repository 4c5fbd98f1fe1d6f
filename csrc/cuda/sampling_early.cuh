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
    const Line row = line(place, step.source_at, step.source_rows, step.source_pitch, y + s.dy);
    for (int i = static_cast<int>(threadIdx.x); i < of.pixels * 4; i += static_cast<int>(blockDim.x)) {
      const short2 where = places(place)[i / 4];
      const int x = where.y + s.dx, from = at + i % 4 * 16;
      const bool there = x >= 0 && x < place.p.width;
      const int some = there ? max(0, min(16, bytes - from)) : 0;
      const char* const pixel = reinterpret_cast<const char*>(row.pixel(place, {where.x, static_cast<short>(x)}));
      copy_async(to + i * 16, some > 0 ? pixel + from : row.row, some);
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
    __syncthreads();  // the last run has been read
    if (works) finish(place, step, y, of, d, pair, column);
  }

  // A warp's sums by way of shared memory, [16 rows, 64 pixels] of one tile after the other: eight lanes are to write
  // neighbouring channels of a pixel. Row r lies turned by 8 r pixels, for the banks.
  static __device__ __forceinline__ void finish(const Place& place, const SamplingStep& step, int y,
                                                const EarlyItem& of, const float (&d)[2][kWarpEights][4], int pair,
                                                int column) {
    const int lane = static_cast<int>(threadIdx.x) % 32, eighth = lane % 8;
    float* const sums = reinterpret_cast<float*>(fetched(place, 0)) + place.warp * 16 * kWarpPixels;
    const auto at = [](int row, int pixel) { return row * kWarpPixels + (pixel ^ row % 8 * 8); };
    const Line add = line(place, step.add_at, step.add_rows, step.add_pitch, y);
    const Line conv = line(place, step.conv_at, step.conv_rows, step.conv_pitch, y);
    const Line out = line(place, step.out_at, step.out_rows, step.out_pitch, y);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int tile = 2 * pair + m;
      if (tile >= step.tiles) break;
      __syncwarp();  // the tile before has been read
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n) {
        const int pixel = n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(sums + at(lane / 4, pixel)) = {d[m][n][0], d[m][n][1]};
        *reinterpret_cast<float2*>(sums + at(lane / 4 + 8, pixel)) = {d[m][n][2], d[m][n][3]};
      }
      __syncwarp();
      // This lane's rows and channels: a gate's two halves, or two outputs.
      const int row = step.gate ? tile * 8 + eighth : tile * 16 + eighth;
      const int second = row + (step.gate ? step.outs : 8), rows = step.gate ? 2 * step.outs : step.outs;
      const bool here = row < step.outs, also = here && second < rows;
      const T* const bias = reinterpret_cast<const T*>(step.bias);
      const Pair known = {bias && here ? widen_to(bias[row]) : 0.0f, bias && also ? widen_to(bias[second]) : 0.0f};
      for (int pixel = lane / 8; here && pixel < min(kWarpPixels, of.pixels - column); pixel += 4) {
        const short2 where = places(place)[column + pixel];
        Pair sum = {known.a + sums[at(eighth, pixel)], known.b + sums[at(eighth + 8, pixel)]};
        if (const T* const from = add.pixel(place, where)) {
          sum.a += widen_to(__ldcg(from + row));
          if (also) sum.b += widen_to(__ldcg(from + second));
        }
        if (T* const to = conv.pixel(place, where)) {
          to[row] = narrow_to<T>(sum.a);
          if (also) to[second] = narrow_to<T>(sum.b);
        }
        T* const to = out.pixel(place, where);
        if (to == nullptr) continue;
        if (step.gate) {
          place.condition(sum, step, row, where.x, y, where.y);
          to[row] = narrow_to<T>(gate_of(sum.a, sum.b));
        } else {
          to[row] = narrow_to<T>(sum.a);
          if (also) to[second] = narrow_to<T>(sum.b);
        }
      }
    }
  }

  // Row y of a stream in the images' memory, or null.
  struct Line {
    char* row;
    int pitch;
    __device__ __forceinline__ T* pixel(const Place& place, short2 where) const {
      if (row == nullptr) return nullptr;
      return reinterpret_cast<T*>(row + where.x * place.p.image_bytes + int64_t(where.y) * pitch);
    }
  };
  static __device__ __forceinline__ Line line(const Place& place, int at, int rows, int pitch, int y) {
    return {at < 0 ? nullptr : place.row_in_memory(at, rows, pitch, 0, y), pitch};
  }
};

}  // namespace pygen::cuda
