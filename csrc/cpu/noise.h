// Normals and uniforms by the block: the SIMD form of common/philox.h. Same numbers, whatever the width.
#pragma once

#include "common/philox.h"
#include "cpu/simd.h"

namespace pygen {
inline namespace PYGEN_ISA {

// A call may write up to this many floats more than asked for.
constexpr int kNoisePadding = 4 * kLanes;
constexpr int kGroups = 16;

PYGEN_INLINE VecF uniform(VecQ even, VecQ odd) { return float_of_words(even, odd) * 0x1p-32f + 0x1p-33f; }

// Calls take(u) for each kGroups groups of kLanes quads or fewer, u [groups][4][kLanes] the words' uniforms; a group's
// vector lane 4 b + s holds quad s * kLanes / 4 + b, so that interleaving within 128 bits ends in memory order.
template <class Take>
PYGEN_INLINE void for_each_group(uint64_t seed, uint64_t q, int64_t quads, uint32_t k, NoiseDomain domain,
                                 const Take& take) {
  uint64_t order[2][kLanes / 2];
  for (int lane = 0; lane < kLanes; ++lane) order[lane % 2][lane / 2] = (lane % 4) * (kLanes / 4) + lane / 4;
  const VecQ even_quads = load<VecQ>(order[0]), odd_quads = load<VecQ>(order[1]);
  VecQ key0[kPhiloxRounds], key1[kPhiloxRounds];  // in memory: broadcast anew they would cost as much as the rounds
  for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
    key0[round] = VecQ{} + (static_cast<uint32_t>(seed) + round * kPhiloxBump0);
    key1[round] = VecQ{} + (static_cast<uint32_t>(seed >> 32) + round * kPhiloxBump1);
  }
  asm volatile("" : "+m"(key0), "+m"(key1));
  for (int64_t done = 0; done < quads; done += kGroups * kLanes) {
    const int64_t left = (quads - done + kLanes - 1) / kLanes;
    const int groups = left < kGroups ? static_cast<int>(left) : kGroups;
    // Two short loops rather than one long: the processor overlaps more of their iterations.
    alignas(64) float u[kGroups][4][kLanes];
    for (int g = 0; g < groups; ++g, q += kLanes) {
      const VecQ qe = even_quads + q, qo = odd_quads + q;
      VecQ e[4] = {qe, qe >> 32, VecQ{} + k, VecQ{} + static_cast<uint32_t>(domain)};
      VecQ o[4] = {qo, qo >> 32, VecQ{} + k, VecQ{} + static_cast<uint32_t>(domain)};
      PYGEN_UNROLL
      for (int round = 0; round < kPhiloxRounds; ++round) {
        philox_round<VectorWord>(e, key0[round], key1[round]);
        philox_round<VectorWord>(o, key0[round], key1[round]);
      }
      for (int w = 0; w < 4; ++w) store(u[g][w], uniform(e[w], o[w]));
    }
    for (int g = 0; g < groups; ++g) take(u[g]);
  }
}

PYGEN_INLINE void store_in_order(VecF z0, VecF z1, VecF z2, VecF z3, float* out) {
  const VecF low02 = interleave_low(z0, z2), high02 = interleave_high(z0, z2);
  const VecF low13 = interleave_low(z1, z3), high13 = interleave_high(z1, z3);
  store(out, interleave_low(low02, low13));
  store(out + kLanes, interleave_high(low02, low13));
  store(out + 2 * kLanes, interleave_low(high02, high13));
  store(out + 3 * kLanes, interleave_high(high02, high13));
}

// out[4 i + lane] = normal `lane` of quad q + i, i < quads. Writes whole groups of kLanes quads.
__attribute__((noinline)) inline void fill_normals(float* out, uint64_t seed, uint64_t q, int64_t quads, uint32_t k,
                                                   NoiseDomain domain) {
  for_each_group(seed, q, quads, k, domain, [&](const float (&u)[4][kLanes]) PYGEN_INLINE_LAMBDA {
    VecF z0, z1, z2, z3;
    box_muller(load<VecF>(u[0]), load<VecF>(u[1]), z0, z1);
    box_muller(load<VecF>(u[2]), load<VecF>(u[3]), z2, z3);
    store_in_order(z0, z1, z2, z3, out);
    out += 4 * kLanes;
  });
}

// The same of uniforms in (0, 1]: out[4 i + lane] of word `lane` of quad q + i.
__attribute__((noinline)) inline void fill_uniforms(float* out, uint64_t seed, uint64_t q, int64_t quads, uint32_t k,
                                                    NoiseDomain domain) {
  if (quads < kLanes / 4) {
    for (int64_t i = 0; i < quads; ++i) {
      uint32_t c[4];
      philox_words(seed, q + i, k, domain, c);
      for (int w = 0; w < 4; ++w) *out++ = uniform_of_word(c[w]);
    }
    return;
  }
  for_each_group(seed, q, quads, k, domain, [&](const float (&u)[4][kLanes]) PYGEN_INLINE_LAMBDA {
    store_in_order(load<VecF>(u[0]), load<VecF>(u[1]), load<VecF>(u[2]), load<VecF>(u[3]), out);
    out += 4 * kLanes;
  });
}

// float64: Box-Muller in float64 on the same uniforms.
inline void fill_normals(double* out, uint64_t seed, uint64_t q, int64_t quads, uint32_t k, NoiseDomain domain) {
  for (int64_t i = 0; i < quads; ++i, out += 4) {
    double z[4];
    philox_normal4<double>(seed, q + i, k, domain, z);
    std::memcpy(out, z, sizeof z);
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
