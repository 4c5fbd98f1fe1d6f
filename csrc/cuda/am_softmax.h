// What the bindings hand to the launchers of am_softmax.cu: addresses and sizes; all contiguous.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

struct AmSoftmaxRowsCall {
  int device;
  std::uintptr_t stream;
  bool wide;          // numbers are double, else float
  std::string dtype;  // of the gradients
  int64_t rows, classes;
  std::uintptr_t products;      // [rows, classes]
  std::uintptr_t row_scale;     // [rows]
  std::uintptr_t column_scale;  // [classes]
  std::uintptr_t target;        // [rows], int64
  double shift;                 // of the target's logit
  std::uintptr_t upstream;      // [rows]; 0: the loss alone
  std::uintptr_t nll;           // [rows], written
  std::uintptr_t grads;         // [rows, classes], written; products itself perhaps
};
void am_softmax_rows(const AmSoftmaxRowsCall& call);

// result = factor * (grad - t <t, grad> / norm^2), row by row; only factor * grad where the norm is not beyond `least`.
struct AmSoftmaxAcrossCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;  // of t and result
  int64_t rows, features;
  std::uintptr_t grad;    // [rows, features], float, double for float64, as norm and factor
  std::uintptr_t t;       // [rows, features]
  std::uintptr_t norm;    // [rows]
  std::uintptr_t factor;  // one number; 0: 1
  std::uintptr_t result;  // [rows, features], written
  double least;
};
void am_softmax_across(const AmSoftmaxAcrossCall& call);

}  // namespace pygen::cuda
