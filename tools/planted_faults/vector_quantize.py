"""Planted faults of vector_quantize."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

QUANTIZE = "tests/test_vector_quantize.py -k 'not triton and not compile'"
QUANTIZE_TRITON = "tests/test_vector_quantize.py -k triton"
QUANTIZE_CUDA = "tests/test_cuda_host_vector_quantize.py"
QUANTIZE_CPP = "csrc/cpu/vector_quantize.cpp"
QUANTIZE_BACK = "csrc/cpu/vector_quantize_backward.cpp"
QUANTIZE_CU = "csrc/cuda/vector_quantize.cuh"
QUANTIZE_PY = "kernels/vector_quantize.py"

FAULTS = (
    Fault("Codes, C++: of equals the highest", QUANTIZE_CPP, "sum[r][v] < least", "sum[r][v] <= least", QUANTIZE),
    Fault("Codes, C++: each block of codes begins anew", QUANTIZE_CPP, "static_cast<Index<Real>>(j * kCodes)", "static_cast<Index<Real>>((j - from) * kCodes)", QUANTIZE),
    Fault("Codes, C++: positions of a later image lie in the first", "csrc/cpu/vector_quantize_tile.h", "      ++image;", "", QUANTIZE),
    Fault("Codes, C++: a run of squares is left out", QUANTIZE_CPP, "total[k] += part[k]", "total[k] = part[k]", "tests/test_conformance.py -k 'accurate and cpu and float32 and vector_quantize'"),
    Fault("Codes, C++: sums in the dtype computed in", QUANTIZE_BACK, "sum[c] += static_cast<double>(z[c]);", "sum[c] = static_cast<Real>(sum[c] + z[c]);", QUANTIZE),
    Fault("Codes, C++: images have the factor of the first", QUANTIZE_BACK, "(flat ? s : n), flat", "(flat ? s : 0), flat", "tests/test_conformance.py -k 'accurate and cpu and float32 and vector_quantize'"),
    Fault("Codes: moving averages move the codes that backward reads", "pygen/nn/vector_quantize.py", "snapshot(self.codebook) if moves else self.codebook", "self.codebook", QUANTIZE),
    Fault("Codes: under torch.compile the copy of the codebook is a clone", "pygen/ops/_saved.py", "torch.ops.pygen.snapshot(t) if torch.compiler.is_compiling() else t.clone()", "t.clone()", f"{QUANTIZE} -k inductor"),
    Fault("Codes: moving averages move where nothing is trained", "pygen/nn/vector_quantize.py", "self.decay is not None and self.training", "self.decay is not None", QUANTIZE),
    Fault("Codes: sizes are smoothed to another total", "pygen/nn/vector_quantize.py", "(n + self.num_codes * self.epsilon)", "(n + self.epsilon)", QUANTIZE),
    Fault("Codes: counts count in float32 whatever the codebook", "pygen/nn/vector_quantize.py", "counts.to(sums.dtype) * (1 - self.decay)", "counts * (1 - self.decay)", QUANTIZE),
    Fault("Codes: the codebook's gradient takes beta", "pygen/ops/_vector_quantize.py", "(2 * codebook_weight) * factor", "(2 * beta) * factor", QUANTIZE),
    Fault("Codes: one sample's distances are summed by threads", "pygen/ops/_vector_quantize.py", "(total(each).view(1) if len(each) == 1 else each.sum(1))", "each.sum(1)", QUANTIZE),
    Fault("Codes, CUDA: of equal scores any thread's code", QUANTIZE_CU, "(other == most && its < code)", "(other == most && its > code)", QUANTIZE_CUDA),
    Fault("Codes, CUDA: a NaN's score is what was found", QUANTIZE_CU, "if (score > best[r]) {", "if (!(score <= best[r])) {", QUANTIZE_CUDA),
    Fault("Codes, CUDA: warps' sums replace each other", QUANTIZE_CU, "sum += parts[other][lane]", "sum = parts[other][lane]", QUANTIZE_CUDA),
    Fault("Codes, Triton: of equals the highest", QUANTIZE_PY, "tl.where(most > best, first, found)", "tl.where(most >= best, first, found)", QUANTIZE_TRITON),
    Fault("Codes, Triton: codes past the last count", QUANTIZE_PY, "(score == score) & (k < codes)[None, :]", "(score == score)", QUANTIZE_TRITON),
    Fault("Codes, Triton: a code's later positions replace the first", QUANTIZE_PY, "        sums += z", "        sums = z", QUANTIZE_TRITON),
)  # fmt: skip
