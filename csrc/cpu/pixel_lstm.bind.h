// Python arguments of pixel_lstm -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/pixel_lstm.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void pixel_lstm_forward(const PixelLstm&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void pixel_lstm_backward(const PixelLstm&))

inline LstmImages parse_lstm_images(py::handle arg) {
  LstmImages t{};
  if (arg.is_none()) return t;
  const py::tuple pair = py::reinterpret_borrow<py::tuple>(arg), strides = pair[1];
  t.data = reinterpret_cast<void*>(py::handle(pair[0]).cast<uintptr_t>());
  t.image = py::handle(strides[0]).cast<int64_t>();
  t.channel = py::handle(strides[1]).cast<int64_t>();
  t.row = py::handle(strides[2]).cast<int64_t>();
  t.column = py::handle(strides[3]).cast<int64_t>();
  return t;
}

// sizes: N, H, R, W, taps, colour groups.
inline PixelLstm parse_pixel_lstm(std::string_view dtype, std::string_view direction, py::tuple sizes,
                                  py::handle weight, py::tuple tensors, int threads) {
  PixelLstm p{};
  p.dtype = parse_dtype(dtype);
  p.down = direction == "down";
  p.mirrored = direction == "left";
  int64_t* const into[] = {&p.images, &p.hidden, &p.rows, &p.columns, &p.kernel, &p.groups};
  for (size_t i = 0; i < 6; ++i) *into[i] = py::handle(sizes[i]).cast<int64_t>();
  p.weight = parse_pointer(weight);
  p.input = parse_lstm_images(tensors[0]);
  p.output = parse_lstm_images(tensors[1]);
  p.kept = parse_lstm_images(tensors[2]);
  p.threads = threads;
  return p;
}

inline void bind_pixel_lstm(py::module_& m) {
  m.def(
      "pixel_lstm_forward",
      [](std::string_view dtype, std::string_view direction, py::tuple sizes, py::handle weight, py::tuple tensors,
         int threads) {
        const PixelLstm p = parse_pixel_lstm(dtype, direction, sizes, weight, tensors, threads);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::pixel_lstm_forward) table[] = PYGEN_ISA_TABLE(pixel_lstm_forward);
        table[isa_in_use()](p);
      },
      "dtype, direction, sizes (parse_pixel_lstm), weight [4 H, H, k] of float or double, (address, strides) of input, "
      "output (written) and kept (written) or None, threads");
  m.def(
      "pixel_lstm_backward",
      [](std::string_view dtype, std::string_view direction, py::tuple sizes, py::handle weight, py::tuple tensors,
         int threads) {
        const PixelLstm p = parse_pixel_lstm(dtype, direction, sizes, weight, tensors, threads);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::pixel_lstm_backward) table[] = PYGEN_ISA_TABLE(pixel_lstm_backward);
        table[isa_in_use()](p);
      },
      "dtype, direction, sizes, weight as above, (address, strides) of grad_input (written), grad_output and kept, "
      "threads");
}

}  // namespace pygen
