// noise_sample on CPUs. Traffic: 16 bytes of a table's column from anywhere and 8 written; Philox takes longer, about
// 20 ns a draw, unless the table is beyond the caches.
#include "cpu/noise_sample.h"

#include "common/noise_sample.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 256;          // draws
constexpr int64_t kBlocksPerThread = 2;  // about 10 us

}  // namespace

void noise_sample(const NoiseSample& p) {
  const int64_t total = p.rows * p.count;
  parallel_blocks((total + kBlock - 1) / kBlock, kBlocksPerThread, p.threads, [&](int64_t block) {
    const int64_t end = std::min(total, (block + 1) * kBlock);
    for (int64_t i = block * kBlock; i < end; ++i)
      p.drawn[i] = draw_class(p.table, p.classes, p.seed, i / p.count, i % p.count);
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
