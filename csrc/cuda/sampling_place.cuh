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
  int size, size_log2, images;
  float scale, shift;  // of levels
  int num_early, num_late, num_segments;
  int pixel_at, pixel_rows, pixel_pitch, pixel, pixel_pixel_pitch;
  int early_positions;
  bool messages;
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
  uint32_t exchanges;                     // so far

  // Images whose pixels this block decides: rank, rank + size, ...
  __device__ __forceinline__ int slots() const { return (images - rank + p.size - 1) >> p.size_log2; }

  __device__ __forceinline__ int64_t level_at(int image, int channel, int y, int x) const {
    return (((first + image) * p.channels + channel) * p.height + y) * p.width + x;
  }

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
      if (step.bias != 0) sum[half] = widen_to(reinterpret_cast<const T*>(step.bias)[row]);
      if (step.add_at >= 0) {
        sum[half] += widen_to(__ldcg(in_memory(step.add_at, step.add_rows, step.add_pitch, image, y, x, row)));
      }
    }
    return {sum[0], sum[1]};
  }
  // What the gate adds to its input, of the convolution's output `channel` and of its second half.
  template <class Step>
  __device__ __forceinline__ void condition(Pair& sum, const Step& step, int channel, int image, int y, int x) const {
    if (step.cond == 0) return;
    const T* const at = reinterpret_cast<const T*>(step.cond) + (first + image) * step.cond_image +
                        channel * step.cond_channel + y * step.cond_row + x * step.cond_column;
    sum.a += widen_to(at[0]);
    sum.b += widen_to(at[step.outs * step.cond_channel]);
  }

  // Into a block's shared memory, at the place that `own` has in this one's.
  template <class V>
  __device__ __forceinline__ void send(V* own, int to, V value) const {
    if (p.size == 1) {
      *own = value;
    } else if (p.messages) {
      send_message(own, to, value, heard());
    } else {
      store_remote(own, to, value);
    }
  }
  // Eight lanes' channels to every block. there: the same for the eight.
  __device__ __forceinline__ void send_channels(T* to, T value, bool there) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, eight = lane / 8 * 8;
    constexpr int kPieces = sizeof(T) / 2;  // of 16 bytes
    uint32_t word = 0;
    memcpy(&word, &value, sizeof(T));
    if (kPieces == 1) word |= __shfl_down_sync(kAllLanes, word, 1, 8) << 16;  // of even lanes
    const int piece = kPieces == 1 ? 0 : lane % 2, from = eight + 4 * piece, step = kPieces == 1 ? 2 : 1;
    uint4 words;
    words.x = __shfl_sync(kAllLanes, word, from);
    words.y = __shfl_sync(kAllLanes, word, from + step);
    words.z = __shfl_sync(kAllLanes, word, from + 2 * step);
    words.w = __shfl_sync(kAllLanes, word, from + 3 * step);
    for (int rank = lane % 8 / kPieces; there && rank < p.size; rank += 8 / kPieces) {
      send(reinterpret_cast<uint4*>(to) + piece, rank, words);
    }
  }

  // An exchange: everybody sends, then nobody goes on before he has what was sent to him. It ends either with the
  // cluster's barrier or, if `messages`, when the bytes that were to come have come. As everybody sends something to
  // everybody, at least an empty message, nobody is ever two exchanges ahead: two barriers in turn are enough, and what
  // a block reads until the end of an exchange the others do not overwrite before the next but one.
  __device__ __forceinline__ uint64_t* heard() const {
    return reinterpret_cast<uint64_t*>(shared + p.shared.messages) + exchanges % 2;
  }
  __device__ __forceinline__ void expect(int bytes) const {
    if (p.size > 1 && p.messages && threadIdx.x == 0) expect_messages(heard(), bytes);
  }
  // By all threads, after the block's last barrier: of blocks that have nothing to tell.
  __device__ __forceinline__ void send_nothing() const {
    if (p.size == 1 || !p.messages) return;
    uint4* const nothing = reinterpret_cast<uint4*>(shared + p.shared.messages) + 1;
    for (int to = static_cast<int>(threadIdx.x); to < p.size; to += static_cast<int>(blockDim.x)) {
      send_message(nothing, to, uint4{0, 0, 0, 0}, heard());
    }
  }
  // Between the two: what needs nothing of the others.
  __device__ __forceinline__ void arrive() const {
    if (p.size > 1 && !p.messages) cluster_arrive();
  }
  __device__ __forceinline__ void wait() {
    if (p.size == 1) {
      __syncthreads();
    } else if (p.messages) {
      await_messages(heard(), exchanges / 2 % 2);
    } else {
      cluster_wait();
    }
    ++exchanges;
  }
  // By one thread, before the cluster's first meeting.
  __device__ __forceinline__ void begin_messages() const {
    if (p.size == 1 || !p.messages) return;
    uint64_t* const barriers = reinterpret_cast<uint64_t*>(shared + p.shared.messages);
    for (int i = 0; i < 2; ++i) init_barrier(barriers + i, 1);
    publish_to_cluster();
  }
  // All threads of the cluster, and all that they have written.
  __device__ __forceinline__ void meet() const {
    if (p.size > 1) {
      cluster_arrive();
      cluster_wait();
    } else {
      __syncthreads();
    }
  }
};

template <class T>
__device__ __forceinline__ ClusterPlace<T> place_of(const ClusterParams& p, char* shared) {
  const int rank = p.size == 1 ? 0 : cluster_rank(), thread = static_cast<int>(threadIdx.x);
  const int64_t first = int64_t(blockIdx.x) / p.size * p.images;
  const int images = static_cast<int>(min(int64_t(p.images), p.n - first)), eights = (images + 7) / 8;
  const int pitch = (p.images + 7) / 8 * 8 + 4, warps = static_cast<int>(blockDim.x) / 32;
  return {p, shared, rank, first, images, eights, pitch, thread / 32, warps, thread / 8 % images, thread / 8 / images,
          0};
}

// By all threads of a block: whole words.
__device__ __forceinline__ void copy_words(char* to, const void* from, int64_t bytes) {
  for (int64_t i = threadIdx.x; i < bytes / 4; i += blockDim.x) {
    reinterpret_cast<uint32_t*>(to)[i] = reinterpret_cast<const uint32_t*>(from)[i];
  }
}

// A step's weights into the place that share_out gave them.
template <class T, class Step>
__device__ __forceinline__ void keep_weights(const ClusterPlace<T>& place, const Step& step) {
  if (step.own_weight < 0) return;
  const int vectors = step.blocks * (kTileBytes / 16);
  for (int k = 0; k < step.own_count; ++k) {
    const char* const from =
        place.p.weights + step.weight + int64_t(step.own_first + k * place.p.size) * step.blocks * kTileBytes;
    for (int i = static_cast<int>(threadIdx.x); i < vectors; i += static_cast<int>(blockDim.x)) {
      reinterpret_cast<uint4*>(place.shared + step.own_weight)[k * vectors + i] =
          reinterpret_cast<const uint4*>(from)[i];
    }
  }
}

constexpr int kEmptyMessage = 16;                                    // bytes
constexpr int kMessageBytes = 2 * sizeof(uint64_t) + kEmptyMessage;  // of shared memory: two barriers, and nothing

}  // namespace pygen::cuda
