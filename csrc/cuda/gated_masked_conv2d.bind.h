// Python arguments of gated_masked_conv2d -> a call of the launcher.
#pragma once

#include "cuda/gated_masked_conv2d.h"
#include "cuda/masked_conv2d.bind.h"

namespace pygen::cuda {

inline void bind_gated_masked_conv2d(py::module_& m) {
  m.def(
      "gated_masked_conv2d_forward",
      [](std::string dtype, std::vector<int64_t> sizes, std::vector<int64_t> weight_sizes, std::vector<int64_t> taps,
         int64_t color_groups, bool strict, int64_t dilation, py::tuple input, py::tuple output, py::tuple weight,
         py::handle bias, int64_t side_channels, py::handle side, py::handle side_weight, py::handle add,
         py::handle cond, bool cond_per_image, py::handle gated, int device, std::uintptr_t stream, bool tf32,
         py::handle workspace) {
        GatedMaskedConv2dCall call;
        call.product = parse_masked_conv2d(std::move(dtype), sizes, weight_sizes, std::move(taps), color_groups, strict,
                                           dilation, input, output, weight, bias, device, stream, tf32, workspace);
        call.side_channels = side_channels;
        call.side = parse_tensor(side, {sizes[0], side_channels, sizes[2], sizes[3]});
        call.side_weight = parse_tensor(side_weight, {weight_sizes[0], side_channels, 1, 1});
        call.product.add = parse_address(add);
        call.cond = parse_address(cond);
        call.cond_per_image = cond_per_image;
        call.gated = parse_address(gated);
        const py::gil_scoped_release release;
        return gated_masked_conv2d_forward(call);
      },
      "as masked_conv2d_forward; behind bias the channels of side, (address, strides) of it and of its weight or 0, "
      "None, None; the addresses of add (as output lies) or None, of cond (the same, or of [N, 2 C]) or None, whether "
      "cond "
      "has no pixels, and of the gate's output (written)");
}

}  // namespace pygen::cuda
