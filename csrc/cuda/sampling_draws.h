// The draws of one call: where their noise and what is known lie, and where levels go (for hosts and for kernels); and
// how the noise is made.
#pragma once

#include <cstdint>

namespace pygen::cuda {

// All in device memory, of as many elements.
struct SamplingDraws {
  int64_t num_levels = 0;
  double scale = 1, shift = 0;  // the network sees level * scale + shift
  double temperature = 1;
  std::uintptr_t levels = 0, known = 0;  // uint8, or int64 if wide; known may be 0
  std::uintptr_t known_mask = 0;         // bool, or 0
  bool wide = false;
  std::uintptr_t u = 0;  // float
};

struct SamplingUniforms {
  int device;
  std::uintptr_t stream_handle;
  std::uintptr_t seed;  // int64
  int64_t n, draws;
  std::uintptr_t out;  // float [n, draws]
};

void sampling_uniforms(const SamplingUniforms& call);

}  // namespace pygen::cuda
