// Python arguments of am_softmax -> calls of the launchers.
#pragma once

#include "cuda/am_softmax.h"
#include "cuda/arguments.h"

namespace pygen::cuda {

inline void bind_am_softmax(py::module_& m) {
  m.def(
      "am_softmax_rows",
      [](bool wide, std::string dtype, int64_t rows, int64_t classes, std::uintptr_t products, std::uintptr_t row_scale,
         std::uintptr_t column_scale, std::uintptr_t target, double shift, py::handle upstream, std::uintptr_t nll,
         py::handle grads, int device, std::uintptr_t stream) {
        const AmSoftmaxRowsCall call{device,       stream,
                                     wide,         std::move(dtype),
                                     rows,         classes,
                                     products,     row_scale,
                                     column_scale, target,
                                     shift,        parse_address(upstream),
                                     nll,          parse_address(grads)};
        const py::gil_scoped_release release;
        am_softmax_rows(call);
      },
      "whether numbers are double, dtype of gradients, rows, classes, products [rows, classes], scales [rows] and "
      "[classes], target [rows] (int64), shift, upstream [rows] or None for no gradients, nll [rows] (written), grads "
      "[rows, classes] or None (written), device, stream");
  m.def(
      "am_softmax_across",
      [](std::string dtype, int64_t rows, int64_t features, std::uintptr_t grad, std::uintptr_t t, std::uintptr_t norm,
         double least, py::handle factor, std::uintptr_t result, int device, std::uintptr_t stream) {
        const AmSoftmaxAcrossCall call{device, stream, std::move(dtype),      rows,   features, grad,
                                       t,      norm,   parse_address(factor), result, least};
        const py::gil_scoped_release release;
        am_softmax_across(call);
      },
      "dtype of t and result, rows, features, grad [rows, features], t [rows, features], norm [rows], the least norm "
      "that counts, factor (one number) or None for 1, result [rows, features] (written), device, stream");
}

}  // namespace pygen::cuda
