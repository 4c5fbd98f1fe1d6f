// What the bindings hand to the kernels of crf.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

constexpr int64_t kCrfSequences = 16;  // of a block, which runs side by side
constexpr int64_t kCrfGroups = 64;     // of blocks, at most: each adds up the transitions' gradient for itself

struct Crf {
  DType dtype;
  int64_t sequences, steps, tags;
  Positions emissions;  // an image is a sequence, a channel a step, a position a tag
  // Real, contiguous: [K, K], [K] or nullptr, [K] or nullptr
  const void *transitions, *start, *end;
  const int64_t *labels, *lengths;  // [N, T] or nullptr, [N] or nullptr
  // [blocks, T, K + 1, kCrfSequences] of Real: states, and in the last row what each step was scaled by
  void* kept;
  int threads;

  int64_t blocks() const { return (sequences + kCrfSequences - 1) / kCrfSequences; }
  int64_t groups() const { return blocks() < kCrfGroups ? blocks() : kCrfGroups; }
  int64_t pitch() const { return (tags + 1) * kCrfSequences; }
};

struct CrfForward : Crf {
  void* nll;  // [N], or with `reduce` one number; nullptr: for `kept` alone
  bool reduce;
  double scale;  // of the sum
};

struct CrfBackward : Crf {
  const void* grad;  // [N] with this stride, which may be 0
  int64_t grad_stride;
  double scale;              // of grad
  Positions grad_emissions;  // data == nullptr: not wanted
  void* sums;                // [groups, 2 K + 2, K]; nullptr: no gradient of what follows is wanted
  void *grad_transitions, *grad_start, *grad_end;  // Real, [K, K], [K], [K], written where `sums` is
};

struct CrfDecode : Crf {
  int64_t* decoded;  // [N, T]
  void* scores;      // [N]
};

struct CrfSample : Crf {  // of what forward has kept
  uint64_t seed;
  int64_t samples;
  int64_t* drawn;  // [samples, N, T]
};

}  // namespace pygen
