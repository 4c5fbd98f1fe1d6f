// What the bindings hand to the kernels of every coupling.
#pragma once

#include "cpu/view.h"

namespace pygen {

// A part of [images, ...]: input and output, backward the output's and the input's gradient.
struct CouplingHalf {
  View input, output;
  int64_t count = 0;  // a sample
};

}  // namespace pygen
