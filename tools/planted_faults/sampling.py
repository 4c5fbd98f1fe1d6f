"""Planted faults of samplers of models: pixel models' on CPUs, MADE's on GPUs, and which one is chosen."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import Fault

SAMPLING = "tests/test_sampling_pairs.py"
SAMPLING_PP = "tests/test_sampling_cpu_pp.py"
DENSE_CU = "csrc/cuda/dense_network.cuh"
DENSE_PARTS = "csrc/cuda/dense_network_parts.cuh"
DENSE_RULE = "csrc/cuda/sampling_dense.cu"
DENSE = "tests/test_cuda_host_sampling_dense.py"

FAULTS = (
    Fault("sampling, C++: a row's last column without a neighbour is forgotten", "csrc/cpu/sampling_pairs.h",
          "half ? (image_columns + 1) / 2 * images", "half ? image_columns / 2 * images", SAMPLING),
    Fault("sampling, C++: a thread's memory is too small for fewer images than a block's", "csrc/cpu/sampling_plan.h",
          "return std::max(kSamplingChunk, 2 * images);", "return sampling_chunk(images);", SAMPLING),
    Fault("sampling, C++: a pair's difference takes the wrong neighbour", "csrc/cpu/sampling_pairs.h",
          "store(out + 3 * width + k, behind - even);", "store(out + 3 * width + k, behind - odd);", SAMPLING),
    Fault("sampling, C++: weights whose sum overflows are combined", "csrc/cpu/sampling_pack.h",
          "tame = tame && std::abs(*out) <= Real(kTameWeight);", "tame = true;", SAMPLING),
    Fault("sampling, C++: images with huge numbers are left as they are", "csrc/cpu/sampling.cpp",
          "if (!worker.tame(n)) wild[first + n] = true;", "if (!worker.tame(n)) wild[first + n] = false;", SAMPLING_PP),
    Fault("sampling, C++: a mixture forgets the channels before", "csrc/cpu/sampling_mixture.h",
          "log_weights_[k] += logistic_level_log_prob(", "log_weights_[k] += 0 * logistic_level_log_prob(", SAMPLING_PP),
    Fault("sampling, C++: the channel of ones is zeros", "csrc/cpu/sampling_worker.h",
          "forms.put(image.at(channels), Real(1));", "forms.put(image.at(channels), Real(0));", SAMPLING_PP),
    Fault("sampling, C++: what is unbounded is filtered", "csrc/cpu/sampling_plan.h",
          "return maker.kind == SamplingStage::Kind::Gate && !maker.linear && maker.add < 0;", "return true;", SAMPLING),
    Fault("sampling, CUDA, MADE: what a panel feeds the next one is forgotten", DENSE_CU, "if (!others || split < before)", "if (!others)",
          DENSE),
    Fault("sampling, CUDA, MADE: weights of sources that are not yet known are read", DENSE_PARTS, "w[r].at[v] = k + v < to ? w[r].at[v] : T(0);", ";", DENSE),
    Fault("sampling, CUDA, MADE: lanes do not wait for each other's sums", DENSE_CU, "    __syncwarp();  // other lanes wrote what is read now\n", "", DENSE),
    Fault("sampling, CUDA, MADE: layers come in any order", DENSE_CU, "of < l ? block.below(below, degree + 1)", "of > l ? block.below(below, degree + 1)", DENSE),
    Fault("sampling, CUDA, MADE: two panels share a buffer", DENSE_PARTS, "turn = number % 2;", "turn = 0;", DENSE),
    Fault("sampling, CUDA, MADE: of two levels what is known is drawn", DENSE_RULE, "step.level = step.level < 0 ? drawn : step.level;", "step.level = drawn;", DENSE),
    Fault("sampling, CUDA, MADE: the second level has no bias", "csrc/cuda/dense_network.cu", "p.difference ? bias[0] - bias[p.bias_stride] : bias[0];", "bias[0];", DENSE),
    Fault("sampling, CUDA, MADE: a sum takes the wrong half", DENSE_PARTS, "given = upper ? numbers[j] : numbers[j + left];", "given = upper ? numbers[j + left] : numbers[j];",
          DENSE),
    Fault("levels: a range of inputs begins at -1", "pygen/models/_levels.py", "(high - low) / (num_levels - 1), low", "(high - low) / (num_levels - 1), -1.0", "tests/test_pixel_models_calls.py"),
    Fault("sampling: a pixel model's program has the usual range", "pygen/models/_pixel_model.py", "self.color_groups, self.input_range)", "self.color_groups)", "tests/test_sampling_engines.py -k 'k5 and cached'"),
    Fault("sampling: MADE's program has the usual range", "pygen/models/made.py", "self.num_levels, self.input_range)\n\n", "self.num_levels, (-1.0, 1.0))\n\n", "tests/test_sampling_made.py -k 'narrow and cached'"),
    Fault("sampling, CUDA, MADE: of panels' levels the least is seen as -1", DENSE_RULE, "T(draws.scale), T(draws.shift))", "T(draws.scale), T(-1))", f"{DENSE} -k float64"),
    Fault("sampling, CUDA: the least level is seen as -1", "csrc/cuda/sampling.cuh", "T(p.draws.scale), T(p.draws.shift)", "T(p.draws.scale), T(-1)", "tests/test_cuda_host_sampling.py -k float64"),
    Fault("sampling, CUDA, clusters: the least level is seen as -1", "csrc/cuda/sampling_launch.cuh", "static_cast<float>(call.draws.shift)", "-1.0f", "tests/test_cuda_host_sampling_cluster.py -k 'noise_selects and k5'"),
    Fault("sampling, CUDA: beyond 256 levels the first ones are kept alone", "csrc/cuda/sampling_decide.cuh",
          "for (int64_t l = begin + kKept; l < end; ++l) look_at(l, exp(scaled(logits[l]) - top));", "", DENSE),
    Fault("sampling, C++: early streams do not wait for the pixels that they see", "csrc/cpu/sampling_team.h",
          "end = std::min(end, there - need.right);", "end = std::min(end, there);", SAMPLING),
    Fault("sampling, C++: a pixel does not wait for early streams on its right", "csrc/cpu/sampling_team.h",
          "std::min(x + plan_.late_right + 1, width)", "std::min(x + 1, width)", SAMPLING),
    Fault("sampling, C++: the others wait for a member that has failed", "csrc/cpu/sampling_team.h",
          "return given_up_.load(std::memory_order_relaxed) || plan_.p.interrupt->stop();", "return plan_.p.interrupt->stop();",
          "tests/test_process.py -k each_allocation"),
    Fault("models: a layer put into another counts as none", "pygen/models/_layers.py", "if path and len(now) - (_PARAMETRIZATIONS in now) != len(layer.children):", "if False:", "tests/test_sampling_choice.py"),
    Fault("models: an exchanged layer is drawn as if it were the old one", "pygen/models/_layers.py", "elif _kind(found) is not child.kind:", "elif False:", "tests/test_sampling_choice.py"),
)  # fmt: skip
