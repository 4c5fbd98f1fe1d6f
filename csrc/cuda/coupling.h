// What the bindings hand to the launchers of every coupling.
#pragma once

#include <cstdint>

namespace pygen::cuda {

// A part of a tensor: [images, three dims], strides in elements.
struct CouplingArgument {
  std::uintptr_t address = 0;  // 0: absent
  int64_t strides[4] = {};
};

}  // namespace pygen::cuda
