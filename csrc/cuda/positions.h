// Tensors [N, channels, positions] as the bindings pass them.
#pragma once

#include <cstdint>

namespace pygen::cuda {

struct PositionsArgument {
  std::uintptr_t address = 0;                    // 0: absent
  int64_t image = 0, channel = 0, position = 0;  // strides in elements
};

}  // namespace pygen::cuda
