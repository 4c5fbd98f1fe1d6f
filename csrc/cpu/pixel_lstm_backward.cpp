// The input's gradient of pixel_lstm on CPUs, from what forward kept, from the last line to the first. Formula:
// common/pixel_lstm.h. The weight's is a sum over all pixels at once: pygen/native makes it of this one.
// Work of a pixel: 4 H^2 k multiply-adds. Traffic, fp32: 24 H bytes read, 16 H written.
#include "cpu/pixel_lstm_lines.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

// The weight, transposed: panels [taps, gates of all units][kRowsAbreast units].
template <class Real>
std::vector<Real> pack_backward(const PixelLstm& p) {
  const int64_t h = p.hidden, panels = (h + kRowsAbreast - 1) / kRowsAbreast, size = p.kernel * 4 * h * kRowsAbreast;
  const Lines l(p, 0, 1);
  std::vector<Real> packed(static_cast<size_t>(panels * size));
  const Real* weight = static_cast<const Real*>(p.weight);
  for (int64_t row = 0; row < 4 * h; ++row)
    for (int64_t k = 0; k < h; ++k)
      for (int64_t t = 0; t < p.kernel; ++t) {
        Real* panel = packed.data() + k / kRowsAbreast * size;
        panel[(t * 4 * h + row) * kRowsAbreast + k % kRowsAbreast] =
            weight[(l.channel(row / h, row % h) * h + k) * p.kernel + t];
      }
  return packed;
}

// A unit's rows of the tiles, from the first of n <= kWide columns on.
template <class Real>
struct UnitRows {
  const Real *kept, *before, *grad_h;
  Real *grads, *grad_c;
  int64_t tile;  // from one gate's rows to the next's
};

template <class Real>
PYGEN_INLINE void unit_of_columns(const Real* sums, const UnitRows<Real>& rows, int64_t n) {
  using V = Vector<Real>;
  constexpr int64_t lanes = sizeof(V) / sizeof(Real);
  for (int64_t q = 0; q < n; q += lanes) {
    const auto kept = [&](int64_t i) PYGEN_INLINE_LAMBDA { return load<V>(rows.kept + i * rows.tile + q); };
    const LstmUnit<V> u{kept(0), kept(1), kept(2), kept(3), kept(4)};
    const V grad_h = load<V>(rows.grad_h + q) + load<V>(sums + q);
    const LstmUnit<V> grad = lstm_gradients(u, load<V>(rows.before + q), grad_h, load<V>(rows.grad_c + q));
    store_first(rows.grads + q, grad.o, n - q);
    store_first(rows.grads + rows.tile + q, grad.f, n - q);
    store_first(rows.grads + 2 * rows.tile + q, grad.i, n - q);
    store_first(rows.grads + 3 * rows.tile + q, grad.g, n - q);
    store_first(rows.grad_c + q, grad.c, n - q);
  }
}

template <class T, class Real>
void backward_block(const Lines& l, const Real* packed) {
  const PixelLstm& p = l.p;
  const int64_t h = p.hidden, tile = h * l.pitch, size = p.kernel * 4 * h * kRowsAbreast;
  Real* scratch = thread_scratch<Real, 0>(20 * tile);
  std::fill_n(scratch, 20 * tile, Real(0));
  Real *kept = scratch, *before = kept + 5 * tile;             // of this line and of the one before it
  Real *grads = before + 5 * tile, *later = grads + 4 * tile;  // the sums', of this line and of the next one
  Real *grad_h = later + 4 * tile, *grad_c = grad_h + tile;
  const auto gate_channel = [&](int64_t row) { return l.channel(row / h, row % h); };
  const auto as_is = [](int64_t row) { return row; };
  read_line<T>(l, p.kept, l.count - 1, 5 * h, as_is, kept + l.before);
  for (int64_t d = l.count - 1; d >= 0; --d) {
    if (d > 0) read_line<T>(l, p.kept, d - 1, 5 * h, as_is, before + l.before);
    const int64_t end = l.end_column(d), known = d > 0 ? l.end_column(d - 1) : 0;
    for (int64_t j = 0; j < h && known < end; ++j)  // pixels whose c begins here
      std::fill_n(before + 4 * tile + j * l.pitch + l.before + known, end - known, Real(0));
    read_line<T>(l, p.output, d, h, as_is, grad_h + l.before);
    for (int64_t q = l.begin_column(d); q < end; q += kWide) {
      const int64_t n = std::min(kWide, end - q), at = l.before + q;
      const Seen<Real> seen{later + at - l.shift(0), -l.position, l.pitch};
      alignas(64) Real sums[kRowsAbreast * kWide] = {};
      for (int64_t j = 0; j < h; j += kRowsAbreast) {
        if (d + 1 < l.count) product(packed + j / kRowsAbreast * size, p.kernel, 4 * h, seen, n, sums);
        for (int64_t u = j; u < std::min(h, j + kRowsAbreast); ++u) {
          const int64_t place = u * l.pitch + at;
          unit_of_columns(sums + (u - j) * kWide,
                          UnitRows<Real>{kept + place, before + 4 * tile + place, grad_h + place, grads + place,
                                         grad_c + place, tile},
                          n);
        }
      }
    }
    clear_between(l, 4 * h, grads + l.before);
    write_line<T>(l, p.input, d, 4 * h, gate_channel, grads + l.before);
    std::swap(kept, before);
    std::swap(grads, later);
  }
}

template <class T, class Real>
void backward(const PixelLstm& p) {
  const std::vector<Real> packed = pack_backward<Real>(p);
  for_each_block(p, [&](const Lines& l) { backward_block<T>(l, packed.data()); });
}

}  // namespace

void pixel_lstm_backward(const PixelLstm& p) { PYGEN_BY_DTYPE(p.dtype, (backward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
