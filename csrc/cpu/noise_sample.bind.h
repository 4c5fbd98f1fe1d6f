// Python arguments of noise_sample -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/noise_sample.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void noise_sample(const NoiseSample&))

inline void bind_noise_sample(py::module_& m) {
  m.def(
      "noise_sample",
      [](int64_t rows, int64_t count, int64_t classes, uintptr_t table, uintptr_t drawn, int64_t seed, int threads) {
        const NoiseSample p{rows,
                            count,
                            classes,
                            reinterpret_cast<const int64_t*>(table),
                            reinterpret_cast<int64_t*>(drawn),
                            static_cast<uint64_t>(seed),
                            threads};
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::noise_sample) kernels[] = PYGEN_ISA_TABLE(noise_sample);
        kernels[isa_in_use()](p);
      },
      "rows, draws of a row, classes, table [classes, 3] (int64), drawn [rows, draws] (int64, written), seed, threads");
}

}  // namespace pygen
