// Launchers of gated_activation.cuh: along which dimension tiles run, and whether 128-bit accesses fit.
#include "cuda/gated_activation.cuh"
#include "cuda/gated_activation.h"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

bool pixels_inner(const GatedActivationCall& call) { return call.pixels > 1 && call.input.pixel == 1; }

GateOperand operand(const GatedActivationCall& call, const GateTensor& t) {
  const bool by_pixels = pixels_inner(call);
  return {reinterpret_cast<char*>(t.address), t.image, t.group, by_pixels ? t.channel : t.pixel,
          by_pixels ? t.pixel : t.channel,    t.half};
}

// Its units are whole, and start at multiples of 16 bytes. A cond that every pixel shares may be read one by one.
template <class Tr>
bool aligned(const GateOperand& t, bool read) {
  if (t.data == nullptr || (read && t.inner == 0)) return true;
  const auto whole = [](int64_t stride) { return stride % Tr::kUnit == 0; };
  return t.inner == 1 && reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && whole(t.image) && whole(t.group) &&
         whole(t.outer) && whole(t.other);
}

template <class Tr>
GateParams make_params(const GatedActivationCall& call) {
  GateParams p{};
  p.pixels_inner = pixels_inner(call);
  p.groups = call.groups;
  p.rows = call.images * call.groups;
  p.outer = p.pixels_inner ? call.channels : call.pixels;
  p.inner = p.pixels_inner ? call.pixels : call.channels;
  while (p.lane_bits < 5 && (int64_t(Tr::kUnit) << p.lane_bits) < p.inner) ++p.lane_bits;
  p.outer_steps = p.pixels_inner ? 1 : Tr::kSteps;
  p.inner_steps = p.pixels_inner ? Tr::kSteps : 1;
  const int64_t lanes = int64_t(1) << p.lane_bits, lines = Tr::kThreads / lanes;
  const auto tiles = [](int64_t size, int64_t tile) { return (size + tile - 1) / tile; };
  p.outer_tiles = tiles(p.outer, lines * p.outer_steps);
  p.inner_tiles = tiles(p.inner, lanes * p.inner_steps * Tr::kUnit);
  p.input = operand(call, call.input);
  p.cond = operand(call, call.cond);
  p.output = operand(call, call.output);
  p.grad_input = operand(call, call.grad_input);
  p.grad_cond = operand(call, call.grad_cond);
  p.more = operand(call, call.more);
  p.partial = reinterpret_cast<void*>(call.partial);
  return p;
}

template <class Tr>
void run(const GatedActivationCall& call, bool backward) {
  const GateParams p = make_params<Tr>(call);
  const int64_t blocks = p.rows * p.outer_tiles * p.inner_tiles;
  if (blocks == 0) return;
  const bool wide = p.inner % Tr::kUnit == 0 && aligned<Tr>(p.input, true) && aligned<Tr>(p.cond, true) &&
                    aligned<Tr>(p.output, backward) && aligned<Tr>(p.grad_input, false) &&
                    aligned<Tr>(p.grad_cond, false) && aligned<Tr>(p.more, true);
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  if (backward) {
    launch("gated_activation_bwd_kernel",
           wide ? &gated_activation_bwd_kernel<Tr, true> : &gated_activation_bwd_kernel<Tr, false>, blocks,
           Tr::kThreads, stream, p);
  } else {
    launch("gated_activation_fwd_kernel",
           wide ? &gated_activation_fwd_kernel<Tr, true> : &gated_activation_fwd_kernel<Tr, false>, blocks,
           Tr::kThreads, stream, p);
  }
}

template <class Do>
auto with_traits(const std::string& dtype, Do go) {
  if (dtype == "float32") return go(GateTraits<float>());
  if (dtype == "bfloat16") return go(GateTraits<__nv_bfloat16>());
  if (dtype == "float16") return go(GateTraits<__half>());
  if (dtype == "float64") return go(GateTraits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

}  // namespace

int64_t gated_activation_parts(const GatedActivationCall& call) {
  return with_traits(call.dtype, [&](auto traits) {
    const GateParams p = make_params<decltype(traits)>(call);
    return p.pixels_inner ? p.inner_tiles : p.outer_tiles;
  });
}

void gated_activation_forward(const GatedActivationCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { run<decltype(traits)>(call, false); });
}

void gated_activation_backward(const GatedActivationCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { run<decltype(traits)>(call, true); });
}

}  // namespace pygen::cuda
