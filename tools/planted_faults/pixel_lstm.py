"""Planted faults of pixel_lstm and PixelRNN."""
# ruff: noqa: E501  (the table quotes lines of ours)

from .fault import PROGRAM, Fault, conformance

LSTM = "tests/test_pixel_lstm.py"
LSTM_TRITON = conformance("pixel_lstm", "triton")
LSTM_CUDA = "tests/test_cuda_host_pixel_lstm.py"
LSTM_LINES = "csrc/cpu/pixel_lstm_lines.h"
LSTM_CPP = "csrc/cpu/pixel_lstm.cpp"
LSTM_BACK = "csrc/cpu/pixel_lstm_backward.cpp"
RNN = "tests/test_pixel_rnn.py tests/test_pixel_lstm.py -k 'rnn or one_row'"
RNN_CUDA = "tests/test_cuda_host_sampling.py -k rnn"
LSTM_CU = "csrc/cuda/pixel_lstm.cuh"
LSTM_PY = "kernels/pixel_lstm.py"

FAULTS = (
    Fault("pixel_lstm: the slope of g is that of a sigmoid", "csrc/common/pixel_lstm.h", "grad.g = down * u.i * (1.0f - u.g * u.g);", "grad.g = down * u.i * u.g * (1.0f - u.g);", LSTM),
    Fault("pixel_lstm: c forgets its own way back", "csrc/common/pixel_lstm.h", "const V down = grad_c + grad_h", "const V down = grad_h", LSTM),
    Fault("pixel_lstm, reference: the mirrored map is not turned back", "pygen/reference/pixel_lstm.py", "    return t.flip(-1) if direction == \"left\" else t\n\n\ndef _common", "    return t\n\n\ndef _common", LSTM),
    Fault("pixel_lstm: the tap beside is the one above", "pygen/_lstm.py", "\"left\": (1, 5)", "\"left\": (1, 3)", LSTM),
    Fault("pixel_lstm, C++: taps see the images beside", LSTM_LINES, "l.image - l.length, Real(0));", "0, Real(0));", LSTM),
    Fault("pixel_lstm, C++: c is written beyond a line's end", LSTM_CPP, "store_first(c + q, u.c, n - q);", "store(c + q, u.c);", LSTM),
    Fault("pixel_lstm, C++: c goes on where a row of pixels begins", LSTM_BACK, "std::fill_n(before + 4 * tile + j * l.pitch + l.before + known, end - known, Real(0));", "", LSTM),
    Fault("pixel_lstm, C++: a tap's gradient goes where it did not read", LSTM_BACK, "-l.position, l.pitch};", "l.position, l.pitch};", LSTM),
    Fault("pixel_lstm, C++: pixels of a diagonal that are none", LSTM_LINES, "return p.down ? 0 : std::max<int64_t>(0, d - p.columns + 1); }", "return 0; }", LSTM),
    Fault("pixel_lstm, CUDA: lines that are read are written", LSTM_CU, "    Acc* const other = now;\n    now = last;\n    last = other;", "", LSTM_CUDA),
    Fault("pixel_lstm, CUDA: c goes on where a row of pixels begins", LSTM_CU, "d > 0 && pixel + m < l.end(d - 1)", "d > 0", LSTM_CUDA),
    Fault("pixel_lstm, CUDA: what fills up the units counts", "pygen/native/pixel_lstm.py", "    more = -hidden % _QUAD", "    more = 0", LSTM_CUDA),
    Fault("PixelRNN: of one row nothing is left to scan", "pygen/nn/pixel_lstm.py", "max(1, input.shape[2] - 1)", "input.shape[2] - 1", RNN),
    Fault("PixelRNN, samples: left begins a row too early", PROGRAM, "None if down else weight[1], int(left))", "None if down else weight[1])", RNN),
    Fault("PixelRNN, samples: left sees its own row", PROGRAM, "Conv(source, ((-1, 0),), weights, bias, add=own)", "Conv(source, ((0, 0),), weights, bias, add=own)", "tests/test_sampling_program.py -k rnn"),
    Fault("PixelRNN, samples: left goes from left to right", PROGRAM, "(0, 1) if left else (0, -1)", "(0, -1)", RNN),
    Fault("PixelRNN, samples: of rows above the taps are mirrored", PROGRAM, "(-1, tap - kernel // 2)", "(-1, kernel // 2 - tap)", RNN),
    Fault("PixelRNN, cached: a row begins with the last one's c", "pygen/models/_cached_lstm.py", "        if self.first(x):\n            yield partial(torch.mul", "        if False:\n            yield partial(torch.mul", RNN),
    Fault("PixelRNN, cached: a row begins with the last one's h", "pygen/models/_cached_late.py", "None if self.cells[s].first(x) else h.pixel", "h.pixel", RNN),
    Fault("PixelRNN, cached: places in the rings are mistaken for each other", "pygen/models/_cached.py", "key = (s, y % source.slots, y % own.slots)", "key = (s, y % source.slots, 0)", RNN),
    Fault("PixelRNN: a GPU's engine takes 16 bits", "pygen/models/_engines.py", "not in (DenseProgram, RecurrentProgram)", "is not DenseProgram", RNN),
    Fault("PixelRNN, CUDA: a row begins with the last one's c", "csrc/cuda/sampling.cuh", "first ? T(0) : *c", "first ? *c : *c", RNN_CUDA),
    Fault("PixelRNN, CUDA: the first row is made of nothing", "csrc/cuda/sampling.cuh", "y < stage.first_row ? T(0) : h", "h", RNN_CUDA),
    Fault("PixelRNN, CUDA: left goes from left to right", "csrc/cuda/sampling.cuh", "along > 0 ? i : width - 1 - i", "i", RNN_CUDA),
    Fault("PixelRNN, CUDA: early LSTMs have one block of channels", "csrc/cuda/sampling.cuh", "stage.early ? static_cast<int>(stage.groups) : 1", "1", RNN_CUDA),
    Fault("PixelRNN, CUDA: c of a row lies in one place", "pygen/native/_sampling_lower.py", "            cols[c] = width\n", "            cols[c] = 1\n", RNN_CUDA),
    Fault("PixelRNN, C++: a row begins with the last one's c", "csrc/cpu/sampling_gate.h", "first ? V{} : load<V>(c + i)", "load<V>(c + i)", RNN),
    Fault("PixelRNN, C++: h is added to nothing", "csrc/cpu/sampling_gate.h", "V(h + load<V>(added + at + i))", "h", RNN),
    Fault("PixelRNN, C++: left goes from left to right", "csrc/cpu/sampling_worker.h", "(from_right ? width - 1 - i : i)", "i", RNN),
    Fault("PixelRNN, C++: the first row is made of nothing", "csrc/cpu/sampling_places.h", "y < p_.stages[unit.gate].first_row", "false", RNN),
    Fault("PixelRNN, C++: what follows a scan joins its pass", "csrc/cpu/sampling_units.h", "scans(unit) || pass_scans.back()", "scans(unit)", RNN),
    Fault("PixelRNN, C++: images share a c", "csrc/cpu/sampling_worker.h", "for (int64_t r = 0; r < rows; ++r, c += to.width()) {", "for (int64_t r = 0; r < rows; ++r) {", RNN),
    Fault("PixelRNN, C++: a scan does not wait for its row", "csrc/cpu/sampling_team.h", "return end < width ? begin : first + width;", "return first + width;",
          "tests/test_sampling_cpu.py -k 'last_bit and rnn'"),
    Fault("pixel_lstm, Triton: taps read the line that is written", LSTM_PY, "h = tl.load(last_ptr + at,", "h = tl.load(now_ptr + at,", LSTM_TRITON),
    Fault("pixel_lstm, Triton: c goes on where a row of pixels begins", "kernels/_lstm_backward.py", "known = both & (pixel < end_before)[:, None]", "known = both & (d > 0)", LSTM_TRITON),
)  # fmt: skip
