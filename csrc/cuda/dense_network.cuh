// Runs a dense network input after input: all steps in one launch. A block owns a few images from the first input to
// the last, so blocks never wait for each other.
//
// Units are sorted by degree and inputs by their turn, so what a unit sees is a prefix of its sources. Steps go in
// panels. What a panel's units take from sources before it is a product of many warps (`gather`); what they take from
// within it, the triangle, is added by one warp for each image, source after source as they become known: a chain of
// events in shared memory, at which no other warp is waited for. While these warps draw one panel the others prepare
// the next one and gather what was known before: of the weights, which lie in L2, the chain waits only for those
// between one panel's sources and the next one's units.
//
// What that should take is worked out in docs/sampling_gpu.md. Not yet run on a GPU.
//
// The order of every sum is fixed by the model: a sample depends neither on its neighbours nor on the block's warps.
#pragma once

#include "cuda/dense_network_parts.cuh"
#include "cuda/launch.cuh"

namespace pygen::cuda {

// The triangle, transposed, so that lanes are units: warps take a unit's row each.
template <class Rule>
__device__ __forceinline__ void copy_triangle(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel,
                                              DenseCrew crew) {
  using T = typename Rule::Number;
  const int lane = dense_lane();
  for (int l = 0; l < block.p.num_layers; ++l) {
    const DenseLayer layer = block.p.layers[l];
    const DenseRange sources = block.range(layer.sources_below, panel), units = block.range(layer.units_below, panel);
    const T* const from = block.p.packed + layer.weight + units.first * layer.pitch + sources.first;
    for (int k = lane; k < sources.size(); k += 32) {
      T* const to = panel.triangle + layer.triangle + k * layer.triangle_pitch;
#pragma unroll 8
      for (int unit = crew.warp; unit < units.size(); unit += crew.warps)
        to[unit] = __ldg(from + unit * layer.pitch + k);
    }
  }
}

// How many of the panel's events come before source `unit` of layer l, of that degree.
template <class Rule>
__device__ __forceinline__ int events_before(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, int l,
                                             int unit, int degree) {
  int events = 0;
  for (int of = 0; of < block.p.num_layers; ++of) {
    const int64_t below = block.p.layers[of].sources_below;
    const int end = of < l ? block.below(below, degree + 1) : of == l ? unit : block.below(below, degree);
    events += end - block.below(below, panel.first);
  }
  return events;
}

// Source k of the panel's of layer l.
template <class Rule>
__device__ __forceinline__ void list_event(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, int l, int k) {
  const DenseParams<Rule>& p = block.p;
  const DenseLayer layer = p.layers[l];
  const DenseRange units = block.range(layer.units_below, panel);
  const int source = block.below(layer.sources_below, panel.first) + k, degree = block.below(layer.degrees, source);
  // An output sees what is of a lower degree. From a multiple of 32 on: so each unit stays with one lane.
  const int seeing = block.below(layer.units_below, l == p.num_layers - 1 ? degree + 1 : degree) - units.first,
            begin = seeing / 32 * 32;
  DenseEvent event;
  event.value = static_cast<int>(l == 0 ? p.layers[p.num_layers - 1].sum + (degree - panel.first) * p.outs
                                        : p.layers[l - 1].sum + k);
  event.weight = static_cast<int>(layer.triangle + k * layer.triangle_pitch + begin);
  event.target = static_cast<int>(layer.sum + begin);
  event.count = units.size() - begin;
  event.act = static_cast<int>(layer.act + source);
  event.step = l == 0 ? degree - panel.first : kDenseHidden;
  event.number = l == 0 ? source - degree * p.sources : 0;
  panel.events[events_before(block, panel, l, source, degree)] = event;
}

template <class Rule>
__device__ __forceinline__ void list_events(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel,
                                            DenseCrew crew) {
  int before = 0;  // of layers before
  for (int l = 0; l < block.p.num_layers; ++l) {
    const int events = block.range(block.p.layers[l].sources_below, panel).size();
    for (int k = crew.thread() - before; k < events; k += crew.warps * 32) {
      if (k >= 0) list_event(block, panel, l, k);
    }
    before += events;
  }
  if (crew.thread() == 0) panel.events[before].step = kDenseEnd;
}

template <class Rule>
__device__ __forceinline__ int64_t input_at(const DenseBlock<Rule>& block, int i, int step) {
  return (block.first_image + i) * block.p.inputs + block.p.order[step];
}

// The crew's threads share f(image, step of the panel).
template <class Rule, class F>
__device__ __forceinline__ void for_steps(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, DenseCrew crew,
                                          F f) {
  const int steps = panel.last - panel.first;
  for (int item = crew.thread(); item < block.images * steps; item += crew.warps * 32) f(item / steps, item % steps);
}

template <class Rule>
__device__ __forceinline__ void write_steps(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel,
                                            DenseCrew crew) {
  for_steps(block, panel, crew, [&](int i, int step) {
    block.p.rule.write(input_at(block, i, panel.first + step), panel.steps[i * panel.most + step]);
  });
}

// The panel's sums over sources before `known`, or over the others before the panel. Warps take turns over all layers.
template <class Rule, int kImages>
__device__ __forceinline__ void gather_panel(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, int known,
                                             bool others, DenseCrew crew) {
  using T = typename Rule::Number;
  constexpr int V = DenseVector<T>::kSize;
  for (int l = 0; l < block.p.num_layers; ++l) {
    const DenseLayer layer = block.p.layers[l];
    const DenseRange units = block.range(layer.units_below, panel);
    const int split = block.below(layer.sources_below, known) / V * V,
              before = block.below(layer.sources_below, panel.first);
    if (!others || split < before)
      gather<Rule, kImages>(block, layer, units, others ? split : 0, others ? before : split, panel.sums, crew);
    crew.warp = (crew.warp + crew.warps - (units.size() + kDenseRows - 1) / kDenseRows % crew.warps) % crew.warps;
  }
}

// What the panel's events need, nearly all of it waits for memory. Where there are warps enough each has its own work.
template <class Rule, int kImages>
__device__ __forceinline__ void make_ready(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, int known,
                                           DenseCrew crew) {
  const bool apart = crew.warps >= 4;
  const DenseCrew one{0, 1};
  if (!apart || crew.warp == 0) {
    copy_triangle(block, panel, apart ? one : crew);
    list_events(block, panel, apart ? one : crew);
  }
  if (!apart || crew.warp == 1) {
    for_steps(block, panel, apart ? one : crew, [&](int i, int step) {
      panel.steps[i * panel.most + step] = block.p.rule.look_up(input_at(block, i, panel.first + step));
    });
  }
  if (!apart || crew.warp > 1)
    gather_panel<Rule, kImages>(block, panel, known, false, apart ? DenseCrew{crew.warp - 2, crew.warps - 2} : crew);
}

// Draws the panel's steps of image i.
template <class Rule>
__device__ __forceinline__ void run_events(const DenseBlock<Rule>& block, const DensePanel<Rule>& panel, int i) {
  using T = typename Rule::Number;
  const int lane = dense_lane();
  T* const image = block.image(i);
  T* const sums = image + panel.sums;
  DenseEvent next = panel.events[0];
  for (int e = 1; next.step != kDenseEnd; ++e) {
    const DenseEvent event = next;
    next = panel.events[e];
    // What does not wait for the value: weights, and sums that none but this lane writes.
    const bool adds = lane < event.count;
    T* const own = sums + event.target + lane;
    const T* const weights = panel.triangle + event.weight + lane;
    const T sum = adds ? own[0] : T(0), weight = adds ? weights[0] : T(0);
    __syncwarp();  // other lanes wrote what is read now
    T x;
    if (event.step == kDenseHidden) {
      x = block.p.rule.activate(sums[event.value], Rule::kGated ? image[event.act] : T(0));
      if constexpr (Rule::kGated) __syncwarp();  // all lanes have read the gate
    } else {
      typename Rule::Step* const at = panel.steps + i * panel.most + event.step;
      typename Rule::Step step = *at;
      if (event.number == 0) {
        block.p.rule.decide(sums + event.value, step);
        __syncwarp();  // all lanes have read the step
        if (lane == 0) *at = step;
        if constexpr (Rule::kSpread) {
          block.p.rule.give(step, block.p.sources, image + event.act);
          __syncwarp();
        }
      }
      if constexpr (Rule::kSpread) {
        x = image[event.act];
      } else {
        x = block.p.rule.given(step, event.number);
      }
    }
    if (lane == 0 && (!Rule::kSpread || event.step == kDenseHidden)) image[event.act] = x;
    if (adds) own[0] = sum + weight * x;
    for (int unit = 32; unit + lane < event.count; unit += 32) own[unit] += weights[unit] * x;
  }
}

template <class Rule, int kImages>
__device__ __forceinline__ void run_in_panels(const DenseBlock<Rule>& block) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int panels = (block.p.inputs + block.p.panel - 1) / block.p.panel, drawing = min(block.images, warps);
  for (int number = -1; number < panels; ++number) {  // from -1: the first one has to be made ready, too
    const int warp = dense_thread() / 32;
    const DensePanel<Rule> panel = block.panel(max(number, 0)), next = block.panel(number + 1);
    const int known = number < 0 ? 0 : panel.first;
    const bool helped = number >= 0 && drawing < warps, more = number + 1 < panels;
    if (number >= 0 && warp < drawing) {
      for (int i = warp; i < block.images; i += warps) run_events(block, panel, i);
    } else if (helped && more) {
      make_ready<Rule, kImages>(block, next, known, {warp - drawing, warps - drawing});
    }
    __syncthreads();  // all sources of the panel are known
    if (number >= 0) write_steps(block, panel, {warp, warps});
    if (!more) break;
    if (!helped) {
      make_ready<Rule, kImages>(block, next, known, {warp, warps});
      __syncthreads();  // others go on with what these warps began
    }
    gather_panel<Rule, kImages>(block, next, known, true, {warp, warps});
    __syncthreads();
  }
}

// Where not even one step's triangle would fit: all warps compute a step's units, one layer after the other.
template <class Rule, int kImages>
__device__ __forceinline__ void run_in_stages(const DenseBlock<Rule>& block) {
  using T = typename Rule::Number;
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int hidden = block.p.num_layers - 1, sums = block.p.act_size;
  const DenseCrew all{warp, warps};
  for (int step = 0; step < block.p.inputs; ++step) {
    // The output layer first, with what is known before the step; its result is the input of the others.
    for (int stage = 0; stage <= hidden; ++stage) {
      const int l = stage == 0 ? hidden : stage - 1;
      const DenseLayer layer = block.p.layers[l];
      const DenseRange units{block.below(layer.units_below, step), block.below(layer.units_below, step + 1)};
      if (units.size() == 0) continue;
      gather<Rule, kImages>(block, layer, units, 0, block.below(layer.sources_below, step + (stage > 0)), sums, all);
      __syncthreads();
      if (stage == 0) {
        for (int i = warp; i < block.images; i += warps) {
          T* const image = block.image(i);
          const int64_t at = input_at(block, i, step);
          typename Rule::Step own = block.p.rule.look_up(at);
          block.p.rule.decide(image + sums + layer.sum, own);
          T* const sources = image + block.p.layers[0].act + step * block.p.sources;
          if constexpr (Rule::kSpread) block.p.rule.give(own, block.p.sources, sources);
          if (threadIdx.x % 32 != 0) continue;
          block.p.rule.write(at, own);
          if constexpr (!Rule::kSpread) {
            for (int k = 0; k < block.p.sources; ++k) sources[k] = block.p.rule.given(own, k);
          }
        }
      } else {
        const int count = units.size(), made = static_cast<int>(block.p.layers[l + 1].act) + units.first;
        for (int item = all.thread(); item < block.images * count; item += warps * 32) {
          T* const image = block.image(item / count);
          T* const unit = image + made + item % count;
          *unit = block.p.rule.activate(image[sums + layer.sum + item % count], *unit);
        }
      }
      __syncthreads();
    }
  }
}

template <class Rule, int kImages, bool kInShared>
__global__ void __launch_bounds__(dense_threads(kInShared)) dense_network_kernel(const DenseParams<Rule> p) {
  using T = typename Rule::Number;
  PYGEN_DYNAMIC_SHARED(shared);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kImages;
  T* const images = kInShared ? reinterpret_cast<T*>(shared + 2 * p.buffer_bytes) : p.memory + first * p.image_size;
  const DenseBlock<Rule> block{p, shared, images, first,
                               static_cast<int>(min(p.n - first, static_cast<int64_t>(kImages)))};
  // Read 16 bytes at a time, before all of them are known.
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(kImages) * p.image_size; i += blockDim.x) {
    T gate = 0;
    if constexpr (Rule::kGated) {
      const int64_t image = i / p.image_size, at = i % p.image_size;
      if (image < block.images && at < p.act_size) gate = p.rule.gates[(first + image) * p.act_size + at];
    }
    images[i] = gate;
  }
  __syncthreads();
  if (p.panel > 0) {
    run_in_panels<Rule, kImages>(block);
  } else {
    run_in_stages<Rule, kImages>(block);
  }
}

}  // namespace pygen::cuda
