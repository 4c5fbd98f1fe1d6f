// What the couplings' kernels share: blocks of a part's places, and the copy of what passes unchanged.
#pragma once

#include <algorithm>

#include "cpu/block_io.h"
#include "cpu/coupling.h"
#include "cpu/row_blocks.h"

namespace pygen {

inline namespace PYGEN_ISA {

constexpr int64_t kCouplingBlock = 1024;  // places; a block's scratch fits the L1 and L2 caches
constexpr int64_t kCouplingRow = 64;  // rows this long are looked at one by one: many lie in memory as they are needed
using CouplingBlocks = RowBlocks<kCouplingBlock>;

// Once in a module, as so many calls of them inlined would make most of its size.
template <class T, class Real>
__attribute__((noinline)) const Real* read_piece(const View& view, int64_t start, int64_t n, Real* to) {
  return read_block<T>(view, start, n, to);
}
template <class T, class Real>
__attribute__((noinline)) Real* piece_target(const View& view, int64_t start, int64_t n, Real* scratch) {
  return block_target<T>(view, start, n, scratch);
}
template <class T, class Real>
__attribute__((noinline)) void write_piece(const View& view, int64_t start, int64_t n, const Real* from) {
  write_block<T>(view, start, n, from);
}

// body(start, at, n) for the pieces of a block; `at` counts from the block's start.
template <class Body>
PYGEN_INLINE void for_each_piece(const CouplingBlocks& blocks, int64_t block, Body body) {
  const int64_t start = blocks.start(block), size = blocks.size(block);
  const int64_t step = blocks.blocks_per_row == 1 && blocks.cols >= kCouplingRow ? blocks.cols : size;
  for (int64_t at = 0; at < size; at += step) body(start + at, at, std::min(step, size - at));
}

// The places that pass unchanged of a block's rows, or its share of them.
template <class T, class Real>
void copy_rest(const CouplingHalf& rest, const CouplingBlocks& blocks, int64_t block, Real* scratch) {
  if (rest.count == 0 || !rest.output.present()) return;
  const int64_t parts = blocks.blocks_per_row, part = parts > 1 ? block % parts : 0;
  const int64_t row = blocks.first_row(block), rows = parts > 1 ? 1 : blocks.num_rows(block);
  const int64_t first = row * rest.count + rest.count * part / parts;
  const int64_t end = parts > 1 ? row * rest.count + rest.count * (part + 1) / parts : first + rows * rest.count;
  for (int64_t at = first; at < end;) {
    const int64_t left = rest.count >= kCouplingRow ? rest.count - at % rest.count : end - at;
    const int64_t n = std::min(std::min(kCouplingBlock, end - at), left);
    T* from = rest.input.present() ? run_in_place<T, T>(rest.input, at, n) : nullptr;
    T* to = run_in_place<T, T>(rest.output, at, n);
    if (from && to) {
      std::copy_n(from, n, to);
    } else {
      const Real* values = scratch;
      if (rest.input.present()) {
        values = read_piece<T>(rest.input, at, n, scratch);
      } else {
        std::fill_n(scratch, n, Real(0));
      }
      Real* target = piece_target<T>(rest.output, at, n, scratch);
      if (target != values) std::copy_n(values, n, target);
      write_piece<T>(rest.output, at, n, target);
    }
    at += n;
  }
}

// The gradient of log_det, [images] or null, at each place of a piece whose samples have `count` of them.
template <class Real>
const Real* spread_log_det(const void* grads, int64_t stride, int64_t count, int64_t start, int64_t n, Real* to) {
  const Real* from = static_cast<const Real*>(grads);
  for (int64_t i = 0; i < n;) {
    const int64_t row = (start + i) / count, run = std::min((row + 1) * count - start, n) - i;
    std::fill_n(to + i, run, from ? from[row * stride] : Real(0));
    i += run;
  }
  return to;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
