"""Which kernel of kernels/ and csrc/ is executed where by `make test` on a machine without a GPU: writes docs/coverage.md.

tests/test_coverage.py checks that every kernel, found by its name in the sources, belongs to a stem of PLACES, and that the
tests named there exist.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERIC = ("tests/test_conformance.py", "tests/test_conformance_autograd.py")
HOST = ("tests/test_cuda_host.py",)


def _host(op: str) -> tuple[str, ...]:
    return (f"tests/test_cuda_host_{op}.py",)


# Stem of a kernel's name -> where the Triton, C++ and CUDA forms are executed.
PLACES: dict[str, dict[str, tuple[str, ...]]] = {
    "affine_coupling": {
        "triton": (*GENERIC, "tests/test_triton_affine_coupling.py"),
        "cpu": (*GENERIC, "tests/test_affine_coupling.py"),
        "cuda": _host("affine_coupling"),
    },
    "autoregressive_inverse": {
        "cpu": (
            "tests/test_masked_autoregressive.py",
            "tests/test_masked_autoregressive_calls.py",
            "tests/test_masked_autoregressive_spline.py",
        ),
        "cuda": _host("autoregressive_inverse"),
    },
    "dense": {"cuda": (*_host("autoregressive_inverse"), *_host("sampling_dense"))},
    "rational_quadratic_spline": {
        "triton": (*GENERIC, "tests/test_rational_quadratic_spline.py"),
        "cpu": (*GENERIC, "tests/test_rational_quadratic_spline.py"),
        "cuda": _host("rational_quadratic_spline"),
    },
    "reparameterize_kl": {"triton": (*GENERIC, "tests/test_triton_reparameterize_kl.py"), "cpu": GENERIC, "cuda": HOST},
    "gan_loss": {"triton": (*GENERIC, "tests/test_gan_loss.py"), "cpu": GENERIC, "cuda": _host("gan_loss")},
    "masked_conv2d": {
        "triton": (*GENERIC, "tests/test_masked_conv2d_kernels.py"),
        "cpu": GENERIC,
        "cuda": _host("masked_conv2d"),
    },
    "gated_masked_conv2d": {
        "triton": (*GENERIC, "tests/test_triton_gated_masked_conv2d.py"),
        "cpu": (*GENERIC, "tests/test_gated_masked_conv2d.py"),
        "cuda": _host("gated_masked_conv2d"),
    },
    "masked_conv2d_wgmma": {"cuda": ("tests/test_cuda_host_wgmma.py",)},
    "masked_conv2d_pack_tiles": {"cuda": ("tests/test_cuda_host_wgmma.py",)},
    "sample_dot": {"triton": GENERIC, "cpu": GENERIC, "cuda": HOST},
    "gated_activation": {"triton": GENERIC, "cpu": GENERIC, "cuda": _host("gated_activation")},
    "am_softmax": {
        "triton": (*GENERIC, "tests/test_am_softmax.py"),
        "cpu": (*GENERIC, "tests/test_am_softmax.py"),
        "cuda": _host("am_softmax"),
    },
    "categorical_nll": {
        "triton": (*GENERIC, "tests/test_triton_categorical_nll.py"),
        "cpu": (*GENERIC, "tests/test_categorical_nll.py"),
        "cuda": _host("categorical_nll"),
    },
    "logistic_mixture_sample": {
        "triton": ("tests/test_logistic_mixture_sample.py",),
        "cpu": ("tests/test_logistic_mixture_sample.py",),
        "cuda": _host("logistic_mixture_sample"),
    },
    "bernoulli_sample": {
        "triton": ("tests/test_bernoulli_sample.py",),
        "cpu": ("tests/test_bernoulli_sample.py",),
        "cuda": _host("bernoulli_sample"),
    },
    "categorical_sample": {
        "triton": ("tests/test_categorical_sample.py",),
        "cpu": ("tests/test_categorical_sample.py",),
        "cuda": _host("categorical_sample"),
    },
    "crf": {"triton": (*GENERIC, "tests/test_crf.py"), "cpu": (*GENERIC, "tests/test_crf.py"), "cuda": _host("crf")},
    "crf_sample": {
        "triton": ("tests/test_crf_sample.py",),
        "cpu": ("tests/test_crf_sample.py",),
        "cuda": _host("crf_sample"),
    },
    "logistic_mixture_nll": {
        "triton": (*GENERIC, "tests/test_triton_logistic_mixture_nll.py"),
        "cpu": (*GENERIC, "tests/test_logistic_mixture_nll.py"),
        "cuda": _host("logistic_mixture_nll"),
    },
    "nade_nll": {
        "triton": (*GENERIC, "tests/test_nade_nll.py", "tests/test_triton_nade_nll.py"),
        "cpu": (*GENERIC, "tests/test_nade_nll.py"),
        "cuda": _host("nade_nll"),
    },
    "vector_quantize": {
        "triton": (*GENERIC, "tests/test_vector_quantize.py"),
        "cpu": (*GENERIC, "tests/test_vector_quantize.py"),
        "cuda": _host("vector_quantize"),
    },
    "noise_contrastive": {
        "triton": (*GENERIC, "tests/test_noise_contrastive.py"),
        "cpu": (*GENERIC, "tests/test_noise_contrastive.py"),
        "cuda": _host("noise_contrastive"),
    },
    "noise_sample": {
        "triton": ("tests/test_noise_sample.py",),
        "cpu": ("tests/test_noise_sample.py",),
        "cuda": _host("noise_sample"),
    },
    "pixel_lstm": {
        "triton": GENERIC,
        "cpu": (*GENERIC, "tests/test_pixel_lstm.py"),
        "cuda": _host("pixel_lstm"),
    },
    "rbm": {
        "triton": (*GENERIC, "tests/test_rbm.py", "tests/test_rbm_gibbs.py"),
        "cpu": (*GENERIC, "tests/test_rbm.py", "tests/test_rbm_gibbs.py"),
        "cuda": _host("rbm"),
    },
    "bernoulli_nll": {
        "triton": (*GENERIC, "tests/test_bernoulli_nll.py"),
        "cpu": (*GENERIC, "tests/test_bernoulli_nll.py"),
        "cuda": _host("bernoulli_nll"),
    },
    "loss_sums": {"triton": GENERIC, "cuda": _host("logistic_mixture_nll")},
    "masked_linear": {
        "triton": (*GENERIC, "tests/test_triton_masked_linear.py"),
        "cpu": (*GENERIC, "tests/test_masked_linear.py"),
        "cuda": _host("masked_linear"),
    },
    "sampling": {
        "cpu": ("tests/test_sampling_cpu.py", "tests/test_sampling_made.py"),
        "triton": (),
        "cuda": _host("sampling"),
    },
    "sampling_scales": {"cuda": _host("sampling_scales")},
    "sampling_dense": {"cpu": ("tests/test_sampling_made.py",), "cuda": _host("sampling_dense")},
}
# What cannot be executed here, and why.
ABSENT = (
    "Code under `__CUDA_ARCH__` and PTX: the wide product of Philox, `mma.sync`, `cp.async`, `wgmma`, TMA. The host runs a "
    "stand-in of the same meaning; `make cuda-check` compiles them.",
    "Triton's compiled code: the interpreter runs the same source; `make cuda-check` compiles it for sm_80, 90 and 100. bf16 "
    "`tl.dot` is upcast by the interpreter.",
    "AVX-512 instructions where the processor has none: the 16-wide form runs over two AVX2 registers. NEON: `make arm-check`.",
    "Products of bfloat16 pairs (`*_pairs.cpp`) where the processor has none: what widens runs there.",
)


def kernels() -> list[tuple[str, str, str]]:
    """(name, kind, file) of each kernel in the sources."""
    found = []
    for path in sorted((ROOT / "kernels").glob("*.py")):
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(), re.MULTILINE):
            found.append((name, "triton", path))
    for path in sorted((ROOT / "csrc" / "cuda").glob("*.cu*")):
        for name in re.findall(r"__global__[^;{]*?\b(\w+_kernel)\s*\(", path.read_text()):
            found.append((name, "cuda", path))
    for path in sorted((ROOT / "csrc" / "cpu").glob("*.bind.h")):
        for name in sorted(set(re.findall(rf'"({path.name.split(".")[0]}_\w+)"', path.read_text()))):
            found.append((name, "cpu", path))
    return [(name, kind, path.relative_to(ROOT).as_posix()) for name, kind, path in found]


def stem(name: str) -> str | None:
    return next((s for s in sorted(PLACES, key=len, reverse=True) if s in name or s.replace("ing", "e") in name), None)


def report() -> str:
    lines = [
        "# Where each kernel is executed without a GPU",
        "",
        "Written by `make coverage` (tools/coverage_list.py). Every dtype, layout and option of a stem's row (tests/rows/)",
        "runs through each.",
        "",
        "| kernel | kind | file | executed by |",
        "| --- | --- | --- | --- |",
    ]
    for name, kind, path in kernels():
        places = PLACES[stem(name) or ""][kind]
        lines.append(f"| {name} | {kind} | {path} | {', '.join(places) or 'nowhere yet'} |")
    lines += ["", "Not executed:", "", *(f"- {text}" for text in ABSENT)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(report())
    (ROOT / "docs" / "coverage.md").write_text(report())
