// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC'11) and the normals made
// of it.
//
// Noise is a function of (seed, logical index j, Monte-Carlo sample k, domain):
//   key = (seed low, seed high), counter = (q low, q high, k, domain), q = j / 4, and element j takes normal j % 4.
//   u = float(word) * 2^-32 + 2^-33, in (0, 1];  words (0, 1) -> r cos t, r sin t;  words (2, 3) -> the other two.
#pragma once

#include "common/elementary.h"

namespace pygen {

// Which op a counter belongs to; pygen/_noise.py holds the same list.
enum class NoiseDomain : uint32_t {
  ReparameterizeKl = 0,
  Sampling = 1,
  CategoricalSample = 2,
  BernoulliSample = 3,
  LogisticMixtureSample = 4,
  CrfSample = 5,
  Rbm = 6,
  NoiseSample = 7
};

// One 32-bit word in a register of its own. SIMD carriers live in csrc/cpu/simd.h.
struct ScalarWord {
  using Word = uint32_t;
  using Wide = uint64_t;
  static PYGEN_HD Wide multiply(Word x, uint32_t m) {
#if defined(__CUDA_ARCH__)
    Wide p;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(p) : "r"(x), "r"(m));  // from C++ nvcc makes a 64-bit product, a third slower
    return p;
#else
    return static_cast<Wide>(x) * m;
#endif
  }
  static PYGEN_HD Word high(Wide p) { return static_cast<Word>(p >> 32); }
  static PYGEN_HD Word low(Wide p) { return static_cast<Word>(p); }
};

template <class Carrier>
PYGEN_HD void philox_round(typename Carrier::Word (&c)[4], typename Carrier::Word key0, typename Carrier::Word key1) {
  const auto p0 = Carrier::multiply(c[0], 0xD2511F53u);
  const auto p1 = Carrier::multiply(c[2], 0xCD9E8D57u);
  c[0] = Carrier::high(p1) ^ c[1] ^ key0;
  c[1] = Carrier::low(p1);
  c[2] = Carrier::high(p0) ^ c[3] ^ key1;
  c[3] = Carrier::low(p0);
}

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxBump0 = 0x9E3779B9u, kPhiloxBump1 = 0xBB67AE85u;  // added to the key after each round

PYGEN_HD void philox4x32_10(uint32_t (&c)[4], uint32_t key0, uint32_t key1) {
  PYGEN_UNROLL
  for (int round = 0; round < kPhiloxRounds; ++round, key0 += kPhiloxBump0, key1 += kPhiloxBump1)
    philox_round<ScalarWord>(c, key0, key1);
}

// The four words of quad q, one thread.
PYGEN_HD void philox_words(uint64_t seed, uint64_t q, uint32_t k, NoiseDomain domain, uint32_t (&c)[4]) {
  c[0] = static_cast<uint32_t>(q);
  c[1] = static_cast<uint32_t>(q >> 32);
  c[2] = k;
  c[3] = static_cast<uint32_t>(domain);
  philox4x32_10(c, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

PYGEN_HD float uniform_of_word(uint32_t word) { return static_cast<float>(word) * 0x1p-32f + 0x1p-33f; }

// The four normals of quad q, one thread. float: within 6 ulp of the float64 formula; double: Box-Muller in float64.
template <class Real>
PYGEN_HD void philox_normal4(uint64_t seed, uint64_t q, uint32_t k, NoiseDomain domain, Real (&z)[4]) {
  uint32_t c[4];
  philox_words(seed, q, k, domain, c);
  for (int pair = 0; pair < 4; pair += 2) {
    const float u0 = uniform_of_word(c[pair]), u1 = uniform_of_word(c[pair + 1]);
    box_muller<Real>(static_cast<Real>(u0), static_cast<Real>(u1), z[pair], z[pair + 1]);
  }
}

}  // namespace pygen
