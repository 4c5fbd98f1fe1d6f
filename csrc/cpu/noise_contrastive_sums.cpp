// What a class's weights get, on CPUs: a sum over the places that hold the class, in sorted order.
// Traffic: a vector of D numbers for each place, and each class's row written once.
#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/noise_contrastive.h"
#include "cpu/noise_contrastive_parts.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kEntries = 64;  // of a block: the classes that begin there are its

template <class T, class U, class Real>
PYGEN_INLINE void one_class(const ContrastSums& p, int64_t first) {
  int64_t last = first + 1;
  while (last < p.entries && p.classes[last] == p.classes[first]) ++last;
  const int64_t to = p.place ? p.place[first] : p.classes[first];
  const Real *scale = static_cast<const Real*>(p.scale), *bias_scale = static_cast<const Real*>(p.bias_scale);
  const auto row = [&](int64_t i) PYGEN_INLINE_LAMBDA {
    const int64_t e = p.order[first + i];
    return e < p.targets ? static_cast<const U*>(p.head.data) + e * p.head.stride
                         : static_cast<const U*>(p.tail.data) + (e - p.targets) / p.per * p.tail.stride;
  };
  T* out = static_cast<T*>(p.out) + to * p.features;
  combine<Real>(
      last - first, p.features, [&](int64_t i) PYGEN_INLINE_LAMBDA { return scale[p.order[first + i]]; }, row,
      [&](int64_t j, auto value) PYGEN_INLINE_LAMBDA { store_as<decltype(value)>(out + j, value); });
  if (!p.bias) return;
  double sum = 0;
  for (int64_t i = first; i < last; ++i) sum += static_cast<double>((bias_scale ? bias_scale : scale)[p.order[i]]);
  narrow(static_cast<Real>(sum), static_cast<T*>(p.bias) + to);
}

template <class T, class U, class Real>
void run_sums(const ContrastSums& p) {
  const int64_t blocks = (p.entries + kEntries - 1) / kEntries;
  const double of_block = static_cast<double>(p.features + 8) * kEntries;
  parallel_blocks(blocks, units_per_thread(of_block), p.threads, [&](int64_t block) {
    const int64_t end = std::min(p.entries, (block + 1) * kEntries);
    for (int64_t e = block * kEntries; e < end; ++e)
      if (e == 0 || p.classes[e] != p.classes[e - 1]) one_class<T, U, Real>(p, e);
  });
}

struct Entry {
  uint32_t key, index;
};

// Sorts by digits of 11 bits, the lowest first.
void sort_entries(const ContrastOrder& p) {
  constexpr int kBits = 11, kDigits = 1 << kBits;
  std::vector<Entry> now(static_cast<size_t>(p.entries)), then(now.size());
  for (size_t e = 0; e < now.size(); ++e) now[e] = {static_cast<uint32_t>(p.given[e]), static_cast<uint32_t>(e)};
  for (int shift = 0; shift < 32 && (p.most - 1) >> shift > 0; shift += kBits) {
    size_t start[kDigits + 1] = {};
    for (const Entry& entry : now) ++start[(entry.key >> shift) % kDigits + 1];
    for (int digit = 0; digit < kDigits; ++digit) start[digit + 1] += start[digit];
    for (const Entry& entry : now) then[start[(entry.key >> shift) % kDigits]++] = entry;
    std::swap(now, then);
  }
  for (size_t e = 0; e < now.size(); ++e) {
    p.classes[e] = now[e].key;
    p.order[e] = now[e].index;
  }
}

}  // namespace

void contrast_order(const ContrastOrder& p) { sort_entries(p); }

void contrast_sums(const ContrastSums& p) {
  if (p.wide_vectors) {
    PYGEN_BY_DTYPE(p.dtype, (run_sums<T, Real, Real>(p)))
  } else {
    PYGEN_BY_DTYPE(p.dtype, (run_sums<T, T, Real>(p)))
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
