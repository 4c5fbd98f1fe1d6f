"""Planted faults of the sampler of pixel models on clusters of blocks."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import RACES, Fault

CLUSTER = "tests/test_cuda_host_sampling_cluster.py"
CLUSTER_PY = "pygen/native/_sampling_cluster_plan.py"
CLUSTER_CU = "csrc/cuda/sampling_cluster.cuh"
LATE_CU = "csrc/cuda/sampling_late.cuh"
EARLY_CU = "csrc/cuda/sampling_early.cuh"
PLACE_CU = "csrc/cuda/sampling_place.cuh"
CLUSTER_MMA = "csrc/cuda/sampling_mma.cuh"
LAUNCH_CU = "csrc/cuda/sampling_launch.cuh"

FAULTS = (
    Fault("sampling, CUDA, clusters: blocks without tiles send nothing", LATE_CU, "if (step.logits || step.own_count == 0) place.send_nothing();", "if (step.logits) place.send_nothing();",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: empty messages are not counted", CLUSTER_CU, "(step.logits ? p.size : max(0, p.size - step.tiles))", "(step.logits ? p.size : 0)",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: blocks without images send nothing", CLUSTER_CU, "if (place.slots() == 0) place.send_nothing();", "",
          f"{CLUSTER} -k 'wide and plain'"),
    Fault("sampling, CUDA, clusters: a barrier's phases all have one parity", PLACE_CU, "exchanges / 2 % 2", "exchanges % 2",
          f"{CLUSTER} -k 'draws_what and no-block'"),
    Fault("sampling, CUDA, clusters: one barrier for all exchanges", PLACE_CU, "(shared + p.shared.messages) + exchanges % 2;", "(shared + p.shared.messages);",
          f"{CLUSTER} -k 'draws_what and no-block'"),
    Fault("sampling, CUDA, clusters: a word beyond the channels is kept", CLUSTER_MMA, "bytes <= at ? 0u", "bytes < at ? 0u",
          f"{CLUSTER} -k 'low_precision and plain-rgb'"),
    Fault("sampling, CUDA, clusters: what is pushed does not wait for the last colour", CLUSTER_CU, "g == p.groups - 1) {", "g == 0) {",
          f"{CLUSTER} -k 'draws_what and plain-rgb'"),
    Fault("sampling, CUDA, clusters: what is pushed for all pixels lies in one place", LATE_CU, "step.depth == 1 ? 0 : x % step.depth", "0",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: tiles are dealt out other than their memory", "pygen/native/_sampling_cluster.py", '"turn": -turn % size', '"turn": turn % size',
          f"{CLUSTER} -k 'deals_out'"),
    Fault("sampling, CUDA, clusters: zeros between colours have weights", LAUNCH_CU, "const int group = in / step.filled_group, c = in % step.filled_group;", "const int group = in / step.group, c = in % step.group;",
          f"{CLUSTER} -k 'draws_what and gated-rgb'"),
    Fault("sampling, CUDA, clusters: pixels' channels are read beyond their end", EARLY_CU, "there ? max(0, min(16, bytes - from)) : 0", "there ? max(16, min(16, bytes - from)) : 0",
          f"{CLUSTER} -k 'draws_what and gated'"),
    Fault("sampling, CUDA, clusters: a place is free while it is pushed from", CLUSTER_PY, "until = t + int(any(tap != (0, 0) for tap in step.conv.taps))", "until = t",
          f"{CLUSTER} -k 'buffers'"),
    Fault("sampling, CUDA, clusters: the gate's second half is the first one's bias", LATE_CU, "sum(place, step, of, row + 8, x) + more.b", "sum(place, step, of, row + 8, x) + more.a",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: weights of the gate's second half are the first one's", LAUNCH_CU, "(step.gate && row >= 8 ? step.outs : 0)", "0",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: late sums forget ReLU", LATE_CU, "if (relu) rectify<T>(in[0]);", "",
          f"{CLUSTER} -k 'draws_what and plain-no-block'"),
    Fault("sampling, CUDA, clusters: early blocks do not wait for each other", CLUSTER_PY, '{"wait": int(waits)}', '{"wait": 0}',
          f"{CLUSTER} -k 'wide and gated'"),
    Fault("sampling, CUDA, clusters: a drawn pixel is pushed before it is drawn", CLUSTER_PY, "_PUSH_NEXT if conv.source == 0 else _PUSH_AFTER", "_PUSH_AFTER",
          f"{CLUSTER} -k 'draws_what and plain-no-block'"),
    Fault("sampling, CUDA, clusters: rows begin with what the last one left", CLUSTER_CU, "*reinterpret_cast<float*>(shared + i) = 0;", "",
          f"{CLUSTER} -k 'draws_what and gated-k5'"),
    Fault("sampling, CUDA, clusters: the last cluster has as many images as the others", PLACE_CU, "static_cast<int>(min(int64_t(p.images), p.n - first))", "p.images",
          f"{CLUSTER} -k 'beyond_eight'"),
    Fault("sampling, CUDA, clusters: of several channels the last one is told", CLUSTER_CU, "if (lane % kChannelsSent == c % kChannelsSent) kept = value;", "kept = value;",
          f"{CLUSTER} -k 'draws_what and two-independent'"),
    Fault("sampling, CUDA, clusters: sums are read before they are there", CLUSTER_CU, "          __syncthreads();\n          L::finish", "          L::finish",
          f"{RACES} sampling_cluster"),
)  # fmt: skip
