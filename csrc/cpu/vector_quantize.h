// What the bindings hand to the kernels of vector_quantize.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

// Real is double where T is, else float.
struct VectorQuantize {
  DType dtype;  // T
  int64_t images, channels, positions, codes;
  Positions input;           // T [images, channels, positions]
  const void* codebook;      // T [codes, channels], contiguous; nullptr: of the sums those of the input itself
  int64_t* indices;          // [images, positions], contiguous
  Positions quantized;       // T, like input: of nearest the codes, of grad_input the gradient; written
  void* distances;           // Real [images, positions], of nearest; written
  Positions grad_quantized;  // T, like input; absent: 0
  const void* factor;        // Real [images]; of the gradients
  void* sums;                // Real [codes, channels]; written
  int threads;
};

}  // namespace pygen
