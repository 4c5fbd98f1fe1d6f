#include <atomic>
#include <cstring>

#include "cuda/hopper.cuh"
#include "cuda/launch.cuh"
#include "cuda/masked_conv2d.h"
#include "cuda/wgmma_launch.h"

namespace pygen::cuda {
namespace {

std::atomic<bool> may_use{true};

}  // namespace

bool use_wgmma(bool use) { return may_use.exchange(use); }

int current_attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

bool has_wgmma() {
  return may_use && std::strstr(PYGEN_CUDA_ARCHS, "90a") != nullptr &&
         current_attribute(cudaDevAttrComputeCapabilityMajor) == 9;
}

// The driver's function by the runtime, which is linked statically: the driver is not linked at all.
CUtensorMap make_map(WgmmaType type, const void* data, int64_t columns, int64_t rows, int64_t pitch, int box_rows) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess) throw std::runtime_error("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(found);
  }();
  const CUtensorMapDataType of = type == WgmmaType::BFloat16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                 : type == WgmmaType::Float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                              : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t pitches[] = {static_cast<cuuint64_t>(pitch)};
  const cuuint32_t box[] = {kTileRowBytes / (type == WgmmaType::Tf32 ? 4u : 2u), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const auto encode_it = [&] {
    return encode(&map, of, 2, const_cast<void*>(data), sizes, pitches, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult status = encode_it();
  // The driver does not do what the runtime does for a thread that has not used CUDA yet, as autograd's may be. Only
  // then: elsewhere the thread's context may be another one than the device's own.
  if (status == CUDA_ERROR_INVALID_CONTEXT) {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
    status = encode_it();
  }
  if (status != CUDA_SUCCESS) {
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(status)));
  }
  return map;
}

}  // namespace pygen::cuda
