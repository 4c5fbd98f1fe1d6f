// Python arguments of am_softmax -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/am_softmax.h"
#include "cpu/arguments.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void am_softmax_rows(const AmSoftmaxRows&);
                   void am_softmax_across(const AmSoftmaxAcross&))

inline void bind_am_softmax(py::module_& m) {
  m.def(
      "am_softmax_rows",
      [](bool wide, int64_t rows, int64_t classes, uintptr_t products, uintptr_t row_scale, uintptr_t column_scale,
         uintptr_t target, double shift, py::handle upstream, uintptr_t nll, int threads) {
        AmSoftmaxRows p;
        p.wide = wide;
        p.rows = rows;
        p.classes = classes;
        p.products = reinterpret_cast<void*>(products);
        p.row_scale = reinterpret_cast<const void*>(row_scale);
        p.column_scale = reinterpret_cast<const void*>(column_scale);
        p.target = reinterpret_cast<const int64_t*>(target);
        p.shift = shift;
        p.upstream = parse_pointer(upstream);
        p.nll = reinterpret_cast<void*>(nll);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::am_softmax_rows) table[] = PYGEN_ISA_TABLE(am_softmax_rows);
        table[isa_in_use()](p);
      },
      "whether numbers are double, rows, classes, products [rows, classes] (their gradients take their place), scales "
      "[rows] and [classes], target [rows] (int64), shift, upstream [rows] or None for no gradients, nll [rows] "
      "(written), threads");
  m.def(
      "am_softmax_across",
      [](bool wide, int64_t rows, int64_t features, uintptr_t grad, uintptr_t t, uintptr_t norm, double least,
         py::handle factor, int threads) {
        AmSoftmaxAcross p;
        p.wide = wide;
        p.rows = rows;
        p.features = features;
        p.grad = reinterpret_cast<void*>(grad);
        p.t = reinterpret_cast<const void*>(t);
        p.norm = reinterpret_cast<const void*>(norm);
        p.least = least;
        p.factor = parse_pointer(factor);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::am_softmax_across) table[] = PYGEN_ISA_TABLE(am_softmax_across);
        table[isa_in_use()](p);
      },
      "whether numbers are double, rows, features, grad [rows, features] (changed in place), t [rows, features], norm "
      "[rows], the least norm that counts, factor (one number) or None for 1, threads");
}

}  // namespace pygen
