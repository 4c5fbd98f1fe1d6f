// Python arguments of sample_dot -> params -> the kernel of the instruction set in use.
#pragma once

#include <algorithm>

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/plain.h"
#include "cpu/sample_dot.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_forward(const SampleDot&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_backward(const SampleDot&))

// sample_dot_rows(x, y or None): how many sums a plain call has; None of another call.
inline PyObject* sample_dot_rows(PyObject*, PyObject* const* args, Py_ssize_t) {
  Plain x, y;
  if (!read_plain(args[0], &x) || x.ndim < 1 || is_negated(args[0])) Py_RETURN_NONE;
  if (args[1] != Py_None && (!read_plain(args[1], &y) || y.dtype != x.dtype || y.ndim != x.ndim ||
                             !std::equal(x.shape, x.shape + x.ndim, y.shape) || is_negated(args[1])))
    Py_RETURN_NONE;
  return PyLong_FromLongLong(x.shape[0]);
}

// sample_dot_plain(threads, x, y or None, sums): forward, and sample_dot_scale_plain(threads, factor, x, out, twice):
// backward, where all are plain; else nothing is written. As for any launcher, they fit and none is negated.
template <bool kScale>
PyObject* sample_dot_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  Plain x, numbers, other{};  // other: y or out
  PyObject* const third = args[kScale ? 3 : 2];
  if (!read_plain(args[kScale ? 2 : 1], &x) || !read_plain(args[kScale ? 1 : 3], &numbers) ||
      (third != Py_None && !read_plain(third, &other)))
    Py_RETURN_FALSE;
  SampleDot p;
  p.threads = static_cast<int>(PyLong_AsLong(args[0]));
  p.dtype = x.dtype;
  p.rows = x.shape[0];
  p.row_size = x.numel / p.rows;
  p.x.data = x.data;
  p.x.set_contiguous(x.numel);
  View& view = kScale ? p.out : p.y;
  view.data = other.data;
  view.set_contiguous(x.numel);
  p.sums = numbers.data;
  p.factor = numbers.data;
  p.factor_stride = 1;
  p.twice = kScale && args[4] == Py_True;
  constexpr decltype(&baseline::sample_dot_forward) forward[] = PYGEN_ISA_TABLE(sample_dot_forward);
  constexpr decltype(&baseline::sample_dot_backward) backward[] = PYGEN_ISA_TABLE(sample_dot_backward);
  {
    const py::gil_scoped_release release;
    (kScale ? backward : forward)[isa_in_use()](p);
  }
  Py_RETURN_TRUE;
}

inline void bind_sample_dot(py::module_& m) {
  define<sample_dot_plain<false>>(m, "sample_dot_plain",
                                  "threads, x, y or None, sums (written): whether they are plain.");
  define<sample_dot_plain<true>>(
      m, "sample_dot_scale_plain",
      "threads, factor, x, out (written), whether the factor is doubled: whether they are plain.");
  define<sample_dot_rows>(m, "sample_dot_rows", "x, y or None: how many sums a plain call has; None of another call.");
  const auto parse = [](SampleDot& p, std::string_view dtype, py::tuple sizes, py::handle x, int threads) {
    p.dtype = parse_dtype(dtype);
    p.rows = py::handle(sizes[0]).cast<int64_t>();
    p.row_size = product(sizes) / p.rows;
    p.x = parse_view(x, sizes);
    p.threads = threads;
  };
  m.def(
      "sample_dot_forward",
      [parse](std::string_view dtype, py::tuple sizes, py::handle x, py::handle y, py::handle sums, int threads) {
        SampleDot p;
        parse(p, dtype, sizes, x, threads);
        p.y = parse_view(y, sizes);
        p.sums = const_cast<void*>(parse_pointer(sums));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::sample_dot_forward) table[] = PYGEN_ISA_TABLE(sample_dot_forward);
        table[isa_in_use()](p);
      },
      "dtype, sizes [N >= 1, ...], x, y or None, sums (written), threads");
  m.def(
      "sample_dot_backward",
      [parse](std::string_view dtype, py::tuple sizes, py::handle factor, int64_t factor_stride, py::handle x,
              py::handle out, int threads) {
        SampleDot p;
        parse(p, dtype, sizes, x, threads);
        p.factor = parse_pointer(factor);
        p.factor_stride = factor_stride;
        p.out = parse_view(out, sizes);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::sample_dot_backward) table[] = PYGEN_ISA_TABLE(sample_dot_backward);
        table[isa_in_use()](p);
      },
      "dtype, sizes, factor, its stride, x, out (written), threads");
}

}  // namespace pygen
