// What the extension can say about the machine without making a CUDA context.
#pragma once

#include <string>

#ifndef PYGEN_CUDA_ARCHS
#define PYGEN_CUDA_ARCHS "unnamed architectures"
#endif

namespace pygen::cuda {

// Empty if the driver can run this build, else the reason why not.
std::string why_not();
// The architectures that this build holds code for.
std::string archs();

}  // namespace pygen::cuda
