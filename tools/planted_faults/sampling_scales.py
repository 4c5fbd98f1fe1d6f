"""Planted faults of PixelCNN++: its model and its samplers."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import PROGRAM, Fault

PP_TESTS = ("pixel_models", "pixel_models_causality", "sampling_engines", "sampling_noise_selects", "sampling_program")
PP = f"{' '.join(f'tests/test_{name}.py' for name in PP_TESTS)} -k 'pp and not cpu'"
MIXTURE = "pygen/models/_mixture.py"
SCALES = "tests/test_cuda_host_sampling_scales.py"
SCALES_CU = "csrc/cuda/sampling_scales.cuh"
SCALES_LATE = "csrc/cuda/sampling_scales_late.cuh"
SCALES_EARLY = "csrc/cuda/sampling_scales_early.cuh"
MIXTURE_CU = "csrc/cuda/sampling_mixture.cuh"
STAGED = "tests/test_cuda_host_sampling_scales_staged.py"
STAGED_CU = "csrc/cuda/sampling_early_staged.cuh"
SCALES_PLAN = "pygen/native/_sampling_scales_plan.py"
SCALES_STREAMS = "pygen/native/_sampling_scales_streams.py"
SCALES_TABLES = "pygen/native/_sampling_scales_tables.py"

FAULTS = (
    Fault("PixelCNN++: a level's upper edge is the next one's", MIXTURE, "edge = (2 * more - 1) * half - 1", "edge = (2 * more + 1) * half - 1", PP),
    Fault("256 levels in uint8: none is one on a GPU", "pygen/models/_levels.py", "(x.long() < 0) | (x.long() >= num_levels)", "(x < 0) | (x >= num_levels)", "tests/test_mixture.py"),
    Fault("PixelCNN++: edges between levels in float32", MIXTURE, "below = torch.zeros_like(u)", "below = torch.zeros_like(u).long()", "tests/test_mixture.py"),
    Fault("PixelCNN++: green and blue do not know which component red came from", MIXTURE, "terms[-1] + log_probs(", "terms[-1] + 0 * log_probs(", PP),
    Fault("PixelCNN++: temperature narrows the scales", MIXTURE, "log_scales + math.log(temperature)", "log_scales - math.log(temperature)", PP),
    Fault("PixelCNN++: temperature leaves the weights", MIXTURE, "log_weights / temperature, ", "log_weights, ", PP),
    Fault("PixelCNN++: doubled columns mirrored", PROGRAM, "((0, 2), (1, 0))", "((0, 0), (1, 2))", PP),
    Fault("PixelCNN++: doubled rows in the other order", PROGRAM, "weight[:, :, row, column].T", "weight[:, :, 1 - row, column].T", PP),
    Fault("PixelCNN++: positive and negative halves of a short cut interleaved", PROGRAM, "unflatten(1, (2, part[1], -1))[:, :, part[0]]", "unflatten(1, (part[1], 2, -1))[:, part[0]]", PP),
    Fault("PixelCNN++: no ones in the image", "pygen/models/_decision.py", "image.pixels[:, :, program.in_channels :] = 1", "image.pixels[:, :, program.in_channels :] = 0", PP),
    Fault("PixelCNN++: a shifted kernel's weight padded on the other side", "pygen/models/_shifted.py", "(reach[1] - left, reach[1] - right, ", "(reach[1] - right, reach[1] - left, ", PP),
    Fault("PixelCNN++: a coarser pixel reads the finer row at its own column", "pygen/models/_cached_late.py", "at = x * self.strides[s] // self.strides[stage.source]", "at = x", PP),
    Fault("PixelCNN++: the phase of a column forgotten", "pygen/models/_cached_late.py", "phase = 2 * (y % 2) + x % 2", "phase = 2 * (y % 2)", PP),
    Fault("PixelCNN++: coarser streams forgotten after their row", "pygen/models/_cached_late.py", "ring.row(y // self.strides[s]).copy_", "ring.row(y).copy_", PP),
    Fault("PixelCNN++, CUDA: a place is free while it is pushed from", SCALES_TABLES, '(i, i + 2 if row["num_pushes"] else i)', "(i, i)", SCALES),
    Fault("PixelCNN++, CUDA: what a finer stream is made of is overwritten before its second pixel", SCALES_TABLES, "kept = {0} | {stage.source for stage in self.program.stages if isinstance(stage, Up)} & made", "kept = {0}", SCALES),
    Fault("PixelCNN++, CUDA: a step does not wait for what has just been pushed to it", SCALES_TABLES, 'self.late[following]["fresh"] = 1', "pass", SCALES),
    Fault("PixelCNN++, CUDA: a residual is what its ELU is", SCALES_STREAMS, "return 0, self.form(s)", "return 0, 0", SCALES),
    Fault("PixelCNN++, CUDA: upward steps of odd rows are made in even ones", SCALES_PLAN, '"row_is": y * stride', '"row_is": 0', SCALES),
    Fault("PixelCNN++, CUDA: columns between are made as the others", SCALES_PLAN, "(level, level) if x else (level + 1, 99)", "(level + 1, 99) if x else (level, level)", SCALES),
    Fault("PixelCNN++, CUDA: early blocks do not wait for each other", SCALES_PLAN, '{"wait": int(waits)}', '{"wait": 0}', SCALES),
    Fault("PixelCNN++, CUDA: rows begin with what early steps left", SCALES_CU, "*reinterpret_cast<float*>(shared + p.pixel + i) = 0;", ";", SCALES),
    Fault("PixelCNN++, CUDA: green does not see red", SCALES_CU, "scaled[c] = widen_to(value);", "", SCALES),
    Fault("PixelCNN++, CUDA: weights forget the levels before", SCALES_CU, "if (lane < p.num_mixtures) log_weight +=", "if (lane < 0) log_weight +=", SCALES),
    Fault("PixelCNN++, CUDA: staged taps all read their own pixel", STAGED_CU, "row % kFetched) + tap * kBlockBytes", "row % kFetched)", STAGED),
    Fault("PixelCNN++, CUDA: nothing right of an image's last staged pixel", STAGED_CU, " || x == width - 1", "", STAGED),
    Fault("PixelCNN++, CUDA: staged images read their neighbours' pixels", STAGED_CU, "(image - first_image) * around", "0", STAGED),
    Fault("PixelCNN++, CUDA: staged copies are read before they have come", STAGED_CU, "wait_copies<kFetched - 2>()", "wait_copies<kFetched - 1>()", STAGED),
    Fault("PixelCNN++, CUDA: staged items all have the first rows of weights", STAGED_CU, "int64_t(of.tile0 + place.warp)", "int64_t(place.warp)", STAGED),
    Fault("PixelCNN++, CUDA: a staged row of taps above the image is not left out", STAGED_CU, "      if (row < 0) continue;\n", "", STAGED),
    Fault("PixelCNN++, CUDA: taps share pixels where the source is finer", SCALES_PLAN, "_beside(stage.taps) if step == 1 else 1", "_beside(stage.taps)", STAGED),
    Fault("PixelCNN++, CUDA: staged warps do not wait for what others have fetched", STAGED_CU, "      __syncthreads();\n      const int ahead", "      const int ahead", STAGED),
    Fault("PixelCNN++, CUDA: both forms are elu(x)", SCALES_EARLY, "put(form++, narrow_to<T>(minus))", "put(form++, narrow_to<T>(plus))", SCALES),
    Fault("PixelCNN++, CUDA: pushes replace what a base has", SCALES_LATE, "*at = before[m][i] + d[0][m][i];", "*at = 0 * before[m][i] + d[0][m][i];", SCALES),
    Fault("PixelCNN++, CUDA: a maker's second push begins where the first one ended", SCALES_LATE, "      unit -= units;\n", "", SCALES),
    Fault("PixelCNN++, CUDA: runs beyond those that are held are taken for the first ones", SCALES_LATE, "first + kHeld * kSums, kSums, at.blocks);", "first, kSums, at.blocks);", SCALES),
    Fault("PixelCNN++, CUDA: the next tile has the last one's weights", SCALES_LATE, "if (next.k != of.k && next.k < at.own_count)", "if (false)", SCALES),
    Fault("PixelCNN++, CUDA: the edge below all levels is counted", MIXTURE_CU, "edge > 0 && more < m.num_levels", "more < m.num_levels", SCALES),
    Fault("PixelCNN++, CUDA: levels beyond the last one are counted", MIXTURE_CU, "edge > 0 && more < m.num_levels", "edge > 0", SCALES),
)  # fmt: skip
