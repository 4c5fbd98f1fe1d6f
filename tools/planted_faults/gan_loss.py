"""Planted faults of GAN losses, their short ways and gradient penalties."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault, conformance

GAN = conformance("discriminator_loss or generator_loss or gan", "not triton", "tests/test_gan_loss.py")
GAN_TRITON = conformance("discriminator_loss or generator_loss or gan", "triton", "tests/test_gan_loss.py")
GAN_ERRORS = "tests/test_conformance_errors.py tests/test_gan_loss.py -k '(discriminator_loss or generator_loss or gan) and not triton'"
GAN_CPP = "csrc/cpu/gan_loss.cpp"
GAN_PY = "kernels/_gan.py"
GAN_OP = "pygen/ops/gan_loss.py"
GAN_SHORT = "pygen/ops/_gan_common.py"
PLAIN = "csrc/cpu/plain.h"
GAN_COMMON = "tests/test_gan_loss_common.py"
GAN_HOST = "tests/test_cuda_host_gan_loss.py -k made_in_forward"

FAULTS = (
    Fault("GAN, Triton: padding counts as logits", "kernels/gan_loss.py",
          "tl.store(partial_ptr + program, tl.sum(tl.where(mask, value, 0.0), axis=0))",
          "tl.store(partial_ptr + program, tl.sum(value, axis=0))", GAN_TRITON),
    Fault("GAN, C++: the last block is a block too short", GAN_CPP, "(s.numel + kBlock - 1) / kBlock", "s.numel / kBlock + (s.numel < kBlock)",
          GAN),
    Fault("GAN: hinge has slope 1 on the tie", "csrc/common/gan_loss.h", "select(y + Real(1) <= Real(0), V{}", "select(y + Real(1) < Real(0), V{}", GAN),
    Fault("GAN, Triton: hinge has slope 1 on the tie", GAN_PY, "tl.where(y + 1.0 <= 0.0, 0.0, 1.0)", "tl.where(y + 1.0 < 0.0, 0.0, 1.0)", GAN_TRITON),
    Fault("GAN: label smoothing of the fakes too", "pygen/_gan_terms.py", "fake = Side(form, 1.0, 0.0, 1.0, 0.5 if square else 0.0)",
          "fake = Side(on_real, 1.0, label_smoothing if on_real[0] == 's' else 0.0, 1.0, 0.5 if square else 0.0)", GAN),
    Fault("GAN: nonsaturating is minimax", "pygen/_gan_terms.py", '"nonsaturating": Side("softplus", -1.0, 0.0, 1.0, 0.0)',
          '"nonsaturating": Side("softplus", 1.0, 0.0, -1.0, 0.0)', GAN),
    Fault("GAN: relativistic_average detaches the means", GAN_CPP,
          "return static_cast<Real>(-o.sign * o.weight * slopes / static_cast<double>(s.numel));", "return 0;", GAN),
    Fault("GAN: the other side's gradient keeps its sign", GAN_CPP, "other[j] = -grad[j];", "other[j] = grad[j];", GAN),
    Fault("GAN: scale is ignored", GAN_OP, 'options = (kind, "generator", 0.0, float(scale), reduction, False)',
          'options = (kind, "generator", 0.0, 1.0, reduction, False)', GAN),
    Fault("GAN: smoothing above 1/2 is taken", "pygen/ops/_gan_checks.py", "if not 0 <= label_smoothing < 0.5:", "if not 0 <= label_smoothing <= 0.5:",
          GAN_ERRORS),
    Fault("GAN: an accuracy counts the boundary", "csrc/cpu/gan_loss_block.h", "Lanes<V>::select(y < c.limit,", "Lanes<V>::select(y <= c.limit,", GAN),
    Fault("GAN: counts of the two sides are mixed", "csrc/cpu/gan_loss.cpp", "totals[segment.side] += sums.x / n;",
          "totals[segment.side] += sums.x / static_cast<double>(p.segments[0].numel);", GAN),
    Fault("softplus without the logarithm's part", "csrc/cpu/gan_loss_block.h", "if constexpr (uses_exp(kForm)) run_value += log.take();",
          "if constexpr (uses_exp(kForm)) run_value += log.take() * Real(0.999);", GAN),
    Fault("gradient penalty: one norm for the batch", "pygen/ops/gradient_penalty.py", "squared = sample_dot(grad, backend=backend)",
          "squared = sample_dot(grad, backend=backend).mean().expand(len(grad))", "tests/test_gradient_penalty.py"),
    Fault("sample_dot's short way: the norm's gradient lacks its 2", "csrc/cpu/sample_dot.bind.h", "p.twice = kScale && args[4] == Py_True;", "", "tests/test_sample_dot.py tests/test_gradient_penalty.py"),
    Fault("sample_dot's short way: a negated tensor is read as it lies", "csrc/cpu/sample_dot.bind.h", "x.ndim < 1 || is_negated(args[0])", "x.ndim < 1", "tests/test_sample_dot.py"),
    Fault("sample_dot's short way: shapes need not be the same", "csrc/cpu/sample_dot.bind.h", "!std::equal(x.shape, x.shape + x.ndim, y.shape) || ", "", "tests/test_sample_dot.py tests/test_conformance_errors.py -k sample_dot"),
    Fault("gradient penalty: the norm's gradient lacks its 2", "pygen/ops/sample_dot.py", "_scale(launcher, 2 * grad, x, backend), None",
          "_scale(launcher, grad, x, backend), None", "tests/test_gradient_penalty.py"),
    Fault("GAN: a gradient is handed out twice", "pygen/ops/_gan_autograd.py", "made = ready.pop()", "made = ready[0]",
          "tests/test_gan_loss_gradients.py"),
    Fault("GAN, CUDA: what forward made stays whatever the upstream gradient", "csrc/cuda/gan_loss.cuh", "if (p.made && g == 1.0) return;",
          "if (p.made) return;", GAN_HOST),
    Fault("GAN, CUDA: what forward made is made anew of 1 too", "csrc/cuda/gan_loss.cuh", "if (p.made && g == 1.0) return;", "", GAN_HOST),
    Fault("GAN, CUDA: forward's gradient lacks the weight", "csrc/cuda/gan_loss.cuh", "const Acc factor = static_cast<Acc>(s.weight * side.sign);",
          "const Acc factor = static_cast<Acc>(side.sign);", GAN_HOST),
    Fault("GAN, CUDA: zeros of forward's gradient keep their signs", "csrc/cuda/gan_loss.cuh", "factor, Acc(1), Acc(0));", "factor, Acc(1), Acc(-0.0));", GAN_HOST),
    Fault("GAN, Triton: what forward made stays whatever the upstream gradient", "kernels/gan_loss.py", "        if g == 1.0:\n            return\n",
          "        return\n", "tests/test_gan_loss_gradients.py -k riton"),
    Fault("GAN, Triton: the other side's gradient made in forward keeps its sign", "kernels/gan_loss.py",
          "cast(-grad, other_grad_ptrs[i].dtype.element_ty), mask=mask\n                            )",
          "cast(grad, other_grad_ptrs[i].dtype.element_ty), mask=mask\n                            )",
          "tests/test_gan_loss_gradients.py -k riton"),
    Fault("GAN: float16's gradients are made in forward on a GPU", "pygen/_gan_terms.py", 'other != "mean" and dtype is not torch.float16', 'other != "mean"',
          "tests/test_gan_loss_gradients.py -k riton"),
    Fault("GAN's short way: any upstream gradient is 1", GAN_SHORT, "native.scaled(ready.pop(), factor, upstream.dtype)", "native.scaled(ready.pop(), 1.0, upstream.dtype)", GAN_COMMON),
    Fault("GAN's short way: changed logits go unnoticed", GAN_SHORT, "ctx.save_for_backward(*logits)", "ctx.save_for_backward(*[t.detach().clone() for t in logits])", GAN_COMMON),
    Fault("GAN's short way: True is a factor", GAN_SHORT, "maxsize=256, typed=True)", "maxsize=256, typed=False)", GAN_COMMON),
    Fault("GAN's short way: hooks on saved tensors get none", GAN_SHORT, "or _dispatch.saved_tensor_hooks_active():", "or False:", GAN_COMMON),
    Fault("GAN's short way: slopes in 16 bits", GAN_SHORT, "(plan.averages and fake.element_size() < 4) or", "", GAN_COMMON),
    Fault("GAN's short way: modes and transforms do not see the call", GAN_SHORT, "or not _dispatch.nothing_intercepts()", "", GAN_COMMON),
    Fault("GAN's short way: another backend was chosen", GAN_SHORT, 'or (backend is None and _dispatch.resolve(op, _dispatch.AUTO, "cpu") != "cpu")', "", GAN_COMMON),
    Fault("GAN's short way: a generator's real logits pass", GAN_SHORT, "or (real is not None) != plan.num_real", "", GAN_COMMON),
    Fault("GAN's short way: the second order is recorded as the first", GAN_SHORT, "and not torch.is_grad_enabled()\n", "", GAN_COMMON),
    Fault("short ways: negated views are read as they lie", PLAIN, "read_plain(tensors[0], &first) && !is_negated(tensors[0]);", "read_plain(tensors[0], &first);", GAN_COMMON),
    Fault("short ways: the second tensor may be negated", PLAIN, "other.dtype == first.dtype && !is_negated(tensors[i]);", "other.dtype == first.dtype;", GAN_COMMON),
    Fault("short ways: strides are ignored", PLAIN, "if (d->shape[i] != 1 && d->strides && d->strides[i] != *numel) return false;", "", GAN_COMMON),
    Fault("short ways: subclasses pass", PLAIN, "if ((type != torch.tensor && type != torch.parameter) || !torch.describe)", "if (!torch.describe)", GAN_COMMON),
    Fault("short ways: an upstream gradient may be negated", PLAIN, "t.numel != 1 || is_negated(tensors[0])", "t.numel != 1", GAN_COMMON),
    Fault("gradient penalty: sqrt at 0", "pygen/ops/gradient_penalty.py", "norm = torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)",
          "norm = squared.sqrt()", "tests/test_gradient_penalty.py"),
)  # fmt: skip
