// Which of the compiled instruction sets runs: the best that the processor has, chosen once when the module loads.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

// What setup.py compiles csrc/cpu for, best first: X(name, argument).
#if defined(__x86_64__) && !defined(PYGEN_NO_PAIRS)
#define PYGEN_PAIRS 1  // and *_pairs.cpp for processors that multiply pairs of bfloat16
#endif
#if defined(__x86_64__)
#define PYGEN_FOR_EACH_ISA(X, argument) X(avx512, argument) X(avx2x2, argument) X(baseline, argument)
#else
#define PYGEN_FOR_EACH_ISA(X, argument) X(baseline, argument)
#endif

#define PYGEN_ISA_DECLARE(isa, signature) \
  namespace isa {                         \
  signature;                              \
  }
#define PYGEN_ISA_NAME(isa, unused) #isa,
#define PYGEN_ISA_ADDRESS(isa, function) &isa::function,

// A table of one function, indexed by isa_in_use().
#define PYGEN_ISA_TABLE(function) {PYGEN_FOR_EACH_ISA(PYGEN_ISA_ADDRESS, function)}

namespace pygen {

constexpr const char* kIsaNames[] = {PYGEN_FOR_EACH_ISA(PYGEN_ISA_NAME, )};
constexpr int kNumIsas = sizeof kIsaNames / sizeof *kIsaNames;

inline bool isa_usable(const std::string& name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (name == "avx512") return avx2 && avx512;
  if (name == "avx2x2") return avx2;
#endif
  return name == "baseline";
}

inline std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (const char* name : kIsaNames)
    if (isa_usable(name)) names.push_back(name);
  return names;
}

inline int first_usable_isa() {
  int i = 0;
  while (!isa_usable(kIsaNames[i])) ++i;
  return i;
}
inline int& isa_in_use() {
  static int index = first_usable_isa();
  return index;
}
// Products of bfloat16 pairs, which some processors with AVX-512 have: taken where "avx512" is in use.
inline bool has_bf16_products() {
#if PYGEN_PAIRS
  __builtin_cpu_init();
  return isa_usable("avx512") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}
inline bool& bf16_products_in_use() {
  static bool use = has_bf16_products();
  return use;
}
inline void set_bf16_products(bool use) {
  if (use && !has_bf16_products()) throw std::invalid_argument("this processor has no products of bfloat16");
  bf16_products_in_use() = use;
}

inline std::string current_isa() { return kIsaNames[isa_in_use()]; }

inline void set_isa(const std::string& name) {
  for (int i = 0; i < kNumIsas; ++i) {
    if (name == kIsaNames[i] && isa_usable(name)) {
      isa_in_use() = i;
      return;
    }
  }
  throw std::invalid_argument("isa: expected one of isas(), got " + name);
}

}  // namespace pygen
