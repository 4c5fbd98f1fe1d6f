"""Planted faults of RBM: its kernels and its model."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

RBM = "tests/test_rbm.py tests/test_rbm_gibbs.py -k 'not triton'"
RBM_TRITON = "tests/test_rbm.py tests/test_rbm_gibbs.py -k triton"
RBM_CUDA = "tests/test_cuda_host_rbm.py"
RBM_MODEL = "tests/test_rbm_model.py"
RBM_SHORT = "tests/test_rbm_model.py tests/test_rbm.py -k 'plain and not triton'"
RBM_GIBBS = "pygen/ops/rbm_gibbs.py"
RBM_CPP = "csrc/cpu/rbm.cpp"
RBM_LAYER = "csrc/cpu/rbm_layer.h"
RBM_CU = "csrc/cuda/rbm.cuh"
RBM_PY = "kernels/rbm.py"

FAULTS = (
    Fault("RBM: a unit takes the chance of being 0", "csrc/common/rbm.h", "return u * (1.0f + e) <= sigmoid_numerator(y, e);", "return u * (1.0f + e) <= sigmoid_numerator(V(-y), e);", RBM),
    Fault("RBM: all half steps have one noise", "csrc/common/rbm.h", "(static_cast<uint64_t>(half) << 32) + static_cast<uint64_t>(unit) / 4", "static_cast<uint64_t>(unit) / 4 + 0 * half", RBM),
    Fault("RBM, C++: a block's images have the noise of the first block's", RBM_CPP, "static_cast<uint32_t>(half), first + i,", "static_cast<uint32_t>(half), i,", RBM),
    Fault("RBM, C++: later units repeat the noise of the first ones", RBM_CPP, "rbm_counter(start, half)", "rbm_counter(0, half)", RBM),
    Fault("RBM, C++: a source counts where the tile's first image has it", RBM_LAYER, "any |= to[r] != 0;", "any |= r == 0 && to[r] != 0;", RBM),
    Fault("RBM, C++: energies leave out what is 0", RBM_CPP, "sum_layer<false>(hidden, v", "sum_layer<true>(hidden, v", RBM),
    Fault("RBM, C++: the temperature is 1", RBM_CPP, "load<W>(sums + start + j) * inverse;", "load<W>(sums + start + j) * Real(1);", RBM),
    Fault("RBM, C++: what is known holds at the end alone", RBM_CPP, "state[i] = known[i] ? v[i] : state[i];", "state[i] = known[i] && step + 1 == draws.steps ? v[i] : state[i];", RBM),
    Fault("RBM, C++: Ctrl-C waits for the chain's end", RBM_CPP, "step < draws.steps && !draws.interrupt->stop();", "step < draws.steps;",
          "tests/test_process.py -k gibbs"),
    Fault("C++: a call whose handler goes on is stopped again and again", "csrc/cpu/interrupt.bind.h", "    ignored_ = true;\n", "",
          "tests/test_process.py -k handler"),
    Fault("RBM: v's levels are looked at when the seed has been drawn", RBM_GIBBS, "        check_values(_OP, tensors[0])\n", "", RBM),
    Fault("RBM: what is known keeps its gradient", RBM_GIBBS, "with torch.no_grad():", "with torch.enable_grad():", RBM),
    Fault("RBM: traced hidden units have the weight's dtype", RBM_GIBBS, "v.new_empty((v.shape[0], weight.shape[0]))", "weight.new_empty((v.shape[0], weight.shape[0]))",
          "tests/test_conformance_compile.py -k 'opcheck and rbm'"),
    Fault("RBM, C++: a run of softplus is left out", RBM_CPP, "total += sum_lanes(V(run.take() + positive));", "total += sum_lanes(positive);", RBM),
    Fault("RBM's short way: a negated tensor is read as it lies", "csrc/cpu/rbm.bind.h", "if (is_negated(args[i])) Py_RETURN_NONE;", "", RBM_SHORT),
    Fault("RBM's short way: the batch's size is forgotten", "pygen/ops/_rbm_common.py", "-number / len(units) if", "-number if", RBM_SHORT),
    Fault("RBM's short way: what was replaced is read", "pygen/ops/_rbm_common.py", "        check_kinds(given, expected)\n", "", RBM_SHORT),
    Fault("RBM's short way: a graph of the backward has no second order", "pygen/ops/_rbm_common.py", "            and not torch.is_grad_enabled()\n", "", RBM_SHORT),
    Fault("RBM, CUDA: units beyond the last count", RBM_CU, "if (column >= place.n_live || image >= p.product.pixels) {\n        sum = 0;", "if (image >= p.product.pixels) {\n        sum = 0;", RBM_CUDA),
    Fault("RBM, CUDA: tiles of units share their noise", RBM_CU, "rbm_counter(place.n_first + first, p.half)", "rbm_counter(first, p.half)", RBM_CUDA),
    Fault("RBM, CUDA: what is known is drawn", RBM_CU, "if (p.known != nullptr && p.known[image * p.product.n + unit])", "if (p.known != nullptr && p.known[image * p.product.n + unit] && p.half == 0)", RBM_CUDA),
    Fault("RBM, CUDA: only the first threads of a row add", RBM_CU, "for (int mask = 1; mask < Tr::kPerRow; mask *= 2)", "for (int mask = 1; mask < Tr::kPerRow / 2; mask *= 2)", RBM_CUDA),
    Fault("RBM, Triton: units beyond the last count", RBM_PY, "tl.where((n < n_size)[None, :], relu(a) + log1p_unit(e), 0.0)", "relu(a) + log1p_unit(e)", RBM_TRITON),
    Fault("RBM, Triton: a NaN is a one", RBM_PY, "on & (y == y)", "on | (y != y)", RBM_TRITON),
    Fault("RBM, Triton: tiles of units share their noise", RBM_PY, "(first // 4 + tl.arange(0, BLOCK_N // 4))", "tl.arange(0, BLOCK_N // 4)", RBM_TRITON),
    Fault("RBM: the mean's gradient is the sum's", "pygen/ops/_reduction.py", '(grad / n if reduction == "batchmean" else grad)', "grad", RBM),
    Fault("RBM: chains that persist begin anew", "pygen/models/rbm.py", "start = self.chains if len(self.chains) else data", "start = data", RBM_MODEL),
    Fault("RBM: annealing forgets the first chances", "pygen/models/_partition.py", "_softplus(b.double().unsqueeze(0))[0] + len(w)", "w.shape[1] * math.log(2) + len(w)", RBM_MODEL),
    Fault("RBM: annealing weighs after it moves", "pygen/models/_partition.py", "log_weight += _softplus(beta * a) - _softplus(before * a)", "log_weight += _softplus(beta * a) - _softplus(beta * a)", RBM_MODEL),
)  # fmt: skip
