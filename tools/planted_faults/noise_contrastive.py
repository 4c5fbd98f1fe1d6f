"""Planted faults of noise_contrastive and noise_sample."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

CONTRAST = "tests/test_noise_contrastive.py tests/test_noise_contrastive_calls.py -k 'not Triton and not compile'"
CONTRAST_TRITON = "tests/test_noise_contrastive.py -k Triton"
CONTRAST_CUDA = "tests/test_cuda_host_noise_contrastive.py"
CONTRAST_CPP = "csrc/cpu/noise_contrastive.cpp"
CONTRAST_SUMS = "csrc/cpu/noise_contrastive_sums.cpp"
CONTRAST_PARTS = "csrc/cpu/noise_contrastive_parts.h"
CONTRAST_CU = "csrc/cuda/noise_contrastive.cuh"
CONTRAST_PY = "kernels/noise_contrastive.py"
CONTRAST_OP = "pygen/ops/_noise_contrastive.py"
NOISE_SAMPLE = "tests/test_noise_sample.py"

FAULTS = (
    Fault("Contrast: accidental hits count", CONTRAST_CPP, "own[1 + k] = others[k] == p.target[n] ? kNone", "own[1 + k] = others[k] == p.target[n] && p.shift ? kNone", CONTRAST),
    Fault("Contrast: shared accidental hits count", CONTRAST_CPP, "if (!p.remove_hits) continue;", "if (!p.remove_hits || p.shift) continue;", CONTRAST),
    Fault("Contrast: the target is not corrected", CONTRAST_CPP, "to[e] -= static_cast<Real>(", "if (e % per_read) to[e] -= static_cast<Real>(", CONTRAST),
    Fault("Contrast: log K is left out", CONTRAST_CPP, "p.log_noise_stride] + p.log_count)", "p.log_noise_stride])", CONTRAST),
    Fault("Contrast: a sample's rows are multiplied by the one before", CONTRAST_CPP, "if (++k == per_read) x += p.input.stride, k = 0;", "if (k++ == per_read) x += p.input.stride, k = 0;", CONTRAST),
    Fault("Contrast: numbers beyond the last whole vector count twice", CONTRAST_PARTS, "load<VecI>(kMask.lane + left)", "load<VecI>(kMask.lane + kLanes)", CONTRAST),
    Fault("Contrast: a class beyond the table is another", CONTRAST_CPP, "known[b] = one_block", "known[b] = true | one_block", CONTRAST),
    Fault("Contrast: losses without gradients are those of the last block", CONTRAST_CPP, "total += of_block;", "total = of_block;", CONTRAST),
    Fault("Contrast: negated tensors go the short way", "csrc/cpu/noise_contrastive.bind.h", "if (tensors[i] != Py_None && is_negated(tensors[i])) Py_RETURN_NONE;", "", CONTRAST),
    Fault("Contrast: a class's later places are left out", CONTRAST_SUMS, "while (last < p.entries && p.classes[last] == p.classes[first]) ++last;", "", CONTRAST),
    Fault("Contrast: a run's sum takes the place of those before", CONTRAST_PARTS, "total[v] = total[v] + sum[v];", "total[v] = sum[v];", CONTRAST),
    Fault("Contrast: digits are sorted anew each time", CONTRAST_SUMS, "std::swap(now, then);", "if (shift == 0) std::swap(now, then);", "tests/test_noise_contrastive.py -k order"),
    Fault("Contrast: a negative's slope keeps its sign for the target", CONTRAST_CPP, "      scores[s * per] = -scores[s * per];\n      nll", "      nll", CONTRAST),
    Fault("Contrast: the products' part of input's gradient is left out", CONTRAST_OP, "made.grad_x += part", "made.grad_x += 0 * part", CONTRAST),
    Fault("Contrast: shared rows get the upstream gradient of one", CONTRAST_OP, "tail, sums = tail * grad_nll, sums * grad_nll", "tail, sums = tail, sums * grad_nll", "tests/test_conformance.py -k 'nce_loss and shared and not triton'"),
    Fault("Contrast: sparse rows are other classes'", CONTRAST_OP, "first.cumsum(0) - 1, sorted_classes[first]", "first.cumsum(0) - 1, sorted_classes[first].flip(0)", CONTRAST),
    Fault("Contrast, CUDA: a class that is none is read", CONTRAST_CU, "if (!known(c)) return Acc(NAN);", "", CONTRAST_CUDA),
    Fault("Contrast, CUDA: hits count", CONTRAST_CU, "p.remove_hits && c == target ? -Acc(INFINITY)", "false ? -Acc(INFINITY)", CONTRAST_CUDA),
    Fault("Contrast, CUDA: rows are whole units wherever they begin", "csrc/cuda/noise_contrastive.cu", "call.features * size % 16 == 0", "true", CONTRAST_CUDA),
    Fault("Contrast, CUDA: later negatives are their class's neighbours'", CONTRAST_CU, "(e - p.targets) / p.per * p.tail_stride", "(e - p.targets) * p.tail_stride / p.per", CONTRAST_CUDA),
    Fault("Contrast, Triton: later blocks of features replace the first", CONTRAST_PY, "sums += tl.sum(w * x[None, :], axis=1)", "sums = tl.sum(w * x[None, :], axis=1)", CONTRAST_TRITON),
    Fault("Contrast, Triton: a class's later entries replace the first", CONTRAST_PY, "total += tl.sum(v * scale[:, None], axis=0)", "total = tl.sum(v * scale[:, None], axis=0)", CONTRAST_TRITON),
    Fault("Noise: all rows have the draws of the first", "csrc/common/noise_sample.h", "static_cast<uint32_t>(n), NoiseDomain", "static_cast<uint32_t>(n * 0), NoiseDomain", NOISE_SAMPLE),
    Fault("Noise: columns are told by 32 bits", "csrc/common/noise_sample.h", "(w[1] * count >> 32)", "0 * (w[1] * count >> 32)", NOISE_SAMPLE + " -k 'many_classes_on'"),
    Fault("Noise: what rounding leaves is filled", "pygen/reference/noise_sample.py", "keep[c], alias[c] = min(int(rest[c] * _ONE), _ONE - 1), likeliest", "keep[c] = _ONE - 1", NOISE_SAMPLE),
    Fault("Noise: chances are summed in float32", "pygen/ops/noise_sample.py", "reference.table(weights / weights.sum())", "reference.table((weights.float() / weights.float().sum()).double())", NOISE_SAMPLE),
    Fault("Noise, Triton: columns are told by 32 bits", "kernels/noise_sample.py", "+ (w1.to(tl.int64) * every >> 32)", "", NOISE_SAMPLE + " -k 'many_classes_on'"),
    Fault("noise contrast: plain PyTorch waits for the device", "pygen/reference/noise_contrastive.py", "torch.full((), float(negatives.shape[1]), dtype=torch.float64, device=x.device)", "torch.tensor(float(negatives.shape[1]), dtype=torch.float64, device=x.device)", "tests/test_rehearse.py -k 'need_a_gpu and noise'"),
)  # fmt: skip
