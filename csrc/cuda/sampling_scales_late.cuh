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

// Weights that mostly come from L2, whose answer takes as long as a step: so many runs of a tile are asked for at once.
constexpr int kHeld = 3;
struct HeldRuns {
  Run2 run[kHeld];
};
__device__ __forceinline__ HeldRuns hold_runs(const char* weights, int first, int stride, int blocks) {
  HeldRuns held{};
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int b = first + h * stride;
    if (b < blocks) held.run[h] = load_run(weights, b);
  }
  return held;
}

// d[n] += weights x the channels of the nth eight of images, of kHeld runs from `first` on. rows: this lane's, and
// at[n] the eight's bytes from there.
template <class T, int kN>
__device__ __forceinline__ void multiply_held(float (&d)[1][kN][4], const HeldRuns& held, const char* rows,
                                              const int (&at)[kN], int first, int stride, int blocks, int bytes) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int b = first + h * stride;
    if (b >= blocks) break;
    uint4 in[kN];
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      in[n] = *reinterpret_cast<const uint4*>(rows + at[n] + b * kBlockBytes);
      if ((b + 1) * kBlockBytes > bytes) keep_bytes(in[n], bytes - b * kBlockBytes - lane % 4 * 16);
    }
    multiply_block<T>(d, held.run[h].a, in);
  }
}

template <class T>
struct ScalesLate {
  using Place = ScalesPlace<T>;
  using L = Late<T>;
  using Item = typename L::Item;
  using Unit = typename L::Unit;
  struct Ahead {
    typename L::Ahead at;
    HeldRuns held;  // of its first tile
  };

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
  // In two parts: what nobody has to make first, and what may have been pushed.
  static __device__ __forceinline__ Ahead ahead(const Place& place, const ScalesStep& step) {
    Ahead made{L::reached(place, step, false), {}};
    if (made.at.unit.k < made.at.own_count) {
      made.held = hold_runs(made.at.weights, made.at.part, kSums, made.at.blocks);
    }
    return made;
  }
  static __device__ __forceinline__ void know(const Place& place, const ScalesStep& step, Ahead& made, int y, int x) {
    made.at.known = known(place, step, made.at.item, y >> step.log2, x >> step.log2);
  }

  // The partial sums of the pixel itself, as Late::multiply's: of two eights of images at once.
  static __device__ __forceinline__ void multiply(const Place& place, const Ahead& ready) {
    const auto& at = ready.at;
    const int parts = min(kSums, at.blocks), shift = L::shift_of(at.blocks), share = min(1 << shift, place.warps);
    const int stride = max(1, place.warps >> shift);
    const auto weights = [&](int k) { return at.weights + (k - at.unit.k) * at.to_next; };
    const auto after = [&](Unit of) {
      of.n += stride;
      of.settle(place.eights);
      return of;
    };
    for (int part = at.part; part < parts; part += share) {
      Unit of = at.unit;
      if (of.k >= at.own_count) break;
      HeldRuns held = part == at.part ? ready.held : hold_runs(weights(of.k), part, kSums, at.blocks);
      while (of.k < at.own_count) {
        const Unit second = after(of);
        const bool two = second.k == of.k;
        const Unit next = two ? after(second) : second;
        HeldRuns following = held;
        if (next.k != of.k && next.k < at.own_count) following = hold_runs(weights(next.k), part, kSums, at.blocks);
        float d[1][2][4] = {};
        const int eights[2] = {of.n * at.rows_to_next, (two ? second.n : of.n) * at.rows_to_next};
        for (int first = part;; first += kHeld * kSums) {
          multiply_held<T>(d, held, at.rows, eights, first, kSums, at.blocks, at.bytes);
          if (first + kHeld * kSums >= at.blocks) break;
          held = hold_runs(weights(of.k), first + kHeld * kSums, kSums, at.blocks);
        }
        store(place, d[0][0], of, part);
        if (two) store(place, d[0][1], second, part);
        held = following;
        of = next;
      }
    }
  }
  static __device__ __forceinline__ void store(const Place& place, const float (&d)[4], const Unit& of, int part) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* const sums = reinterpret_cast<float*>(place.shared + place.p.shared.sums);
    float* const at = sums + ((of.k * kSums + part) * 16 + lane / 4) * place.pitch + of.n * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(at) = {d[0], d[1]};
    *reinterpret_cast<float2*>(at + 8 * place.pitch) = {d[2], d[3]};
  }

  // Sums, gates and sends the step's results.
  static __device__ __forceinline__ void finish(const Place& place, const ScalesStep& step, const Ahead& ready, int y,
                                                int x) {
    const int items = step.own_count * (step.gate ? 1 : 2) * place.images * 8;
    const int lane8 = static_cast<int>(threadIdx.x) % 8;
    y >>= step.log2;
    x >>= step.log2;
    for (int base = 0; base < items; base += static_cast<int>(blockDim.x)) {
      const Item of = base == 0 ? ready.at.item : L::item(place, step, base);
      float value = 0;
      if (of.there) {
        const Pair more = base == 0 ? ready.at.known : known(place, step, of, y, x);
        const int row = of.half * 8 + lane8;
        value = L::own_sum(place, step, of, row) + more.a;
        if (step.gate) value = linear_gate_value(value, L::own_sum(place, step, of, row + 8) + more.b);
        if (step.add >= 0) {
          const T* const add = reinterpret_cast<const T*>(place.shared + step.add + of.image * step.add_pixel_pitch);
          value += given_by(add + of.channel, step.add_minus, [](const T* at) { return *at; });
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

  // Adds to the bases of other steps what they take from the stream that `maker` has just made of the image's pixel
  // (y, x). A warp has a tile of one of them, and four eights of images.
  static __device__ __forceinline__ void push(const Place& place, const ScalesStep& maker, int y, int x) {
    int unit = place.warp;
    const int chunks = (place.eights + kPushed - 1) / kPushed;
    for (int i = 0; i < maker.num_pushes; ++i) {
      const ScalesPush& push = place.pushes()[maker.pushes + i];
      const ScalesStep& target = place.scale_steps()[push.target];
      const int at = (x >> push.log2) + push.right, left_over = (1 << push.ratio_log2) - 1;
      const int to_x = at >> push.ratio_log2;
      if ((at & left_over) != 0 || (y >> push.log2 & left_over) != 0 || to_x >= target.width) continue;
      const int units = push.own_count * chunks;
      for (; unit < units; unit += place.warps) add(place, push, target, to_x, unit / chunks, unit % chunks * kPushed);
      unit -= units;
    }
  }
  static constexpr int kPushed = 4;  // eights at once

  static __device__ __forceinline__ void add(const Place& place, const ScalesPush& push, const ScalesStep& target,
                                             int x, int k, int n) {
    const int lane = static_cast<int>(threadIdx.x) % 32, tile = push.own_first + k * place.p.size;
    int eights[kPushed];
#pragma unroll
    for (int m = 0; m < kPushed; ++m) eights[m] = min(m, place.eights - 1 - n) * 8 * push.pitch;  // the last one again
    const char* const weights = L::weights(place, push, k);
    const char* const rows = L::source(place, push, n);
    HeldRuns held = hold_runs(weights, 0, 1, push.blocks);
    const auto base = [&](int m, int i) {
      const int image = (n + m) * 8 + lane % 4 * 2 + i % 2;
      float* const at = base_of(place, target.base_at, target.base_pitch, image, x, tile) + lane / 4 + i / 2 * 8;
      return image < place.images ? at : nullptr;
    };
    float before[kPushed][4], d[1][kPushed][4] = {};
#pragma unroll
    for (int m = 0; m < kPushed; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const at = base(m, i);
        before[m][i] = at == nullptr ? 0.0f : __ldcg(at);
      }
    }
    for (int first = 0; first < push.blocks; first += kHeld) {
      const HeldRuns now = held;
      if (first + kHeld < push.blocks) held = hold_runs(weights, first + kHeld, 1, push.blocks);
      multiply_held<T>(d, now, rows, eights, first, 1, push.blocks, push.bytes);
    }
#pragma unroll
    for (int m = 0; m < kPushed; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (float* const at = base(m, i)) *at = before[m][i] + d[0][m][i];
      }
    }
  }
};

}  // namespace pygen::cuda
