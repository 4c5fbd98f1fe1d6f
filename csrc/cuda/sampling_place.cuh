// Where the cluster sampler has things: parameters, addresses in an image's memory and in shared memory.
#pragma once

#include "cuda/cluster.cuh"
#include "cuda/sampling_cluster.h"
#include "cuda/sampling_decide.cuh"
#include "cuda/sampling_gate.cuh"
#include "cuda/sampling_mma.cuh"

namespace pygen::cuda {

struct Pair {
  float a, b;
};

struct ClusterParams {
  const SamplingStep* steps;  // the early ones, then the late ones
  const SamplingSegment* segments;
  const char* weights;
  char* memory;
  int64_t image_bytes;
  SamplingDraws draws;
  int64_t n;
  int channels, height, width, groups;
  int size, images;
  int num_early, num_late, num_segments;
  int pixel_at, pixel_rows, pixel_pitch, pixel, pixel_pixel_pitch;
  int early_positions;
  SamplingShared shared;
};

template <class T>
struct ClusterPlace {
  const ClusterParams& p;
  char* shared;
  int rank;       // in the cluster
  int64_t first;  // of its images, in the batch
  int images;     // of the cluster
  int eights;     // of images, the last one filled up
  int pitch;      // of sums, in floats: rows of 8 and of 4 lie in different banks
  int warp, warps;
  int first_item_image, first_item_rest;  // sampling_late.cuh

  // The late steps lie at the beginning of shared memory.
  __device__ __forceinline__ SamplingStep* steps() const { return reinterpret_cast<SamplingStep*>(shared); }
  __device__ __forceinline__ const SamplingSegment* segments() const {
    return reinterpret_cast<const SamplingSegment*>(shared + p.shared.segments);
  }

  // Row y of a stream in an image's memory.
  __device__ __forceinline__ char* row_in_memory(int at, int rows, int pitch, int64_t image, int y) const {
    return p.memory + (first + image) * p.image_bytes + int64_t(at) * 16 + int64_t(y % rows) * p.width * pitch;
  }
  __device__ __forceinline__ T* in_memory(int at, int rows, int pitch, int image, int y, int x, int channel) const {
    return reinterpret_cast<T*>(row_in_memory(at, rows, pitch, image, y) + int64_t(x) * pitch) + channel;
  }

  // bias + what the image's memory has to add, of output `channel` and of the gate's second half. Other blocks have
  // written that memory: it is read from L2.
  __device__ __forceinline__ Pair base(const SamplingStep& step, int channel, int image, int y, int x) const {
    float sum[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (half == 1 && !step.gate) break;
      const int row = step.first + half * step.outs + channel;
      if (step.bias != 0) sum[half] = to_float(reinterpret_cast<const T*>(step.bias)[row]);
      if (step.add_at >= 0) {
        sum[half] += to_float(__ldcg(in_memory(step.add_at, step.add_rows, step.add_pitch, image, y, x, row)));
      }
    }
    return {sum[0], sum[1]};
  }
  // What the gate adds to its input.
  __device__ __forceinline__ void condition(Pair& sum, const SamplingStep& step, int channel, int image, int y,
                                            int x) const {
    if (step.cond == 0) return;
    const T* const at = reinterpret_cast<const T*>(step.cond) + (first + image) * step.cond_image +
                        (step.first + channel) * step.cond_channel + y * step.cond_row + x * step.cond_column;
    sum.a += to_float(at[0]);
    sum.b += to_float(at[step.outs * step.cond_channel]);
  }

  // Into a block's shared memory, at the place that `own` has in this one's.
  template <class V>
  __device__ __forceinline__ void send(V* own, int to, V value) const {
    if (p.size == 1) {
      *own = value;
    } else {
      store_remote(own, to, value);
    }
  }
  // Between the two nobody touches what the cluster's other blocks may write or read.
  __device__ __forceinline__ void arrive() const {
    if (p.size > 1) cluster_arrive();
  }
  __device__ __forceinline__ void wait() const {
    if (p.size > 1) {
      cluster_wait();
    } else {
      __syncthreads();
    }
  }
};

}  // namespace pygen::cuda
