// Python arguments of bernoulli_nll -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/bernoulli_nll.h"
#include "cpu/isa.h"
#include "cpu/plain.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void bernoulli_nll(const BernoulliNll&))

inline void run_bernoulli_nll(const BernoulliNll& p) {
  const py::gil_scoped_release release;
  constexpr decltype(&baseline::bernoulli_nll) table[] = PYGEN_ISA_TABLE(bernoulli_nll);
  table[isa_in_use()](p);
}

// A contiguous x as large as logits.
inline bool read_targets(PyObject* x, const Plain& logits, BernoulliNll& p) {
  DlpackTensor d;
  int64_t numel;
  if (!read_contiguous(x, &d, &numel) || numel != logits.numel) return false;
  const bool bytes = (d.code == 1 || d.code == 6) && d.bits == 8, words = d.code == 0 && d.bits == 64;  // 6: bool
  p.levels = bytes ? Levels::Bytes : words ? Levels::Words : Levels::None;
  p.x.data = d.data;
  p.x.set_contiguous(numel);
  Plain same;
  return bytes || words || (read_plain(x, &same) && same.dtype == logits.dtype);
}

// bernoulli_nll_plain(threads, reduce, scale, nll, grad_nll, grad_logits, logits, x): whether all are plain tensors;
// then it has run.
inline PyObject* bernoulli_nll_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  BernoulliNll p;
  Plain logits, t{};
  if (!read_plain(args[6], &logits) || logits.ndim == 0 || !read_targets(args[7], logits, p)) Py_RETURN_FALSE;
  p.threads = static_cast<int>(PyLong_AsLong(args[0]));
  p.reduce = args[1] == Py_True;
  p.scale = PyFloat_AsDouble(args[2]);
  p.dtype = logits.dtype;
  p.rows = logits.shape[0];
  p.cols = logits.numel / p.rows;
  p.logits.data = logits.data;
  p.logits.set_contiguous(logits.numel);
  const auto given = [&](int i) { return args[i] == Py_None ? (t = Plain{}, true) : read_plain(args[i], &t); };
  if (!given(3)) Py_RETURN_FALSE;
  p.nll = t.data;
  if (!given(4)) Py_RETURN_FALSE;
  p.grad_nll = t.data;
  p.grad_nll_stride = p.reduce ? 0 : 1;
  if (!given(5)) Py_RETURN_FALSE;
  p.grad_logits.data = t.data;
  p.grad_logits.set_contiguous(logits.numel);
  run_bernoulli_nll(p);
  Py_RETURN_TRUE;
}

inline void bind_bernoulli_nll(py::module_& m) {
  define<bernoulli_nll_plain>(
      m, "bernoulli_nll_plain",
      "threads, whether nll is one number, its scale, nll, grad_nll, grad_logits (each or None), logits, x: whether "
      "all are plain contiguous tensors; then it has run.");
  m.def(
      "bernoulli_nll",
      [](std::string_view dtype, py::tuple sizes, py::handle logits, py::handle x, std::string_view x_dtype,
         bool reduce, double scale, py::handle nll, py::handle grad_nll, int64_t grad_nll_stride,
         py::handle grad_logits, int threads) {
        BernoulliNll p;
        p.dtype = parse_dtype(dtype);
        p.rows = py::handle(sizes[0]).cast<int64_t>();
        p.cols = 1;
        for (size_t d = 1; d < sizes.size(); ++d) p.cols *= py::handle(sizes[d]).cast<int64_t>();
        p.logits = parse_view(logits, sizes);
        p.x = parse_view(x, sizes);
        p.levels = x_dtype == "uint8" ? Levels::Bytes : x_dtype == "int64" ? Levels::Words : Levels::None;
        p.reduce = reduce;
        p.scale = scale;
        p.nll = const_cast<void*>(parse_pointer(nll));
        p.grad_nll = parse_pointer(grad_nll);
        p.grad_nll_stride = grad_nll_stride;
        p.grad_logits = parse_view(grad_logits, sizes);
        p.threads = threads;
        run_bernoulli_nll(p);
      },
      "dtype, sizes [N, ...], logits, x, \"uint8\", \"int64\" or logits' dtype of x, whether nll is one number, its "
      "scale; nll or None (written); grad_nll or None, which is 1, its stride; grad_logits or None (written), threads");
}

}  // namespace pygen
