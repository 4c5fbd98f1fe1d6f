// The late steps of a network of several resolutions. As in sampling_late.cuh only the pixel's own channels are in the
// chain; what a step takes from early streams, from pixels to the left and from layers on the way down lies in its
// base, floats in the image's memory: an early step writes it when the row begins, and as soon as a stream's pixel is
// made, each block multiplies it for the rows that it has and adds that to the bases that take it ("push").
#pragma once

#include "cuda/sampling_late.cuh"
#include "cuda/sampling_scales_early.cuh"

namespace pygen::cuda {

struct ScalesParams : ClusterParams {
  const ScalesStep* scale_steps;  // the early ones, then the late ones
  const ScalesPush* pushes;
  const int16_t* order;
  int num_pushes, pushes_at, order_at, order_pitch, scales;
  int num_mixtures;
  double min_log_scale;
};

template <class T>
struct ScalesPlace : ClusterPlace<T> {
  const ScalesParams& own;
  __device__ __forceinline__ ScalesStep* scale_steps() const { return reinterpret_cast<ScalesStep*>(this->shared); }
  __device__ __forceinline__ ScalesPush* pushes() const {
    return reinterpret_cast<ScalesPush*>(this->shared + own.pushes_at);
  }
  // Zero bits at a coordinate's end, as far as there are scales.
  __device__ __forceinline__ int level(int at) const {
    return at == 0 ? own.scales - 1 : min(__ffs(at) - 1, own.scales - 1);
  }
  // The late steps of pixel (y, x), -1 behind the last one.
  __device__ __forceinline__ const int16_t* order(int y, int x) const {
    const int16_t* const all = reinterpret_cast<const int16_t*>(this->shared + own.order_at);
    return all + (level(y) * own.scales + level(x)) * own.order_pitch;
  }
};

template <class T>
struct ScalesLate {
  using Place = ScalesPlace<T>;
  using L = Late<T>;
  using Item = typename L::Item;
  using Ahead = typename L::Ahead;

  // What is added to an item, but for what this pixel's steps have made. y, x: of the stream.
  static __device__ __forceinline__ Pair known(const Place& place, const ScalesStep& step, const Item& of, int y,
                                               int x) {
    Pair sum{0, 0};
    if (!of.there) return sum;
    if (step.bias != 0) {
      const T* const bias = reinterpret_cast<const T*>(step.bias) + of.channel;
      sum.a = widen_to(bias[0]);
      if (step.gate) sum.b = widen_to(bias[step.outs]);
    }
    if (step.base_at >= 0) {
      const int tile = step.own_first + of.k * place.p.size, row = of.half * 8 + static_cast<int>(threadIdx.x) % 8;
      const float* const base = base_of(place, step.base_at, step.base_pitch, of.image, x, tile) + row;
      sum.a += __ldcg(base);
      if (step.gate) sum.b += __ldcg(base + 8);
    }
    place.condition(sum, step, of.channel, of.image, y, x);
    return sum;
  }
  static __device__ __forceinline__ Ahead ahead(const Place& place, const ScalesStep& step, int y, int x) {
    Ahead made = L::reached(place, step, false);
    made.known = known(place, step, made.item, y >> step.log2, x >> step.log2);
    L::load_first(made);
    return made;
  }

  // Sums, gates and sends the step's results.
  static __device__ __forceinline__ void finish(const Place& place, const ScalesStep& step, const Ahead& ready, int y,
                                                int x) {
    const int items = step.own_count * (step.gate ? 1 : 2) * place.images * 8;
    const int lane8 = static_cast<int>(threadIdx.x) % 8;
    y >>= step.log2;
    x >>= step.log2;
    for (int base = 0; base < items; base += static_cast<int>(blockDim.x)) {
      const Item of = base == 0 ? ready.item : L::item(place, step, base);
      float value = 0;
      if (of.there) {
        const Pair more = base == 0 ? ready.known : known(place, step, of, y, x);
        const int row = of.half * 8 + lane8;
        value = L::own_sum(place, step, of, row) + more.a;
        if (step.gate) value = linear_gate_value(value, L::own_sum(place, step, of, row + 8) + more.b);
        if (step.add >= 0) {
          const T* const add = reinterpret_cast<const T*>(place.shared + step.add + of.image * step.add_pixel_pitch);
          value += given_by(add + of.channel, step.add_minus);
        }
      }
      if (step.logits) {
        const int slot = of.image >> place.p.size_log2, owner = of.image & (place.p.size - 1);
        float* const logits = reinterpret_cast<float*>(place.shared + place.p.shared.logits);
        if (of.there) place.send(logits + slot * step.outs + of.channel, owner, value);
        continue;
      }
      const int first = of.channel - lane8;
      const bool sent = of.k < step.own_count && first < step.outs;
      const T x_of = narrow_to<T>(value);
      char* const row = place.shared + step.out + of.image * step.out_pixel_pitch;
      each_form(step.forms, x_of, [&](int form, T kept) {
        place.send_channels(reinterpret_cast<T*>(row + form * step.form_bytes) + first, kept, sent);
      });
      if (step.out_at >= 0 && sent) {
        char* const out = stream_row(place, step.out_at, step.out_rows, step.width, step.out_pitch, y);
        write_forms(out + of.image * place.p.image_bytes + int64_t(x) * step.out_pitch, step, of.channel, x_of);
      }
    }
    if (step.logits || step.own_count == 0) place.send_nothing();
  }

  // Adds to another step's base what it takes from the image's pixel (y, x), which has just been made.
  static __device__ __forceinline__ void push(const Place& place, const ScalesPush& push, int y, int x) {
    const ScalesStep& target = place.scale_steps()[push.target];
    const int at = (x >> push.log2) + push.right, left_over = (1 << push.ratio_log2) - 1;
    const int to_x = at >> push.ratio_log2;
    if ((at & left_over) != 0 || (y >> push.log2 & left_over) != 0 || to_x >= target.width) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (typename L::Unit of{0, place.warp};; of.n += place.warps) {
      of.settle(place.eights);
      if (of.k >= push.own_count) break;
      float d[1][1][4] = {};
      const char* const w = L::weights(place, push, of.k);
      sum_blocks<T>(d, load_run(w, 0), w, L::source(place, push, of.n), 0, 1, push.blocks, push.bytes, false);
      const int tile = push.own_first + of.k * place.p.size;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int image = of.n * 8 + lane % 4 * 2 + i % 2;
        if (image >= place.images) continue;
        float* const base = base_of(place, target.base_at, target.base_pitch, image, to_x, tile) + lane / 4 + i / 2 * 8;
        *base = __ldcg(base) + d[0][0][i];
      }
    }
  }
};

}  // namespace pygen::cuda
