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

struct WarpTiles {
  int down, across;
};

// A row of a stream in the images' memory, or null.
template <class T>
struct Line {
  char* row;
  int pitch;
  __device__ __forceinline__ T* pixel(const ClusterPlace<T>& place, short2 where) const {  // image, column
    if (row == nullptr) return nullptr;
    return reinterpret_cast<T*>(row + where.x * place.p.image_bytes + int64_t(where.y) * pitch);
  }
};

// Where a step's pixels come from and where they go: of networks that see the image in one resolution. A step of
// another kind of network has another one, with the same names.
template <class T>
struct OneScale {
  using Place = ClusterPlace<T>;
  using Step = SamplingStep;

  // Pixels that a row of the step has, and a row of its source.
  static __device__ __forceinline__ int width(const Place& place, const Step&) { return place.p.width; }
  static __device__ __forceinline__ int source_width(const Place& place, const Step&) { return place.p.width; }
  // The source's row and column that a tap reads for row y and the row's pixel x.
  static __device__ __forceinline__ int source_row(const Step&, int y, int dy) { return y + dy; }
  static __device__ __forceinline__ int source_column(const Step&, int x, int dx) { return x + dx; }
  static __device__ __forceinline__ Line<T> source(const Place& place, const Step& step, int row) {
    return line(place, step.source_at, step.source_rows, step.source_pitch, row);
  }
  static __device__ __forceinline__ bool rectifies(const Step& step) { return step.relu; }
  // So many taps of a row, neighbours, are multiplied for one run of channels before the next.
  static __device__ __forceinline__ int beside(const Step&) { return 1; }

  // Warps of a block along the weights' rows, as far as there are some, but four at most: else the pixels' share is too
  // small; and along pixels.
  static __device__ __forceinline__ WarpTiles warps(const Place& place, const Step&, int pairs) {
    int down = 1;
    while (down < 4 && down < pairs && 2 * down <= place.warps) down *= 2;
    return {down, min(place.warps / down, place.p.early_positions / kWarpPixels)};
  }

  // Where the sums of row y go. A lane has two of each tile's rows, a gate's two halves or two outputs.
  struct Target {
    Line<T> add, conv, out;
    int y;
    struct Rows {
      int row, second;
      bool here, also;
      Pair known;
    };
    __device__ __forceinline__ Target(const Place& place, const Step& step, int y)
        : add(line(place, step.add_at, step.add_rows, step.add_pitch, y)),
          conv(line(place, step.conv_at, step.conv_rows, step.conv_pitch, y)),
          out(line(place, step.out_at, step.out_rows, step.out_pitch, y)),
          y(y) {}
    __device__ __forceinline__ Rows rows(const Step& step, int tile, int eighth) const {
      const int row = step.gate ? tile * 8 + eighth : tile * 16 + eighth;
      const int second = row + (step.gate ? step.outs : 8), rows = step.gate ? 2 * step.outs : step.outs;
      const bool here = row < step.outs, also = here && second < rows;
      const T* const bias = reinterpret_cast<const T*>(step.bias);
      return {row,
              second,
              here,
              also,
              {bias && here ? widen_to(bias[row]) : 0.0f, bias && also ? widen_to(bias[second]) : 0.0f}};
    }
    // sum: with the bias.
    __device__ __forceinline__ void put(const Place& place, const Step& step, const Rows& of, short2 where,
                                        Pair sum) const {
      if (const T* const from = add.pixel(place, where)) {
        sum.a += widen_to(__ldcg(from + of.row));
        if (of.also) sum.b += widen_to(__ldcg(from + of.second));
      }
      if (T* const to = conv.pixel(place, where)) {
        to[of.row] = narrow_to<T>(sum.a);
        if (of.also) to[of.second] = narrow_to<T>(sum.b);
      }
      T* const to = out.pixel(place, where);
      if (to == nullptr) return;
      if (step.gate) {
        place.condition(sum, step, of.row, where.x, y, where.y);
        to[of.row] = narrow_to<T>(gate_of(sum.a, sum.b));
      } else {
        to[of.row] = narrow_to<T>(sum.a);
        if (of.also) to[of.second] = narrow_to<T>(sum.b);
      }
    }
  };

 private:
  static __device__ __forceinline__ Line<T> line(const Place& place, int at, int rows, int pitch, int y) {
    return {at < 0 ? nullptr : place.row_in_memory(at, rows, pitch, 0, y), pitch};
  }
};

// A warp's sums of `count` tiles from tile0 on and `pixels` pixels go where the step wants them, by way of `room` in
// shared memory, [16 rows, pixels] of one tile after the other: eight lanes are to write neighbouring channels of a
// pixel. Rows lie turned, for the banks. where: image and column of a pixel.
template <class Scale, class Place, class Step, int kM, int kN, class Where>
__device__ __forceinline__ void put_sums(const Place& place, const Step& step, int y, const float (&d)[kM][kN][4],
                                         char* room, int tile0, int count, int pixels, const Where& where) {
  constexpr int kPixels = kN * 8;
  int lane = static_cast<int>(threadIdx.x) % 32;
  asm volatile("" : "+r"(lane));  // addresses made of it are not to be kept in registers while steps are multiplied
  const int eighth = lane % 8;
  float* const sums = reinterpret_cast<float*>(room) + place.warp * 16 * kPixels;
  const auto at = [](int row, int pixel) { return row * kPixels + (pixel ^ row % kN * 8); };
  const typename Scale::Target target(place, step, y);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    if (m >= count) break;
    __syncwarp();  // the tile before has been read
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const int pixel = n * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(sums + at(lane / 4, pixel)) = {d[m][n][0], d[m][n][1]};
      *reinterpret_cast<float2*>(sums + at(lane / 4 + 8, pixel)) = {d[m][n][2], d[m][n][3]};
    }
    __syncwarp();
    const typename Scale::Target::Rows rows = target.rows(step, tile0 + m, eighth);
    for (int pixel = lane / 8; rows.here && pixel < min(kPixels, pixels); pixel += 4) {
      const Pair sum = {rows.known.a + sums[at(eighth, pixel)], rows.known.b + sums[at(eighth + 8, pixel)]};
      target.put(place, step, rows, where(pixel), sum);
    }
  }
}

template <class T, class Scale = OneScale<T>>
struct Early {
  using Place = ClusterPlace<T>;
  using Step = typename Scale::Step;

  // Which image and column each of the block's pixels is; beyond the last one image -1.
  static __device__ __forceinline__ short2* places(const Place& place) {
    return reinterpret_cast<short2*>(place.shared + place.p.shared.early);
  }
  static __device__ __forceinline__ char* fetched(const Place& place, int slot) {
    const int pixels = place.p.early_positions;
    return place.shared + place.p.shared.early + pixels * static_cast<int>(sizeof(short2)) +
           slot * pixels * kBlockBytes;
  }

  static __device__ __forceinline__ void run(const Place& place, const Step& step, int y) {
    const int pairs = (step.tiles + 1) / 2, pixels = place.images * Scale::width(place, step);
    const auto [down, across] = Scale::warps(place, step, pairs);
    const int pair_groups = (pairs + down - 1) / down, each = across * kWarpPixels;
    const int items = pair_groups * ((pixels + each - 1) / each);
    for (int item = place.rank; item < items; item += place.p.size) {
      const int pair0 = item % pair_groups * down, pixel0 = item / pair_groups * each;
      multiply(place, step, y, {pair0, min(down, pairs - pair0), pixel0, min(each, pixels - pixel0)}, down, across);
    }
  }

  // A run of the step's channels: a tap of a row of them, the first of which is `segment`.
  struct Run {
    int segment, block, tap;
    __device__ __forceinline__ SamplingSegment of(const Place& place, const Step& step) const {
      return place.p.segments[step.segments + segment + tap];
    }
    __device__ __forceinline__ void advance(const Step& step) {
      if (++tap < Scale::beside(step)) return;
      tap = 0;
      ++block;
    }
  };
  // Goes on to where there is one; rows above the image are left out. False: behind the last one.
  static __device__ __forceinline__ bool settle(const Place& place, const Step& step, int y, Run& run) {
    for (; run.segment < step.num_segments; run.segment += Scale::beside(step), run.block = 0) {
      const SamplingSegment s = run.of(place, step);
      if (Scale::source_row(step, y, s.dy) >= 0 && run.block * kBlockBytes < s.channels * static_cast<int>(sizeof(T)))
        return true;
    }
    return false;
  }

  static __device__ __forceinline__ void fetch(const Place& place, const Step& step, int y, const Run& run,
                                               const EarlyItem& of, int slot) {
    const SamplingSegment s = run.of(place, step);
    fetch_pixels(place, step, Scale::source(place, step, Scale::source_row(step, y, s.dy)), s, run.block, s.dx,
                 of.pixels, slot);
  }
  // The run `block` of s's channels in `row`, of the first `count` places, dx pixels to their right.
  static __device__ __forceinline__ void fetch_pixels(const Place& place, const Step& step, const Line<T>& row,
                                                      const SamplingSegment& s, int block, int dx, int count,
                                                      int slot) {
    char* const to = fetched(place, slot);
    const int at = block * kBlockBytes, bytes = s.channels * static_cast<int>(sizeof(T));
    for (int i = static_cast<int>(threadIdx.x); i < count * 4; i += static_cast<int>(blockDim.x)) {
      const short2 where = places(place)[i / 4];
      const int x = Scale::source_column(step, where.y, dx), from = at + i % 4 * 16;
      const bool there = x >= 0 && x < Scale::source_width(place, step);
      const int some = there ? max(0, min(16, bytes - from)) : 0;
      const char* const pixel = reinterpret_cast<const char*>(row.pixel(place, {where.x, static_cast<short>(x)}));
      copy_async(to + i * 16, some > 0 ? pixel + from : row.row, some);
    }
  }

  // Weights of a pair of tiles; of an odd number's last pair the first one's twice.
  static __device__ __forceinline__ void load(const Place& place, const Step& step, int pair, const Run& run,
                                              uint4 (&a)[2][2]) {
    const int block = run.of(place, step).block + run.block;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int64_t tile = min(2 * pair + m, step.tiles - 1);
      const char* const at = place.p.weights + step.weight + (tile * step.blocks + block) * kTileBytes;
      const uint4* const w = reinterpret_cast<const uint4*>(at) + static_cast<int>(threadIdx.x) % 32;
      a[m][0] = w[0];
      a[m][1] = w[32];
    }
  }

  static __device__ __forceinline__ void multiply(const Place& place, const Step& step, int y, const EarlyItem& of,
                                                  int down, int across) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int pair = of.pair0 + place.warp % down, column = place.warp / down * kWarpPixels;
    const bool works = place.warp < down * across && place.warp % down < of.pairs && column < of.pixels;
    const int width = Scale::width(place, step);
    __syncthreads();  // the item before has been read
    for (int i = static_cast<int>(threadIdx.x); i < of.pixels; i += static_cast<int>(blockDim.x)) {
      const int pixel = of.pixel0 + i;
      places(place)[i] = {static_cast<short>(pixel / width), static_cast<short>(pixel % width)};
    }
    __syncthreads();
    float d[2][kWarpEights][4] = {};
    Run next{0, 0, 0}, run{0, 0, 0};
    bool more = settle(place, step, y, next);
    for (int slot = 0; slot < kFetched - 1; ++slot) {
      if (more) {
        fetch(place, step, y, next, of, slot);
        next.advance(step);
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
        next.advance(step);
        more = settle(place, step, y, next);
      }
      commit_copies();
      run.advance(step);
      turns = settle(place, step, y, run);
      if (!works) continue;
      if (turns) load(place, step, pair, run, after);
      const uint4* const pixels =
          reinterpret_cast<const uint4*>(fetched(place, turn % kFetched) + column * kBlockBytes);
      uint4 in[kWarpEights];
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n) {
        in[n] = pixels[n * 32 + lane];
        if (Scale::rectifies(step)) rectify<T>(in[n]);
      }
      multiply_block<T>(d, a, in);
      memcpy(a, after, sizeof a);
    }
    wait_copies<0>();
    __syncthreads();  // the last run has been read
    if (works) finish(place, step, y, of, d, pair, column);
  }

  static __device__ __forceinline__ void finish(const Place& place, const Step& step, int y, const EarlyItem& of,
                                                const float (&d)[2][kWarpEights][4], int pair, int column) {
    put_sums<Scale>(place, step, y, d, fetched(place, 0), 2 * pair, min(2, step.tiles - 2 * pair), of.pixels - column,
                    [&](int pixel) { return places(place)[column + pixel]; });
  }
};

}  // namespace pygen::cuda
