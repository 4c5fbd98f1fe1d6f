// Python arguments of a dense network.
#pragma once

#include "cpu/arguments.h"
#include "cpu/dense_network.h"

namespace pygen {

inline std::vector<int64_t> parse_degrees(py::handle degrees) {
  std::vector<int64_t> parsed;
  for (py::handle degree : degrees) parsed.push_back(degree.cast<int64_t>());
  return parsed;
}

// layers: (weight, its strides, bias, added or None, its pitch); degrees of each layer's sources; turns of the inputs;
// outputs: (numbers of an input, stride of an input's and of a number's row in the last layer).
inline DenseNetwork parse_dense_network(py::tuple layers, py::tuple degrees, py::tuple when, py::tuple outputs,
                                        int64_t batch) {
  DenseNetwork network;
  for (py::handle each : layers) {
    const auto layer = py::reinterpret_borrow<py::tuple>(each);
    const py::tuple strides = layer[1];
    network.layers.push_back({parse_pointer(layer[0]), py::handle(strides[0]).cast<int64_t>(),
                              py::handle(strides[1]).cast<int64_t>(), parse_pointer(layer[2]), parse_pointer(layer[3]),
                              py::handle(layer[4]).cast<int64_t>()});
  }
  for (py::handle of_layer : degrees) network.degrees.push_back(parse_degrees(of_layer));
  network.when = parse_degrees(when);
  network.numbers = py::handle(outputs[0]).cast<int64_t>();
  network.input_stride = py::handle(outputs[1]).cast<int64_t>();
  network.number_stride = py::handle(outputs[2]).cast<int64_t>();
  network.batch = batch;
  return network;
}

}  // namespace pygen
