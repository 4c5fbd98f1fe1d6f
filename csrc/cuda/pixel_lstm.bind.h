// Python arguments of pixel_lstm -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/pixel_lstm.h"

namespace pygen::cuda {

inline LstmImages parse_lstm_images(py::handle arg) {
  LstmImages t{};
  if (arg.is_none()) return t;
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = pair[1];
  t.data = py::handle(pair[0]).cast<std::uintptr_t>();
  t.image = py::handle(strides[0]).cast<int64_t>();
  t.channel = py::handle(strides[1]).cast<int64_t>();
  t.row = py::handle(strides[2]).cast<int64_t>();
  t.column = py::handle(strides[3]).cast<int64_t>();
  return t;
}

// sizes: N, H, R, W, taps, colour groups.
inline PixelLstmCall parse_pixel_lstm(std::string dtype, std::string_view direction, py::tuple sizes, int device) {
  PixelLstmCall call{};
  call.device = device;
  call.dtype = std::move(dtype);
  call.down = direction == "down";
  call.mirrored = direction == "left";
  int64_t* const into[] = {&call.images, &call.hidden, &call.rows, &call.columns, &call.kernel, &call.groups};
  for (size_t i = 0; i < 6; ++i) *into[i] = py::handle(sizes[i]).cast<int64_t>();
  return call;
}

inline void bind_pixel_lstm(py::module_& m) {
  m.def(
      "pixel_lstm_workspace",
      [](std::string dtype, std::string_view direction, py::tuple sizes, bool backward, int device) {
        return pixel_lstm_workspace(parse_pixel_lstm(std::move(dtype), direction, sizes, device), backward);
      },
      "dtype, direction, sizes (parse_pixel_lstm), whether backward, device: numbers of a workspace for each image, or "
      "0");
  const auto define = [&m](const char* name, void (*run)(const PixelLstmCall&), const char* text) {
    m.def(
        name,
        [run](std::string dtype, std::string_view direction, py::tuple sizes, std::uintptr_t weight, py::tuple tensors,
              py::handle workspace, int device, std::uintptr_t stream) {
          PixelLstmCall call = parse_pixel_lstm(std::move(dtype), direction, sizes, device);
          call.stream = stream;
          call.weight = weight;
          call.input = parse_lstm_images(tensors[0]);
          call.output = parse_lstm_images(tensors[1]);
          call.kept = parse_lstm_images(tensors[2]);
          call.workspace = workspace.is_none() ? 0 : workspace.cast<std::uintptr_t>();
          const py::gil_scoped_release release;
          run(call);
        },
        text);
  };
  define("pixel_lstm_forward", &pixel_lstm_forward,
         "dtype, direction, sizes, weight [k, Hp, H, 4] of Acc, (address, strides) of input, output (written) and kept "
         "(written) or None, workspace or None, device, stream");
  define("pixel_lstm_backward", &pixel_lstm_backward,
         "dtype, direction, sizes, weight [k, Hp, H, 4] of four sums each, (address, strides) of grad_input (written), "
         "grad_output and kept, workspace or None, device, stream");
}

}  // namespace pygen::cuda
