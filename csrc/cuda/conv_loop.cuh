// The product that masked_conv2d and masked_linear share: a tile of pixels (rows) by channels, in a pipeline of copies.
#pragma once

#include "cuda/conv_gate.cuh"
#include "cuda/conv_products.cuh"

namespace pygen::cuda {

// A tile's sums: finish(tile, place, memory), whose sums the threads hold, and shared memory that nobody reads any
// more.
template <class Tr, class Finish>
__device__ __forceinline__ void sum_tile_and(const ConvParams& p, const Finish& finish) {
  PYGEN_DYNAMIC_SHARED(memory);
  unsigned char* const zeros = reinterpret_cast<unsigned char*>(memory);
  unsigned char* const b_tiles = zeros + 128;
  unsigned char* const a_runs = b_tiles + kStages * Tr::kN * kRowBytes;
  const int thread = static_cast<int>(threadIdx.x);
  const TilePlace<Tr, Tr::kM> place(p, blockIdx.x);
  const int64_t pixel0 = place.pixel0;
  const int n_first = place.n_first, n_live = place.n_live;
  const Stairs<Tr> stairs{p, n_first, n_live};
  const int centre_k = Tr::kByDegree ? static_cast<int>(stairs.seen_by(n_live - 1)) : p.centre_k(place.group);
  const int seen_by_all = Tr::kByDegree ? static_cast<int>(stairs.seen_by(0)) : centre_k;
  const int steps = p.steps(centre_k, Tr::kStep);
  if (thread < kRowBytes / 16) reinterpret_cast<uint4*>(zeros)[thread] = make_uint4(0, 0, 0, 0);

  ConvSteps<!Tr::kByDegree> ahead(p, centre_k), now(p, centre_k);
  int ahead_run = -1, now_run = -1, ahead_stage = 0, now_stage = 0;  // by degree, each step has its run
  const auto next_of = [](int i, int count) { return i + 1 == count ? 0 : i + 1; };
  const auto copy_step = [&] {
    const int64_t left = static_cast<int64_t>(ahead.k_end - ahead.k) * Tr::kSize;
    const int64_t k_bytes = static_cast<int64_t>(ahead.k) * Tr::kSize;
    const bool side = !Tr::kByDegree && ahead.side;
    if (ahead.new_run(p)) {
      ahead_run = Tr::kByDegree ? ahead_stage : next_of(ahead_run, p.a_buffers);
      unsigned char* const run = a_runs + ahead_run * p.a_rows * kRowBytes;
      const int64_t first = pixel0 + ahead.first(p);
      const int parts = (ahead.alone ? Tr::kM : p.a_rows) * (kRowBytes / 16);
      const unsigned char* const x = side ? p.side.x : p.x;
      const int64_t x_pitch = side ? p.side.x_pitch : p.x_pitch;
      for (int i = thread; i < parts; i += Tr::kThreads) {
        const int row = i / (kRowBytes / 16), part = i % (kRowBytes / 16);
        const int64_t pixel = first + row;
        const int bytes = pixel >= 0 && pixel < p.pixels ? clamp_bytes(left - part * 16) : 0;
        copy_async(part_of_row(run, row, part), bytes ? x + pixel * x_pitch + k_bytes + part * 16 : x, bytes);
      }
    }
    unsigned char* const b_tile = b_tiles + ahead_stage * Tr::kN * kRowBytes;
    const int64_t weight_pitch = side ? p.side.weight_pitch : p.weight_pitch;
    const unsigned char* const weight =
        side ? p.side.weight + n_first * weight_pitch
             : p.weight + (static_cast<int64_t>(ahead.position) * p.n + n_first) * weight_pitch;
    for (int i = thread; i < Tr::kN * (kRowBytes / 16); i += Tr::kThreads) {
      const int row = i / (kRowBytes / 16), part = i % (kRowBytes / 16);
      const int bytes = row < n_live ? clamp_bytes(left - part * 16) : 0;
      copy_async(part_of_row(b_tile, row, part), bytes ? weight + row * weight_pitch + k_bytes + part * 16 : weight,
                 bytes);
    }
    ahead_stage = next_of(ahead_stage, kStages);
    ahead.next(p, centre_k, Tr::kStep);
  };

  std::conditional_t<Tr::kTensor, TensorTile<Tr>, ScalarTile<Tr>> tile(p, pixel0);
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) copy_step();
    commit_copies();
  }
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the copies of all threads are there, and the buffers of the last step are free
    if (s + kStages - 1 < steps) copy_step();
    commit_copies();
    if (now.new_run(p)) now_run = Tr::kByDegree ? now_stage : next_of(now_run, p.a_buffers);
    unsigned char* const run = a_runs + now_run * p.a_rows * kRowBytes;
    unsigned char* const b_tile = b_tiles + now_stage * Tr::kN * kRowBytes;
    if (Tr::kByDegree && min(now.k + Tr::kStep, now.k_end) > seen_by_all) {
      tile.template multiply<Tr::kByDegree>(p, now, run, zeros, b_tile, stairs);
    } else {
      tile.template multiply<false>(p, now, run, zeros, b_tile, stairs);
    }
    now_stage = next_of(now_stage, kStages);
    now.next(p, centre_k, Tr::kStep);
  }
  wait_copies<0>();
  __syncthreads();
  finish(tile, place, zeros);
}

template <class Tr, bool kGated = false>
__device__ __forceinline__ void multiply_tile(const ConvParams& p) {
  sum_tile_and<Tr>(p, [&](const auto& tile, const TilePlace<Tr, Tr::kM>& place, unsigned char* staged) {
    const int thread = static_cast<int>(threadIdx.x);
    const auto sync = [] { __syncthreads(); };
    const auto columns = columns_of<Tr, kGated>(p, place.n_first, place.n_live);
    if (!Tr::kByDegree && p.add != nullptr) begin_tile<Tr>(p, columns, staged, place.pixel0, thread);
    finish_tile<Tr, kGated>(p, columns, tile, staged, place.pixel0, thread, sync);
  });
}

template <class Tr>
int shared_bytes(const ConvParams& p) {
  const int pipeline = 128 + (kStages * Tr::kN + p.a_buffers * p.a_rows) * kRowBytes;
  return std::max(pipeline, staged_bytes<Tr>());
}

}  // namespace pygen::cuda
