// A class drawn by an alias table: pygen/reference/noise_sample.py. Integers alone, so equal on every backend.
#pragma once

#include "common/philox.h"

namespace pygen {

// Draw k of row n; the table is [classes, 3]: keep in units of 2^-63, alias, bits that are not looked at.
PYGEN_HD int64_t draw_class(const int64_t* table, int64_t classes, uint64_t seed, int64_t n, int64_t k) {
  uint32_t w[4];
  philox_words(seed, static_cast<uint64_t>(k), static_cast<uint32_t>(n), NoiseDomain::NoiseSample, w);
  const uint64_t count = static_cast<uint64_t>(classes);
  const int64_t column = static_cast<int64_t>((w[0] * count + (w[1] * count >> 32)) >> 32);
  const int64_t kept = static_cast<int64_t>(static_cast<uint64_t>(w[2]) << 31 | w[3] >> 1);
  return kept < table[3 * column] ? column : table[3 * column + 1];
}

}  // namespace pygen
