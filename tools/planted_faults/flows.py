"""Planted faults of affine_coupling, rational_quadratic_spline and the flows."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import LOGISTIC, LOGISTIC_H, RACES, Fault

COUPLING = "tests/test_conformance.py tests/test_affine_coupling.py -k 'affine_coupling and not triton'"
COUPLING_CUDA = "tests/test_cuda_host_affine_coupling.py"
COUPLING_TRITON = "tests/test_triton_affine_coupling.py"
COUPLING_H = "csrc/common/affine_coupling.h"
COUPLING_CPP = "csrc/cpu/affine_coupling.cpp"
COUPLING_CU = "csrc/cuda/affine_coupling.cuh"
COUPLING_PY = "kernels/affine_coupling.py"
INVERSE = "tests/test_masked_autoregressive.py tests/test_masked_autoregressive_calls.py"
INVERSE_CUDA = "tests/test_cuda_host_autoregressive_inverse.py"
INVERSE_CPP = "csrc/cpu/autoregressive_inverse.cpp"
INVERSE_CU = "csrc/cuda/autoregressive_inverse.cu"
INVERSE_OP = "pygen/ops/_autoregressive_inverse.py"
INVERSE_RULES = "pygen/ops/_autoregressive_rules.py"
INVERSE_REFERENCE = "pygen/reference/autoregressive_inverse.py"
DENSE_CU = "csrc/cuda/dense_network.cuh"
DENSE_PARTS = "csrc/cuda/dense_network_parts.cuh"
SPLINE = (
    "tests/test_rational_quadratic_spline.py tests/test_conformance.py -k 'rational_quadratic_spline and not triton'"
)
SPLINE_CUDA = "tests/test_cuda_host_rational_quadratic_spline.py"
SPLINE_TRITON = (
    "tests/test_rational_quadratic_spline.py tests/test_conformance.py -k 'rational_quadratic_spline and triton'"
)
SPLINE_H = "csrc/common/rational_quadratic_spline.h"
SPLINE_CPP = "csrc/cpu/rational_quadratic_spline.cpp"
SPLINE_TILE = "csrc/cpu/rational_quadratic_spline_tile.h"
SPLINE_CU = "csrc/cuda/rational_quadratic_spline.cuh"
SPLINE_PY = "kernels/rational_quadratic_spline.py"

FAULTS = (
    Fault("logistic mixture: the near edge underflows to 0 / 0", LOGISTIC_H, "V near = L::at_least(quick_exp_minus_abs(beyond), Least<Real>::kEdge);", "V near = quick_exp_minus_abs(beyond);", LOGISTIC),
    Fault("coupling: 0 times infinity at extreme scales", COUPLING_H, "L::at_most(f * 0.5f, 88.0f)", "L::at_most(f * 0.5f, 880.0f)", COUPLING),
    Fault("coupling: a small bounded scale cancels", COUPLING_H, "L::select(x < 0.35f, V(p * (z * a) + a), far)", "far", COUPLING),
    Fault("coupling, C++: a large bound takes the short exponential", COUPLING_H, "kCouplingNear = 40;", "kCouplingNear = 400;", COUPLING),
    Fault("coupling: the inverse's log-determinant has the gradient of forward's", COUPLING_H, "grad_s = (kInverse ? V(-total) : total) * f.slope;", "grad_s = total * f.slope;", COUPLING),
    Fault("coupling: sigmoid's slope is that of positive numbers", COUPLING_H, "L::select(negative, one, e) / total", "e / total", COUPLING),
    Fault("coupling, C++: a share of a long sample's rest is not copied", "csrc/cpu/coupling_blocks.h", "row * rest.count + rest.count * (part + 1) / parts", "row * rest.count + rest.count * part / parts", COUPLING),
    Fault("coupling, C++: every sample's board begins where the first one's block does", COUPLING_CPP, "p_.live.count % period_ == 0)", "true)", COUPLING),
    Fault("coupling, C++: of pairs the first is always transformed", COUPLING_CPP, "live_first = a < b;", "live_first = true;", COUPLING),
    Fault("coupling, C++: what is infinite is multiplied by no gradient", COUPLING_CPP, "{alone ? &none : &p.input,", "{&p.input,", COUPLING),
    Fault("coupling: rows of a board merge whatever their parity", "pygen/_coupling.py", "(weight - inner_weight * inner) % 2 == 0", "inner_weight * inner >= 0", COUPLING),
    Fault("coupling, reference: NaN of passing places leaks", "pygen/reference/affine_coupling.py", "return torch.where(live, t, torch.zeros((), dtype=t.dtype, device=t.device))", "return t", COUPLING),
    Fault("coupling: without a mask a half passes", "pygen/ops/affine_coupling.py", '"all" if mask is None else mask, flip, scale', '"channel" if mask is None else mask, flip, scale', COUPLING),
    Fault("coupling, reference: without a mask the even indices pass", "pygen/reference/affine_coupling.py", 'if mask == "all":', "if False:", COUPLING),
    Fault("coupling: two gradients are taken for one that lies together", "pygen/ops/_halves.py", "second.storage_offset() - first.storage_offset() == first.shape[1] * first.stride(1) > 0", "True", "tests/test_flows.py"),
    Fault("spline: a bin has the next one's slope on its left", SPLINE_H, "L::select(past, raw0, b.raw0);", "L::select(past, raw1, b.raw0);", SPLINE),
    Fault("spline: the ends of linear tails have slopes of parameters", SPLINE_H, "b.index == (c.linear ? Real(0) : never)", "b.index == never", SPLINE),
    Fault("spline: bins are left as narrow as rounding makes them", SPLINE_H, "b.stretch[0] = (c.high - (left + (share[0] * x + c.least[0]))) * c.over_range;", "", SPLINE),
    Fault("spline: the inverse's gradient is not divided by its slope", SPLINE_H, "/ (p.s * slope_over);", "* (p.s * slope_over);", SPLINE),
    Fault("spline: outputs leave the bound by rounding", SPLINE_H, "out = L::at_most(V(L::at_least(out, c.low)), c.high);", "", SPLINE),
    Fault("spline, C++: NaN of params outside leaks into gradients", "csrc/cpu/rational_quadratic_spline_compute.h", "L::select(inside, V(share[axis] * e(axis, k) * mine), V{})", "V(share[axis] * e(axis, k) * mine)", SPLINE),
    Fault("spline, C++: a tile's end loses its logarithms", SPLINE_CPP, "if (!kBackward) std::copy_n(s.tile_log, count, s.log + at + i);", "", SPLINE),
    Fault("spline, C++: the last square of numbers begins past them", SPLINE_TILE, "k + 4 <= numbers ? k : numbers - 4", "k", SPLINE),
    Fault("spline: the gradient of a softmax is not centred", SPLINE_H, "-(start * b.before[axis] + size * b.own[axis])};", "V{}};", SPLINE),
    Fault("spline: the inverse's left knot moves what lies in the bin", SPLINE_H, "    out.start[0] = g;\n    g = -out.input;", "    out.start[0] = -out.input;\n    g = -out.input;", SPLINE),
    Fault("spline: bins after the one are counted from the first", SPLINE_H, "L::select(past, V{}, V(b.after[0] + x))", "V(b.after[0] + x)", SPLINE),
    Fault("spline, reference: NaN of params outside leaks", "pygen/reference/rational_quadratic_spline.py", "params = torch.where(inside.unsqueeze(2), params, zero)", "params = params + zero", SPLINE),
    Fault("spline, CUDA: gradients outside are not written", SPLINE_CU, "for (int k = 0; k < c.numbers(); ++k) numbers.put", "for (int k = 1; k < c.numbers(); ++k) numbers.put", SPLINE_CUDA),
    Fault("spline, CUDA: a warp copies another lane's numbers", "csrc/cuda/rational_quadratic_spline_numbers.cuh", "__shfl_sync(0xffffffffu, at, first + i)", "__shfl_sync(0xffffffffu, at, first + (i ^ 1))", SPLINE_CUDA),
    Fault("spline, CUDA: numbers past the first 32 are not copied", "csrc/cuda/rational_quadratic_spline_numbers.cuh", "    for (int k = lane; k - lane < numbers; k += 32) {\n      for (int first = 0; first < 32; first += kAtOnce) {\n        Acc got", "    for (int k = lane; k - lane < 32; k += 32) {\n      for (int first = 0; first < 32; first += kAtOnce) {\n        Acc got", SPLINE_CUDA),
    Fault("spline, CUDA: the slopes' gradients are one knot off", SPLINE_CU, "static_cast<int>(bin.index) - (c.linear ? 1 : 0)", "static_cast<int>(bin.index)", SPLINE_CUDA),
    Fault("spline, Triton: a reciprocal as a GPU approximates it", SPLINE_PY, "quotient(tl.zeros_like(v) + 1.0, of[1])", "1.0 / of[1]", "tests/test_gpu_arithmetic.py"),
    Fault("spline, Triton: places past the end count", SPLINE_PY, "tl.sum(tl.where(mask, log, 0.0), axis=1)", "tl.sum(log, axis=1)", SPLINE_TRITON),
    Fault("coupling, CUDA: elements past a line's end count", COUPLING_CU, "live && k < at.count ? log : Acc(0)", "live ? log : Acc(0)", COUPLING_CUDA),
    Fault("coupling, CUDA: a unit has one parity", COUPLING_CU, "(at.inner + k) * p.weights[2]", "at.inner * p.weights[2]", COUPLING_CUDA),
    Fault("coupling, Triton: passing places count", COUPLING_PY, "mask & live if PARITY else mask, -f", "mask, -f", COUPLING_TRITON),
    Fault("coupling, Triton: each program writes the first one's sum", COUPLING_PY, "partial_ptr + row * tiles + part", "partial_ptr + row * tiles", COUPLING_TRITON),
    Fault("NICE: the scale's log-determinant is left out", "pygen/models/nice.py", "return h * torch.exp(self.log_scale), self._log_det(h)", "return h * torch.exp(self.log_scale), 0 * self._log_det(h)", "tests/test_flows.py"),
    Fault("flows: levels count in their own scale", "pygen/models/_flow.py", "math.log(2 / self.num_levels) * math.prod(x.shape[1:])", "math.log(2 / self.num_levels)", "tests/test_flows.py"),
    Fault("autoregressive inverse, C++: log_det has the other sign", INVERSE_CPP, "p.log_det[image] -= f.log;", "p.log_det[image] += f.log;", INVERSE),
    Fault("autoregressive inverse, C++: log_det begins with what memory holds", INVERSE_CPP, "  std::fill_n(p.log_det, p.network.batch, 0.0);\n", "", INVERSE),
    Fault("autoregressive inverse, C++: a block's samples have the first ones' conditions", "csrc/cpu/dense_worker.h", "+ first_ * given.added_pitch + block.first", "+ block.first", INVERSE),
    Fault("autoregressive inverse, C++: gradients pass other units", INVERSE_CPP, "slopes[order[units.first + i]]", "slopes[units.first + i]", INVERSE),
    Fault("autoregressive inverse, C++: log_det's gradient is forgotten", INVERSE_CPP, "slope[k] * solved + offset[k];", "slope[k] * solved;", INVERSE),
    Fault("autoregressive inverse, C++: e^-f is its root", INVERSE_CPP, "solved * numbers(p.root)[at] * numbers(p.root)[at]", "solved * numbers(p.root)[at]", INVERSE),
    Fault("autoregressive inverse: units of cond alone add nothing", INVERSE_OP, "bias = torch.addmm(bias, constant, weight[:, : before.start].T)", "bias = bias.expand(len(constant), -1)", INVERSE),
    Fault("autoregressive inverse: gradients of weights have the other sign", INVERSE_RULES, "-torch.cat((v, slope * v + offset), 1)", "torch.cat((v, slope * v + offset), 1)", INVERSE),
    Fault("autoregressive inverse: the second order stops", "pygen/ops/autoregressive_inverse.py", "elif torch.is_grad_enabled() or _dispatch.transformed(*grads):", "elif _dispatch.transformed(*grads):", INVERSE),
    Fault("autoregressive inverse: autocast narrows what cond adds", "pygen/nn/_autoregressive.py", "with without_autocast(y):", "if True:", INVERSE),
    Fault("autoregressive inverse: forward hooks are not called", "pygen/nn/_autoregressive.py", "and not (layer._forward_hooks or", "and not (False and layer._forward_hooks or", INVERSE),
    Fault("autoregressive inverse: a hidden unit's gradient passes zeros", INVERSE_REFERENCE, "(value > 0).to(x.dtype)", "(value >= 0).to(x.dtype)", INVERSE),
    Fault("autoregressive inverse: under compile, degrees begin too late", "pygen/ops/autoregressive_inverse.py", "flat[end - size : end]", "flat[end - size + (end > size) : end + (end > size)]", INVERSE),
    Fault("autoregressive inverse, PyTorch: turns are not turned round", INVERSE_REFERENCE, "when = tuple(last - turn for turn in network.when)", "when = network.when", INVERSE),
    Fault("autoregressive inverse, PyTorch: a unit sees one source less", INVERSE_REFERENCE, "seen = bisect_right(self.degrees[layer], step)", "seen = bisect_left(self.degrees[layer], step)", INVERSE),
    Fault("autoregressive inverse, CUDA: all blocks have the first one's conditions", DENSE_PARTS, "p.added[(first_image + i) * p.added_pitch", "p.added[i * p.added_pitch", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: all blocks have the first one's gates", DENSE_CU, "p.rule.gates[(first + image) * p.act_size + at]", "p.rule.gates[image * p.act_size + at]", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: an input gives its first number twice", DENSE_CU, "l == 0 ? source - degree * p.sources : 0;", "0;", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: rows of shifts and scales lie side by side", "csrc/cuda/dense_network.cu", "unit % p.outs * p.row_step;", "unit % p.outs;", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: without panels an input gives one number", DENSE_CU, "for (int k = 0; k < block.p.sources; ++k) sources[k]", "for (int k = 0; k < 1; ++k) sources[k]", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: without panels gates are ignored", DENSE_CU, "*unit = block.p.rule.activate(image[sums + layer.sum + item % count], *unit);", "*unit = block.p.rule.activate(image[sums + layer.sum + item % count], T(1));", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: log_det's gradient is forgotten", INVERSE_CU, "step.scaled = step.slope * step.value + step.offset;", "step.scaled = step.slope * step.value;", INVERSE_CUDA),
    Fault("autoregressive inverse, CUDA: a gate is written over while others read it", DENSE_CU, "      if constexpr (Rule::kGated) __syncwarp();  // all lanes have read the gate\n", "", f"{RACES} autoregressive_inverse"),
    Fault("dense networks: tanh has no sign", "csrc/common/activation.h", "L::with_sign(V(-m / (m + Real(2))), x)", "V(-m / (m + Real(2)))", INVERSE),
    Fault("dense networks, C++: units past whole vectors keep their sums", "csrc/cpu/dense_worker.h", "  store(some, activated<kOf>(load<V>(some)));\n", "", INVERSE),
    Fault("autoregressive inverse: units of cond alone are ReLUs", INVERSE_OP, "reference.ACTIVATIONS[activation](torch.atleast_2d(bias)", "torch.relu(torch.atleast_2d(bias)", INVERSE),
    Fault("autoregressive inverse: the slope of silu is the sigmoid", INVERSE_REFERENCE, "return s * (1 + x * (1 - s))", "return s", INVERSE),
    Fault("autoregressive inverse, CUDA: gradients pass units as they are", INVERSE_CU, "gate == T(0) ? T(0) : sum * gate", "gate == T(0) ? T(0) : sum", INVERSE_CUDA),
    Fault("autoregressive splines, C++: a second tile has the first one's y", INVERSE_CPP, "(step.first + first) * plan.steps", "step.first * plan.steps", INVERSE),
    Fault("autoregressive splines, C++: log_det is the last number's", INVERSE_CPP, "p.log_det[step.first + first + i] += log[i];", "p.log_det[step.first + first + i] = log[i];", INVERSE),
    Fault("autoregressive splines, C++: without shifts the first gradient is v", INVERSE_CPP, "const bool first = plan.sources > p.factors;", "const bool first = true;", INVERSE),
    Fault("autoregressive splines: an input has every D-th number", INVERSE_RULES, "return outputs // inputs, 1", "return 1, inputs", INVERSE),
    Fault("autoregressive splines: log_det's gradient has the other sign", INVERSE_RULES, "back(None, -grad_log_det.to(y.dtype))", "back(None, grad_log_det.to(y.dtype))", INVERSE),
    Fault("autoregressive splines: the op forgets that zeros are the identity", INVERSE_RULES, "derivative, bool(identity))", "derivative, False)", INVERSE),
    Fault("autoregressive splines, PyTorch: the first gradient is v", INVERSE_REFERENCE, "if slope is None or net.sources > slope.shape[2]:", "if True:", INVERSE),
    Fault("autoregressive splines, CUDA: numbers past the lanes are not given", INVERSE_CU, "k < sources; k += 32) to[k]", "k < sources && k < 32; k += 32) to[k]", INVERSE_CUDA),
    Fault("autoregressive splines, CUDA: heights are subtracted from the widest, widths from the highest", INVERSE_CU, "(k < c.bins ? widest : highest)", "(k < c.bins ? highest : widest)", f"{INVERSE_CUDA} -k far_logits"),
    Fault("autoregressive splines, CUDA: outside the bound log_det is what was there", INVERSE_CU, "      step.log = step.value == step.value ? T(0) : step.value;\n", "      step.log = step.value;\n", INVERSE_CUDA),
    Fault("autoregressive splines, CUDA: logits are written over while others read them", INVERSE_CU, "    __syncwarp();  // all lanes have read the logits\n", "", f"{RACES} autoregressive_inverse"),
    Fault("autoregressive splines, CUDA: lanes go on before the exponentials are there", INVERSE_CU, "(k < c.bins ? widest : highest) - outputs[k]);\n    __syncwarp();\n", "(k < c.bins ? widest : highest) - outputs[k]);\n", f"{RACES} autoregressive_inverse"),
    Fault("dense networks, CUDA: sums go on before other warps have begun them", DENSE_CU, "      __syncthreads();  // others go on with what these warps began\n", "", f"{INVERSE_CUDA} -k last_bit"),
)  # fmt: skip
