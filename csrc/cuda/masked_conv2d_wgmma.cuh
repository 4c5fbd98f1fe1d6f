// masked_conv2d's product on Hopper (sm_90a): the same sums as masked_conv2d.cuh by warpgroups. Not yet run on a GPU.
//
// A persistent block of three warpgroups. One thread of the first copies: a run of pixels by 128 bytes of channels,
// which serves all taps, and for each tap a tile of weights, as far ahead as there is room. The other two multiply,
// each its half of the tile's pixels: pixels go through registers, as ldmatrix may start at any of them and may read a
// row of zeros where a tap leaves the image; weights are read from shared memory by the instruction itself. While
// products are under way the next step's pixels are loaded.
//
// Traffic for a tile of 256 pixels by 128 outputs at 3x3 B, 32x32, 16 bits, from L2: for each 64 channels 38 KB of
// pixels (1.2 times the tile's) and 5 x 16 KB of weights, against 5120 cycles of products: 23 bytes a cycle.
#pragma once

#include "cuda/conv_gate.cuh"
#include "cuda/masked_conv2d_wgmma_tile.cuh"

namespace pygen::cuda {

struct WgmmaParams {
  CUtensorMap pixels, side;  // [pixels][k], boxes of box_rows by 128 bytes
  ConvParams conv;           // weight: tiles as masked_conv2d_pack_tiles_kernel makes them
  int64_t tiles;
  int boxes, box_rows;  // of a run
  int weight_buffers;
  int slabs;  // steps of all k
};

constexpr int kMostBuffers = 8, kMostPositions = 64;

// Shared memory, from a multiple of 1024 on.
template <class Tr>
struct WgmmaMemory {
  unsigned char *runs, *weights, *staged, *zeros;
  uint64_t *run_full, *run_empty, *weight_full, *weight_empty;
  TapStep* taps;  // of all positions, the one after the taps is a pixel itself

  static __host__ __device__ int run_bytes(const WgmmaParams& p) { return p.boxes * p.box_rows * kTileRowBytes; }
  static __host__ __device__ int fixed_bytes(const WgmmaParams& p) {
    return 1024 + p.conv.a_buffers * run_bytes(p) + Tr::kGroups * Tr::kStagedBytes + kTileRowBytes +
           4 * kMostBuffers * static_cast<int>(sizeof(uint64_t)) +
           (kMostPositions + 1) * static_cast<int>(sizeof(TapStep));
  }
  __device__ __forceinline__ WgmmaMemory(const WgmmaParams& p, char* memory) {
    runs = reinterpret_cast<unsigned char*>(memory) + (1024 - shared_address(memory) % 1024) % 1024;
    weights = runs + p.conv.a_buffers * run_bytes(p);
    staged = weights + p.weight_buffers * Tr::kWeightBytes;
    zeros = staged + Tr::kGroups * Tr::kStagedBytes;
    run_full = reinterpret_cast<uint64_t*>(zeros + kTileRowBytes);
    run_empty = run_full + kMostBuffers;
    weight_full = run_empty + kMostBuffers;
    weight_empty = weight_full + kMostBuffers;
    taps = reinterpret_cast<TapStep*>(weight_empty + kMostBuffers);
  }
};

template <class Tr>
struct WgmmaPlace : TilePlace<Tr, Tr::kTileM> {
  int centre_k, steps;

  __device__ __forceinline__ WgmmaPlace(const ConvParams& p, int64_t tile)
      : TilePlace<Tr, Tr::kTileM>(p, tile), centre_k(p.centre_k(this->group)), steps(p.steps(centre_k, Tr::kStep)) {}
};

// One thread: everything that the block's tiles read, in the order in which they read it.
template <class Tr>
__device__ __forceinline__ void copy_tiles(const WgmmaParams& p, const WgmmaMemory<Tr>& memory) {
  const int run_bytes = memory.run_bytes(p);
  RingPosition run, weight;
  prefetch_map(p.pixels);
  if (p.conv.side.k > 0) prefetch_map(p.side);
  for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    const WgmmaPlace<Tr> place(p.conv, tile);
    ConvStep step(p.conv, place.centre_k);
    for (int s = 0; s < place.steps; ++s) {
      if (step.new_run(p.conv)) {
        await(memory.run_empty + run.buffer, run.round ^ 1);
        uint64_t* const full = memory.run_full + run.buffer;
        arrive_expecting(full, run_bytes);
        const auto first = static_cast<int>(place.pixel0 + step.first(p.conv));
        for (int box = 0; box < p.boxes; ++box) {
          copy_box(memory.runs + run.buffer * run_bytes + box * p.box_rows * kTileRowBytes,
                   step.side ? p.side : p.pixels, step.k, first + box * p.box_rows, full);
        }
        run.next(p.conv.a_buffers);
      }
      await(memory.weight_empty + weight.buffer, weight.round ^ 1);
      uint64_t* const full = memory.weight_full + weight.buffer;
      arrive_expecting(full, Tr::kWeightBytes);
      const int64_t of_n = place.n_tile, slab = step.k / Tr::kStep;
      const unsigned char* const tiles =
          step.side
              ? p.conv.side.weight + (of_n * ((p.conv.side.k + Tr::kStep - 1) / Tr::kStep) + slab) * Tr::kWeightBytes
              : p.conv.weight + ((of_n * p.conv.taps.positions() + step.position) * p.slabs + slab) * Tr::kWeightBytes;
      copy_bytes(memory.weights + weight.buffer * Tr::kWeightBytes, tiles, Tr::kWeightBytes, full);
      weight.next(p.weight_buffers);
      step.next(p.conv, place.centre_k, Tr::kStep);
    }
  }
}

// A multiplying warpgroup.
template <class Tr, bool kGated>
struct WgmmaConsumer {
  const WgmmaParams& p;
  const WgmmaMemory<Tr>& memory;
  const int group, thread = static_cast<int>(threadIdx.x) % Tr::kThreads;
  RingPosition run, weight;  // the first that is not yet left

  __device__ __forceinline__ unsigned char* await_run() const {
    await(memory.run_full + run.buffer, run.round);
    return memory.runs + run.buffer * memory.run_bytes(p);
  }
  // One step, whose pixels are in registers; then the next one's are.
  template <int kBuffer>
  __device__ __forceinline__ void step(WgmmaTile<Tr>& tile, ConvStep& ahead, unsigned char*& pixels, int centre_k,
                                       bool first, bool last) {
    RingPosition now = weight;
    if (!first) now.next(p.weight_buffers);
    await(memory.weight_full + now.buffer, now.round);
    tile.template multiply<kBuffer>(memory.weights + now.buffer * Tr::kWeightBytes);
    await_products<1>();
    if (!first) leave(memory.weight_empty + weight.buffer);  // the step before has been multiplied
    weight = now;
    if (last) return;
    ahead.next(p.conv, centre_k, Tr::kStep);
    if (ahead.new_run(p.conv)) {
      leave(memory.run_empty + run.buffer);
      run.next(p.conv.a_buffers);
      pixels = await_run();
    }
    tile.template load<1 - kBuffer>(p.conv, ahead, pixels, memory.zeros, memory.taps[ahead.position]);
  }
  __device__ __forceinline__ void multiply_tiles() {
    unsigned char* const staged = memory.staged + group * Tr::kStagedBytes;
    for (int64_t t = blockIdx.x; t < p.tiles; t += gridDim.x) {
      const WgmmaPlace<Tr> place(p.conv, t);
      const int64_t pixel0 = place.pixel0 + group * Tr::kM;
      const auto sync = [this] { sync_threads(1 + group, Tr::kThreads); };
      const auto columns = columns_of<Tr, kGated>(p.conv, place.n_first, place.n_live);
      const bool adds = p.conv.add != nullptr;
      if (adds) {
        sync();  // the tile before has left `staged`
        begin_tile<Tr>(p.conv, columns, staged, pixel0, thread);
      }
      WgmmaTile<Tr> tile(p.conv, place.pixel0, group, thread / 32);
      if (place.steps > 0) {
        ConvStep ahead(p.conv, place.centre_k);
        unsigned char* pixels = await_run();
        tile.template load<0>(p.conv, ahead, pixels, memory.zeros, memory.taps[ahead.position]);
        for (int s = 0; s < place.steps; s += 2) {
          step<0>(tile, ahead, pixels, place.centre_k, s == 0, s + 1 == place.steps);
          if (s + 1 < place.steps) step<1>(tile, ahead, pixels, place.centre_k, false, s + 2 == place.steps);
        }
        await_products<0>();
        for (auto& sums : tile.acc) end_products(sums[0]);
        leave(memory.weight_empty + weight.buffer);
        weight.next(p.weight_buffers);
        leave(memory.run_empty + run.buffer);
        run.next(p.conv.a_buffers);
      }
      if (!adds) sync();  // as above
      finish_tile<Tr, kGated>(p.conv, columns, tile, staged, pixel0, thread, sync);
    }
  }
};

template <class Tr, bool kGated>
__device__ __forceinline__ void multiply_by_warpgroups(const WgmmaParams& p) {
  PYGEN_DYNAMIC_SHARED(dynamic);
  const WgmmaMemory<Tr> memory(p, dynamic);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kTileRowBytes / 16) reinterpret_cast<uint4*>(memory.zeros)[thread] = make_uint4(0, 0, 0, 0);
  for (int i = thread; i <= p.conv.taps.count; i += blockDim.x) {
    const int64_t dy = p.conv.taps.dy(i), dx = p.conv.taps.dx(i);
    const bool shared_run = p.conv.halo && i < p.conv.taps.count;
    memory.taps[i] = {static_cast<uint32_t>(dy), static_cast<uint32_t>(dx),
                      shared_run ? static_cast<int>(dy * p.conv.width + dx - p.conv.first) : 0};
  }
  if (thread == 0) {
    for (int i = 0; i < kMostBuffers; ++i) {
      init_barrier(memory.run_full + i, 1);
      init_barrier(memory.weight_full + i, 1);
      init_barrier(memory.run_empty + i, Tr::kGroups * Tr::kThreads / 32);
      init_barrier(memory.weight_empty + i, Tr::kGroups * Tr::kThreads / 32);
    }
    publish_barriers();
  }
  __syncthreads();
  if (thread < Tr::kThreads) {
    keep_registers<40>();
    if (thread == 0) copy_tiles<Tr>(p, memory);
  } else {
    take_registers<232>();
    WgmmaConsumer<Tr, kGated>{p, memory, thread / Tr::kThreads - 1}.multiply_tiles();
  }
}

template <class Tr>
__global__ void __launch_bounds__((1 + Tr::kGroups) * Tr::kThreads, 1)
    masked_conv2d_wgmma_kernel(const __grid_constant__ WgmmaParams p) {
#ifdef PYGEN_HAS_WGMMA
  multiply_by_warpgroups<Tr, false>(p);
#endif
}

// With the epilogue of conv_gate.cuh.
template <class Tr>
__global__ void __launch_bounds__((1 + Tr::kGroups) * Tr::kThreads, 1)
    gated_masked_conv2d_wgmma_kernel(const __grid_constant__ WgmmaParams p) {
#ifdef PYGEN_HAS_WGMMA
  multiply_by_warpgroups<Tr, true>(p);
#endif
}

}  // namespace pygen::cuda
