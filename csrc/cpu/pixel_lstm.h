// What the bindings hand to the kernels of pixel_lstm.
#pragma once

#include "cpu/view.h"

namespace pygen {

// [N, channels, R, W] by strides in elements.
struct LstmImages {
  void* data = nullptr;
  int64_t image, channel, row, column;
};

struct PixelLstm {
  DType dtype;
  bool down, mirrored;  // direction "down"; "left"
  int64_t images, hidden, rows, columns;
  int64_t kernel, groups;
  const void* weight;        // [4 H, H, kernel], contiguous, of Real
  LstmImages input, output;  // of 4 H and H channels; backward: the gradients
  LstmImages kept;           // o, f, i, g, c: 5 H channels; or absent
  int threads;
};

}  // namespace pygen
