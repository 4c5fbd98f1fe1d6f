// Launchers of gan_loss.cuh: a call's segments dealt to blocks and, beyond what one launch takes, to launches.
#include <algorithm>
#include <atomic>
#include <limits>
#include <random>

#include "cuda/gan_loss.cuh"
#include "cuda/gan_loss.h"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

#if !defined(PYGEN_GAN_MANY_BLOCKS)
#define PYGEN_GAN_MANY_BLOCKS 2048  // two waves of an H200; the tests on the host have fewer
#endif
constexpr int64_t kManyBlocks = PYGEN_GAN_MANY_BLOCKS;  // beyond, threads take several turns
constexpr int64_t kHead = 8;                            // of the workspace: the ticket's word, then the totals
static_assert(1 + kTotals <= kHead && kManyBlocks + kMaxSegments < (1 << kTicketBits));

// Multiples of the golden ratio: the high bits of 2^40 successive ones differ.
unsigned long long next_tag() {
  static std::atomic<uint64_t> calls{std::random_device{}()};
  return (++calls * 0x9e3779b97f4a7c15ull) >> kTicketBits << kTicketBits;
}

template <class Tr>
int64_t tiles(int64_t numel) {
  return (numel + Tr::kTile - 1) / Tr::kTile;
}

template <class Tr>
int turns_of(const GanLossCall& call) {
  int64_t all = 0;
  for (const GanSegment& s : call.segments) all += tiles<Tr>(s.numel);
  return static_cast<int>(std::max<int64_t>(1, (all + kManyBlocks - 1) / kManyBlocks));
}

// Segments begin .. end-1; returns how many blocks they take.
template <class Tr>
int64_t fill(GanParams& p, const GanLossCall& call, size_t begin, size_t end, int turns) {
  p.count = static_cast<int>(end - begin);
  p.turns = turns;
  p.members = call.members;
  p.pair = call.other == GanOther::Pair;
  int64_t blocks = 0;
  for (size_t i = begin; i < end; ++i) {
    const GanSegment& from = call.segments[i];
    Segment& s = p.segment[i - begin];
    s.x = reinterpret_cast<const void*>(from.x.address);
    s.other = reinterpret_cast<const void*>(from.other.address);
    s.upstream = reinterpret_cast<const void*>(from.upstream.address);
    const std::uintptr_t out = from.out.address | from.grad.address;  // a call has one of the two
    s.out = reinterpret_cast<void*>(out);
    s.other_grad = reinterpret_cast<void*>(from.other_grad.address);
    s.numel = from.numel;
    s.first = blocks;
    s.weight = from.weight;
    s.member = from.member;
    s.side = static_cast<int8_t>(from.side);
    s.expanded = from.upstream.expanded;
    s.aligned = (from.x.address | from.other.address | (s.expanded ? 0 : from.upstream.address) | out |
                 from.other_grad.address) %
                    16 ==
                0;
    p.side[from.side] = {from.sign, from.offset, from.limit};
    blocks += (tiles<Tr>(from.numel) + turns - 1) / turns;
  }
  return blocks;
}

// go(begin, end) for the segments of each launch: whole members.
template <class Go>
void for_each_launch(const GanLossCall& call, Go go) {
  const size_t sides = call.segments.size() / call.members, most = kMaxSegments / sides * sides;
  for (size_t begin = 0; begin < call.segments.size(); begin += most) {
    go(begin, std::min(begin + most, call.segments.size()));
  }
}

// The form of all segments; SmoothedSoftplus also serves a side without smoothing.
GanForm form_of(const GanLossCall& call) {
  for (const GanSegment& s : call.segments) {
    if (s.form == GanForm::SmoothedSoftplus) return s.form;
  }
  return call.segments.front().form;
}

template <class Go>
void with_form(GanForm form, Go go) {
  switch (form) {
    case GanForm::Softplus:
      return go(std::integral_constant<GanForm, GanForm::Softplus>());
    case GanForm::SmoothedSoftplus:
      return go(std::integral_constant<GanForm, GanForm::SmoothedSoftplus>());
    case GanForm::Hinge:
      return go(std::integral_constant<GanForm, GanForm::Hinge>());
    case GanForm::Square:
      return go(std::integral_constant<GanForm, GanForm::Square>());
    case GanForm::Linear:
      return go(std::integral_constant<GanForm, GanForm::Linear>());
  }
}

template <class Go>
void with_traits(const std::string& dtype, Go go) {
  if (dtype == "float32") return go(GanTraits<float>());
  if (dtype == "bfloat16") return go(GanTraits<__nv_bfloat16>());
  if (dtype == "float16") return go(GanTraits<__half>());
  if (dtype == "float64") return go(GanTraits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

// The sums that one pass over the logits gives: `base` says which.
template <class Tr>
void launch_sums(const GanLossCall& call, const ForwardParams& base, bool mean) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  const int turns = turns_of<Tr>(call);
  for_each_launch(call, [&](size_t begin, size_t end) {
    ForwardParams p = base;
    const int64_t blocks = std::max<int64_t>(1, fill<Tr>(p, call, begin, end, turns));
    auto* workspace = reinterpret_cast<double*>(call.workspace);
    p.ticket = {reinterpret_cast<unsigned long long*>(workspace), next_tag()};
    p.totals = workspace + 1;
    p.partial = workspace + kHead;
    p.first_launch = begin == 0;
    p.last_launch = end == call.segments.size();
    if (mean) return launch("gan_loss_mean_kernel", &gan_loss_mean_kernel<Tr>, blocks, Tr::kThreads, stream, p);
    with_form(form_of(call), [&](auto form) {
      launch("gan_loss_fwd_kernel", &gan_loss_fwd_kernel<Tr, decltype(form)::value>, blocks, Tr::kThreads, stream, p);
    });
  });
}

template <class Tr>
void forward(const GanLossForwardCall& call) {
  ForwardParams p{};
  for (const GanSegment& s : call.segments) {
    if (s.numel > 0) continue;
    p.empty[s.side] = std::numeric_limits<double>::quiet_NaN();
    if (call.other == GanOther::Pair) p.empty[1] = p.empty[0];
  }
  for (const GanSegment& s : call.segments) p.gradients |= (s.grad.address | s.other_grad.address) != 0;
  p.sums = reinterpret_cast<void*>(call.reused);
  if (call.other == GanOther::Mean) launch_sums<Tr>(call, p, true);
  p.loss = reinterpret_cast<void*>(call.loss);
  p.stats = reinterpret_cast<void*>(call.stats);
  p.means = p.sums;
  launch_sums<Tr>(call, p, false);
}

template <class Tr>
void backward(const GanLossBackwardCall& call) {
  int64_t all = 0;
  for (const GanSegment& s : call.segments) all += s.numel;
  if (all == 0) return;
  BackwardParams base{};
  base.grad_loss = reinterpret_cast<const void*>(call.grad_loss);
  base.means = reinterpret_cast<const void*>(call.reused);
  base.slopes = base.means;
  base.made = call.made;
  if (call.slopes != 0) {  // which forward could not know
    GanLossCall of_terms = call;
    for (GanSegment& s : of_terms.segments) s.grad = {};
    ForwardParams p{};
    p.means = base.means;
    p.sums = reinterpret_cast<void*>(call.slopes);
    p.weighted = true;
    launch_sums<Tr>(of_terms, p, false);
    base.slopes = p.sums;
  }
  const int turns = turns_of<Tr>(call);
  for_each_launch(call, [&](size_t begin, size_t end) {
    BackwardParams p = base;
    const int64_t blocks = fill<Tr>(p, call, begin, end, turns);
    if (blocks == 0) return;
    with_form(form_of(call), [&](auto form) {
      launch("gan_loss_bwd_kernel", &gan_loss_bwd_kernel<Tr, decltype(form)::value>, blocks, Tr::kThreads,
             reinterpret_cast<cudaStream_t>(call.stream), p);
    });
  });
}

}  // namespace

int64_t gan_loss_workspace() { return kHead + (kTotals + 1) * (kManyBlocks + kMaxSegments); }

void gan_loss_forward(const GanLossForwardCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { forward<decltype(traits)>(call); });
}

void gan_loss_backward(const GanLossBackwardCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { backward<decltype(traits)>(call); });
}

}  // namespace pygen::cuda
