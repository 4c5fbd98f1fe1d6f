// Sums of losses: one for each row, or one over all, by trees that depend on the sizes alone.
#pragma once

#include <vector>

#include "cpu/block_io.h"
#include "cpu/row_blocks.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real, class Blocks>
class LossSums {
 public:
  // `out`: [rows], or with `total` one number; nullptr: none is wanted.
  LossSums(const Blocks& blocks, bool total, void* out)
      : blocks_(blocks),
        total_(total),
        out_(static_cast<Real*>(out)),
        partial_(out && (total || blocks.blocks_per_row > 1) ? blocks.count : 0) {}

  // How many sums a block makes: one for each row that lies in it whole, or one.
  int64_t count(int64_t block) const { return total_ || blocks_.blocks_per_row > 1 ? 1 : blocks_.num_rows(block); }

  // The r-th sum of a block; from any thread.
  void put(int64_t block, int64_t r, double sum) {
    if (!out_) return;
    if (total_ || blocks_.blocks_per_row > 1) {
      partial_[block] = sum;
    } else {
      out_[blocks_.first_row(block) + r] = static_cast<Real>(sum);
    }
  }

  // The losses of a block's elements; from any thread.
  void add(int64_t block, const Real* losses) {
    if (!out_) return;
    const int64_t rows = count(block), cols = blocks_.size(block) / rows;
    for (int64_t r = 0; r < rows; ++r) put(block, r, sum_block(losses + r * cols, cols));
  }

  // After all blocks. `scale` is of the total.
  void finish(double scale) {
    if (!out_) return;
    if (total_) {
      *out_ = static_cast<Real>(sum(0, blocks_.count) * scale);
    } else if (blocks_.blocks_per_row > 1) {
      for (int64_t row = 0; row < blocks_.rows; ++row)
        out_[row] = static_cast<Real>(sum(row * blocks_.blocks_per_row, blocks_.blocks_per_row));
    }
  }

 private:
  double sum(int64_t first, int64_t count) const {
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += partial_[first + i];
    return total;
  }

  const Blocks& blocks_;
  bool total_;
  Real* out_;
  std::vector<double> partial_;
};

}  // namespace PYGEN_ISA
}  // namespace pygen
