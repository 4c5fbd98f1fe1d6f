// The gradients of vector_quantize on CPUs, and sums over the positions of a code.
//     grad_input = grad_quantized + factor (z - e)        sums of factor (e - z), or of z
// Sums: a thread takes kColumns channels of all codes, which stay in its caches in double, through all positions from
// the first to the last: one order, whatever the threads. z is turned in registers where positions lie side by side.
#include "cpu/vector_quantize_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kAtOnce = 256;  // positions of them
constexpr double kPositionsPerThread = 2048;

// grad_quantized + factor (z - e), of channels side by side.
template <class T, class Real>
void grad_row(const VectorQuantize& p, const T* z, const T* grad, const T* code, Real factor, Real* row, T* out) {
  widen_run(z, row, p.channels);
  for (int64_t c = 0; c < p.channels; ++c) row[c] = factor * (row[c] - widen(code[c]));
  if (grad)
    for (int64_t c = 0; c < p.channels; ++c) row[c] += widen(grad[c]);
  narrow_run(row, out, p.channels);
}

template <class T, class Real>
void grad_tile(const VectorQuantize& p, const StoredCodes<Real>& stored, int64_t first, int64_t count, Real* z) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t size = p.channels * wide;
  Real *e = z + size, *grad = e + size, factor[wide];
  int64_t at[wide];
  const T* codebook = static_cast<const T*>(p.codebook);
  if (p.input.channel == 1 && p.quantized.channel == 1 && (!p.grad_quantized.data || p.grad_quantized.channel == 1)) {
    for (int64_t k = first; k < first + count; ++k) {
      const int64_t n = k / p.positions, s = k % p.positions;
      const T* above = p.grad_quantized.data ? p.grad_quantized.place<const T>(n, s) : nullptr;
      grad_row<T, Real>(p, p.input.place<const T>(n, s), above, codebook + p.indices[k] * p.channels,
                        static_cast<const Real*>(p.factor)[n], z, p.quantized.place<T>(n, s));
    }
    return;
  }
  places<wide>(p, p.input, first, count, at);
  stored.pack_wide(p.input.data, p.channels, {nullptr, 1}, p.input.channel, at, z);
  for (int64_t k = 0; k < wide; ++k) {
    const int64_t position = std::min(first + k, first + count - 1);
    at[k] = p.indices[position] * p.channels;
    factor[k] = static_cast<const Real*>(p.factor)[position / p.positions];
  }
  stored.pack_wide(p.codebook, p.channels, {nullptr, 1}, 1, at, e);
  for (int64_t c = 0; c < p.channels; ++c)
    for (int64_t k = 0; k < wide; ++k) z[c * wide + k] = factor[k] * (z[c * wide + k] - e[c * wide + k]);
  if (p.grad_quantized.data) {
    places<wide>(p, p.grad_quantized, first, count, at);
    stored.pack_wide(p.grad_quantized.data, p.channels, {nullptr, 1}, p.grad_quantized.channel, at, grad);
    for (int64_t j = 0; j < size; ++j) z[j] += grad[j];
  }
  places<wide>(p, p.quantized, first, count, at);
  stored.write(p, z, at, count);
}

template <class T, class Real>
void grad_input(const VectorQuantize& p, const StoredCodes<Real>& stored) {
  constexpr int64_t wide = kWide<Real>;
  const int64_t all = p.images * p.positions;
  const double per_thread = 1 + kPositionsPerThread / (1.0 + p.channels);
  parallel_blocks((all + wide - 1) / wide, static_cast<int64_t>(per_thread), p.threads, [&](int64_t t) {
    grad_tile<T, Real>(p, stored, t * wide, std::min(wide, all - t * wide),
                       thread_scratch<Real, 1>(3 * p.channels * wide));
  });
}

// to[codes][kColumns] += factor (e - z) of some positions one after the other, or z.
template <class Real, bool kGradient>
__attribute__((noinline)) void add_rows(const Real* __restrict z, const Real* __restrict e, const int64_t* code,
                                        int64_t count, int64_t codes, const Real* factor, int64_t factor_step,
                                        double* __restrict to) {
  for (int64_t i = 0; i < count; ++i, z += kColumns) {
    if (code[i] < 0 || code[i] >= codes) continue;
    double* sum = to + code[i] * kColumns;
    if constexpr (kGradient) {
      const double times = factor[i * factor_step];
      const Real* own = e + code[i] * kColumns;
      for (int64_t c = 0; c < kColumns; ++c)
        sum[c] += times * (static_cast<double>(own[c]) - static_cast<double>(z[c]));
    } else {
      for (int64_t c = 0; c < kColumns; ++c) sum[c] += static_cast<double>(z[c]);
    }
  }
}

template <class Real>
__attribute__((noinline)) void code_sums(const VectorQuantize& p, const StoredCodes<Real>& stored, int64_t bytes) {
  const bool flat = p.positions == 1;  // rows, each an image: the images are the positions
  const int64_t outer = flat ? 1 : p.images, inner = flat ? p.images : p.positions;
  const int64_t step = flat ? p.input.image : p.input.position, blocks = (p.channels + kColumns - 1) / kColumns;
  const double work = 4.0 * kColumns * p.images * p.positions;
  parallel_blocks(blocks, units_per_thread(work), p.threads, [&](int64_t b) {
    double* sums = thread_scratch<double, 2>(p.codes * kColumns);
    Real* z = thread_scratch<Real, 1>((kAtOnce + (p.codebook ? p.codes : 0)) * kColumns);
    Real* e = z + kAtOnce * kColumns;
    int64_t at[kColumns];
    std::fill_n(sums, p.codes * kColumns, 0.0);
    if (p.codebook) {
      for (int64_t c = 0; c < kColumns; ++c) at[c] = std::min(b * kColumns + c, p.channels - 1);
      stored.pack_columns(p.codebook, p.codes, {nullptr, 1}, p.channels, at, e);
    }
    for (int64_t c = 0; c < kColumns; ++c) at[c] = std::min(b * kColumns + c, p.channels - 1) * p.input.channel;
    for (int64_t n = 0; n < outer; ++n)
      for (int64_t s = 0; s < inner; s += kAtOnce) {
        const int64_t count = std::min(kAtOnce, inner - s);
        const int64_t* code = p.indices + n * inner + s;
        const char* data = static_cast<const char*>(p.input.data) + (n * p.input.image + s * step) * bytes;
        stored.pack_columns(data, count, {nullptr, 1}, step, at, z);
        if (p.codebook)
          add_rows<Real, true>(z, e, code, count, p.codes, static_cast<const Real*>(p.factor) + (flat ? s : n), flat,
                               sums);
        else
          add_rows<Real, false>(z, e, code, count, p.codes, nullptr, 0, sums);
      }
    for (int64_t k = 0; k < p.codes; ++k)
      for (int64_t c = 0; c < std::min(kColumns, p.channels - b * kColumns); ++c)
        static_cast<Real*>(p.sums)[k * p.channels + b * kColumns + c] = static_cast<Real>(sums[k * kColumns + c]);
  });
}

}  // namespace

void vector_quantize_grad_input(const VectorQuantize& p) {
  PYGEN_BY_DTYPE(p.dtype, (grad_input<T, Real>(p, kStoredCodes<T, Real>)))
}
void vector_quantize_sums(const VectorQuantize& p) {
  PYGEN_BY_DTYPE(p.dtype, (code_sums<Real>(p, kStoredCodes<T, Real>, sizeof(T))))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
