// Early steps by larger tiles, whose weights come through shared memory as their pixels do: of a step's work a warp has
// up to 80 rows by 32 pixels, a block 160 by 128, and both are read from L2 once for all its warps. The pixels of taps
// side by side are fetched once for all of them: a tap reads the run that lies dx positions from its pixel's. Sums are
// those of sampling_early.cuh, in the same order.
#pragma once

#include "cuda/sampling_early.cuh"

namespace pygen::cuda {

constexpr int kStagedTiles = 5, kStagedEights = 4, kStagedPixels = kStagedEights * 8;

template <class T, class Scale>
struct StagedEarly {
  using Plain = Early<T, Scale>;
  using Place = typename Plain::Place;
  using Step = typename Plain::Step;

  struct Item {
    int tile0, tiles;
    int pixel0, pixels;  // from the row's flattened [images, width]
    int positions;       // pixels, and what taps read beside the first and the last one of each image
  };

  // Behind sampling_early.cuh's pixels: the position of each of the block's pixels; then kFetched runs of its tiles.
  static __device__ __forceinline__ int* position_of(const Place& place) {
    return reinterpret_cast<int*>(Plain::fetched(place, kFetched));
  }

  static __device__ __forceinline__ void run(const Place& place, const Step& step, int y) {
    const int width = Scale::width(place, step), pixels = place.images * width;
    const int rows = step.down * step.staged, each = step.across * kStagedPixels;
    const int groups = (step.tiles + rows - 1) / rows, items = groups * ((pixels + each - 1) / each);
    for (int item = place.rank; item < items; item += place.p.size) {
      const int tile0 = item % groups * rows, pixel0 = item / groups * each;
      multiply(place, step, y, {tile0, min(rows, step.tiles - tile0), pixel0, min(each, pixels - pixel0), 0}, width);
    }
  }

  // How far to the left and to the right taps read that share their pixels.
  struct Reach {
    int left, right, first;  // first: the first tap's dx
    __device__ __forceinline__ Reach(const Place& place, const Step& step) : left(0), right(0), first(0) {
      if (Scale::beside(step) == 1) return;
      first = place.p.segments[step.segments].dx;
      left = max(0, -first);
      right = max(0, first + Scale::beside(step) - 1);
    }
  };

  // Image and column of each position, and where each pixel lies. Returns how many positions there are.
  static __device__ __forceinline__ int spread(const Place& place, const Item& of, const Reach& reach, int width) {
    const int around = reach.left + reach.right, first_image = of.pixel0 / width;
    for (int i = static_cast<int>(threadIdx.x); i < of.pixels; i += static_cast<int>(blockDim.x)) {
      const int image = (of.pixel0 + i) / width, x = of.pixel0 + i - image * width;
      const int at = i + reach.left + (image - first_image) * around;
      const bool first = i == 0 || x == 0, last = i == of.pixels - 1 || x == width - 1;
      position_of(place)[i] = at;
      for (int dx = first ? -reach.left : 0; dx <= (last ? reach.right : 0); ++dx) {
        Plain::places(place)[at + dx] = {static_cast<short>(image), static_cast<short>(x + dx)};
      }
    }
    return of.pixels + ((of.pixel0 + of.pixels - 1) / width - first_image + 1) * around;
  }

  // The run that is to be fetched next. A row of taps has `blocks` runs of channels, each for all its taps in turn.
  struct Next {
    int segment, block, tap, rows;  // rows: of runs of pixels so far
    int blocks;
    SamplingSegment row;
    Line<T> line;  // its pixels
  };
  // Goes on to a row of taps that is not above the image; false: there is none.
  static __device__ __forceinline__ bool seek(const Place& place, const Step& step, int y, Next& next) {
    for (; next.segment < step.num_segments; next.segment += Scale::beside(step)) {
      next.row = place.p.segments[step.segments + next.segment];
      const int row = Scale::source_row(step, y, next.row.dy);
      if (row < 0) continue;
      next.blocks = (next.row.channels * static_cast<int>(sizeof(T)) + kBlockBytes - 1) / kBlockBytes;
      next.line = Scale::source(place, step, row);
      return true;
    }
    return false;
  }
  static __device__ __forceinline__ int count_runs(const Place& place, const Step& step, int y) {
    int runs = 0;
    for (Next next{}; seek(place, step, y, next); next.segment += Scale::beside(step)) {
      runs += next.blocks * Scale::beside(step);
    }
    return runs;
  }
  // A warp copies every so manieth tile; from, to: this lane's 16 bytes of its first one.
  static __device__ __forceinline__ void fetch(const Place& place, const Step& step, int y, const Item& of,
                                               const char* from, char* to, Next& next) {
    if (next.tap == 0) {
      const int dx = Scale::beside(step) == 1 ? next.row.dx : 0;
      Plain::fetch_pixels(place, step, next.line, next.row, next.block, dx, of.positions, next.rows % kFetched);
    }
    from += (next.row.block + next.tap * next.blocks + next.block) * kTileBytes;
    for (int tile = place.warp; tile < of.tiles; tile += place.warps) {
      copy_async(to, from, 16);
      copy_async(to + kTileBytes / 2, from + kTileBytes / 2, 16);
      to += place.warps * kTileBytes;
      from += int64_t(place.warps) * step.blocks * kTileBytes;
    }
    if (++next.tap < Scale::beside(step)) return;
    next.tap = 0;
    ++next.rows;
    if (++next.block < next.blocks) return;
    next.block = 0;
    next.segment += Scale::beside(step);
    seek(place, step, y, next);
  }

  static __device__ __forceinline__ void multiply(const Place& place, const Step& of_step, int y, Item of, int width) {
    const Step step = of_step;  // what the loop needs of it, in registers
    const int lane = static_cast<int>(threadIdx.x) % 32, beside = Scale::beside(step);
    const int own = place.warp % step.down * step.staged, column = place.warp / step.down * kStagedPixels;
    const int count = min(step.staged, of.tiles - own);
    const bool works = place.warp < step.down * step.across && count > 0 && column < of.pixels;
    const Reach reach(place, step);
    __syncthreads();  // the item before has been read
    of.positions = spread(place, of, reach, width);
    __syncthreads();
    const int runs = count_runs(place, step, y), slot_bytes = step.down * step.staged * kTileBytes;
    const char* const from =
        place.p.weights + step.weight + int64_t(of.tile0 + place.warp) * step.blocks * kTileBytes + lane * 16;
    char* const ring = reinterpret_cast<char*>(position_of(place) + place.p.early_positions) + lane * 16;
    char* const to = ring + place.warp * kTileBytes;
    Next next{};
    seek(place, step, y, next);
    for (int slot = 0; slot < kFetched - 1; ++slot) {
      if (slot < runs) fetch(place, step, y, of, from, to + slot * slot_bytes, next);
      commit_copies();
    }
    int at[kStagedEights];  // of this lane's 16 bytes in a run of pixels; beyond the last one any
#pragma unroll
    for (int n = 0; n < kStagedEights; ++n) {
      const int pixel = column + n * 8 + lane / 4;
      at[n] = (position_of(place)[pixel < of.pixels ? pixel : 0] + reach.first) * kBlockBytes + lane % 4 * 16;
    }
    float d[kStagedTiles][kStagedEights][4] = {};
    for (int turn = 0, tap = 0, row = 0; turn < runs; ++turn) {
      wait_copies<kFetched - 2>();
      __syncthreads();
      const int ahead = turn + kFetched - 1;
      if (ahead < runs) fetch(place, step, y, of, from, to + ahead % kFetched * slot_bytes, next);
      commit_copies();
      if (works) {
        const char* const tiles = ring + turn % kFetched * slot_bytes + own * kTileBytes;
        const char* const pixels = Plain::fetched(place, row % kFetched) + tap * kBlockBytes;
        if (sizeof(T) == 2 && count == kStagedTiles) {  // without a branch between loads and products
          multiply_run(d, kStagedTiles, tiles, pixels, at);
        } else {
          multiply_run(d, count, tiles, pixels, at);
        }
      }
      if (++tap == beside) {
        tap = 0;
        ++row;
      }
    }
    wait_copies<0>();
    __syncthreads();  // the last run has been read
    if (!works) return;
    put_sums<Scale>(place, of_step, y, d, Plain::fetched(place, 0), of.tile0 + own, count, of.pixels - column,
                    [&](int pixel) { return Plain::places(place)[position_of(place)[column + pixel]]; });
  }

  // tiles: this lane's 16 bytes of the first of `count`.
  static __device__ __forceinline__ void multiply_run(float (&d)[kStagedTiles][kStagedEights][4], int count,
                                                      const char* tiles, const char* pixels,
                                                      const int (&at)[kStagedEights]) {
    uint4 in[kStagedEights];
#pragma unroll
    for (int n = 0; n < kStagedEights; ++n) in[n] = *reinterpret_cast<const uint4*>(pixels + at[n]);
#pragma unroll
    for (int m = 0; m < kStagedTiles; ++m) {
      if (m >= count) break;
      const uint4* const w = reinterpret_cast<const uint4*>(tiles + m * kTileBytes);
      const uint4 a[1][2] = {{w[0], w[32]}};
      multiply_block<T>(reinterpret_cast<float (&)[1][kStagedEights][4]>(d[m]), a, in);
    }
  }
};

}  // namespace pygen::cuda
