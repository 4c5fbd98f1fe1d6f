// What is made pixel by pixel: the late steps of the cluster sampler.
//
// The rows of a step are dealt out over the blocks of the cluster; each block keeps its weights, and sends what it has
// made to all of them. What a pixel takes from those to its left is added up when these are made, while the blocks wait
// for each other ("push"): only the pixel's own channels are in the chain from step to step.
//
// A sum is that of kSums sums, each over every kSums-th run of channels, and what was pushed, in a fixed order: an
// image depends neither on its neighbours nor on the cluster's size.
#pragma once

#include "cuda/sampling_place.cuh"

namespace pygen::cuda {

constexpr int kSums = 4;

// The weights of one run of a tile: this lane's 16 bytes of two steps.
struct Run2 {
  uint4 a[1][2];
};
__device__ __forceinline__ Run2 load_run(const char* weights, int block) {
  const uint4* const w = reinterpret_cast<const uint4*>(weights + block * kTileBytes) + threadIdx.x % 32;
  return {{{w[0], w[32]}}};
}

// d += weights x channels, runs first, first + stride, ... of `blocks`. rows: this lane's image, from its 16 bytes on;
// loaded: the first run's weights.
template <class T>
__device__ __forceinline__ void sum_blocks(float (&d)[1][1][4], Run2 loaded, const char* weights, const char* rows,
                                           int first, int stride, int blocks, int bytes, bool relu) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int b = first; b < blocks; b += stride) {
    uint4 in[1] = {*reinterpret_cast<const uint4*>(rows + b * kBlockBytes)};
    if ((b + 1) * kBlockBytes > bytes) keep_bytes(in[0], bytes - b * kBlockBytes - lane % 4 * 16);
    if (relu) rectify<T>(in[0]);
    multiply_block<T>(d, loaded.a, in);
    if (b + stride < blocks) loaded = load_run(weights, b + stride);
  }
}

template <class T>
struct Late {
  using Place = ClusterPlace<T>;

  // This lane's 16 bytes of the image that it has in the nth eight.
  template <class Step>
  static __device__ __forceinline__ const char* source(const Place& place, const Step& step, int n) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return place.shared + step.source + (n * 8 + lane / 4) * step.pitch + lane % 4 * 16;
  }
  template <class Step>
  static __device__ __forceinline__ const char* weights(const Place& place, const Step& step, int k) {
    const int64_t tile_bytes = int64_t(step.blocks) * kTileBytes;
    if (step.own_weight >= 0) return place.shared + step.own_weight + k * tile_bytes;
    return place.p.weights + step.weight + (step.own_first + k * place.p.size) * tile_bytes;
  }
  // Of row 0 of the kth own tile and image 0, in the memory of what is pushed for pixel x.
  static __device__ __forceinline__ float* pushed(const Place& place, const SamplingStep& step, int x, int k) {
    const int slot = step.depth == 1 ? 0 : x % step.depth;
    return reinterpret_cast<float*>(place.shared + step.own_ring) + (slot * step.own_count + k) * 16 * place.pitch;
  }
  template <class Step>
  static __device__ __forceinline__ int sums_of(const Step& step) {
    return min(kSums, step.centre_blocks);
  }

  // The warp's share of the own tiles by the images' eights, without a division: the chain of steps waits for it.
  struct Unit {
    int k, n;
    __device__ __forceinline__ void settle(int eights) {
      for (; n >= eights; n -= eights) ++k;
    }
  };

  // One output of one image: lane % 8 of eight, those of `half` of the kth own tile.
  struct Item {
    int image, half, k, channel;
    bool there;
  };
  // place.first_*: the division of the first turn, made once.
  template <class Step>
  static __device__ __forceinline__ Item item(const Place& place, const Step& step, int base) {
    int image = place.first_item_image, rest = place.first_item_rest;
    if (base > 0) {
      const int eight = (base + static_cast<int>(threadIdx.x)) / 8;
      image = eight % place.images;
      rest = eight / place.images;
    }
    const int half = step.gate ? 0 : rest % 2, k = step.gate ? rest : rest / 2;
    const int tile = step.own_first + k * place.p.size, row = half * 8 + static_cast<int>(threadIdx.x) % 8;
    const int channel = tile * (step.gate ? 8 : 16) + row;
    return {image, half, k, channel, k < step.own_count && channel < step.outs};
  }

  // What is added to an item, but for what this pixel's steps have made.
  static __device__ __forceinline__ Pair known(const Place& place, const SamplingStep& step, const Item& of, int y,
                                               int x) {
    if (!of.there) return {0, 0};
    Pair sum = place.base(step, of.channel, of.image, y, x);
    place.condition(sum, step, step.first + of.channel, of.image, y, x);
    return sum;
  }

  // What a step does not have to wait for: made while the step before is waited for, and kept in registers.
  struct Ahead {
    Item item;  // of its first turn, and what is added to it
    Pair known;
    Unit unit;  // the warp's first, of the first part that it has
    int part;
    Run2 run;             // its weights
    const char* weights;  // of that tile, and from there to the next one's
    int64_t to_next;
    const char* rows;  // this lane's of the first eight images, and from there to the next eight's
    int rows_to_next;
    int own_count, blocks, bytes;
    bool relu;
  };
  static __device__ __forceinline__ Ahead ahead(const Place& place, const SamplingStep& step, int y, int x) {
    Ahead made = reached(place, step, step.relu != 0);
    made.known = known(place, step, made.item, y, x);
    load_first(made);
    return made;
  }
  // All but what memory holds.
  template <class Step>
  static __device__ __forceinline__ Ahead reached(const Place& place, const Step& step, bool relu) {
    Ahead made{};
    made.item = item(place, step, 0);
    made.own_count = step.own_count;
    made.blocks = step.centre_blocks;
    made.bytes = step.centre_bytes;
    made.relu = relu;
    const int shift = shift_of(made.blocks);
    made.part = place.warp & (min(1 << shift, place.warps) - 1);
    made.unit = {0, place.warp >> shift};
    made.unit.settle(place.eights);
    made.weights = weights(place, step, made.unit.k);
    made.to_next = int64_t(step.blocks) * kTileBytes * (step.own_weight >= 0 ? 1 : place.p.size);
    made.rows = source(place, step, 0);
    made.rows_to_next = 8 * step.pitch;
    return made;
  }
  static __device__ __forceinline__ void load_first(Ahead& made) {
    if (made.unit.k < made.own_count && made.part < made.blocks) made.run = load_run(made.weights, made.part);
  }
  // The warps share out the parts first: of the next power of 2.
  static __device__ __forceinline__ int shift_of(int blocks) { return blocks > 2 ? 2 : blocks > 1 ? 1 : 0; }

  // The partial sums of the pixel itself.
  static __device__ __forceinline__ void multiply(const Place& place, const Ahead& ready) {
    const int lane = static_cast<int>(threadIdx.x) % 32, parts = min(kSums, ready.blocks);
    const int shift = shift_of(ready.blocks), share = min(1 << shift, place.warps);
    const int stride = max(1, place.warps >> shift);
    float* const sums = reinterpret_cast<float*>(place.shared + place.p.shared.sums);
    Run2 run = ready.run;
    for (int part = ready.part; part < parts; part += share) {
      int loaded = part == ready.part ? ready.unit.k : -1;  // the tile whose weights are at hand
      for (Unit of = ready.unit; of.k < ready.own_count; of.n += stride, of.settle(place.eights)) {
        const char* const w = ready.weights + (of.k - ready.unit.k) * ready.to_next;
        if (of.k != loaded) run = load_run(w, part);
        loaded = of.k;
        float d[1][1][4] = {};
        sum_blocks<T>(d, run, w, ready.rows + of.n * ready.rows_to_next, part, kSums, ready.blocks, ready.bytes,
                      ready.relu);
        float* const at = sums + ((of.k * kSums + part) * 16 + lane / 4) * place.pitch + of.n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(at) = {d[0][0][0], d[0][0][1]};
        *reinterpret_cast<float2*>(at + 8 * place.pitch) = {d[0][0][2], d[0][0][3]};
      }
    }
  }

  // What pixels to the right of x take from it. The farthest one's sum begins here.
  static __device__ __forceinline__ void push(const Place& place, const SamplingStep& step, int x) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int s = step.centre_blocks > 0 ? 1 : 0; s < step.num_segments; ++s) {
      const SamplingSegment segment = place.segments()[step.segments + s];
      if (x - segment.dx >= place.p.width) continue;
      const int bytes = segment.channels * static_cast<int>(sizeof(T));
      for (Unit of{0, place.warp};; of.n += place.warps) {
        of.settle(place.eights);
        if (of.k >= step.own_count) break;
        float d[1][1][4] = {};
        const char* const w = weights(place, step, of.k) + segment.block * kTileBytes;
        sum_blocks<T>(d, load_run(w, 0), w, source(place, step, of.n), 0, 1, (bytes + kBlockBytes - 1) / kBlockBytes,
                      bytes, step.relu);
        float* const to = pushed(place, step, x - segment.dx, of.k) + lane / 4 * place.pitch + of.n * 8 + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = to[i / 2 * 8 * place.pitch + i % 2];
          sum = -segment.dx == step.depth ? d[0][0][i] : sum + d[0][0][i];
        }
      }
    }
  }

  // Of the pixel itself.
  template <class Step>
  static __device__ __forceinline__ float own_sum(const Place& place, const Step& step, const Item& of, int row) {
    const int parts = sums_of(step), block = 16 * place.pitch;
    const int at = row * place.pitch + of.image;
    const float* const sums =
        reinterpret_cast<const float*>(place.shared + place.p.shared.sums) + of.k * kSums * block + at;
    const float first = (parts > 0 ? sums[0] : 0.0f) + (parts > 1 ? sums[block] : 0.0f);
    const float second = (parts > 2 ? sums[2 * block] : 0.0f) + (parts > 3 ? sums[3 * block] : 0.0f);
    return first + second;
  }
  static __device__ __forceinline__ float sum(const Place& place, const SamplingStep& step, const Item& of, int row,
                                              int x) {
    const float own = own_sum(place, step, of, row);
    return step.depth == 0 ? own : own + pushed(place, step, x, of.k)[row * place.pitch + of.image];
  }

  // Sums, gates and sends the step's results.
  static __device__ __forceinline__ void finish(const Place& place, const SamplingStep& step, const Ahead& ready, int y,
                                                int x) {
    const int items = step.own_count * (step.gate ? 1 : 2) * place.images * 8,
              lane8 = static_cast<int>(threadIdx.x) % 8;
    for (int base = 0; base < items; base += static_cast<int>(blockDim.x)) {
      const Item of = base == 0 ? ready.item : item(place, step, base);
      float value = 0;
      if (of.there) {
        const Pair more = base == 0 ? ready.known : known(place, step, of, y, x);
        const int row = of.half * 8 + lane8;
        value = sum(place, step, of, row, x) + more.a;
        if (step.gate) value = gate_of(value, sum(place, step, of, row + 8, x) + more.b);
        if (step.add >= 0) {
          const T* const add = reinterpret_cast<const T*>(place.shared + step.add + of.image * step.add_pixel_pitch);
          value += widen_to(add[step.out_channel + of.channel]);
        }
        if (step.out_at >= 0) {
          *place.in_memory(step.out_at, step.out_rows, step.out_pitch, of.image, y, x, step.out_first + of.channel) =
              narrow_to<T>(value);
        }
      }
      if (step.logits) {
        const int slot = of.image >> place.p.size_log2, owner = of.image & (place.p.size - 1);
        float* const logits = reinterpret_cast<float*>(place.shared + place.p.shared.logits);
        if (of.there) place.send(logits + slot * step.outs + of.channel, owner, value);
      } else {
        T* const row = reinterpret_cast<T*>(place.shared + step.out + of.image * step.out_pixel_pitch);
        const int first = of.channel - lane8;
        place.send_channels(row + step.out_channel + first, narrow_to<T>(value),
                            of.k < step.own_count && first < step.outs);
      }
    }
    if (step.logits || step.own_count == 0) place.send_nothing();
  }
};

}  // namespace pygen::cuda
