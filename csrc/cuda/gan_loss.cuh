// gan_loss for NVIDIA GPUs. Not yet run on a GPU.
//
// Terms weight form(y), y = sign (x - other), of csrc/common/gan_loss.h, summed over all logits.
//
// Traffic, T = bytes of the logits: forward reads T; where it makes the gradient for an upstream gradient of 1 too, it
// writes T, and a backward that finds a 1 there moves nothing. Else backward reads T and writes T. Each is one launch
// for all members of a list; relativistic_average reads T once more in forward, for the means. Two levels: each block
// writes its sums (8 bytes per 2048 logits or more), the block that finishes last adds them in a fixed order.
#pragma once

#include "cuda/gan_loss_parts.cuh"

namespace pygen::cuda {
namespace {

// The means of relativistic_average: sums[members, :2].
template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) gan_loss_mean_kernel(const __grid_constant__ ForwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  double total[1] = {};
  for (int turn = 0; turn < p.turns; ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      packed[u] = load_unit<T, V>(s.x, at, valid_elements(s.numel, at, V), s.aligned);
    }
    Acc sum = 0;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      Acc x[V];
      unpack(packed[u], x);
#pragma unroll
      for (int i = 0; i < V; ++i) sum += x[i];
    }
    total[0] += sum;
  }
  block_sums<Tr::kThreads>(total);
  if (threadIdx.x == 0) p.partial[kTotals * static_cast<int64_t>(gridDim.x) + blockIdx.x] = total[0];
  if (is_last_block(p.ticket)) finish<Tr>(p, true);
}

template <class Tr, GanForm kForm>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    gan_loss_fwd_kernel(const __grid_constant__ ForwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  const SideConstants& side = p.side[s.side];
  const Acc shift = compared_mean<Acc>(p.means, s), sign = static_cast<Acc>(side.sign);
  const Acc offset = static_cast<Acc>(side.offset), limit = static_cast<Acc>(side.limit);
  const Acc weight = static_cast<Acc>(s.weight);
  const bool used = !p.weighted || s.upstream != nullptr;
  const Acc all_upstream = s.expanded ? *static_cast<const Acc*>(s.upstream) : Acc(0);
  const Acc factor = static_cast<Acc>(s.weight * side.sign);
  GanSums<Acc> sums;
  for (int turn = 0; turn < (used ? p.turns : 0); ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U], packed_other[U];
    int valid[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      valid[u] = valid_elements(s.numel, at, V);
      packed[u] = load_unit<T, V>(s.x, at, valid[u], s.aligned);
      if (p.pair) packed_other[u] = load_unit<T, V>(s.other, at, valid[u], s.aligned);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      Acc x[V], other[V], y[V], e[V], out[V];
      unpack(packed[u], x);
      if (p.pair) unpack(packed_other[u], other);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        y[i] = (x[i] - (p.pair ? other[i] : shift)) * sign;
        e[i] = uses_exp(kForm) ? quick_exp_minus_abs(y[i]) : Acc(0);
        if (i >= valid[u]) continue;
        sums.value += plain_part<kForm>(y[i], offset);
        if (uses_exp(kForm)) sums.log.add(e[i]);
        sums.x += x[i];
        if (p.pair) sums.other += other[i];
        sums.right += y[i] < limit ? 1 : 0;
      }
      // What only some calls ask for: a branch for each, not one for each logit.
      if (kForm == GanForm::Softplus && p.sums != nullptr) {
        Acc upstream[V];
        if (p.weighted && !s.expanded) unpack(load_unit<Acc, V>(s.upstream, at, valid[u], s.aligned), upstream);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const Acc slope = gan_slope<kForm>(y[i], e[i], offset);
          if (i < valid[u]) sums.slope += p.weighted ? slope * (s.expanded ? all_upstream : upstream[i]) : slope;
        }
      }
      if (p.gradients) {
#pragma unroll
        for (int i = 0; i < V; ++i) out[i] = gan_gradient(gan_slope<kForm>(y[i], e[i], offset), factor, Acc(1), Acc(0));
        store_gradients<T>(s, at, valid[u], out);
      } else if (s.out != nullptr) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const Acc plain = plain_part<kForm>(y[i], offset);
          out[i] = (uses_exp(kForm) ? plain + log1p_positive(e[i]) : plain) * weight;
        }
        store_unit<Acc>(s.out, at, valid[u], s.aligned, out);
      }
    }
    if ((turn + 1) % Tr::kRun == 0) sums.flush();
  }
  sums.flush();
  // loss, x, other, right, slopes; then as the columns of partial
  double total[5] = {sums.total_value, sums.total_x, sums.total_other, static_cast<double>(sums.right),
                     sums.total_slope};
  block_sums<Tr::kThreads>(total);
  if (threadIdx.x == 0) {
    const int64_t blocks = gridDim.x;
    double* to = p.partial + blockIdx.x;
    if (p.loss != nullptr) to[0] = s.numel > 0 ? total[0] * s.weight : 0.0;
    if (p.stats != nullptr) {
      const double share = s.numel > 0 ? 1.0 / (static_cast<double>(s.numel) * p.members) : 0.0;
      const double mean = total[1] * share, right = total[3] * share;
      const bool real = s.side == 0;
      to[blocks] = real ? mean : 0.0;
      to[2 * blocks] = p.pair ? total[2] * share : real ? 0.0 : mean;
      to[3 * blocks] = real ? right : 0.0;
      to[4 * blocks] = p.pair || !real ? right : 0.0;
    }
    if (p.sums != nullptr) to[kTotals * blocks] = total[4];
  }
  if (p.loss == nullptr && p.stats == nullptr && p.sums == nullptr) return;
  if (is_last_block(p.ticket)) finish<Tr>(p, false);
}

template <class Tr, GanForm kForm>
__global__ void __launch_bounds__(Tr::kThreads) gan_loss_bwd_kernel(const __grid_constant__ BackwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  if (s.out == nullptr && s.other_grad == nullptr) return;
  const SideConstants& side = p.side[s.side];
  const Acc shift = compared_mean<Acc>(p.means, s), sign = static_cast<Acc>(side.sign);
  const Acc offset = static_cast<Acc>(side.offset);
  const bool each = p.grad_loss == nullptr && !s.expanded;  // every term has a gradient of its own
  const bool used = p.grad_loss != nullptr || s.upstream != nullptr;
  const double g = p.grad_loss != nullptr ? static_cast<double>(*static_cast<const Acc*>(p.grad_loss)) : 1.0;
  if (p.made && g == 1.0) return;
  const Acc factor = static_cast<Acc>(s.weight * side.sign * g);
  const Acc all_upstream = s.expanded ? *static_cast<const Acc*>(s.upstream) : Acc(1);
  Acc constant = 0;
  if (p.means != nullptr) {  // x also moves its mean, which the other side's terms subtract
    const Segment& o = p.segment[place.index ^ 1];
    const double slopes = static_cast<double>(static_cast<const Acc*>(p.slopes)[4 * s.member + 2 + o.side]);
    constant = static_cast<Acc>(-p.side[o.side].sign * o.weight * g * slopes / static_cast<double>(s.numel));
  }
  for (int turn = 0; turn < p.turns; ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U], packed_other[U];
    int valid[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      valid[u] = valid_elements(s.numel, at, V);
      if (!used) continue;
      packed[u] = load_unit<T, V>(s.x, at, valid[u], s.aligned);
      if (p.pair) packed_other[u] = load_unit<T, V>(s.other, at, valid[u], s.aligned);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      Acc x[V], other[V], upstream[V], grad[V];
      unpack(packed[u], x);
      if (p.pair) unpack(packed_other[u], other);
      if (each && used) unpack(load_unit<Acc, V>(s.upstream, at, valid[u], s.aligned), upstream);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (used) {
          const Acc y = (x[i] - (p.pair ? other[i] : shift)) * sign;
          grad[i] = gan_gradient(gan_slope<kForm>(y, offset), factor, each ? upstream[i] : all_upstream, constant);
        } else {
          grad[i] = constant;  // terms that nothing uses: what they hold, NaN too, does not matter
        }
      }
      store_gradients<T>(s, at, valid[u], grad);
    }
  }
}

}  // namespace
}  // namespace pygen::cuda
