// What the bindings hand to the launcher of sampling_scales.cu, the sampler of networks that see the image in several
// resolutions and end in a mixture of logistics. The plan that fills these tables is
// pygen/native/_sampling_scales_plan.py.
#pragma once

#include "cuda/sampling_cluster.h"

namespace pygen::cuda {

// A stream is kept in those forms that somebody reads, one behind the other: elu(x), elu(-x), x, each of its channels
// filled up to a multiple of kChannelsSent with zeros. elu(x) and elu(-x) together tell x. What is only added to
// something else is kept in 32-bit floats as a row of bases: 16 for each tile of weights that the sum goes on with.
// Coordinates of a stream of stride 2^k are the image's, shifted by k.
constexpr int kPlus = 1, kMinus = 2, kRaw = 4;

// A matrix of weights to pack: its fields are SamplingStep's.
struct ScalesMatrix {
  int64_t weight, kernel, kernel_tap, kernel_out, kernel_in;
  int32_t group, filled_group, outs, first, gate, tiles, blocks, segments, num_segments;
};
inline constexpr const char* kScalesMatrixFields =
    "weight:8 kernel:8 kernel_tap:8 kernel_out:8 kernel_in:8 group:4 filled_group:4 outs:4 first:4 gate:4 tiles:4 "
    "blocks:4 segments:4 num_segments:4";

// A convolution and, where `gate`, the gate behind it. gate: rows are packed as a gate's halves; linear: it is applied.
struct ScalesStep {
  int64_t weight;
  int64_t bias;  // address, or 0
  int64_t cond;  // as in SamplingStep
  int64_t cond_image, cond_channel, cond_row, cond_column;
  int32_t outs, gate, linear;
  int32_t tiles, blocks;
  int32_t log2;               // of the stride of what it makes
  int32_t forms, form_bytes;  // of what it makes, and the bytes of each
  int32_t width;              // of a row of what it makes
  int32_t base_at, base_pitch;
  int32_t add_at, add_rows, add_pitch, add_minus;  // a residual, early; from elu(x) to elu(-x), or 0: x itself
  int32_t out_at, out_rows, out_pitch;
  // Early alone.
  int32_t row_mask, row_is;  // of the image's rows
  int32_t wait;
  int32_t segments, num_segments;
  int32_t count, in_step, out_step, out_first;  // pixel k of `count` reads in_step k + dx and is out_step k + out_first
  int32_t source_at, source_rows, source_pitch, source_width, source_log2;
  int32_t sum_at, sum_pitch;  // a base that it makes, or -1
  int32_t beside;             // taps of each row, neighbours, that share the pixels which a block has fetched
  int32_t down, across;       // warps of a block along the weights' rows and along pixels
  int32_t staged;             // tiles of a warp, weights by way of shared memory; 0: two, weights straight from L2
  // Late alone.
  int32_t source, pitch, centre_blocks, centre_bytes;  // as in SamplingStep
  int32_t turn;
  int32_t out, out_pixel_pitch;
  int32_t add, add_pixel_pitch;
  int32_t logits;
  int32_t pushes, num_pushes;  // of what it makes
  int32_t fresh;               // its base may be pushed to while the step before it is waited for
  // Filled in by each block.
  int32_t own_first, own_count, own_weight, own_bytes;
};
inline constexpr const char* kScalesStepFields =
    "weight:8 bias:8 cond:8 cond_image:8 cond_channel:8 cond_row:8 cond_column:8 outs:4 gate:4 linear:4 tiles:4 "
    "blocks:4 log2:4 forms:4 form_bytes:4 width:4 base_at:4 base_pitch:4 add_at:4 add_rows:4 add_pitch:4 add_minus:4 "
    "out_at:4 out_rows:4 out_pitch:4 row_mask:4 row_is:4 wait:4 segments:4 num_segments:4 count:4 in_step:4 out_step:4 "
    "out_first:4 source_at:4 source_rows:4 source_pitch:4 source_width:4 source_log2:4 sum_at:4 sum_pitch:4 beside:4 "
    "down:4 across:4 staged:4 source:4 pitch:4 centre_blocks:4 centre_bytes:4 turn:4 out:4 out_pixel_pitch:4 add:4 "
    "add_pixel_pitch:4 logits:4 "
    "pushes:4 "
    "num_pushes:4 fresh:4 own_first:4 own_count:4 own_weight:4 own_bytes:4";

// What another step's base takes from a late stream as soon as it is made, at the same pixel or to the right.
struct ScalesPush {
  int64_t weight;
  int32_t target;                        // a late step
  int32_t blocks, source, pitch, bytes;  // shared memory
  int32_t log2, right, ratio_log2;       // pixel x of the source, of stride 2^log2: (x + right) >> ratio_log2, if whole
  int32_t own_first, own_count, own_weight;
};
inline constexpr const char* kScalesPushFields =
    "weight:8 target:4 blocks:4 source:4 pitch:4 bytes:4 log2:4 right:4 ratio_log2:4 own_first:4 own_count:4 "
    "own_weight:4";

struct SamplingScalesCall : SamplingClusterCall {
  std::uintptr_t matrices;  // as many as there are
  int64_t num_matrices;
  std::uintptr_t pushes;
  int64_t num_pushes;
  std::uintptr_t order;  // int16 [scales, scales, order_pitch]: late steps of a row and column of that many zero bits
  int64_t scales, order_pitch;
  int64_t pushes_at, order_at;  // in shared memory
  int64_t num_mixtures;
  double min_log_scale;
};

// As sampling_clusters.
int sampling_scales_clusters(int device, const std::string& dtype, int size, int threads, int shared_bytes);
void sampling_scales_draw(const SamplingScalesCall& call);

}  // namespace pygen::cuda
