// What the bindings hand to the launchers of crf.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

constexpr int64_t kCrfGroups = 64;  // of sequences, at most, that add up the transitions' gradient for themselves

struct CrfCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t sequences, steps, tags;
  PositionsArgument emissions;  // an image is a sequence, a channel a step, a position a tag
  // float, double for float64: [K, K], [K] or 0, [K] or 0
  std::uintptr_t transitions, start, end;
  std::uintptr_t labels, lengths;  // int64: [N, T] or 0, [N] or 0
  std::uintptr_t kept;             // [crf_weights], and where forward keeps [crf_states] behind it
  bool keep;

  int64_t groups() const { return sequences < kCrfGroups ? sequences : kCrfGroups; }
};

struct CrfForwardCall : CrfCall {
  std::uintptr_t nll;      // [N], or with `reduce` one number; 0: for `kept` alone
  std::uintptr_t partial;  // [N], where `reduce`
  bool reduce;
  double scale;  // of the sum
};

struct CrfBackwardCall : CrfCall {
  std::uintptr_t grad;  // [N] with this stride, which may be 0
  int64_t grad_stride;
  double scale;                      // of grad
  PositionsArgument grad_emissions;  // address 0: not wanted
  std::uintptr_t sums;               // [crf_sums]; 0: no gradient of what follows is wanted
  std::uintptr_t grad_transitions, grad_start, grad_end;
};

struct CrfDecodeCall : CrfCall {
  std::uintptr_t decoded;  // int64 [N, T]
  std::uintptr_t scores;   // [N]
};

struct CrfSampleCall : CrfCall {  // of what forward has kept
  std::uintptr_t seed;            // int64
  int64_t samples;
  std::uintptr_t drawn;  // int64 [samples, N, T]
};

// Numbers: the matrices that sums are made with, the states of a forward pass, what backward works on.
int64_t crf_weights(int64_t tags);
int64_t crf_states(int64_t sequences, int64_t steps, int64_t tags);
int64_t crf_sums(int64_t sequences, int64_t steps, int64_t tags);

void crf_forward(const CrfForwardCall& call);
void crf_backward(const CrfBackwardCall& call);
void crf_decode(const CrfDecodeCall& call);
void crf_sample(const CrfSampleCall& call);

}  // namespace pygen::cuda
