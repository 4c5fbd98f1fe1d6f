"""Planted faults of nade_nll and NADE."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

NADE = "tests/test_nade_nll.py -k 'not triton'"
NADE_TRITON = "tests/test_triton_nade_nll.py"
NADE_CUDA = "tests/test_cuda_host_nade_nll.py"
NADE_MODEL = "tests/test_nade.py"
NADE_CPP = "csrc/cpu/nade_nll.cpp"
NADE_BACK = "csrc/cpu/nade_nll_backward.cpp"
NADE_CU = "csrc/cuda/nade_nll.cuh"
NADE_PY = "kernels/nade_nll.py"

FAULTS = (
    Fault("NADE: the slope of a unit is its complement", "csrc/common/nade_nll.h", "return h * (1.0f - h);", "return V(1.0f - h);", NADE),
    Fault("NADE, C++: inputs of 0 are multiplied", NADE_CPP, "if (x != 0 && d + 1 < p.inputs)", "if (d + 1 < p.inputs)", NADE),
    Fault("NADE, C++: units stay as they were at the first change", NADE_CPP, "    store(h + j, units_of(sum));", "", NADE),
    Fault("NADE, C++: samples side by side are summed in another order", "csrc/cpu/nade_nll_rows.h", "sums[i] = (q[0] + q[1]) + (q[2] + q[3]);", "sums[i] = ((q[0] + q[1]) + q[2]) + q[3];", NADE),
    Fault("NADE, C++: a later chunk's gradients replace the earlier ones", NADE_BACK, "part.count, part.start > 0, p.grad_weight", "part.count, false, p.grad_weight", NADE),
    Fault("NADE, C++: each segment starts at the bias", NADE_BACK, "a.put(w.starts + ((c + 1) * cut.chunk + n) * kTile<Real>);", "Tile<Real>::at(w.starts + n * kTile<Real>).put(w.starts + ((c + 1) * cut.chunk + n) * kTile<Real>);", NADE),
    Fault("NADE, C++: a weight gets the gradient before its input", NADE_BACK, "    end = from;\n    add_row(x[end - 1], down, w.grad_weight + (end - 1) * kTile<Real>);", "    end = from;\n    add_row(x[end - 1], down, w.grad_weight + (end > 1 ? end - 2 : 0) * kTile<Real>);", NADE),
    Fault("NADE, C++: an odd sample is left out of the bias's sum", NADE_BACK, "const int64_t half = (left + 1) / 2;\n    for", "const int64_t half = left / 2;\n    for", NADE),
    Fault("NADE, C++: what is known is drawn", NADE_CPP, "is_known ? draws.known[at] :", "false ? draws.known[at] :", NADE_MODEL),
    Fault("NADE, CUDA: a warp's sums go to their neighbours", NADE_CU, "return lane / (32 / kCount);", "return lane % kCount;", NADE_CUDA),
    Fault("NADE, CUDA: units beyond the last are written", NADE_CU, "if (!warp.active || first + s >= p.inputs) continue;", "if (first + s >= p.inputs) continue;", NADE_CUDA),
    Fault("NADE, CUDA: the last row of weight is added", NADE_CU, "const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs - 1);\n        const Acc gs", "const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs);\n        const Acc gs", NADE_CUDA),
    Fault("NADE, CUDA: a part's later chunks replace its first", NADE_CU, "sample > begin ? grad_weight[at] + grad_w[s] : grad_w[s]", "grad_w[s]", NADE_CUDA),
    Fault("NADE, CUDA: a sampler's warps share their sums of all steps", "csrc/cuda/nade_nll_draw.cuh", "if (thread % 32 == 0) sums[thread / 32] = sum;", "if (thread % 32 == 0) sums[0] = sum;", NADE_CUDA),
    Fault("NADE, Triton: samples beyond the last count", NADE_PY, "tl.sum(tl.where(is_image[:, None], down, 0.0), axis=0)", "tl.sum(down + 1.0, axis=0)", NADE_TRITON),
    Fault("NADE, Triton: a part's later tiles replace its first", NADE_PY, "mask=has_unit & AGAIN, other=0.0", "mask=has_unit & (AGAIN & False), other=0.0", NADE_TRITON),
    Fault("NADE, Triton: the last segment is as long as the others", NADE_PY, "count = tl.minimum(length, inputs - first)", "count = length", NADE_TRITON),
    Fault("NADE: orderings share the weights' rows", "pygen/models/nade.py", "return self.weight[turns], self.hidden_bias", "return self.weight, self.hidden_bias", NADE_MODEL),
    Fault("NADE, cached: an input of 0 is added too", "pygen/models/_cached_nade.py", "torch.where(levels[d].unsqueeze(1), weight[d], 0.0)", "weight[d]", NADE_MODEL),
    Fault("NADE, reference: what is not finite times nothing", "pygen/reference/nade_nll.py", "torch.where((t == 0) & ~rows.isfinite(), 0.0, rows)", "rows", NADE),
)  # fmt: skip
