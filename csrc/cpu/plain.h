// The tensors of nearly every call, read through torch's own C table (DLPack's exchange API, in torch >= 2.10): a tenth
// of the time that asking them in Python takes, which is most of what a call on a small batch costs. No libtorch: the
// table is found as an attribute of torch.Tensor.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>
#include <new>

#include "cpu/view.h"

namespace pygen {
namespace py = pybind11;

// The layout that DLPack 1.x fixes for every library.
struct DlpackTensor {
  void* data;
  int32_t device_type, device_index, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DlpackTable {
  uint32_t major, minor;
  void *older, *allocate, *own, *to_python;
  int (*describe)(void* tensor, DlpackTensor* out);  // owns nothing
};

// What is asked of torch once.
struct TorchTypes {
  PyObject *tensor = nullptr, *parameter = nullptr, *is_neg = nullptr;
  decltype(DlpackTable::describe) describe = nullptr;  // nullptr: this torch has no such table
  TorchTypes() {
    const py::module_ torch = py::module_::import("torch");
    tensor = py::object(torch.attr("Tensor")).release().ptr();
    parameter = py::object(torch.attr("nn").attr("Parameter")).release().ptr();
    is_neg = PyUnicode_InternFromString("is_neg");
    if (!py::hasattr(tensor, "__dlpack_c_exchange_api__")) return;
    const py::object capsule = py::handle(tensor).attr("__dlpack_c_exchange_api__");
    if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return;
    auto* table = static_cast<const DlpackTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (table->major == 1) describe = table->describe;
  }
};

// A contiguous tensor. Its shape is the tensor's own memory.
struct Plain {
  void* data;
  int64_t numel;
  DType dtype;
  int ndim;
  const int64_t* shape;
};

inline const TorchTypes& torch_types() {
  static const TorchTypes types;
  return types;
}

// Whether `t` is exactly a torch.Tensor or Parameter, strided, contiguous, on the CPU, with elements and memory. The
// table does not tell of negation: is_negated.
inline bool read_contiguous(PyObject* t, DlpackTensor* d, int64_t* numel) {
  const TorchTypes& torch = torch_types();
  PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(t));
  if ((type != torch.tensor && type != torch.parameter) || !torch.describe) return false;
  if (torch.describe(t, d)) {  // sparse, meta, of a functorch transform
    PyErr_Clear();
    return false;
  }
  if (!d->data || d->byte_offset || d->device_type != 1 || d->lanes != 1) return false;
  *numel = 1;
  for (int i = d->ndim - 1; i >= 0; --i) {
    if (d->shape[i] != 1 && d->strides && d->strides[i] != *numel) return false;
    *numel *= d->shape[i];
  }
  return *numel > 0;
}

// The same, and of a floating dtype.
inline bool read_plain(PyObject* t, Plain* out) {
  DlpackTensor d;
  if (!read_contiguous(t, &d, &out->numel)) return false;
  if (d.code == 2 && d.bits == 32) {
    out->dtype = DType::Float32;
  } else if (d.code == 2 && d.bits == 64) {
    out->dtype = DType::Float64;
  } else if (d.code == 2 && d.bits == 16) {
    out->dtype = DType::Float16;
  } else if (d.code == 4 && d.bits == 16) {
    out->dtype = DType::BFloat16;
  } else {
    return false;
  }
  out->data = d.data;
  out->ndim = d.ndim;
  out->shape = d.shape;
  return true;
}
inline bool is_negated(PyObject* t) {  // a view under torch._neg_view
  const py::object answer = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(t, torch_types().is_neg));
  if (!answer) throw py::error_already_set();
  return answer.ptr() != Py_False;
}

// plain(*tensors): whether read_plain holds of each, none is negated, and they have one dtype. Else the caller goes the
// long way, which says what is wrong.
inline PyObject* plain(PyObject*, PyObject* const* tensors, Py_ssize_t count) {
  Plain first, other;
  bool all = count > 0 && read_plain(tensors[0], &first) && !is_negated(tensors[0]);
  for (Py_ssize_t i = 1; all && i < count; ++i)
    all = read_plain(tensors[i], &other) && other.dtype == first.dtype && !is_negated(tensors[i]);
  return PyBool_FromLong(all);
}

// plain_number(tensor): what a plain tensor of float32 or float64 with one element holds; None of another tensor.
inline PyObject* plain_number(PyObject*, PyObject* const* tensors, Py_ssize_t) {
  Plain t;
  if (!read_plain(tensors[0], &t) || t.numel != 1 || is_negated(tensors[0])) Py_RETURN_NONE;
  if (t.dtype == DType::Float32) return PyFloat_FromDouble(*static_cast<const float*>(t.data));
  if (t.dtype == DType::Float64) return PyFloat_FromDouble(*static_cast<const double*>(t.data));
  Py_RETURN_NONE;
}

// A function of the module that takes its arguments as they come: pybind11 needs a microsecond or two for a dozen.
using Fastcall = PyObject*(PyObject*, PyObject* const*, Py_ssize_t);
template <Fastcall* f>
PyObject* without_exceptions(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  try {
    return f(self, args, count);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}
template <Fastcall* f>
void define(py::module_& m, const char* name, const char* doc) {
  static PyMethodDef def;
  def = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(without_exceptions<f>)), METH_FASTCALL, doc};
  m.attr(name) = py::reinterpret_steal<py::object>(PyCFunction_New(&def, nullptr));
}

inline void bind_plain(py::module_& m) {
  define<plain>(m, "plain", "Whether all are plain contiguous CPU tensors with memory, of one floating dtype.");
  define<plain_number>(m, "plain_number", "The number in a plain tensor of one float32 or float64; else None.");
}

}  // namespace pygen
