// Python arguments of sample_dot -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/plain.h"
#include "cpu/sample_dot.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_forward(const SampleDot&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_backward(const SampleDot&))

// Whether `t` is plain, of that dtype, with as many rows and elements; then p's view is it.
inline bool read_rows(PyObject* t, const SampleDot& p, View* view) {
  Plain read;
  if (!read_plain(t, &read) || read.dtype != p.dtype || read.ndim == 0 || read.shape[0] != p.rows ||
      read.numel != p.rows * p.row_size || is_negated(t))
    return false;
  view->data = read.data;
  view->set_contiguous(read.numel);
  return true;
}

// sample_dot_plain(threads, x, y or None, sums): forward, and sample_dot_scale_plain(threads, factor, x, out):
// backward, where all are plain and fit; else nothing is written.
template <bool kScale>
PyObject* sample_dot_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  SampleDot p;
  p.threads = static_cast<int>(PyLong_AsLong(args[0]));
  PyObject* const x = args[kScale ? 2 : 1];
  PyObject* const numbers = args[kScale ? 1 : 3];
  Plain first, each;
  if (!read_plain(x, &first) || first.ndim == 0) Py_RETURN_FALSE;
  p.dtype = first.dtype;
  p.rows = first.shape[0];
  p.row_size = first.numel / p.rows;
  if (!read_rows(x, p, &p.x) || !read_plain(numbers, &each) || each.numel != p.rows || is_negated(numbers) ||
      each.dtype != (p.dtype == DType::Float64 ? DType::Float64 : DType::Float32))
    Py_RETURN_FALSE;
  if (kScale ? !read_rows(args[3], p, &p.out) : args[2] != Py_None && !read_rows(args[2], p, &p.y)) Py_RETURN_FALSE;
  p.sums = each.data;
  p.factor = each.data;
  p.factor_stride = 1;
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
                                  "threads, x, y or None, sums (written): whether they are plain and fit.");
  define<sample_dot_plain<true>>(m, "sample_dot_scale_plain",
                                 "threads, factor, x, out (written): whether they are plain and fit.");
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
