"""Planted faults of noise: Philox, seeds, draws."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import KL_CUDA, Fault

NOISE = "tests/test_noise.py"
NOISE_TRITON = "tests/test_triton_noise.py"
SPECIAL = "tests/test_cuda_host_special.py"
GATE_TRITON = "tests/test_triton_gated_activation.py -k '16_bits or digits'"
NOISE_CU = "csrc/cuda/noise.cuh"
GATE_CU = "csrc/cuda/gate.cuh"
GATE_PY = "kernels/_gate.py"

FAULTS = (
    Fault("Philox: the counter's high word is dropped", "csrc/common/philox.h",
          "c[1] = static_cast<uint32_t>(q >> 32);", "c[1] = 0u;", NOISE),
    Fault("Philox: the SIMD counter is halved", "csrc/cpu/noise.h", "for (int g = 0; g < groups; ++g, q += kLanes) {",
          "for (int g = 0; g < groups; ++g, q += kLanes / 2) {", NOISE),
    Fault("Philox: the seed's high word is dropped", "csrc/cpu/noise.h", "(static_cast<uint32_t>(seed >> 32) + round * kPhiloxBump1)",
          "(round * kPhiloxBump1)", NOISE),
    Fault("Philox, Triton: the seed's high word is dropped", "kernels/_philox.py", "k1 = (key >> 32).to(tl.uint32)",
          "k1 = (key >> 31).to(tl.uint32)", NOISE_TRITON),
    Fault("Philox, Triton: nine rounds", "kernels/_philox.py", "for _ in tl.static_range(10):", "for _ in tl.static_range(9):", NOISE_TRITON),
    Fault("Triton: sine and cosine swapped", "kernels/_philox.py", "return radius * cosine, radius * sine",
          "return radius * sine, radius * cosine", NOISE_TRITON),
    Fault("the uniform may be 0", "csrc/cpu/noise.h", "return float_of_words(even, odd) * 0x1p-32f + 0x1p-33f;",
          "return float_of_words(even, odd) * 0x1p-32f;", NOISE),
    Fault("CUDA: every unit has the noise of the first", "csrc/cuda/noise.cuh", "static_cast<uint64_t>(span[u].j + i) / 4",
          "static_cast<uint64_t>(span[0].j + i) / 4", KL_CUDA),
    Fault("CUDA: in 16 bits the radius has the logarithm to base 2", "csrc/cuda/noise.cuh", "* 1.38629436111989062f", "* 2.0f", SPECIAL),
    Fault("CUDA: in 16 bits the angle is half a turn", "csrc/cuda/noise.cuh", "* 6.28318530717958648f", "* 3.14159265358979324f", SPECIAL),
    Fault("CUDA: in 16 bits the gate of small numbers is a difference", "csrc/cuda/gate.cuh", "absolute < 0x1p-7f ? absolute * tanh_over : 1.0f - ea", "1.0f - ea", SPECIAL),
    Fault("CUDA: in 16 bits the gate of numbers of one is linear", "csrc/cuda/gate.cuh", "absolute < 0x1p-7f", "absolute < 0x1p-3f", SPECIAL),
    Fault("CUDA: in 16 bits a radius of nearly nothing is the root of less than that", NOISE_CU, "::fabsf(special_lg2(uniform_of_word(c[pair])))", "-special_lg2(uniform_of_word(c[pair]))", SPECIAL),
    Fault("CUDA: all samples have the eps of the first", NOISE_CU, "load<T, V, kAligned>(given, span[u], k)", "load<T, V, kAligned>(given, span[u])", KL_CUDA),
    Fault("CUDA: the gate of float32 is that of 16 bits", GATE_CU, "if constexpr (sizeof(T) == 2) {\n    const FastGate g(a, b);\n    return", "if constexpr (sizeof(T) <= 4) {\n    const FastGate g(a, b);\n    return", SPECIAL),
    Fault("Triton: in 16 bits the gate of small numbers is a difference", GATE_PY, "tl.where(x < 0.0078125, x * tanh_over, 1.0 - ea)", "1.0 - ea", GATE_TRITON),
    Fault("Triton: the gate of float32 is that of 16 bits", GATE_PY, "dtype.primitive_bitwidth == 16", "dtype.primitive_bitwidth <= 32", GATE_TRITON),
    Fault("special reciprocals err a thousand times as much", "csrc/common/special.h", "erring(1.0f / x, 0x1p-23f)", "erring(1.0f / x, 0x1p-13f)", SPECIAL),
    Fault("a special exponential's rounding is not put back", "csrc/common/softplus.h", "return ::fmaf(power, rest, power);", "return ::fmaf(power, rest * 0, power);", "tests/test_cuda_host_special.py -k confident"),
    Fault("the seed is drawn from 32 bits", "pygen/_noise.py", "return seed.random_(_INT64_MIN, None, generator=generator)",
          "return seed.random_(0, 2**32, generator=generator)", "tests/test_noise.py tests/test_reparameterize_kl.py"),
    Fault("the draw is not tagged as random", "pygen/_noise.py", "tags=(torch.Tag.nondeterministic_seeded, torch.Tag.pt2_compliant_tag)",
          "tags=(torch.Tag.pt2_compliant_tag,)", "tests/test_noise.py tests/test_conformance_compile.py -k 'noise or reparameterize_kl'"),
    Fault("generator= is ignored", "pygen/_noise.py", "return draw_seed(device, generator)", "return draw_seed(device)",
          "tests/test_noise.py tests/test_reparameterize_kl.py"),
)  # fmt: skip
