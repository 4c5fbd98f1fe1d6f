// What the bindings hand to the launchers of pixel_lstm.cu.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

// [N, channels, R, W] by strides in elements.
struct LstmImages {
  std::uintptr_t data;  // 0: absent
  int64_t image, channel, row, column;
};

struct PixelLstmCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  bool down, mirrored;  // direction "down"; "left"
  int64_t images, hidden, rows, columns, kernel, groups;
  std::uintptr_t weight;     // of Acc, padded: forward [k, Hp, H, 4 gates], backward [k, 4 Hp / 4, H, 4]
  LstmImages input, output;  // of 4 H and H channels; backward: the gradients
  LstmImages kept;           // o, f, i, g, c: 5 H channels; or absent
  std::uintptr_t workspace;  // N times pixel_lstm_workspace numbers of Acc
};

// H, padded to what the kernels read at once.
constexpr int64_t kLstmQuad = 4;

// Numbers of Acc that an image's lines take, where shared memory has no room for them; else 0.
int64_t pixel_lstm_workspace(const PixelLstmCall& call, bool backward);
void pixel_lstm_forward(const PixelLstmCall& call);
void pixel_lstm_backward(const PixelLstmCall& call);

}  // namespace pygen::cuda
