// csrc/cuda/divider.cuh against the processor's own division: around every multiple's edge for many divisors.
#include "cuda/divider.cuh"

#include <cstdio>

int main() {
  constexpr uint64_t kEnd = uint64_t(1) << 31;
  uint64_t checked = 0, state = 1;
  const auto draw = [&state] { return state = state * 6364136223846793005ull + 1442695040888963407ull, state >> 33; };
  const auto check = [&](uint64_t n, uint64_t divisor) {
    if (n >= kEnd) return;
    ++checked;
    const auto quotient = pygen::cuda::Divider::of(static_cast<int64_t>(divisor)).quotient(static_cast<uint32_t>(n));
    if (quotient == n / divisor) return;
    std::printf("%llu / %llu: got %u\n", (unsigned long long)n, (unsigned long long)divisor, quotient);
    std::exit(1);
  };
  for (uint64_t i = 0; i < 20000; ++i) {
    const uint64_t divisor = i < 5000   ? i + 1
                             : i < 5062 ? (uint64_t(1) << (i - 5000) / 2) + i % 2
                                        : draw() % (kEnd - 1) + 1;
    for (const uint64_t multiple :
         {uint64_t(0), uint64_t(1), uint64_t(2), draw() % (kEnd / divisor + 1), kEnd / divisor}) {
      for (int64_t beside = -1; beside <= 1; ++beside)
        check(multiple * divisor + static_cast<uint64_t>(beside), divisor);
    }
    check(kEnd - 1, divisor);
  }
  std::printf("%llu quotients\n", (unsigned long long)checked);
}
