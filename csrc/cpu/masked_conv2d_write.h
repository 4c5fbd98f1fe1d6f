// What both ways of computing masked_conv2d's forward share: blocks of target channels, the bias, pixels to any layout.
#pragma once

#include "cpu/masked_conv2d_parts.h"
#include "cpu/turn_words.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int kTileVectors = 3;
constexpr int kTileChannels = kAccumulators / kTileVectors;

// Some target channels of one group, computed together.
struct Block {
  int64_t channel, group, packed;  // first channel, its group, where its weights start
  int channels;
};

// steps(group): how many weights each target channel of a group has.
template <class Steps>
std::vector<Block> blocks_of(const Plan& plan, Steps steps) {
  std::vector<Block> blocks;
  const int64_t per_group = plan.targets / plan.groups;
  int64_t packed = 0;
  for (int64_t g = 0; g < plan.groups; ++g) {
    for (int64_t o = 0; o < per_group; o += kTileChannels) {
      const int channels = static_cast<int>(std::min<int64_t>(kTileChannels, per_group - o));
      blocks.push_back({g * per_group + o, g, packed, channels});
      packed += channels * steps(g);
    }
  }
  blocks.push_back({plan.targets, plan.groups, packed, 0});  // the end
  return blocks;
}

template <class T, class Real>
std::vector<Real> bias_of(const MaskedConv2d& p, const Plan& plan) {
  std::vector<Real> bias(plan.targets, Real(0));
  for (int64_t o = 0; !plan.flip && p.bias && o < plan.targets; ++o) bias[o] = widen(static_cast<const T*>(p.bias)[o]);
  return bias;
}

// Some pixels of one row of the target, all channels: in[o * channel_pitch + x].
template <class T, class Real>
void write_row(const Real* in, int64_t channel_pitch, int64_t channels, int64_t width, T* out, const int64_t* strides) {
  const int64_t sc = strides[1], sw = strides[3];
  if (sc == 1 && sw != 1) {
    int64_t o = 0;
    if constexpr (sizeof(T) <= 4) {
      for (; o + kWordChannels<T> <= channels; o += kWordChannels<T>)
        join_channels(in + o * channel_pitch, channel_pitch, width, out + o, sw);
    }
    for (int64_t x = 0; x < width && o < channels; ++x)
      for (int64_t k = o; k < channels; ++k) narrow(in[k * channel_pitch + x], out + x * sw + k);
    return;
  }
  for (int64_t o = 0; o < channels; ++o) {
    const Real* from = in + o * channel_pitch;
    T* to = out + o * sc;
    if (sw == 1) {
      narrow_run(from, to, width);
    } else {
      for (int64_t x = 0; x < width; ++x) narrow(from[x], to + x * sw);
    }
  }
}

// Pixels [first, first + count) of a strip whose rows follow each other `pitch` apart, of which `width` are there.
template <class T, class Real>
void write_pixels(const Real* in, int64_t channel_pitch, int64_t channels, int64_t first, int64_t count, int64_t pitch,
                  int64_t width, T* strip, const int64_t* strides) {
  for (int64_t done = 0; done < count;) {
    const int64_t row = (first + done) / pitch, x = (first + done) % pitch, run = std::min(pitch - x, count - done);
    T* out = strip + row * strides[2] + x * strides[3];
    write_row(in + done, channel_pitch, channels, std::min(run, width - x), out, strides);
    done += run;
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
