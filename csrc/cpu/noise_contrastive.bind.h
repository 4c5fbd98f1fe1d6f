// Python arguments of noise_contrastive -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/noise_contrastive.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void contrast_rows(const ContrastRows&); void contrast_sums(const ContrastSums&);
                   void contrast_order(const ContrastOrder&))

inline Rows parse_rows(py::handle pair) {
  const py::tuple t = py::reinterpret_borrow<py::tuple>(pair);
  return {reinterpret_cast<const void*>(py::handle(t[0]).cast<uintptr_t>()), py::handle(t[1]).cast<int64_t>()};
}
inline const int64_t* parse_integers(py::handle address) { return static_cast<const int64_t*>(parse_pointer(address)); }
inline void* parse_written(py::handle address) { return const_cast<void*>(parse_pointer(address)); }

inline void bind_noise_contrastive(py::module_& m) {
  m.def(
      "noise_contrastive_rows",
      [](std::string_view dtype, bool softmax, bool remove_hits, py::tuple sizes, py::tuple rows, py::handle bias,
         py::handle noise, double log_count, py::tuple classes, py::handle shift, py::tuple written, int threads) {
        ContrastRows p{};
        p.dtype = parse_dtype(dtype);
        p.kind = softmax ? Contrast::Softmax : Contrast::Logistic;
        p.remove_hits = remove_hits;
        p.samples = py::handle(sizes[0]).cast<int64_t>();
        p.negatives = py::handle(sizes[1]).cast<int64_t>();
        p.features = py::handle(sizes[2]).cast<int64_t>();
        p.input = parse_rows(rows[0]);
        p.weight = parse_rows(rows[1]);
        p.bias = parse_pointer(bias);
        if (!noise.is_none()) {
          const Rows of = parse_rows(noise);
          p.log_noise = static_cast<const double*>(of.data);
          p.log_noise_stride = of.stride;
        }
        p.log_count = log_count;
        p.target = parse_integers(classes[0]);
        p.classes = parse_integers(classes[1]);
        p.shift = parse_pointer(shift);
        p.scores = parse_written(written[0]);
        p.slopes = parse_written(written[1]);
        p.nll = parse_written(written[2]);
        p.grad = parse_written(written[3]);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::contrast_rows) table[] = PYGEN_ISA_TABLE(contrast_rows);
        table[isa_in_use()](p);
      },
      "dtype, whether a softmax, whether hits are left out, sizes (N, K, D), (address, stride of rows) of (input, "
      "weight), bias [C] or None, (address, stride) of log q [C] (double) or None, log K, (target [N], negatives [N, "
      "K], "
      "or [K] with a shift), shift [K] or None, (scores [N, K], which turn to slopes, slopes [N], nll [N], grad [N, D] "
      "or None), threads");
  m.def(
      "noise_contrastive_sums",
      [](std::string_view dtype, bool wide_vectors, py::tuple sizes, py::tuple entries, py::handle place,
         py::tuple scales, py::tuple rows, py::tuple written, int threads) {
        ContrastSums p{};
        p.dtype = parse_dtype(dtype);
        p.wide_vectors = wide_vectors;
        p.entries = py::handle(sizes[0]).cast<int64_t>();
        p.targets = py::handle(sizes[1]).cast<int64_t>();
        p.per = py::handle(sizes[2]).cast<int64_t>();
        p.features = py::handle(sizes[3]).cast<int64_t>();
        p.classes = parse_integers(entries[0]);
        p.order = parse_integers(entries[1]);
        p.place = parse_integers(place);
        p.scale = parse_pointer(scales[0]);
        p.bias_scale = parse_pointer(scales[1]);
        p.head = parse_rows(rows[0]);
        p.tail = parse_rows(rows[1]);
        p.out = parse_written(written[0]);
        p.bias = parse_written(written[1]);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::contrast_sums) table[] = PYGEN_ISA_TABLE(contrast_sums);
        table[isa_in_use()](p);
      },
      "dtype of out, whether vectors are wider, sizes (entries, targets, negatives of a vector, D), (classes, order) "
      "[entries], place [entries] or None, (scale, bias's scale or None) [entries], (address, stride of rows) of the "
      "targets' and the negatives' vectors, (out [.., D], bias [..] or None), threads");
  m.def(
      "noise_contrastive_order",
      [](int64_t entries, int64_t most, uintptr_t given, uintptr_t classes, uintptr_t order) {
        const ContrastOrder p{entries, most, reinterpret_cast<const int64_t*>(given),
                              reinterpret_cast<int64_t*>(classes), reinterpret_cast<int64_t*>(order)};
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::contrast_order) table[] = PYGEN_ISA_TABLE(contrast_order);
        table[isa_in_use()](p);
      },
      "entries, classes there are, the entries' classes, classes sorted and the order of entries (both written)");
}

}  // namespace pygen
