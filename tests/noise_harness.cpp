// Entry points for tests/test_noise.py: the noise of csrc/cpu at counters and words that no tensor is large enough to reach.
#include "cpu/noise.h"

using namespace pygen;

// z[4 i + lane] of quads first .. first + quads - 1; z holds kNoisePadding numbers more than 4 * quads.
extern "C" void normals_float(float* z, int64_t seed, uint64_t first, int64_t quads, uint32_t k, uint32_t domain) {
  fill_normals(z, static_cast<uint64_t>(seed), first, quads, k, static_cast<NoiseDomain>(domain));
}
extern "C" void normals_double(double* z, int64_t seed, uint64_t first, int64_t quads, uint32_t k, uint32_t domain) {
  fill_normals(z, static_cast<uint64_t>(seed), first, quads, k, static_cast<NoiseDomain>(domain));
}

// Two normals of each pair of words; n is a multiple of kLanes.
extern "C" void box_muller_float(const uint32_t* word0, const uint32_t* word1, float* z0, float* z1, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto uniforms = [i](const uint32_t* words) {
      uint64_t even[kLanes / 2], odd[kLanes / 2];
      for (int j = 0; j < kLanes; j += 2) {
        // What lies above a word's 32 bits is the rounds' leftover, which must not count.
        even[j / 2] = words[i + j] | 0xdeadbeef00000000u;
        odd[j / 2] = words[i + j + 1] | 0x5555555500000000u;
      }
      return uniform(load<VecQ>(even), load<VecQ>(odd));
    };
    VecF a, b;
    box_muller(uniforms(word0), uniforms(word1), a, b);
    store(z0 + i, a);
    store(z1 + i, b);
  }
}

extern "C" void box_muller_double(const uint32_t* word0, const uint32_t* word1, double* z0, double* z1, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float u0 = static_cast<float>(word0[i]) * 0x1p-32f + 0x1p-33f, u1 = static_cast<float>(word1[i]) * 0x1p-32f + 0x1p-33f;
    box_muller<double>(u0, u1, z0[i], z1[i]);
  }
}

// The words themselves, through the scalar form that CUDA shares.
extern "C" void words(uint32_t* out, const uint32_t* counter, uint32_t key0, uint32_t key1) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  philox4x32_10(c, key0, key1);
  for (int i = 0; i < 4; ++i) out[i] = c[i];
}

extern "C" int lanes() { return kLanes; }
