// What the kernels of couplings share: parts of tensors, and how a sample's units are dealt to threads.
#pragma once

#include "cuda/coupling.h"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

struct CouplingOperand {
  char* data;                         // null: absent
  int64_t row, outer, middle, inner;  // strides in elements
};

struct CouplingPart {
  int64_t middle, inner;      // sizes
  int64_t line_units, units;  // of one run along the inner dim; of a sample
};

// Where a unit of a sample lies.
struct UnitPlace {
  int64_t row, outer, middle, inner;
  int count;

  __device__ __forceinline__ UnitPlace(const CouplingPart& part, int64_t row, int64_t unit, int width) : row(row) {
    const auto quotient = [](int64_t a, int64_t b) {
      return static_cast<int64_t>(divide(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
    };
    const int64_t line = part.units == part.line_units ? 0 : quotient(unit, part.line_units);
    outer = line == 0 ? 0 : quotient(line, part.middle);
    middle = line - outer * part.middle;
    inner = (unit - line * part.line_units) * width;
    const int64_t left = part.inner - inner;
    count = left < width ? static_cast<int>(left) : width;
  }
  __device__ __forceinline__ int64_t offset(const CouplingOperand& t) const {
    return row * t.row + outer * t.outer + middle * t.middle + inner * t.inner;
  }
};

// body(place) for each of the thread's units of a part.
template <class Tr, class Params, class Body>
__device__ __forceinline__ void for_each_unit(const Params& p, const CouplingPart& part, int64_t row, int64_t tile,
                                              Body body) {
  const int lanes = 1 << p.lane_bits, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  if (row >= p.rows) return;
  for (int step = 0; step < Tr::kSteps; ++step) {
    const int64_t unit = (tile * Tr::kSteps + step) * lanes + lane;
    if (unit >= part.units) return;
    body(UnitPlace(part, row, unit, Tr::kUnit));
  }
}

inline CouplingOperand operand(const CouplingArgument& t) {
  return {reinterpret_cast<char*>(t.address), t.strides[0], t.strides[1], t.strides[2], t.strides[3]};
}

inline CouplingPart part(const int64_t (&sizes)[3], int unit) {
  const int64_t line = (sizes[2] + unit - 1) / unit;
  return {sizes[1], sizes[2], line, sizes[0] * sizes[1] * line};
}

// Units of a sample along the lanes of a block, and a long sample along several blocks.
template <class Tr, class Params>
void deal_units(Params& p) {
  const int64_t units = p.live.units > p.rest.units ? p.live.units : p.rest.units;
  while ((Tr::kThreads >> p.lane_bits) > 1 && (int64_t(1) << p.lane_bits) < units) ++p.lane_bits;
  const int64_t each = int64_t(Tr::kSteps) << p.lane_bits;
  p.tiles = units > 0 ? (units + each - 1) / each : 1;
}

}  // namespace
}  // namespace pygen::cuda
