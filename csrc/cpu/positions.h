// Tensors [N, channels, positions], whatever their strides.
#pragma once

#include <cstdint>

namespace pygen {

struct Positions {
  void* data = nullptr;
  int64_t image = 0, channel = 0, position = 0;  // strides in elements

  template <class T>
  T* place(int64_t image_index, int64_t position_index) const {
    return static_cast<T*>(data) + image_index * image + position_index * position;
  }
};

}  // namespace pygen
