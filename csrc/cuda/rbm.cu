// Launchers of rbm.cuh.
#include "cuda/rbm.cuh"
#include "cuda/rbm.h"

namespace pygen::cuda {
namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <class T>
ConvParams product_of(const RbmLayerCall& call) {
  const auto rows = [](std::uintptr_t address, int64_t pitch) {
    return Rows{pointer<const unsigned char>(address), pitch * static_cast<int64_t>(sizeof(T))};
  };
  ConvParams p = product_params(rows(call.x, call.x_pitch), rows(call.weight, call.weight_pitch), call.rows,
                                call.targets, call.sources, pointer<const int64_t>(call.live));
  p.bias = pointer<const void>(call.bias);
  return p;
}

void check_sizes(const RbmLayerCall& call) {
  constexpr int64_t kMost = int64_t(1) << 30;
  for (int64_t size : {call.sources, call.targets}) {
    if (size > kMost) throw std::invalid_argument("weight: expected dims of at most 2^30, got " + std::to_string(size));
  }
}

template <class Tr, class Params>
void launch_layer(const char* name, void (*kernel)(Params), Params p, std::uintptr_t stream) {
  const int64_t blocks = tile_params<Tr>(p.product);
  const int shared = std::max(shared_bytes<Tr>(p.product), Tr::kSumBytes);
  launch(name, kernel, blocks, Tr::kThreads, pointer<CUstream_st>(stream), p, shared);
}

}  // namespace

int64_t rbm_tiles(int64_t targets) { return (targets + kRbmUnits - 1) / kRbmUnits; }

void rbm_free_energy(const RbmEnergyCall& call) {
  const RbmLayerCall& layer = call.layer;
  check_sizes(layer);
  if (layer.rows * layer.targets == 0) return;
  const DeviceGuard guard(layer.device);
  with_math(layer.dtype, layer.tf32, [&](auto element, auto math) {
    using Tr = RbmTraits<decltype(element), decltype(math)>;
    const RbmEnergyParams p{product_of<decltype(element)>(layer), pointer<void>(call.partial),
                            pointer<void>(call.units)};
    launch_layer<Tr>("rbm_free_energy_fwd_kernel", &rbm_free_energy_fwd_kernel<Tr>, p, layer.stream);
  });
}

void rbm_gibbs(const RbmDrawCall& call) {
  const RbmLayerCall& layer = call.layer;
  check_sizes(layer);
  if (layer.rows * layer.targets == 0) return;
  const DeviceGuard guard(layer.device);
  with_math(layer.dtype, layer.tf32, [&](auto element, auto math) {
    using Tr = RbmTraits<decltype(element), decltype(math)>;
    const RbmDrawParams p{product_of<decltype(element)>(layer),
                          pointer<const int64_t>(call.seed),
                          pointer<void>(call.out),
                          pointer<const void>(call.given),
                          pointer<const bool>(call.known),
                          call.out_pitch,
                          call.inverse_temperature,
                          static_cast<uint32_t>(call.half)};
    launch_layer<Tr>("rbm_gibbs_kernel", &rbm_gibbs_kernel<Tr>, p, layer.stream);
  });
}

}  // namespace pygen::cuda
