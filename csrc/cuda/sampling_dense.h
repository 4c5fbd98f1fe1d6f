// What the bindings hand to the launcher of sampling_dense.cu.
#pragma once

#include "cuda/dense_network.h"
#include "cuda/sampling_draws.h"

namespace pygen::cuda {

struct SamplingDenseCall : DenseCall {  // of outs logits, of two levels their difference
  SamplingDraws draws;                  // levels and noise [n, inputs]
};

constexpr int kSamplingDenseStepBytes = 16;

void sampling_dense_draw(const SamplingDenseCall& call);

}  // namespace pygen::cuda
