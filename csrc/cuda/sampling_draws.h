// The draws of one call: where their noise and what is known lie, and where levels go. For hosts and for kernels.
#pragma once

#include <cstdint>

namespace pygen::cuda {

// All in device memory, of as many elements.
struct SamplingDraws {
  int64_t num_levels = 0;
  double temperature = 1;
  std::uintptr_t levels = 0, known = 0;  // uint8, or int64 if wide; known may be 0
  std::uintptr_t known_mask = 0;         // bool, or 0
  bool wide = false;
  std::uintptr_t u = 0;  // float
};

}  // namespace pygen::cuda
