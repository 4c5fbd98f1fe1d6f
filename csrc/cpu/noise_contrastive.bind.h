// Python arguments of noise_contrastive -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/noise_contrastive.h"
#include "cpu/plain.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, bool contrast_rows(const ContrastRows&); void contrast_sums(const ContrastSums&);
                   void contrast_order(const ContrastOrder&))

inline Rows parse_rows(py::handle pair) {
  const py::tuple t = py::reinterpret_borrow<py::tuple>(pair);
  return {reinterpret_cast<const void*>(py::handle(t[0]).cast<uintptr_t>()), py::handle(t[1]).cast<int64_t>()};
}
inline const int64_t* parse_integers(py::handle address) { return static_cast<const int64_t*>(parse_pointer(address)); }
inline void* parse_written(py::handle address) { return const_cast<void*>(parse_pointer(address)); }

// Whether there are all of the classes.
inline bool run_contrast(const ContrastRows& p) {
  const py::gil_scoped_release release;
  constexpr decltype(&baseline::contrast_rows) table[] = PYGEN_ISA_TABLE(contrast_rows);
  return table[isa_in_use()](p);
}

// Whether `t` is plain, int64, of that many dims and samples.
inline bool read_classes(PyObject* t, int ndim, int64_t samples, DlpackTensor* out) {
  int64_t numel;
  return read_contiguous(t, out, &numel) && out->code == 0 && out->bits == 64 && out->ndim == ndim &&
         out->shape[0] == samples;
}

// The law of a plain call: log q [C] as float64, or a table [C, 3] whose last column has its bits.
inline bool read_law(PyObject* t, int64_t all, ContrastRows* p) {
  DlpackTensor d;
  int64_t numel;
  if (!read_contiguous(t, &d, &numel) || d.bits != 64 || d.shape[0] != all) return false;
  const bool table = d.code == 0 && d.ndim == 2 && d.shape[1] == 3;
  if (!table && (d.code != 2 || d.ndim != 1)) return false;
  p->log_noise = static_cast<const double*>(d.data) + (table ? 2 : 0);
  p->log_noise_stride = table ? 3 : 1;
  return true;
}

// The tensors of a plain call without gradients, where each sample has its own negatives.
inline bool read_contrast(PyObject* const* tensors, ContrastRows* p) {
  Plain x, w, b;
  DlpackTensor target, negatives;
  if (!read_plain(tensors[0], &x) || x.ndim != 2 || !read_plain(tensors[1], &w) || w.ndim != 2 || w.dtype != x.dtype ||
      w.shape[1] != x.shape[1] || !read_classes(tensors[3], 1, x.shape[0], &target) ||
      !read_classes(tensors[4], 2, x.shape[0], &negatives))
    return false;
  p->dtype = x.dtype;
  p->samples = x.shape[0];
  p->features = x.shape[1];
  p->all = w.shape[0];
  p->negatives = negatives.shape[1];
  p->input = {x.data, x.shape[1]};
  p->weight = {w.data, x.shape[1]};
  p->target = static_cast<const int64_t*>(target.data);
  p->classes = static_cast<const int64_t*>(negatives.data);
  if (tensors[2] != Py_None) {
    if (!read_plain(tensors[2], &b) || b.dtype != x.dtype || b.ndim != 1 || b.shape[0] != p->all) return false;
    p->bias = b.data;
  }
  return p->all <= 1 << 30 && (tensors[5] == Py_None || read_law(tensors[5], p->all, p));
}

// noise_contrastive_samples(input, weight, bias or None, target, negatives, noise or None): N of a plain call, else
// None.
inline PyObject* noise_contrastive_samples(PyObject*, PyObject* const* tensors, Py_ssize_t) {
  ContrastRows p{};
  if (!read_contrast(tensors, &p)) Py_RETURN_NONE;
  for (int i = 0; i < 6; ++i)
    if (tensors[i] != Py_None && is_negated(tensors[i])) Py_RETURN_NONE;
  return PyLong_FromLongLong(p.samples);
}

// noise_contrastive_plain(the same six, whether a softmax, whether hits are left out, log K, whether a mean, threads,
// loss [N] or one number): whether it is done; not where the call is not plain or a class is none.
inline PyObject* noise_contrastive_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  ContrastRows p{};
  Plain out;
  if (!read_contrast(args, &p) || !read_plain(args[11], &out)) Py_RETURN_FALSE;
  p.kind = args[6] == Py_True ? Contrast::Softmax : Contrast::Logistic;
  p.remove_hits = args[7] == Py_True;
  p.log_count = PyFloat_AsDouble(args[8]);
  p.mean = args[9] == Py_True;
  p.threads = static_cast<int>(PyLong_AsLong(args[10]));
  (out.ndim ? p.nll : p.total) = out.data;
  return PyBool_FromLong(run_contrast(p));
}

inline void bind_noise_contrastive(py::module_& m) {
  m.def(
      "noise_contrastive_rows",
      [](std::string_view dtype, bool softmax, bool remove_hits, py::tuple sizes, py::tuple rows, py::handle bias,
         py::handle noise, double log_count, py::tuple classes, py::handle shift, py::tuple written, int64_t all,
         std::string_view reduction, int threads) {
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
        (reduction == "none" ? p.nll : p.total) = parse_written(written[2]);
        p.mean = reduction == "batchmean";
        p.all = all;
        p.grad = parse_written(written[3]);
        p.threads = threads;
        if (!run_contrast(p)) throw std::invalid_argument("noise_contrastive: a class beyond 0 .. C - 1");
      },
      "dtype, whether a softmax, whether hits are left out, sizes (N, K, D), (address, stride of rows) of (input, "
      "weight), bias [C] or None, (address, stride) of log q [C] (double) or None, log K, (target [N], negatives [N, "
      "K], "
      "or [K] with a shift), shift [K] or None, (scores [N, K], which turn to slopes, slopes [N], loss "
      "[N] or one number, grad [N, D] or None), C, reduction, threads");
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
  define<noise_contrastive_samples>(
      m, "noise_contrastive_samples",
      "input, weight, bias or None, target, negatives, noise or None: how many samples a plain call has; else None.");
  define<noise_contrastive_plain>(m, "noise_contrastive_plain",
                                  "the same six, whether a softmax, whether hits are left out, log K, whether a mean, "
                                  "threads, loss: whether done.");
}

}  // namespace pygen
