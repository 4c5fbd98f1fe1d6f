// From a call of crf to its kernels' params, and which of them its tags take.
#pragma once

#include "cuda/crf.h"
#include "cuda/crf_chain.cuh"

// Calls run<Tr>(p, ...) for the dtype computed in and for as many tags.
#define PYGEN_CRF_RUN(call, run, ...)                                 \
  do {                                                                \
    const int64_t tags = (call).tags;                                 \
    if ((call).dtype == "float64") {                                  \
      if (tags <= 32) return run<CrfTraits<double, 1>>(__VA_ARGS__);  \
      if (tags <= 64) return run<CrfTraits<double, 2>>(__VA_ARGS__);  \
      if (tags <= 128) return run<CrfTraits<double, 4>>(__VA_ARGS__); \
      return run<CrfTraits<double, 8>>(__VA_ARGS__);                  \
    }                                                                 \
    if (tags <= 32) return run<CrfTraits<float, 1>>(__VA_ARGS__);     \
    if (tags <= 64) return run<CrfTraits<float, 2>>(__VA_ARGS__);     \
    if (tags <= 128) return run<CrfTraits<float, 4>>(__VA_ARGS__);    \
    return run<CrfTraits<float, 8>>(__VA_ARGS__);                     \
  } while (false)

namespace pygen::cuda {
namespace {

inline Stored stored_of(const std::string& dtype) {
  if (dtype == "float64") return Stored::Float64;
  if (dtype == "float32") return Stored::Float32;
  if (dtype == "bfloat16") return Stored::BFloat16;
  if (dtype == "float16") return Stored::Float16;
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

inline CrfParams params_of(const CrfCall& call) {
  CrfParams p{};
  p.stored = stored_of(call.dtype);
  p.emissions = positions_of(call.emissions);
  p.transitions = reinterpret_cast<const void*>(call.transitions);
  p.start = reinterpret_cast<const void*>(call.start);
  p.end = reinterpret_cast<const void*>(call.end);
  p.labels = reinterpret_cast<const long long*>(call.labels);
  p.lengths = reinterpret_cast<const long long*>(call.lengths);
  const int64_t size = p.stored == Stored::Float64 ? 8 : 4;
  p.weights = reinterpret_cast<void*>(call.kept);
  if (call.keep) p.states = reinterpret_cast<char*>(call.kept) + crf_weights(call.tags) * size;
  p.sequences = call.sequences;
  p.steps = call.steps;
  p.k = static_cast<int>(call.tags);
  return p;
}

}  // namespace
}  // namespace pygen::cuda
