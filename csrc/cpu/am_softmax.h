// What the bindings hand to the kernel of am_softmax.
#pragma once

#include "cpu/view.h"

namespace pygen {

// Rows of products of samples and class weights: logit = product * row_scale * column_scale, and less `shift` at the
// row's target. All contiguous; Real is double with `wide`, else float.
struct AmSoftmaxRows {
  bool wide;
  int64_t rows, classes;
  void* products;            // Real [rows, classes]; with `upstream` the gradient of each takes its place
  const void* row_scale;     // Real [rows]
  const void* column_scale;  // Real [classes]
  const int64_t* target;     // [rows]; beyond the classes: the loss is NaN
  double shift;
  const void* upstream;  // Real [rows]; nullptr: the loss alone
  void* nll;             // Real [rows]
  int threads;
};

// grad = factor * (grad - t <t, grad> / norm^2), row by row; only factor * grad where the norm is not beyond `least`.
struct AmSoftmaxAcross {
  bool wide;
  int64_t rows, features;
  void* grad;        // Real [rows, features]
  const void* t;     // Real [rows, features]
  const void* norm;  // Real [rows]
  double least;
  const void* factor;  // one Real, or nullptr: 1
  int threads;
};

}  // namespace pygen
