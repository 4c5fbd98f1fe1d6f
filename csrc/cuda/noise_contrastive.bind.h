// Python arguments of noise_contrastive -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/noise_contrastive.h"

namespace pygen::cuda {

inline RowsArgument parse_rows(py::handle pair) {
  if (pair.is_none()) return {};
  const py::tuple t = py::reinterpret_borrow<py::tuple>(pair);
  return {py::handle(t[0]).cast<std::uintptr_t>(), py::handle(t[1]).cast<int64_t>()};
}

inline void bind_noise_contrastive(py::module_& m) {
  m.def(
      "noise_contrastive_rows",
      [](std::string dtype, bool softmax, bool remove_hits, std::vector<int64_t> sizes, py::tuple rows, py::handle bias,
         py::handle noise, double log_count, py::tuple classes, py::handle shift, py::tuple written, int64_t most,
         int device, std::uintptr_t stream) {
        const ContrastRowsCall call{device,
                                    stream,
                                    std::move(dtype),
                                    softmax,
                                    remove_hits,
                                    sizes[0],
                                    sizes[1],
                                    sizes[2],
                                    most,
                                    parse_rows(rows[0]),
                                    parse_rows(rows[1]),
                                    parse_address(bias),
                                    parse_rows(noise),
                                    log_count,
                                    parse_address(classes[0]),
                                    parse_address(classes[1]),
                                    parse_address(shift),
                                    parse_address(written[0]),
                                    parse_address(written[1]),
                                    parse_address(written[2]),
                                    parse_address(written[3])};
        const py::gil_scoped_release release;
        noise_contrastive_rows(call);
      },
      "dtype, whether a softmax, whether hits are left out, sizes (N, K, D), (address, stride of rows) of (input, "
      "weight), bias [C] or None, (address, stride) of log q [C] (double) or None, log K, (target [N], negatives [N, "
      "K], "
      "or [K] with a shift), shift [K] or None, (scores [N, K], which turn to slopes, slopes [N], nll [N], grad [N, D] "
      "or None), C, device, stream");
  m.def(
      "noise_contrastive_sums",
      [](std::string dtype, bool wide_vectors, std::vector<int64_t> sizes, py::tuple entries, py::handle place,
         py::tuple scales, py::tuple rows, py::tuple written, std::uintptr_t ends, int64_t most, int device,
         std::uintptr_t stream) {
        const ContrastSumsCall call{device,
                                    stream,
                                    std::move(dtype),
                                    wide_vectors,
                                    sizes[0],
                                    sizes[1],
                                    sizes[2],
                                    sizes[3],
                                    most,
                                    parse_address(entries[0]),
                                    parse_address(entries[1]),
                                    ends,
                                    parse_address(place),
                                    parse_address(scales[0]),
                                    parse_address(scales[1]),
                                    parse_rows(rows[0]),
                                    parse_rows(rows[1]),
                                    parse_address(written[0]),
                                    parse_address(written[1])};
        const py::gil_scoped_release release;
        noise_contrastive_sums(call);
      },
      "dtype of out, whether vectors are wider, sizes (entries, targets, negatives of a vector, D), (classes, order) "
      "[entries], place [entries] or None, (scale, bias's scale or None) [entries], (address, stride of rows) of the "
      "targets' and the negatives' vectors, (out [rows, D], bias [rows] or None), where classes end [entries], rows, "
      "device, stream");
}

}  // namespace pygen::cuda
