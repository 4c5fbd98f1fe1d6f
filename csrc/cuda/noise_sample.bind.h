// Python arguments of noise_sample -> calls of the launcher.
#pragma once

#include "cuda/arguments.h"
#include "cuda/noise_sample.h"

namespace pygen::cuda {

inline void bind_noise_sample(py::module_& m) {
  m.def(
      "noise_sample",
      [](int64_t rows, int64_t count, int64_t classes, std::uintptr_t table, std::uintptr_t drawn, std::uintptr_t seed,
         int device, std::uintptr_t stream) {
        const NoiseSampleCall call{device, stream, rows, count, classes, table, drawn, seed};
        const py::gil_scoped_release release;
        noise_sample(call);
      },
      "rows, draws of a row, classes, table [classes, 3] (int64), drawn [rows, draws] (int64, written), the seed's "
      "address, device, stream");
}

}  // namespace pygen::cuda
