// What the launchers of Hopper's kernels share: whether they may run, and tensor maps.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/mma.cuh"

namespace pygen::cuda {

enum class WgmmaType { None, BFloat16, Float16, Tf32 };

template <class Math>
constexpr WgmmaType wgmma_type() {
  if (std::is_same_v<Math, __nv_bfloat16>) return WgmmaType::BFloat16;
  if (std::is_same_v<Math, __half>) return WgmmaType::Float16;
  return std::is_same_v<Math, Tf32> ? WgmmaType::Tf32 : WgmmaType::None;
}

constexpr int kMostShared = 227 << 10;  // of a block on sm_90
constexpr int kProcessors = 132;  // of an H200: where work is dealt by sizes alone, so that results are not its GPU's

// Whether the current device and this build have warpgroups, and use_wgmma (masked_conv2d.h) allows them.
bool has_wgmma();
int current_attribute(cudaDeviceAttr which);

// Of rows of `columns` elements, `pitch` bytes apart: boxes of box_rows rows by 128 bytes, turned as hopper.cuh says.
CUtensorMap make_map(WgmmaType type, const void* data, int64_t columns, int64_t rows, int64_t pitch, int box_rows);

}  // namespace pygen::cuda
