// How rows are dealt to blocks and threads, and where each thread then stands.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/tensor.cuh"

namespace pygen::cuda {

// 2^lane_bits threads take a row (several rows share a block where rows are short), each thread `units` units a turn,
// `turns` turns; a long row is cut into blocks_per_row blocks.
struct Tiling {
  int64_t rows, row_size, blocks, blocks_per_row;
  int lane_bits, turns;
  __host__ __device__ int lanes() const { return 1 << lane_bits; }
};

// total: one sum runs over all rows. max_turns is 1 where nothing is summed.
inline Tiling make_tiling(int64_t rows, int64_t row_size, int unit, int units, int threads, bool total, int max_turns) {
  // A row that starts inside a unit may touch one unit more.
  const int64_t row_units = row_size % unit == 0 ? row_size / unit : (row_size + 2 * unit - 2) / unit;
  Tiling t{rows, row_size, 0, 1, 0, 1};
  while (t.lanes() < threads && static_cast<int64_t>(t.lanes()) * units < row_units) ++t.lane_bits;
  const int64_t tile = static_cast<int64_t>(t.lanes()) * units, tiles = (row_units + tile - 1) / tile;
  // Several turns a block mean fewer partial sums. A sum per row looks at the row's size alone, so that a row's result
  // does not depend on its batch; a total looks at everything, so that little work stays spread over many blocks.
  constexpr int64_t kManyBlocks = 2048;
  const int64_t turns = std::clamp<int64_t>(total ? rows * tiles / kManyBlocks : tiles, 1, max_turns);
  t.blocks_per_row = (tiles + turns - 1) / turns;
  t.turns = static_cast<int>((tiles + t.blocks_per_row - 1) / t.blocks_per_row);
  const int rows_per_block = threads / t.lanes();
  t.blocks = (rows + rows_per_block - 1) / rows_per_block * t.blocks_per_row;
  return t;
}

// Keeps the compiler from computing x anew at each use, which it prefers to holding a register.
__device__ __forceinline__ void keep(int64_t& x) {
#if defined(__CUDA_ARCH__)
  asm("" : "+l"(x));
#else
  static_cast<void>(x);
#endif
}

template <int kThreads, int kUnit, int kUnits>
struct Place {
  int64_t row;
  int64_t j, d;  // the thread's first unit of the turn: logical index of its first element, and that within the row
  bool live;     // the last block may have more threads than rows

  __device__ __forceinline__ Place(const Tiling& t, unsigned block) {
    const int thread = static_cast<int>(threadIdx.x);
    const unsigned per_row = static_cast<unsigned>(t.blocks_per_row);
    const unsigned row_block = per_row == 1 ? block : block / per_row, part = block - row_block * per_row;
    row = static_cast<int64_t>(row_block) * (kThreads >> t.lane_bits) + (thread >> t.lane_bits);
    live = row < t.rows;
    if (!live) row = t.rows - 1;
    const int64_t begin = row * t.row_size;
    j = (begin & -kUnit) + part * (t.turns * step(t)) + (thread & (t.lanes() - 1)) * kUnit;
    d = j - begin;
    keep(row);
    keep(j);
    keep(d);
  }
  __device__ __forceinline__ void next_turn(const Tiling& t) {
    j += step(t);
    d += step(t);
  }

  // The thread's unit u. False where it holds nothing of the row: s then is one that may be read, and must not be
  // written.
  template <bool kAligned>
  __device__ __forceinline__ bool span(const Tiling& t, int u, Span& s) const {
    const int ahead = (u << t.lane_bits) * kUnit;
    s.row = row;
    s.j = j + ahead;
    s.d = d + ahead;
    s.lo = 0;
    s.hi = kUnit;
    const bool some = live && s.d < t.row_size;
    if (kAligned) {
      if (!some) s.d = 0;
    } else {
      if (s.d < 0) s.lo = static_cast<int>(-s.d);
      if (s.d + kUnit > t.row_size) s.hi = some ? static_cast<int>(t.row_size - s.d) : s.lo;
    }
    return some;
  }

 private:
  static __device__ __forceinline__ int64_t step(const Tiling& t) { return (kUnits << t.lane_bits) * kUnit; }
};

}  // namespace pygen::cuda
