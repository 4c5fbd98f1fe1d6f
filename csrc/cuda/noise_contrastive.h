// What the bindings hand to the launchers of noise_contrastive.cu: addresses and sizes; rows lie strides apart, all
// else is contiguous. 0: absent.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

struct RowsArgument {
  std::uintptr_t address = 0;
  int64_t stride = 0;
};

struct ContrastRowsCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  bool softmax, remove_hits;
  int64_t samples, negatives, features, classes;
  RowsArgument input, weight;  // [N, D], [C, D]
  std::uintptr_t bias;         // [C]
  RowsArgument log_noise;      // [C], double
  double log_count;
  std::uintptr_t target, chosen;  // [N]; [N, K], or [K] with a shift; int64
  std::uintptr_t shift;           // [K], float, double for float64, as what follows
  std::uintptr_t scores, slopes, nll,
      grad;  // [N, K] products with a shift, written; [N], [N], [N, D] or absent, written
};
void noise_contrastive_rows(const ContrastRowsCall& call);

struct ContrastSumsCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;  // of out and bias
  bool wide_vectors;  // they are float, double for float64; else as out
  int64_t entries, targets, per, features, rows;
  std::uintptr_t classes, order, ends, place;  // [entries], int64
  std::uintptr_t scale, bias_scale;            // [entries], float, double for float64
  RowsArgument head, tail;
  std::uintptr_t out, bias;  // [rows, D], [rows] or absent; rows of classes that come are written
};
void noise_contrastive_sums(const ContrastSumsCall& call);

}  // namespace pygen::cuda
