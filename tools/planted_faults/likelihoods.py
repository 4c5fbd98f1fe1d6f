"""Planted faults of logistic_mixture_nll, bernoulli_nll and categorical_nll."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import LOGISTIC, LOGISTIC_H, RACES, SOFTMAX_ROW_H, Fault

LOGISTIC_CUDA = "tests/test_cuda_host_logistic_mixture_nll.py"
LIKELIHOOD_OP = "pygen/ops/_likelihood.py"
LOGISTIC_REF = "pygen/reference/logistic_mixture_nll.py"
CATEGORICAL = "tests/test_categorical_nll.py -k 'not triton'"
CATEGORICAL_CUDA = "tests/test_cuda_host_categorical_nll.py"
CATEGORICAL_TRITON = "tests/test_triton_categorical_nll.py"
CATEGORICAL_H = "csrc/common/categorical_nll.h"
CATEGORICAL_CPP = "csrc/cpu/categorical_nll.cpp"
SOFTMAX_CU = "csrc/cuda/softmax_terms.cuh"
CATEGORICAL_CU = "csrc/cuda/categorical_nll.cuh"
CATEGORICAL_PY = "kernels/categorical_nll.py"
BERNOULLI = "tests/test_bernoulli_nll.py -k 'not triton'"
BERNOULLI_TRITON = "tests/test_bernoulli_nll.py -k 'triton'"
BERNOULLI_H = "csrc/common/bernoulli_nll.h"
BERNOULLI_CPP = "csrc/cpu/bernoulli_nll.cpp"
BERNOULLI_CU = "csrc/cuda/bernoulli_nll.cuh"
BERNOULLI_PY = "kernels/bernoulli_nll.py"
BERNOULLI_CUDA = "tests/test_cuda_host_bernoulli_nll.py"

FAULTS = (
    Fault("logistic mixture: blue sees red twice", LOGISTIC_REF, "means[:, 2] + tanhs[:, 1] * red + tanhs[:, 2] * green", "means[:, 2] + tanhs[:, 1] * red + tanhs[:, 2] * red",
          "tests/test_logistic_mixture_reference.py"),
    Fault("logistic mixture: a gradient below the floor", LOGISTIC_REF, ".masked_fill(raw_scales < min_log_scale, 0)", "", "tests/test_logistic_mixture_reference.py"),
    Fault("logistic mixture: 16 bits scaled after they were rounded", LIKELIHOOD_OP, "if grad.dtype != grad_nll.dtype:", "if grad.dtype is None:", LOGISTIC),
    Fault("logistic mixture: the gradient that forward made is handed out twice", LIKELIHOOD_OP, "grad, grad_nll = ready.pop(),", "grad, grad_nll = ready[-1],", LOGISTIC),
    Fault("logistic mixture: open bins are as wide as others", LOGISTIC_H, "L::select(inner, V(inverse * (bins.half * Real(2))), V(V{} + Real(1000)))", "inverse * (bins.half * Real(2))", LOGISTIC),
    Fault("logistic mixture, C++: one level too many is one", "csrc/cpu/logistic_mixture_nll.cpp", "level >= p.num_levels", "level > p.num_levels", LOGISTIC),
    Fault("logistic mixture, C++: the floor stops no gradient", "csrc/cpu/logistic_mixture_nll.cpp", "L::select(row(first + components) < least, V{}, to_scale)", "to_scale", LOGISTIC),
    Fault("logistic mixture, CUDA: components beyond the warps keep the last one's slopes", "csrc/cuda/logistic_mixture_nll.cuh", "if (components > warps) evaluate(k);", "", LOGISTIC_CUDA),
    Fault("logistic mixture, CUDA: lanes past the last position write", "csrc/cuda/logistic_mixture_nll.cuh", "if (lane >= live) return;", "", LOGISTIC_CUDA),
    Fault("logistic mixture, CUDA: threads past the last pixel read another one's row", "csrc/cuda/logistic_mixture_nll.cuh", "return stage[lane * pitch + at];", "return stage[(lane < live ? lane : live - 1) * pitch + at];", RACES + " logistic_mixture_nll"),
    Fault("logistic mixture, Triton: components past the last count", "kernels/_logistic_parts.py", "terms = tl.where(mask, exp_minus_abs(values - larger[:, None]), 0.0)",
          "terms = exp_minus_abs(values - larger[:, None])", "tests/test_triton_logistic_mixture_nll.py -k together"),
    Fault("Bernoulli: nothing times infinity", BERNOULLI_H, "L::absolute(L::select(wrong == Real(0), V{}, l)) * wrong", "L::absolute(l) * wrong", BERNOULLI),
    Fault("Bernoulli: a slope that cancels in the tails", BERNOULLI_H, "divide_tame(where_negative(l, V(rest * e - x), V(rest - x * e)), V(e + Real(1)))", "sigmoid_of(l, e) - x", BERNOULLI),
    Fault("Bernoulli, C++: lanes past the last element are logits of 0", BERNOULLI_CPP, "-std::numeric_limits<Real>::infinity()", "Real(0)", BERNOULLI),
    Fault("Bernoulli, C++: int64 cut to bytes", BERNOULLI_CPP, "level == 0 ? 0 : level == 1 ? 1 : 2", "static_cast<uint8_t>(level)", BERNOULLI),
    Fault("Bernoulli, C++: a byte of 2 is a target", BERNOULLI_CPP, "(level > 1)", "(level > 2)", BERNOULLI),
    Fault("Bernoulli, C++: rows of a block share the first one's upstream gradient", BERNOULLI_CPP, "blocks.first_row(block) + r, at", "blocks.first_row(block), at", BERNOULLI),
    Fault("Bernoulli: targets alone get no gradient", LIKELIHOOD_OP, "(params.requires_grad or x.requires_grad)", "params.requires_grad", BERNOULLI),
    Fault("Bernoulli: the gradient of targets has the wrong sign", "pygen/ops/bernoulli_nll.py", "sum_to(-logits.to(", "sum_to(logits.to(", BERNOULLI),
    Fault("Bernoulli: targets are read in another order than logits", "pygen/_layout.py", "None if t is None else t.permute(order) for t in tensors",
          "None if t is None else t.permute(order).reshape(first.permute(order).shape) if t is first else t.reshape(first.permute(order).shape) for t in tensors", BERNOULLI),
    Fault("Bernoulli, reference: softplus gives up the exponential", "pygen/reference/bernoulli_nll.py", "-F.logsigmoid(-y)", "F.softplus(y)", BERNOULLI),
    Fault("Bernoulli, Triton: padding counts as logits of 0", BERNOULLI_PY, "tl.where(mask, quick_exp_minus_abs(logit), 0.0)", "quick_exp_minus_abs(logit)", BERNOULLI_TRITON),
    Fault("Bernoulli, Triton: the product forgets the turns before", BERNOULLI_PY, "product = product * (1.0 + e) + e", "product = e", "tests/test_bernoulli_nll.py -k 'turns'"),
    Fault("Bernoulli, CUDA: threads past the last row are summed", BERNOULLI_CU, "if (!in.holds(u, i)) continue;", "", BERNOULLI_CUDA),
    Fault("Bernoulli, CUDA: one unit of x for all", BERNOULLI_CU, "targets[u].fetch(p, span[u]);", "targets[u].fetch(p, span[0]);", BERNOULLI_CUDA),
    Fault("Bernoulli, CUDA: bytes beyond the first chunk", BERNOULLI_CU, "out) + i * sizeof(Chunk), &chunk", "out), &chunk", BERNOULLI_CUDA),
    Fault("categorical: what is all but certain loses its digits", CATEGORICAL_H, "L::select(drawn == top, others, V((others - Real(1)) + own))", "(others - Real(1)) + own", CATEGORICAL),
    Fault("categorical, C++: one level too many is one", "csrc/cpu/categorical_nll_tile.h", "j < static_cast<Real>(rows)", "j <= static_cast<Real>(rows)", CATEGORICAL),
    Fault("categorical, C++: a later chunk's largest logit leaves the sum as it was", CATEGORICAL_CPP,
          "others[v] = others[v] * exp_minus_abs(V(before[v] - top[v]));", "others[v] = others[v] + V{};", CATEGORICAL),
    Fault("categorical, C++: the tail of a row counts", SOFTMAX_ROW_H, "std::fill_n(tile + j, kStep, -std::numeric_limits<Real>::infinity());", "", CATEGORICAL),
    Fault("categorical, C++: the drawn level's slope is that of another unit", CATEGORICAL_CPP, "select(drawn, slope[v], ", "select(drawn, slope[0], ", CATEGORICAL),
    Fault("categorical, C++: channels are levels apart", "csrc/cpu/categorical_nll_units.h", "strides(p.logits, p.levels * p.logits.channel)", "strides(p.logits, p.logits.channel)", CATEGORICAL),
    Fault("categorical, CUDA: lanes past the last unit count", CATEGORICAL_CU, "counts = unit.live && part == 0", "counts = part == 0", CATEGORICAL_CUDA),
    Fault("categorical, CUDA: a warp's sum is not brought to the largest logit", CATEGORICAL_CU, "sums[other * units + mine] * exp_term(tops[other * units + mine] - terms.top);", "sums[other * units + mine];", CATEGORICAL_CUDA),
    Fault("categorical, CUDA: the batch's tail counts as logits of 0", SOFTMAX_CU, ": -Acc(INFINITY);", ": Acc(0);", CATEGORICAL_CUDA),
    Fault("categorical, Triton: units past the last count", CATEGORICAL_PY, "tl.sum(tl.where(live, nll, 0.0), axis=0)", "tl.sum(nll, axis=0)", CATEGORICAL_TRITON),
    Fault("categorical, Triton: a later block's largest logit leaves the sum as it was", CATEGORICAL_PY, "others * tl.exp(before - top) + tl.sum(terms, axis=1)", "others + tl.sum(terms, axis=1)", CATEGORICAL_TRITON),
)  # fmt: skip
