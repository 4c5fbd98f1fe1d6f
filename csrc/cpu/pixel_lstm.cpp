// pixel_lstm on CPUs, forwards. Formula: common/pixel_lstm.h, pygen/reference/pixel_lstm.py.
// Work of a pixel: 4 H^2 k multiply-adds and 5 H exponentials. A block of images goes through its lines; of a line, 48
// columns (pixels of images) at a time go through all units, so that they stay in the first cache while the weight
// streams by from the second, 16 H^2 k bytes. Traffic of a pixel, fp32: 16 H bytes read, 4 H written, and 20 H for
// backward.
#include "cpu/pixel_lstm_lines.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

// The weight as panels [taps, H][gates of kUnitsAbreast units].
template <class Real>
std::vector<Real> pack_forward(const PixelLstm& p) {
  const int64_t h = p.hidden, panels = (h + kUnitsAbreast - 1) / kUnitsAbreast;
  const Lines l(p, 0, 1);
  std::vector<Real> packed(static_cast<size_t>(panels * p.kernel * h * kRowsAbreast));
  const Real* weight = static_cast<const Real*>(p.weight);
  for (int64_t j = 0; j < h; ++j)
    for (int64_t gate = 0; gate < 4; ++gate) {
      const Real* row = weight + l.channel(gate, j) * h * p.kernel;
      Real* to = packed.data() + j / kUnitsAbreast * p.kernel * h * kRowsAbreast + j % kUnitsAbreast * 4 + gate;
      for (int64_t t = 0; t < p.kernel; ++t)
        for (int64_t k = 0; k < h; ++k) to[(t * h + k) * kRowsAbreast] = row[k * p.kernel + t];
    }
  return packed;
}

// One unit in n <= kWide columns, from `sums`; its row of each tile begins at the first column.
template <class Real>
PYGEN_INLINE void unit_of_columns(const Real* sums, Real* const* gates, Real* c, Real* h, bool keep, int64_t n) {
  using V = Vector<Real>;
  constexpr int64_t lanes = sizeof(V) / sizeof(Real);
  for (int64_t q = 0; q < n; q += lanes) {
    const auto sum = [&](int gate)
                         PYGEN_INLINE_LAMBDA { return V(load<V>(gates[gate] + q) + load<V>(sums + gate * kWide + q)); };
    LstmUnit<V> u{sum(0), sum(1), sum(2), sum(3), V{}};
    const V out = lstm_step(u, load<V>(c + q));
    store_first(h + q, out, n - q);
    store_first(c + q, u.c, n - q);
    if (!keep) continue;
    store(gates[0] + q, u.o);  // beyond n are sums that come later, or none
    store(gates[1] + q, u.f);
    store(gates[2] + q, u.i);
    store(gates[3] + q, u.g);
  }
}

template <class T, class Real>
void forward_block(const Lines& l, const Real* packed) {
  const PixelLstm& p = l.p;
  const int64_t h = p.hidden, tile = h * l.pitch;
  Real* scratch = thread_scratch<Real, 0>(7 * tile);
  std::fill_n(scratch, 7 * tile, Real(0));
  Real *gates = scratch, *c = gates + 4 * tile;  // c behind the gates, as they are kept
  Real *now = c + tile, *last = now + tile;
  const auto gate_channel = [&](int64_t row) { return l.channel(row / h, row % h); };
  const auto as_is = [](int64_t row) { return row; };
  for (int64_t d = 0; d < l.count; ++d) {
    read_line<T>(l, p.input, d, 4 * h, gate_channel, gates + l.before);
    for (int64_t q = l.begin_column(d); q < l.end_column(d); q += kWide) {
      const int64_t n = std::min(kWide, l.end_column(d) - q);
      const Seen<Real> seen{last + l.before + q + l.shift(0), l.position, l.pitch};
      alignas(64) Real sums[kRowsAbreast * kWide] = {};
      for (int64_t j = 0; j < h; j += kUnitsAbreast) {
        product(packed + j / kUnitsAbreast * p.kernel * h * kRowsAbreast, p.kernel, h, seen, n, sums);
        for (int64_t u = j; u < std::min(h, j + kUnitsAbreast); ++u) {
          const int64_t at = u * l.pitch + l.before + q;
          Real* const rows[] = {gates + at, gates + tile + at, gates + 2 * tile + at, gates + 3 * tile + at};
          unit_of_columns(sums + (u - j) * 4 * kWide, rows, c + at, now + at, p.kept.data != nullptr, n);
        }
      }
    }
    write_line<T>(l, p.output, d, h, as_is, now + l.before);
    if (p.kept.data) write_line<T>(l, p.kept, d, 5 * h, as_is, gates + l.before);
    clear_between(l, h, now + l.before);
    std::swap(now, last);
  }
}

template <class T, class Real>
void forward(const PixelLstm& p) {
  const std::vector<Real> packed = pack_forward<Real>(p);
  for_each_block(p, [&](const Lines& l) { forward_block<T>(l, packed.data()); });
}

}  // namespace

void pixel_lstm_forward(const PixelLstm& p) { PYGEN_BY_DTYPE(p.dtype, (forward<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
