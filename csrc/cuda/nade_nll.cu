// Launchers of nade_nll.cuh and nade_nll_draw.cuh: who takes which samples and units.
#include "cuda/nade_nll.cuh"
#include "cuda/nade_nll.h"
#include "cuda/nade_nll_draw.cuh"

namespace pygen::cuda {
namespace {

int64_t tiles_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

// Samples of a part, backward: by sizes alone, as results must not depend on the GPU.
template <class Tr>
int64_t samples_each(int64_t images) {
  const int64_t least = images < 4 ? 1 : 4, share = tiles_of(images, Tr::kMostParts);
  return share < least ? least : share;
}

template <class Tr>
NadePlan plan(int64_t images, int64_t inputs, int64_t hidden) {
  const int64_t tiles = tiles_of(hidden, 32), parts = tiles_of(images, samples_each<Tr>(images));
  return {tiles, parts, parts * tiles_of(inputs, Tr::kSteps) * Tr::kChunk * tiles * 32};
}

NadeParams params_of(const NadeCall& call) {
  NadeParams p{};
  p.images = call.images;
  p.inputs = call.inputs;
  p.hidden = call.hidden;
  p.tiles = tiles_of(call.hidden, 32);
  p.x = reinterpret_cast<const void*>(call.x);
  p.weight = reinterpret_cast<const void*>(call.weight);
  p.hidden_bias = reinterpret_cast<const void*>(call.hidden_bias);
  p.output_weight = reinterpret_cast<const void*>(call.output_weight);
  return p;
}

template <class Tr>
void run(const NadeCall& call, bool backward) {
  NadeParams p = params_of(call);
  p.groups = tiles_of(p.tiles, Tr::kWarps);
  p.each = backward ? samples_each<Tr>(call.images) : Tr::kSamples;
  const int64_t blocks = tiles_of(call.images, p.each) * p.groups;
  const cudaStream_t stream = reinterpret_cast<cudaStream_t>(call.stream);
  if (!backward) {
    p.logits = reinterpret_cast<void*>(call.logits);
    launch("nade_nll_fwd_kernel", &nade_nll_fwd_kernel<Tr>, blocks, Tr::kThreads, stream, p);
    return;
  }
  p.grad_logits = reinterpret_cast<const void*>(call.grad_logits);
  p.starts = reinterpret_cast<void*>(call.starts);
  p.grad_weight = reinterpret_cast<void*>(call.grad_weight);
  p.grad_hidden_bias = reinterpret_cast<void*>(call.grad_hidden_bias);
  p.grad_output_weight = reinterpret_cast<void*>(call.grad_output_weight);
  launch("nade_nll_bwd_kernel", &nade_nll_bwd_kernel<Tr>, blocks, Tr::kThreads, stream, p);
}

template <class Number>
void draw(const NadeDrawCall& call) {
  using Tr = NadeDrawTraits<Number>;
  NadeDrawParams p{};
  p.images = call.images;
  p.inputs = call.inputs;
  p.hidden = static_cast<int>(call.hidden);
  p.weight = reinterpret_cast<const void*>(call.weight);
  p.hidden_bias = reinterpret_cast<const void*>(call.hidden_bias);
  p.output_weight = reinterpret_cast<const void*>(call.output_weight);
  p.output_bias = reinterpret_cast<const void*>(call.output_bias);
  p.thresholds = reinterpret_cast<const double*>(call.thresholds);
  p.known = reinterpret_cast<const uint8_t*>(call.known);
  p.known_mask = reinterpret_cast<const uint8_t*>(call.known_mask);
  p.levels = reinterpret_cast<uint8_t*>(call.levels);
  launch("nade_nll_draw_kernel", &nade_nll_draw_kernel<Tr>, call.images, Tr::kThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p,
         static_cast<int>(Tr::numbers(call.hidden) * static_cast<int64_t>(sizeof(typename Tr::Acc))));
}

void run_by_dtype(const NadeCall& call, bool backward) {
  if (call.images * call.inputs * call.hidden == 0) return;  // sums of nothing: pygen/native's
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<NadeTraits<float>>(call, backward);
  if (call.dtype == "bfloat16") return run<NadeTraits<__nv_bfloat16>>(call, backward);
  if (call.dtype == "float16") return run<NadeTraits<__half>>(call, backward);
  if (call.dtype == "float64") return run<NadeTraits<double>>(call, backward);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace

NadePlan nade_nll_plan(const std::string& dtype, int64_t images, int64_t inputs, int64_t hidden) {
  return dtype == "float64" ? plan<NadeTraits<double>>(images, inputs, hidden)
                            : plan<NadeTraits<float>>(images, inputs, hidden);
}
void nade_nll_forward(const NadeCall& call) { run_by_dtype(call, false); }
void nade_nll_backward(const NadeCall& call) { run_by_dtype(call, true); }

int64_t nade_nll_most_hidden(const std::string& dtype, int device) {
  constexpr int kOwn = 1 << 10;  // what the sums of warps and the system take
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "nade_nll_most_hidden");
  return (most - kOwn) / (2 * (dtype == "float64" ? 8 : 4));
}
void nade_nll_draw(const NadeDrawCall& call) {
  if (call.images * call.inputs == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return draw<float>(call);
  if (call.dtype == "bfloat16") return draw<__nv_bfloat16>(call);
  if (call.dtype == "float16") return draw<__half>(call);
  if (call.dtype == "float64") return draw<double>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
