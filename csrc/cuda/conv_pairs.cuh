// Which channel each of a product's n stands for. Before a gate every tile holds as many channels of its group's first
// half as of the second, in pairs, so that both numbers of a gate meet in it: packed weights, bias and what is written
// go by this order alone.
#pragma once

namespace pygen::cuda {

// A tile's columns: `half` channels of the first half, then their partners.
struct PairedTile {
  int first, apart, half;  // first channel, from a channel to its partner
  int gated;               // channel of the gate's output that the first pair makes

  __host__ __device__ int live() const { return 2 * half; }
  __host__ __device__ int channel(int column) const {
    return column < half ? first + column : first + apart + column - half;
  }
  // Whether they, and those of the gate's output, come in whole units of `per` in rows of n.
  __host__ __device__ bool whole(int n, int per) const { return (first | apart | half | gated | n / 2) % per == 0; }
};

struct Pairs {
  int group, tile;  // channels; tile 0: no pairs, channels as they come

  __host__ __device__ PairedTile at(int n_first) const {  // the tile that starts there
    const int g = n_first / group, inside = n_first - g * group;
    const int columns = tile < group - inside ? tile : group - inside;
    const int gated = g * (group / 2) + inside / 2;
    return {g * (group / 2) + gated, group / 2, columns / 2, gated};
  }
  __host__ __device__ int channel(int n) const {
    if (tile == 0) return n;
    const int column = n % group % tile;
    return at(n - column).channel(column);
  }
};

}  // namespace pygen::cuda
