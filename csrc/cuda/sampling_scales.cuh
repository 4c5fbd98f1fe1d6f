// Draws images from PixelCNN++, all pixels in one launch, as sampling_cluster.cuh does from networks of one resolution:
// a cluster of blocks draws some images together. Steps of stride t run at every t-th row and pixel; weights of late
// steps stay in shared memory as far as they fit, finer resolutions first, the others come from L2.
#pragma once

#include "cuda/sampling_mixture.cuh"
#include "cuda/sampling_scales_late.cuh"

namespace pygen::cuda {

// Tiles of weights, one after the other as long as there is room: those that are read most often first.
template <class T>
__device__ inline void share_out(const ScalesPlace<T>& place) {
  const ScalesParams& p = place.own;
  int weights = p.shared.resident;
  const auto keep = [&](auto& of) {
    const int64_t bytes = int64_t(of.own_count) * of.blocks * kTileBytes;
    of.own_weight = -1;
    if (weights + bytes > p.shared.resident + p.shared.resident_bytes) return;
    of.own_weight = weights;
    weights += static_cast<int>(bytes);
  };
  for (int s = 0; s < p.num_late; ++s) {
    ScalesStep& step = place.scale_steps()[s];
    step.own_first = (place.rank + step.turn) % p.size;
    step.own_count = step.own_first < step.tiles ? (step.tiles - step.own_first + p.size - 1) / p.size : 0;
    // What comes to this block: everybody's channels, or the parameters of its images.
    step.own_bytes = place.images * __popc(step.forms) * step.form_bytes;
    if (step.logits) step.own_bytes = place.slots() * step.outs * static_cast<int>(sizeof(float));
    step.own_bytes += kEmptyMessage * (step.logits ? p.size : max(0, p.size - step.tiles));
  }
  for (int log2 = 0; log2 < p.scales; ++log2) {
    for (int s = 0; s < p.num_late; ++s) {
      if (place.scale_steps()[s].log2 == log2) keep(place.scale_steps()[s]);
    }
    for (int i = 0; i < p.num_pushes; ++i) {
      ScalesPush& push = place.pushes()[i];
      const ScalesStep& target = place.scale_steps()[push.target];
      if (target.log2 != log2) continue;
      push.own_first = target.own_first;
      push.own_count = target.own_count;
      keep(push);
    }
  }
}

template <class T>
__device__ __forceinline__ void settle_in(const ScalesPlace<T>& place) {
  const ScalesParams& p = place.own;
  copy_words(place.shared, p.scale_steps + p.num_early, p.num_late * static_cast<int64_t>(sizeof(ScalesStep)));
  copy_words(place.shared + p.pushes_at, p.pushes, p.num_pushes * static_cast<int64_t>(sizeof(ScalesPush)));
  copy_words(place.shared + p.order_at, p.order, int64_t(p.scales) * p.scales * p.order_pitch * 2);
  __syncthreads();
  if (threadIdx.x == 0) {
    share_out(place);
    place.begin_messages();
  }
  __syncthreads();
  for (int s = 0; s < p.num_late; ++s) keep_weights(place, place.scale_steps()[s]);
  for (int i = 0; i < p.num_pushes; ++i) keep_weights(place, place.pushes()[i]);
}

// Decides the channels of pixel (y, x) in turn, each image in one block, and tells all.
template <class T>
__device__ __forceinline__ void draw_pixel(const ScalesPlace<T>& place, int y, int x) {
  const ScalesParams& p = place.own;
  const int lane = static_cast<int>(threadIdx.x) % 32, levels = static_cast<int>(p.draws.num_levels);
  const LogisticMixture m{p.num_mixtures, p.channels, levels, p.min_log_scale, p.draws.temperature};
  const int params = static_cast<int>(m.params());
  for (int slot = place.warp; slot < place.slots(); slot += place.warps) {
    const int image = place.rank + slot * p.size;
    const float* const of = reinterpret_cast<const float*>(place.shared + p.shared.logits) + slot * params;
    const int k = min(lane, p.num_mixtures - 1);
    double log_weight = lane < p.num_mixtures ? of[k] / m.temperature : -INFINITY, scaled[3] = {};
    T kept = narrow_to<T>(lane == p.channels ? 1.0f : 0.0f);
    for (int c = 0; c < p.channels; ++c) {
      const int64_t at = place.level_at(image, c, y, x);
      const double u = noise_of(p.draws, (((place.first + image) * p.height + y) * p.width + x) * p.channels + c);
      MixtureOfLanes own{normalised(log_weight), logistic_component(m, of, c, k, scaled)};
      const int64_t level = is_known(p.draws, at) ? known_level(p.draws, at) : decide_mixture(m, own, u);
      if (lane < p.num_mixtures) log_weight += logistic_level_log_prob(own.component, level, levels);
      const T value = scaled_level<T>(level, p.scale, p.shift);
      scaled[c] = widen_to(value);
      if (lane == c) kept = value;
      if (lane == 0) set_level(p.draws, at, level);
    }
    if (lane < kChannelsSent) *place.in_memory(p.pixel_at, p.pixel_rows, p.pixel_pitch, image, y, x, lane) = kept;
    T* const pixel = reinterpret_cast<T*>(place.shared + p.pixel + image * p.pixel_pixel_pitch);
    place.send_channels(pixel, kept, lane < kChannelsSent);
  }
  if (place.slots() == 0) place.send_nothing();
}

template <class T>
__device__ __forceinline__ void draw_row(ScalesPlace<T>& place, int y) {
  using L = ScalesLate<T>;
  const ScalesParams& p = place.own;
  const ScalesStep* const steps = place.scale_steps();
  const int decided_bytes =
      place.images * kChannelsSent * static_cast<int>(sizeof(T)) + kEmptyMessage * max(0, p.size - place.images);
  typename L::Ahead ahead = L::ahead(place, steps[0]);
  L::know(place, steps[0], ahead, y, 0);
  for (int x = 0; x < p.width; ++x) {
    const int16_t* order = place.order(y, x);
    for (int before = -1, s = 0; s >= 0; before = s, s = *++order) {
      const ScalesStep& step = steps[s];
      place.expect(step.own_bytes);
      L::multiply(place, ahead);
      __syncthreads();
      L::finish(place, step, ahead, y, x);
      place.arrive();
      const bool more = order[1] >= 0;
      const ScalesStep& next = steps[more ? order[1] : s];
      if (more) ahead = L::ahead(place, next);
      if (more && !next.fresh) L::know(place, next, ahead, y, x);
      if (before >= 0) L::push(place, steps[before], y, x);
      if (more && next.fresh) {
        __syncthreads();
        L::know(place, next, ahead, y, x);
      }
      place.wait();
    }
    place.expect(decided_bytes);
    draw_pixel(place, y, x);
    place.arrive();
    if (x + 1 < p.width) {
      ahead = L::ahead(place, steps[0]);
      L::know(place, steps[0], ahead, y, x + 1);
    }
    place.wait();
  }
}

template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) sampling_scales_kernel(const __grid_constant__ ScalesParams p) {
  PYGEN_DYNAMIC_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  ScalesPlace<T> place{place_of<T>(p, shared), p};
  settle_in(place);
  for (int y = 0; y < p.height; ++y) {
    place.meet();
    bool waits = false;  // also for steps that this row does not have
    for (int s = 0; s < p.num_early; ++s) {
      const ScalesStep& step = p.scale_steps[s];
      waits = waits || step.wait;
      if ((y & step.row_mask) != step.row_is) continue;
      if (waits) place.meet();
      waits = false;
      if (step.staged > 0) {
        StagedEarly<T, SeveralScales<T>>::run(place, step, y);
      } else {
        Early<T, SeveralScales<T>>::run(place, step, y);
      }
    }
    place.meet();
    for (int i = 4 * thread; i < p.images * p.pixel_pixel_pitch; i += 4 * threads) {
      *reinterpret_cast<float*>(shared + p.pixel + i) = 0;  // left of the first pixel
    }
    __syncthreads();
    draw_row(place, y);
  }
}

}  // namespace pygen::cuda
