"""Planted faults of am_softmax."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import SOFTMAX_ROW_H, STRAY, Fault

AM_SOFTMAX = "tests/test_am_softmax.py -k 'not Triton'"
AM_SOFTMAX_OP = "pygen/ops/_am_softmax.py"
AM_SOFTMAX_CPP = "csrc/cpu/am_softmax.cpp"
AM_SOFTMAX_CU = "csrc/cuda/am_softmax.cuh"
AM_SOFTMAX_PY = "kernels/am_softmax.py"
AM_SOFTMAX_CUDA = "tests/test_cuda_host_am_softmax.py"
AM_SOFTMAX_TRITON = "tests/test_am_softmax.py -k Triton"

FAULTS = (
    Fault("AM-Softmax, C++: the largest logit is taken before the margin", AM_SOFTMAX_CPP, "products[target] = -std::numeric_limits<Real>::infinity();", "",
          "tests/test_conformance.py -k 'accurate and cpu and float32 and am_softmax'"),
    Fault("AM-Softmax, C++: a target of a later tile is looked for in the first", AM_SOFTMAX_CPP, "tile[target - first] = logit", "tile[target % count] = logit", AM_SOFTMAX),
    Fault("AM-Softmax, C++: a later tile's sum is not brought to the largest logit", SOFTMAX_ROW_H, "others * exp_minus_abs(Real(before - top)) + exponentials", "others + exponentials", AM_SOFTMAX),
    Fault("AM-Softmax, C++: vectors without a direction lose one", AM_SOFTMAX_CPP, "!(norm <= static_cast<Real>(p.least))", "true", AM_SOFTMAX),
    Fault("AM-Softmax: every part of the samples begins the weights' gradient anew", AM_SOFTMAX_OP, "grad_w = by.grad_w(grad_w, grads, (x if", "grad_w = by.grad_w(None, grads, (x if", AM_SOFTMAX),
    Fault("AM-Softmax: backward runs on the backend asked for by then", "pygen/ops/am_softmax.py", "name = _dispatch.resolve(_OP, name, input.device.type)  #", "#", "tests/test_conformance_autograd.py -k 'backend_of_forward and am_softmax'"),
    Fault("AM-Softmax: a wider angle's gradient is that of the cosine itself", AM_SOFTMAX_OP, "grads[at] *= slopes.to(grads.dtype)", "grads[at] *= 1", AM_SOFTMAX),
    Fault("AM-Softmax: a wider angle is forgotten", AM_SOFTMAX_OP, "products[at] = cosines / lengths", "cosines / lengths", AM_SOFTMAX),
    Fault("AM-Softmax: an angle past pi has the cosine of a smaller one", "pygen/reference/am_softmax.py", "past = cosine <= -along", "past = cosine < -2.0", AM_SOFTMAX),
    Fault("AM-Softmax: cosines beyond 1 by rounding have no sine", "pygen/reference/am_softmax.py", "square.clamp_min(_LEAST_SINE).sqrt()", "square.sqrt()", AM_SOFTMAX),
    Fault("AM-Softmax: float16 has room for 1 / |x|", AM_SOFTMAX_OP, "if x.dtype == torch.float16 else None", "if False else None", AM_SOFTMAX_CUDA),
    Fault("AM-Softmax: a run's part of a sample's gradient takes the place of those before", "pygen/ops/_products.py", "to += part", "to.copy_(part)", AM_SOFTMAX),
    Fault("AM-Softmax: what forward held is handed out twice", "pygen/ops/am_softmax.py", "ready, ctx.ready = ctx.ready, ()", "ready = ctx.ready", AM_SOFTMAX),
    Fault("AM-Softmax, CUDA: a warp's sum is not brought to the largest logit", "csrc/cuda/softmax_terms.cuh", "sums[warp] * exp_term(tops[warp] - terms.top)", "sums[warp]", AM_SOFTMAX_CUDA),
    Fault("AM-Softmax, CUDA: the target keeps its margin", AM_SOFTMAX_CU, "j == target ? scaled - shift : scaled", "j == target ? scaled - 0 * shift : scaled", AM_SOFTMAX_CUDA),
    Fault("AM-Softmax, CUDA: rows past the last are changed", AM_SOFTMAX_CU, "if (row >= p.rows) return;", "", f"{STRAY} am_softmax"),
    Fault("AM-Softmax, Triton: lanes keep their own largest logit", AM_SOFTMAX_PY, "tl.sum(sums * tl.exp(tops - top), axis=0)", "tl.sum(sums, axis=0)", AM_SOFTMAX_TRITON),
    Fault("AM-Softmax, Triton: features past the first block are not counted", AM_SOFTMAX_PY, "        sums += grad * tl.load", "        sums = grad * tl.load", AM_SOFTMAX_TRITON),
)  # fmt: skip
