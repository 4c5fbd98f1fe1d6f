// Rows cut into blocks whose size never depends on the number of threads, nor a row's blocks on the other rows' number.
#pragma once

#include <cstdint>

namespace pygen {

// Blocks are whole rows while a row fits, else parts of one row.
template <int64_t kBlock>
struct RowBlocks {
  int64_t rows, cols, rows_per_block, blocks_per_row, count;
  RowBlocks(int64_t rows, int64_t cols)
      : rows(rows),
        cols(cols),
        rows_per_block(cols == 0        ? kBlock
                       : cols >= kBlock ? 1
                                        : kBlock / cols),
        blocks_per_row(cols <= kBlock ? 1 : (cols + kBlock - 1) / kBlock),
        count(blocks_per_row > 1 ? rows * blocks_per_row : (rows + rows_per_block - 1) / rows_per_block) {}
  int64_t first_row(int64_t block) const {
    return blocks_per_row > 1 ? block / blocks_per_row : block * rows_per_block;
  }
  int64_t num_rows(int64_t block) const {
    const int64_t left = rows - first_row(block);
    return left < rows_per_block ? left : rows_per_block;
  }
  int64_t start(int64_t block) const {
    return first_row(block) * cols + (blocks_per_row > 1 ? block % blocks_per_row * kBlock : 0);
  }
  int64_t size(int64_t block) const {
    if (blocks_per_row == 1) return num_rows(block) * cols;
    const int64_t left = cols - block % blocks_per_row * kBlock;
    return left < kBlock ? left : kBlock;
  }
};

}  // namespace pygen
