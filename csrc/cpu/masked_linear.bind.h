// Python arguments of masked_linear -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/masked_linear.h"
#include "cpu/plain.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_linear_product(const MaskedLinear&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void masked_linear_grad_weight(const MaskedLinear&))

// (address, strides) of a tensor of two dims.
inline Matrix parse_matrix(py::tuple arg) {
  const py::tuple strides = py::reinterpret_borrow<py::tuple>(arg[1]);
  return {reinterpret_cast<void*>(py::handle(arg[0]).cast<uintptr_t>()),
          {py::handle(strides[0]).cast<int64_t>(), py::handle(strides[1]).cast<int64_t>()}};
}

// What plain calls of one layer share: sizes, and orders and live sources of the layer and of it turned round.
struct LinearPlan {
  int64_t ins, outs;
  std::array<const int64_t*, 3> orders[2];  // Python keeps their memory
};
inline const LinearPlan* parse_linear_plan(PyObject* capsule) {
  const void* plan = PyCapsule_GetPointer(capsule, "pygen.LinearPlan");
  if (!plan) throw py::error_already_set();
  return static_cast<const LinearPlan*>(plan);
}

// Whether `t` is plain, of that dtype and [rows, columns] ([columns] where rows < 0).
inline bool read_linear(PyObject* t, DType dtype, int64_t rows, int64_t columns, Plain* out) {
  const int ndim = rows < 0 ? 1 : 2;
  return read_plain(t, out) && out->dtype == dtype && out->ndim == ndim && out->shape[ndim - 1] == columns &&
         (rows < 0 || out->shape[0] == rows);
}

// masked_linear_rows(plan, input, weight, bias): how many rows the output of a plain call has; None of another call.
inline PyObject* masked_linear_rows(PyObject*, PyObject* const* args, Py_ssize_t) {
  const LinearPlan* plan = parse_linear_plan(args[0]);
  Plain x, t;
  if (!read_plain(args[1], &x) || x.ndim != 2 || x.shape[1] != plan->ins || is_negated(args[1]) ||
      !read_linear(args[2], x.dtype, plan->outs, plan->ins, &t) || is_negated(args[2]) ||
      (args[3] != Py_None && (!read_linear(args[3], x.dtype, -1, plan->outs, &t) || is_negated(args[3]))))
    Py_RETURN_NONE;
  return PyLong_FromLongLong(x.shape[0]);
}

using LinearKernels = std::array<void (*)(const MaskedLinear&), kNumIsas>;

// One of the two kernels on plain tensors; `turned` exchanges inputs and outputs.
inline void run_linear(const LinearKernels& kernels, const LinearPlan& plan, bool turned, int threads,
                       const Plain& source, const Plain& target, const Plain& weight, void* bias) {
  MaskedLinear p;
  p.dtype = source.dtype;
  p.rows = source.shape[0];
  p.sources = turned ? plan.outs : plan.ins;
  p.targets = turned ? plan.ins : plan.outs;
  p.source_order = plan.orders[turned][0];
  p.target_order = plan.orders[turned][1];
  p.live = plan.orders[turned][2];
  p.source = {source.data, {p.sources, 1}};
  p.target = {target.data, {p.targets, 1}};
  p.weight = {weight.data, {turned ? 1 : plan.ins, turned ? plan.ins : 1}};
  p.bias = bias;
  p.threads = threads;
  kernels[isa_in_use()](p);
}

// masked_linear_plain(plan, threads, input, weight, bias or None, output) of a call that has rows.
inline PyObject* masked_linear_plain(PyObject*, PyObject* const* args, Py_ssize_t) {
  const LinearPlan* plan = parse_linear_plan(args[0]);
  const int threads = static_cast<int>(PyLong_AsLong(args[1]));
  Plain x, w, b{}, out;
  if (!read_plain(args[2], &x) || !read_plain(args[3], &w) || (args[4] != Py_None && !read_plain(args[4], &b)) ||
      !read_plain(args[5], &out))
    throw std::invalid_argument("masked_linear_plain: expected plain tensors");
  {
    const py::gil_scoped_release release;
    run_linear(PYGEN_ISA_TABLE(masked_linear_product), *plan, false, threads, x, out, w, b.data);
  }
  Py_RETURN_NONE;
}

// masked_linear_plain_gradients(plan, threads, grad, input, weight, gradient of input or None, of weight or None, of
// bias or None): whether the first three are plain and fit; else nothing is written. The bias's needs the weight's.
inline PyObject* masked_linear_plain_gradients(PyObject*, PyObject* const* args, Py_ssize_t) {
  const LinearPlan* plan = parse_linear_plan(args[0]);
  const int threads = static_cast<int>(PyLong_AsLong(args[1]));
  Plain g, x, w, to_x{}, to_w{}, to_b{};
  if (!read_plain(args[2], &g) || g.ndim != 2 || g.shape[1] != plan->outs || is_negated(args[2]) ||
      !read_linear(args[3], g.dtype, g.shape[0], plan->ins, &x) || is_negated(args[3]) ||
      !read_linear(args[4], g.dtype, plan->outs, plan->ins, &w) || is_negated(args[4]) ||
      (args[5] != Py_None && !read_plain(args[5], &to_x)) || (args[6] != Py_None && !read_plain(args[6], &to_w)) ||
      (args[7] != Py_None && !read_plain(args[7], &to_b)))
    Py_RETURN_FALSE;
  {
    const py::gil_scoped_release release;
    if (to_x.data) run_linear(PYGEN_ISA_TABLE(masked_linear_product), *plan, true, threads, g, to_x, w, nullptr);
    if (to_w.data) run_linear(PYGEN_ISA_TABLE(masked_linear_grad_weight), *plan, false, threads, x, g, to_w, to_b.data);
  }
  Py_RETURN_TRUE;
}

inline void bind_masked_linear(py::module_& m) {
  const auto bind = [&m](const char* name, const LinearKernels& table, const char* doc) {
    m.def(
        name,
        [table](std::string_view dtype, py::tuple sizes, py::tuple orders, py::tuple source, py::tuple target,
                py::tuple weight, py::handle bias, int threads) {
          MaskedLinear p;
          p.dtype = parse_dtype(dtype);
          p.rows = py::handle(sizes[0]).cast<int64_t>();
          p.sources = py::handle(sizes[1]).cast<int64_t>();
          p.targets = py::handle(sizes[2]).cast<int64_t>();
          const auto order = [&](int i) { return static_cast<const int64_t*>(parse_pointer(orders[i])); };
          p.source_order = order(0);
          p.target_order = order(1);
          p.live = order(2);
          p.source = parse_matrix(source);
          p.target = parse_matrix(target);
          p.weight = parse_matrix(weight);
          p.bias = const_cast<void*>(parse_pointer(bias));
          p.threads = threads;
          const py::gil_scoped_release release;
          table[isa_in_use()](p);
        },
        doc);
  };
  bind(
      "masked_linear_product", LinearKernels PYGEN_ISA_TABLE(masked_linear_product),
      "dtype, (rows, sources, targets), addresses of (source order, target order, live), (address, strides) of source, "
      "target (written) and weight as [targets, sources], address of bias or None, threads");
  bind("masked_linear_grad_weight", LinearKernels PYGEN_ISA_TABLE(masked_linear_grad_weight),
       "the same; target is the output's gradient, weight and bias are written");
  m.def(
      "masked_linear_plan",
      [](int64_t ins, int64_t outs, py::tuple orders, py::tuple turned) {
        auto* plan = new LinearPlan{ins, outs, {}};
        for (size_t i = 0; i < 3; ++i) {
          plan->orders[0][i] = static_cast<const int64_t*>(parse_pointer(orders[i]));
          plan->orders[1][i] = static_cast<const int64_t*>(parse_pointer(turned[i]));
        }
        return py::capsule(plan, "pygen.LinearPlan", [](PyObject* c) {
          delete static_cast<LinearPlan*>(PyCapsule_GetPointer(c, "pygen.LinearPlan"));
        });
      },
      "inputs, outputs, addresses of (source order, target order, live) of the layer, and of it turned round: what the "
      "three below take first. The memory must stay.");
  define<masked_linear_rows>(m, "masked_linear_rows",
                             "plan, input, weight, bias or None: rows of a plain call's output; None of another call.");
  define<masked_linear_plain>(m, "masked_linear_plain", "plan, threads, input, weight, bias or None, output");
  define<masked_linear_plain_gradients>(
      m, "masked_linear_plain_gradients",
      "plan, threads, grad, input, weight, gradients of input, weight and bias (or None): whether they are plain.");
}

}  // namespace pygen
