"""Planted faults of Hopper's products of masked convolutions."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import GATED_CUDA, RACES, Fault

WGMMA = "tests/test_cuda_host_wgmma.py"
WGMMA_CU = "csrc/cuda/masked_conv2d_wgmma.cuh"
WGMMA_W = "csrc/cuda/masked_conv2d_wgmma_weight.cuh"
WGMMA_PACK = "csrc/cuda/wgmma_pack.cuh"

FAULTS = (
    Fault("wgmma: channels beyond a centre's meet zero weights", "csrc/cuda/masked_conv2d_wgmma_tile.cuh", "if (step.k + Tr::kStep > step.k_end)", "if (false)", WGMMA),
    Fault("wgmma: a centre's dead weights are packed", WGMMA_PACK, "(position < c.taps.count ? c.k : c.centre_k(group))", "c.k", WGMMA),
    Fault("wgmma: weights are not turned", WGMMA_PACK, "place / kPart ^ turn<kTileRowBytes>(row)", "place / kPart", WGMMA),
    Fault("wgmma: weights are left while they are multiplied", WGMMA_CU, "leave(memory.weight_empty + weight.buffer);  // the",
          "leave(memory.weight_empty + now.buffer);  // the", WGMMA),
    Fault("wgmma: nobody waits for the weights", WGMMA_CU, "    await(memory.weight_full + now.buffer, now.round);\n", "", WGMMA),
    Fault("wgmma: pixels are overwritten under a product", WGMMA_CU, "    await_products<1>();\n", "    await_products<2>();\n", WGMMA),
    Fault("wgmma: a run is left before its last tap is loaded", WGMMA_CU, "    weight = now;\n",
          "    weight = now;\n    if (ahead.position == 0) leave(memory.run_empty + run.buffer);\n", WGMMA),
    Fault("wgmma: the copies do not wait for room", WGMMA_CU, "        await(memory.run_empty + run.buffer, run.round ^ 1);\n", "", WGMMA),
    Fault("wgmma: copies are not shown the barriers", WGMMA_CU, "    publish_barriers();\n", "", WGMMA),
    Fault("wgmma: more registers are taken than were given", WGMMA_CU, "take_registers<232>();", "take_registers<240>();", WGMMA),
    Fault("wgmma: tensor maps want a thread that has used the device", "csrc/cuda/wgmma_launch.cu", "if (status == CUDA_ERROR_INVALID_CONTEXT)", "if (false)", WGMMA),
    Fault("wgmma, weight: nothing is divided by no pixels", "csrc/cuda/masked_conv2d_wgmma_weight.cu", "p.pixels == 0 || p.ins", "p.ins", WGMMA),
    Fault("wgmma, weight: the run's rows are not turned", WGMMA_W, "part_of_row ^ turn<kTileRowBytes>(at) : part_of_row", "part_of_row : part_of_row", WGMMA),
    Fault("wgmma, weight: gradients are left while they are multiplied", WGMMA_W, "leave(memory.empty + before.buffer);", "leave(memory.empty + now.buffer);", WGMMA),
    Fault("wgmma, weight: the second half of the gradients lies elsewhere", WGMMA_W, "matrix_descriptor(shared_address(stage), Tr::kHalfBytes)",
          "matrix_descriptor(shared_address(stage), 1024)", WGMMA),
    Fault("wgmma, weight: a split begins with the first pixel", WGMMA_W, "first_pixel = split * p.weight.per_split;", "first_pixel = 0;", WGMMA),
    Fault("wgmma, weight: the divider rounds down", "csrc/cuda/divider.cuh", "static_cast<uint64_t>(divisor) + 1)", "static_cast<uint64_t>(divisor))", WGMMA),
    Fault("wgmma: what is added comes before the last tile has left", WGMMA_CU, "        sync();  // the tile before has left `staged`\n", "", GATED_CUDA),
    Fault("wgmma: sums are staged before the last tile has left", WGMMA_CU, "      if (!adds) sync();  // as above\n", "", f"{RACES} wgmma"),
    Fault("wgmma: a side reads the input", WGMMA_CU, "step.side ? p.side : p.pixels", "p.pixels", GATED_CUDA),
    Fault("gated_masked_conv2d, wgmma: weights are packed as they come", WGMMA_PACK, "c.pairs.channel(group * c.group_n + in_group)", "(group * c.group_n + in_group)",
          GATED_CUDA),
)  # fmt: skip
