// What the bindings hand to the kernels of noise_contrastive.
#pragma once

#include "common/noise_contrastive.h"
#include "cpu/view.h"

namespace pygen {

// A matrix whose rows lie `stride` elements apart.
struct Rows {
  const void* data = nullptr;
  int64_t stride = 0;
};

// The losses of samples, the slopes of their scores, and the gradient of input for an upstream gradient of 1. Real is
// float, double for float64. False, with what is written of no use, where a class is not one of 0 .. C - 1.
struct ContrastRows {
  DType dtype;
  Contrast kind;
  bool remove_hits;
  int64_t samples, negatives, features, all;  // N, K, D, C
  Rows input, weight;                         // [N, D], [C, D]
  const void* bias;                           // [C], or nullptr
  const double* log_noise;                    // of class c at log_noise[c * log_noise_stride]; nullptr: no correction
  int64_t log_noise_stride;
  double log_count;
  const int64_t *target, *classes;  // [N]; [N, K], or [K] with `shift`
  const void* shift;                // Real [K]: `scores` come as products, to which this is added; nullptr: made here
  void* scores;  // Real [N, K]: with `shift` the products; written where `slopes` is: negatives' slopes
  void* slopes;  // Real [N], the targets', written, or nullptr: none are wanted
  void* nll;     // Real [N], written, or nullptr
  void* total;   // one Real, written: the losses' sum, over N where `mean`; or nullptr
  bool mean;
  void* grad;  // Real [N, D], written, or nullptr; with `shift` the target's part alone
  int threads;
};

// Sums over the places that hold a class: out[c] = sum of scale[e] times the vector of entry e. Entries are N targets,
// of the vectors `head`, and then negatives, `per` of them for each vector of `tail`.
struct ContrastSums {
  DType dtype;        // of out
  bool wide_vectors;  // head and tail are Real, else as out
  int64_t entries, targets, per, features;
  const int64_t *classes, *order;  // [entries], sorted; the entries in that order
  const int64_t* place;            // [entries], the row of out; nullptr: the class
  const void *scale, *bias_scale;  // Real [entries]; bias_scale for the bias, nullptr: the same
  Rows head, tail;
  void* out;   // [.., D]
  void* bias;  // [..], or nullptr
  int threads;
};

// Classes [entries] below `most` in rising order, and which entries these are; equal ones stay in their order.
struct ContrastOrder {
  int64_t entries, most;
  const int64_t* given;
  int64_t *classes, *order;  // written
};

}  // namespace pygen
