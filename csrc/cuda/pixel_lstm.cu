// Launchers of pixel_lstm.cuh: a block for each image.
#include "cuda/pixel_lstm.cuh"

namespace pygen::cuda {
namespace {

template <class Tr>
int64_t numbers_of(const PixelLstmCall& call, bool backward) {
  const int64_t padded = (call.hidden + Tr::kQuad - 1) / Tr::kQuad * Tr::kQuad;
  const int64_t length = call.down ? call.columns : call.rows, pad = call.down ? call.kernel / 2 : 1;
  return (length + 2 * pad + Tr::kPixels) * padded * (backward ? 9 : 3);
}

template <class Tr>
int64_t workspace(const PixelLstmCall& call, bool backward) {
  constexpr int64_t kOwn = 1 << 10;  // what the system takes
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, call.device), "pixel_lstm");
  const int64_t numbers = numbers_of<Tr>(call, backward);
  return numbers * static_cast<int64_t>(sizeof(typename Tr::Acc)) + kOwn > most ? numbers : 0;
}

template <class Tr>
void run(const PixelLstmCall& call, bool backward) {
  PixelLstmParams p{};
  p.hidden = static_cast<int>(call.hidden);
  p.padded = (p.hidden + Tr::kQuad - 1) / Tr::kQuad * Tr::kQuad;
  p.rows = static_cast<int>(call.rows);
  p.columns = static_cast<int>(call.columns);
  p.kernel = static_cast<int>(call.kernel);
  p.each = static_cast<int>(call.hidden / call.groups);
  p.down = call.down;
  p.mirrored = call.mirrored;
  p.weight = reinterpret_cast<const void*>(call.weight);
  p.input = call.input;
  p.output = call.output;
  p.kept = call.kept;
  p.workspace = reinterpret_cast<void*>(call.workspace);
  p.numbers = numbers_of<Tr>(call, backward);
  if (p.numbers > 0x7fffffff) throw std::invalid_argument("pixel_lstm: the lines of an image exceed 2^31 numbers");
  const int shared = call.workspace ? 0 : static_cast<int>(p.numbers * static_cast<int64_t>(sizeof(typename Tr::Acc)));
  const cudaStream_t stream = reinterpret_cast<cudaStream_t>(call.stream);
  if (backward) {
    launch("pixel_lstm_bwd_kernel", &pixel_lstm_bwd_kernel<Tr>, call.images, Tr::kThreads, stream, p, shared);
  } else {
    launch("pixel_lstm_fwd_kernel", &pixel_lstm_fwd_kernel<Tr>, call.images, Tr::kThreads, stream, p, shared);
  }
}

void run_by_dtype(const PixelLstmCall& call, bool backward) {
  if (call.images * call.hidden * call.rows * call.columns == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<PixelLstmTraits<float>>(call, backward);
  if (call.dtype == "bfloat16") return run<PixelLstmTraits<__nv_bfloat16>>(call, backward);
  if (call.dtype == "float16") return run<PixelLstmTraits<__half>>(call, backward);
  if (call.dtype == "float64") return run<PixelLstmTraits<double>>(call, backward);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace

int64_t pixel_lstm_workspace(const PixelLstmCall& call, bool backward) {
  return call.dtype == "float64" ? workspace<PixelLstmTraits<double>>(call, backward)
                                 : workspace<PixelLstmTraits<float>>(call, backward);
}
void pixel_lstm_forward(const PixelLstmCall& call) { run_by_dtype(call, false); }
void pixel_lstm_backward(const PixelLstmCall& call) { run_by_dtype(call, true); }

}  // namespace pygen::cuda
