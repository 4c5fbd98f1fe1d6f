"""Planted faults of crf and crf_sample."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

CRF = "tests/test_crf.py tests/test_crf_calls.py -k 'not triton'"
CRF_CUDA = "tests/test_cuda_host_crf.py"
CRF_TRITON = "tests/test_crf.py -k triton"
CRF_SAMPLE = "tests/test_crf_sample.py tests/test_crf_sample_calls.py -k 'not triton'"
CRF_SAMPLE_CUDA = "tests/test_cuda_host_crf_sample.py"
CRF_SAMPLE_TRITON = "tests/test_crf_sample.py -k triton"
CRF_BACK = "csrc/cpu/crf_backward.cpp"
CRF_TILE = "csrc/cpu/crf_tile.h"
CRF_CHAIN = "csrc/cuda/crf_chain.cuh"

FAULTS = (
    Fault("crf: sums are scaled whatever the range", "csrc/common/crf.h", "constexpr Real kScaledRange = 40;", "constexpr Real kScaledRange = 1e30f;", CRF),
    Fault("crf: the end's range counts for nothing", CRF_TILE, "near(top, a, k * k) && near(last_top, end.data(), k)", "near(top, a, k * k)", CRF),
    Fault("crf, C++: sequences that have ended go on", CRF_TILE, "live[i] = t < length[i] ? Real(1) : Real(0)", "live[i] = Real(1)", CRF),
    Fault("crf, C++: a sum of nothing is the largest of nothing", "csrc/common/crf.h", "V{} - static_cast<Real>(INFINITY)", "V{}", CRF),
    Fault("crf, C++: NaN becomes a number", "csrc/common/crf.h", "V(log_positive(sum) + (sum - sum))", "log_positive(sum)", CRF),
    Fault("crf, C++: rounding adds up along a sequence", CRF_BACK, "const V inverse = Real(1) / sum;", "const V inverse = V{} + Real(1);", CRF),
    Fault("crf, C++: a chunk's products take its own states", CRF_BACK, "states + (t + held - 2) * p.pitch()", "states + (t + held - 1) * p.pitch()", CRF),
    Fault("crf, C++: a group forgets its blocks but the last", CRF_BACK, "block = group * blocks / groups;", "block = (group + 1) * blocks / groups - 1;", CRF),
    Fault("crf, C++: of equal paths the highest", "csrc/cpu/crf_decode.cpp", "if (x > best) {", "if (x >= best) {", CRF),
    Fault("crf, CUDA: what the transitions were scaled by is not added", "csrc/cuda/crf.cuh", "static_cast<double>(m) + static_cast<double>(t ? top : Acc(0));", "static_cast<double>(m) + 0 * static_cast<double>(t ? top : Acc(0));", CRF_CUDA),
    Fault("crf, CUDA: a column's parts keep their own largest", CRF_CHAIN, "sum += sums[s * Tr::kTags] * exp_minus(", "sum += sums[s * Tr::kTags] * 1 + 0 * exp_minus(", CRF_CUDA),
    Fault("crf, CUDA: of equal paths a higher", "csrc/cuda/crf.cuh", "(other == best && its < tag)", "(other == best && its > tag)", CRF_CUDA),
    Fault("crf, Triton: what cannot come has a slope", "kernels/_crf_chain.py", "return tl.where(x == float(\"-inf\"), 0.0, x)", "return x", CRF_TRITON),
    Fault("crf, Triton: the last group takes what is not there", "kernels/_crf_backward.py", "tl.minimum((group + 1) * each, sequences)", "(group + 1) * each - 1", CRF_TRITON),
    Fault("crf, reference: steps past the length are read", "pygen/reference/crf.py", "torch.where(self.live.unsqueeze(2), emissions.to(wide), 0.0)", "emissions.to(wide)", CRF),
    Fault("crf: backward asks for a backend anew", "pygen/ops/_crf.py", "grads = launch_backward(ctx.launcher, *args, kept)", "grads = launch_backward(launcher_of('crf_nll', 'auto', args[1]), *args, None)", CRF),
    Fault("crf: a mask's hole is a length", "pygen/nn/crf.py", "torch.where(holes, -1, on.sum(1))", "on.sum(1)", CRF),
    Fault("crf_sample: the last tag does not look at the end", "pygen/reference/crf.py", "x = (a[-1] + chain.end).expand(", "x = a[-1].expand(", CRF_SAMPLE),
    Fault("crf_sample: transitions the other way round", "pygen/reference/crf.py", "a[t - 1] + chain.transitions.t()[tag]", "a[t - 1] + chain.transitions[tag]", CRF_SAMPLE),
    Fault("crf_sample: all samples have one noise", "pygen/reference/noise.py", "zero + (quad >> 32) + high + sample, zero + image", "zero + (quad >> 32) + high, zero + image", CRF_SAMPLE),
    Fault("crf_sample: its noise is another sampler's", "pygen/reference/crf.py", "DOMAIN = 5", "DOMAIN = 2", CRF_SAMPLE),
    Fault("crf_sample: at a temperature transitions lose each row's largest", "pygen/ops/crf_sample.py", "given.amax(-1, keepdim=True) if given.dim() == 3 else given.amax()", "given.amax(-1, keepdim=True)", CRF_SAMPLE),
    Fault("crf_sample, C++: samples share a sequence's noise", "csrc/cpu/crf_sample.cpp", "(static_cast<uint64_t>(lane.sample) << 32) + static_cast<uint64_t>(first) / 4", "static_cast<uint64_t>(first) / 4", CRF_SAMPLE),
    Fault("crf_sample, C++: later steps take the first numbers again", "csrc/cpu/crf_sample.cpp", "t == g->most - 1 || t % kNumbers == kNumbers - 1", "t == g->most - 1", CRF_SAMPLE),
    Fault("crf_sample, C++: a wrong length is cut to what there is", "csrc/cpu/crf_sample.cpp", "b.wrong[lane.member] ? 0 : b.length[lane.member]", "b.length[lane.member]", CRF_SAMPLE),
    Fault("crf_sample, C++: samples of a few sequences take their lanes' states", "csrc/cpu/crf_sample.cpp", "straight = b.count == kS || p.samples == 1", "straight = true", CRF_SAMPLE),
    Fault("crf_sample, CUDA: what lies 32 tags on starts at 0", "csrc/cuda/crf_sample.cuh", "up_to[c] += total;", "up_to[c] += Acc(0);", CRF_SAMPLE_CUDA),
    Fault("crf_sample, CUDA: a long sequence keeps its first 32 numbers", "csrc/cuda/crf_sample.cuh", "t == length - 1 || t % 32 == 31", "t == length - 1", CRF_SAMPLE_CUDA),
    Fault("crf_sample, CUDA: a step's weights are those of the matrix as it is", "csrc/cuda/crf_sample.cuh", "read(w.from + int64_t(tag)", "read(w.to + int64_t(tag)", CRF_SAMPLE_CUDA),
    Fault("crf_sample, Triton: samples have one noise", "kernels/_crf_sample.py", "sample * 17179869184 + t", "sample * 0 + t", CRF_SAMPLE_TRITON),
    Fault("crf_sample, Triton: scaled or not, logarithms", "kernels/_crf_sample.py", "(k + 1)) > 0", "(k + 1)) > 2", CRF_SAMPLE_TRITON),
)  # fmt: skip
