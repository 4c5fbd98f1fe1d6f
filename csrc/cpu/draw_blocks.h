// What samplers of [images, channels, positions] share: blocks of draws, their uniform numbers, and levels in memory.
// Draw p C + c of an image belongs to channel c of position p, and is word j % 4 of the Philox counter (j / 4, 0,
// image, domain).
#pragma once

#include <algorithm>

#include "cpu/noise.h"
#include "cpu/positions.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

// A box of images, positions and channels; several of the former only where it has all of the latter.
struct DrawBlock {
  int64_t image, position, channel;     // the first ones
  int64_t images, positions, channels;  // how many

  int64_t first_draw(int64_t all_channels) const { return position * all_channels + channel; }
};

struct DrawBlocks {
  int64_t images, positions, channels;                    // in all
  int64_t by_image = 0, by_position = 0, by_channel = 0;  // blocks
  int64_t images_at_once = 1, positions_at_once = 1, channels_at_once = 1;

  // Blocks of about `most` draws, whatever the number of threads.
  DrawBlocks(int64_t images, int64_t positions, int64_t channels, int64_t most)
      : images(images), positions(positions), channels(channels) {
    if (images * positions * channels == 0) return;
    channels_at_once = std::min(channels, most);
    positions_at_once = channels > most ? 1 : std::min(positions, most / channels);
    if (positions_at_once < positions && positions_at_once > 64) positions_at_once -= positions_at_once % 64;
    images_at_once =
        positions_at_once < positions || channels_at_once < channels ? 1 : std::max<int64_t>(1, most / pitch());
    by_channel = (channels + channels_at_once - 1) / channels_at_once;
    by_position = (positions + positions_at_once - 1) / positions_at_once;
    by_image = (images + images_at_once - 1) / images_at_once;
  }
  int64_t count() const { return by_image * by_position * by_channel; }
  // Between the numbers of two images: whole quads, and one for what a block's first quad has before it.
  int64_t pitch() const { return (positions_at_once * channels_at_once + 3) / 4 * 4 + 4; }
  DrawBlock at(int64_t block) const {
    DrawBlock b;
    b.channel = block % by_channel * channels_at_once;
    b.position = block / by_channel % by_position * positions_at_once;
    b.image = block / by_channel / by_position * images_at_once;
    b.images = std::min(images_at_once, images - b.image);
    b.positions = std::min(positions_at_once, positions - b.position);
    b.channels = std::min(channels_at_once, channels - b.channel);
    return b;
  }
  // Numbers that `u` of the block's draws need room for.
  static constexpr int64_t room(int64_t most) { return most + 8 + 4 * kLanes; }
};

// The block's uniform numbers, an image's after another pitch(): returns where its first draw lies.
inline const float* fill_draws(const DrawBlocks& blocks, const DrawBlock& b, uint64_t seed, NoiseDomain domain,
                               float* u) {
  const int64_t first = b.first_draw(blocks.channels), quad = first / 4;
  const int64_t end = first + (b.positions - 1) * blocks.channels + b.channels;
  for (int64_t i = 0; i < b.images; ++i)
    fill_uniforms(u + i * blocks.pitch(), seed, static_cast<uint64_t>(quad), (end + 3) / 4 - quad,
                  static_cast<uint32_t>(b.image + i), domain);
  return u + first % 4;
}

// One dim of a block: how many, and what lies between two neighbours, of parameters, draws in memory and their numbers.
struct DrawAxis {
  int64_t size, params, x, draw;
};

// A block's dims, the one that vectors run along innermost: positions where there are some, else what there is most of.
struct DrawAxes {
  DrawAxis outer, middle, inner;
  int64_t params, x;  // where the block starts

  DrawAxes(const DrawBlocks& blocks, const DrawBlock& b, const Positions& from, int64_t channel, const Positions& to)
      : outer{b.images, from.image, to.image, blocks.pitch()},
        middle{b.channels, channel, to.channel, 1},
        inner{b.positions, from.position, to.position, blocks.channels},
        params(b.image * from.image + b.channel * channel + b.position * from.position),
        x(b.image * to.image + b.channel * to.channel + b.position * to.position) {
    if (inner.size < 32 && inner.size < middle.size && middle.size >= outer.size) std::swap(inner, middle);
    if (inner.size < 32 && inner.size < outer.size) std::swap(inner, outer);
  }
  // row(params, x, draw): offsets of the innermost dim's rows.
  template <class Row>
  PYGEN_INLINE void for_each_row(const Row& row) const {
    for (int64_t o = 0; o < outer.size; ++o)
      for (int64_t m = 0; m < middle.size; ++m)
        row(o * outer.params + m * middle.params, o * outer.x + m * middle.x, o * outer.draw + m * middle.draw);
  }
};

// Levels to memory, `step` apart.
template <class Real>
PYGEN_INLINE void store_levels(const Real* level, int64_t count, bool wide, void* x, int64_t at, int64_t step) {
  if (wide) {
    int64_t* out = static_cast<int64_t*>(x) + at;
    for (int64_t i = 0; i < count; ++i) out[i * step] = static_cast<int64_t>(level[i]);
  } else if (step == 1) {
    uint8_t* out = static_cast<uint8_t*>(x) + at;
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(static_cast<int>(level[i]));
  } else {
    uint8_t* out = static_cast<uint8_t*>(x) + at;
    for (int64_t i = 0; i < count; ++i) out[i * step] = static_cast<uint8_t>(static_cast<int>(level[i]));
  }
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
