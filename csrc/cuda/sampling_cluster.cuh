// Draws images from a pixel model, all pixels in one launch, on tensor cores: a cluster of blocks draws some images
// together, from the first pixel to the last, and waits for nobody else. With one block to a cluster it runs on every
// GPU from sm_80 on.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/sampling_early.cuh"
#include "cuda/sampling_late.cuh"

namespace pygen::cuda {

// Tiles of weights and the memory of what is pushed, one after the other; weights as long as there is room.
template <class T>
__device__ inline void share_out(const ClusterPlace<T>& place) {
  const ClusterParams& p = place.p;
  SamplingStep* const steps = place.steps();
  int weights = p.shared.resident, ring = p.shared.rings;
  for (int s = 0; s < p.num_late; ++s) {
    SamplingStep& step = steps[s];
    step.own_first = (place.rank + step.turn) % p.size;
    step.own_count = step.own_first < step.tiles ? (step.tiles - step.own_first + p.size - 1) / p.size : 0;
    const int64_t bytes = int64_t(step.own_count) * step.blocks * kTileBytes;
    step.own_weight = -1;
    if (weights + bytes <= p.shared.resident + p.shared.resident_bytes) {
      step.own_weight = weights;
      weights += static_cast<int>(bytes);
    }
    step.own_ring = ring;
    ring += step.depth * step.own_count * 16 * place.pitch * static_cast<int>(sizeof(float));
    // What comes to this block: everybody's channels, or the logits of its images.
    const int eights = (step.outs + kChannelsSent - 1) / kChannelsSent;
    step.own_bytes = place.images * eights * kChannelsSent * static_cast<int>(sizeof(T));
    if (step.logits) step.own_bytes = place.slots() * step.outs * static_cast<int>(sizeof(float));
    step.own_bytes += kEmptyMessage * (step.logits ? p.size : max(0, p.size - step.tiles));
  }
}

// The steps and segments, and what fits of the weights, into shared memory.
template <class T>
__device__ __forceinline__ void settle_in(const ClusterPlace<T>& place) {
  const ClusterParams& p = place.p;
  copy_words(place.shared, p.steps + p.num_early, p.num_late * static_cast<int64_t>(sizeof(SamplingStep)));
  copy_words(place.shared + p.shared.segments, p.segments,
             p.num_segments * static_cast<int64_t>(sizeof(SamplingSegment)));
  __syncthreads();
  if (threadIdx.x == 0) {
    share_out(place);
    place.begin_messages();
  }
  __syncthreads();
  for (int s = 0; s < p.num_late; ++s) keep_weights(place, place.steps()[s]);
}

// What a decision needs besides logits.
struct Awaited {
  double noise;   // of two levels the threshold below which level 1 is drawn
  int64_t known;  // level, or -1
};

// Channel `channel` of an image of the cluster, at (y, x).
template <class T>
__device__ __forceinline__ Awaited awaited(const ClusterPlace<T>& place, int image, int channel, int y, int x) {
  const ClusterParams& p = place.p;
  const int64_t row = (place.first + image) * p.height + y, at = place.level_at(image, channel, y, x);
  const double u = noise_of(p.draws, (row * p.width + x) * p.channels + channel);
  return {p.draws.num_levels == 2 ? binary_threshold(u, p.draws.temperature) : u,
          is_known(p.draws, at) ? known_level(p.draws, at) : -1};
}

// Decides colour group g of pixel (y, x), each image in one block, and tells all. first: of the warp's first image and
// the group's first channel.
template <class T>
__device__ __forceinline__ void draw_pixel(const ClusterPlace<T>& place, const Awaited& first, int y, int x, int g,
                                           int each) {
  const ClusterParams& p = place.p;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int filled = (each + kChannelsSent - 1) / kChannelsSent * kChannelsSent;
  const int levels = static_cast<int>(p.draws.num_levels);
  const float* const logits = reinterpret_cast<const float*>(place.shared + p.shared.logits);
  for (int slot = place.warp; slot < place.slots(); slot += place.warps) {
    const int image = place.rank + slot * p.size;
    T* const pixel = reinterpret_cast<T*>(place.shared + p.pixel + image * p.pixel_pixel_pitch) + g * filled;
    T kept = narrow_to<T>(0.0f);  // lane by lane, until there are eight
    for (int c = 0; c < each; ++c) {
      const int channel = g * each + c;
      const Awaited by = slot == place.warp && c == 0 ? first : awaited(place, image, channel, y, x);
      const float* const of = logits + (slot * each + c) * levels;
      int64_t level = by.known;
      if (level < 0 && levels == 2) level = static_cast<double>(of[0]) - of[1] < by.noise ? 1 : 0;
      if (level < 0) level = decide(of, levels, p.draws.temperature, by.noise);
      const T value = scaled_level<T>(level, p.scale, p.shift);
      if (lane % kChannelsSent == c % kChannelsSent) kept = value;
      if (lane == 0) {
        set_level(p.draws, place.level_at(image, channel, y, x), level);
        if (p.pixel_at >= 0) *place.in_memory(p.pixel_at, p.pixel_rows, p.pixel_pitch, image, y, x, channel) = value;
      }
      if ((c + 1) % kChannelsSent == 0 || c + 1 == each) {
        place.send_channels(pixel + c / kChannelsSent * kChannelsSent, kept, lane < kChannelsSent);
        kept = narrow_to<T>(0.0f);
      }
    }
  }
  if (place.slots() == 0) place.send_nothing();
}

template <class T>
__device__ __forceinline__ void draw_row(ClusterPlace<T>& place, int y) {
  using L = Late<T>;
  const ClusterParams& p = place.p;
  const SamplingStep* const steps = place.steps();
  const int each = p.num_late / p.groups, channels = p.channels / p.groups;
  const int decided_bytes =
      place.images * ((channels + kChannelsSent - 1) / kChannelsSent) * kChannelsSent * static_cast<int>(sizeof(T)) +
      kEmptyMessage * max(0, p.size - place.images);
  typename L::Ahead ahead{};
  Awaited decision{};
  for (int x = 0; x < p.width; ++x) {
    for (int s = 0; x > 0 && s < p.num_late; ++s) {
      if (steps[s].push == kPushNext) L::push(place, steps[s], x - 1);
    }
    for (int g = 0; g < p.groups; ++g) {
      // The group's steps, then its decision; -1 stands for what is fetched before a row's first step.
      for (int s = x == 0 && g == 0 ? -1 : 0; s <= each; ++s) {
        const SamplingStep& step = steps[g * each + min(max(s, 0), each - 1)];
        if (s >= 0) place.expect(s == each ? decided_bytes : step.own_bytes);
        if (s == each) {
          draw_pixel(place, decision, y, x, g, channels);
        } else if (s >= 0) {
          L::multiply(place, ahead);
          __syncthreads();
          L::finish(place, step, ahead, y, x);
        }
        if (s >= 0) place.arrive();
        if (s >= 0 && s < each && step.push == kPushAfter &&
            g == p.groups - 1) {  // its source's channels are all there
          __syncthreads();
          for (int other = 0; other < p.groups; ++other) L::push(place, steps[other * each + s], x);
        }
        const bool last = s == each && g + 1 == p.groups;  // of this pixel
        const int next = last ? 0 : g * each + (s == each ? each : s + 1), next_x = last ? x + 1 : x;
        if (s + 1 == each) {
          if (place.warp < place.slots()) {
            decision = awaited(place, place.rank + place.warp * p.size, g * channels, y, x);
          }
        } else if (next_x < p.width) {
          ahead = L::ahead(place, steps[next], y, next_x);
        }
        if (s >= 0) place.wait();
      }
    }
  }
}

template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) sampling_cluster_kernel(const __grid_constant__ ClusterParams p) {
  PYGEN_DYNAMIC_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  ClusterPlace<T> place = place_of<T>(p, shared);
  settle_in(place);
  for (int y = 0; y < p.height; ++y) {
    place.meet();
    for (int s = 0; s < p.num_early; ++s) {
      if (p.steps[s].wait) place.meet();
      Early<T>::run(place, p.steps[s], y);
    }
    place.meet();
    for (int i = p.shared.rings + 4 * thread; i < p.shared.sums; i += 4 * threads) {
      *reinterpret_cast<float*>(shared + i) = 0;  // nothing is left of the first pixel
    }
    __syncthreads();
    draw_row(place, y);
  }
}

}  // namespace pygen::cuda
