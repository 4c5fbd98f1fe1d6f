// A unit is one channel of one image at one position: L logits and a level. Units are numbered image by image, channel
// by channel, position by position; those that one stride serves make a run.
#pragma once

#include "cpu/categorical_nll.h"

namespace pygen {

struct UnitStrides {
  int64_t outer, middle, inner;
};

struct Units {
  int64_t middle = 1, inner = 1;  // sizes; the outer one is what is left
  UnitStrides logits, x, grads;

  explicit Units(const CategoricalNll& p) {
    const int64_t sizes[3] = {p.images, p.channels, p.positions};
    const auto strides = [&](const Positions& t, int64_t channel) {
      int64_t s[3] = {0, 0, 0};
      const int64_t all[3] = {t.image, channel, t.position};
      for (int d = 2, to = 2; d >= 0; --d)
        if (sizes[d] != 1) s[to--] = all[d];
      return UnitStrides{s[0], s[1], s[2]};
    };
    int64_t kept[3] = {1, 1, 1};  // sizes of 1 go to the front
    for (int d = 2, to = 2; d >= 0; --d)
      if (sizes[d] != 1) kept[to--] = sizes[d];
    middle = kept[1];
    inner = kept[2];
    logits = strides(p.logits, p.levels * p.logits.channel);
    x = strides(p.x, p.x.channel);
    grads = strides(p.grad_logits, p.levels * p.grad_logits.channel);
  }

  int64_t offset(const UnitStrides& s, int64_t unit) const {
    const int64_t row = unit / inner;
    return row / middle * s.outer + row % middle * s.middle + unit % inner * s.inner;
  }
  // How many units from this one on lie in one run.
  int64_t run(int64_t unit) const { return inner - unit % inner; }
};

}  // namespace pygen
