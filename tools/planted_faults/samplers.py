"""Planted faults of categorical_sample, bernoulli_sample and logistic_mixture_sample."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

BITS = "tests/test_bernoulli_sample.py -k 'not triton'"
MIXTURE_DRAWS = "tests/test_logistic_mixture_sample.py -k 'not triton'"
DRAWS = "tests/test_categorical_sample.py -k 'not triton'"
CATEGORICAL_SAMPLE = "csrc/cpu/categorical_sample.cpp"

FAULTS = (
    Fault("categorical sampler: its noise is the models'", "pygen/reference/categorical_sample.py", "DOMAIN = 2", "DOMAIN = 1", DRAWS),
    Fault("categorical sampler: its temperature divides nothing", "pygen/reference/categorical_sample.py", "torch.exp((logits - top) * inverse)", "torch.exp(logits - top)", DRAWS),
    Fault("samplers, C++: a block of some channels has the numbers of the first", "csrc/cpu/draw_blocks.h", "return position * all_channels + channel;", "return position * all_channels;", DRAWS),
    Fault("samplers, C++: an image's numbers start at a quad", "csrc/cpu/draw_blocks.h", "return u + first % 4;", "return u;", DRAWS),
    Fault("categorical sampler, C++: a chain forgets those before it", "csrc/cpu/running_sums.h", "store(at, V(before + run));", "store(at, run);", DRAWS),
    Fault("categorical sampler, C++: groups before do not count", CATEGORICAL_SAMPLE, "const Real sum = before + sums[i];", "const Real sum = sums[i];", DRAWS),
    Fault("categorical sampler, C++: the tile that is hit is not read again", CATEGORICAL_SAMPLE, "    read(chunk);\n    exponentials(chunk);", "    exponentials(chunk);", DRAWS),
    Fault("categorical sampler, CUDA: of parts that share a draw the first is searched", "csrc/cuda/categorical_sample.cuh", "chosen = other;", "chosen = 0;", "tests/test_cuda_host_categorical_sample.py"),
    Fault("categorical sampler, CUDA: a warp's later levels start at 0", "csrc/cuda/categorical_sample.cuh", "before += __shfl_sync(kAll, up_to, 31);", "before += 0 * __shfl_sync(kAll, up_to, 31);", "tests/test_cuda_host_categorical_sample.py"),
    Fault("categorical sampler, Triton: a later block's largest logit leaves the sum as it was", "kernels/categorical_sample.py", "total = total * tl.exp((before - top) * inverse) + tl.sum", "total = total + tl.sum", "tests/test_categorical_sample.py -k triton"),
    Fault("bernoulli sampler: 1 has the chance of 0", "csrc/common/bernoulli_sample.h", "L::select(zero_side < one_side, one, V{})", "L::select(zero_side < one_side, V{}, one)", BITS),
    Fault("bernoulli sampler: small chances are taken from both sides alike", "csrc/common/bernoulli_sample.h", "L::select(rare, rest, V(e * rest))", "L::select(rare, V(e * rest), rest)", BITS),
    Fault("bernoulli sampler, CUDA: draws go on in the next image", "csrc/cuda/bernoulli_sample.cu", "4 * quad + word < p.per_image", "4 * quad + word <= p.per_image", "tests/test_cuda_host_bernoulli_sample.py"),
    Fault("bernoulli sampler, Triton: draws of a quad change places", "kernels/_draws.py", "tl.interleave(uniform_of(word0), uniform_of(word2))", "tl.interleave(uniform_of(word2), uniform_of(word0))", "tests/test_bernoulli_sample.py -k triton"),
    Fault("mixture sampler: scales are not floored", "csrc/cpu/logistic_mixture_sample.cpp", "Lanes<V>::at_least(load<V>(s.own[parts * c + 1] + at), least)", "load<V>(s.own[parts * c + 1] + at)", MIXTURE_DRAWS),
    Fault("mixture sampler: blue takes green's coefficient", "csrc/cpu/logistic_mixture_sample.cpp", "s.own[parts * (c - 1 + before) + 2]", "s.own[parts * before + 2]", MIXTURE_DRAWS),
    Fault("mixture sampler: the open bins begin half a level early", "csrc/common/logistic_mixture_sample.h", "(value + Real(1)) * (Real(0.5) * last)", "(value + Real(1)) * (Real(0.5) * last) + Real(0.5)", MIXTURE_DRAWS),
    Fault("mixture sampler, CUDA: odd pixels have the numbers of even ones", "csrc/cuda/logistic_mixture_sample.cu", "position % 2 == 1", "position % 2 == 2", "tests/test_cuda_host_logistic_mixture_sample.py"),
    Fault("mixture sampler, Triton: green moves blue by red's coefficient", "kernels/logistic_mixture_sample.py", "_number(base, 9, component", "_number(base, 6, component", "tests/test_logistic_mixture_sample.py -k triton"),
)  # fmt: skip
