// A tensor as a launcher gets it.
#pragma once

#include <cstdint>
#include <vector>

namespace pygen::cuda {

struct Tensor {
  std::uintptr_t address = 0;  // 0: absent
  int64_t sample_stride = 0;   // between Monte-Carlo samples, where there is such an axis
  std::vector<int64_t> strides;
};

}  // namespace pygen::cuda
