// reparameterize_kl and gaussian_kl on CPUs. Formula: common/reparameterize_kl.h.
// Traffic, fp32, one sample: forward reads mu, logvar and writes z (12 bytes an element); backward reads grad_z, mu,
// logvar and writes two gradients (20). The noise costs more than the memory: about 10 instructions a number.
#include "cpu/reparameterize_kl.h"

#include "common/reparameterize_kl.h"
#include "cpu/block_io.h"
#include "cpu/loss_sums.h"
#include "cpu/noise.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlock = 1024;         // elements; a dozen blocks of scratch fit the L1 and L2 caches
constexpr int64_t kBlocksPerThread = 4;  // about 9 us of work, three times what waking a thread costs

using Blocks = RowBlocks<kBlock>;

template <class Real>
struct Scratch {
  alignas(64) Real mu[kBlock], logvar[kBlock], prior_mu[kBlock], prior_logvar[kBlock], std[kBlock], kl[kBlock];
  alignas(64) Real noise[kBlock + kNoisePadding + 4], eps[kBlock], z[kBlock];
  alignas(64) Real grad_z[kBlock], sum_grad_z[kBlock], sum_grad_z_eps[kBlock], grad_kl[kBlock], grad[4][kBlock];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

template <class T, class S, class Real>
struct Inputs {
  const S *mu, *logvar, *prior_mu = nullptr, *prior_logvar = nullptr;
  Inputs(const ReparameterizeKlParams& p, int64_t start, int64_t n, Scratch<Real>& s)
      : mu(read<T, S>(p.mu, start, n, s.mu)), logvar(read<T, S>(p.logvar, start, n, s.logvar)) {
    if (!p.prior_mu.present()) return;
    prior_mu = read<T, S>(p.prior_mu, start, n, s.prior_mu);
    prior_logvar = read<T, S>(p.prior_logvar, start, n, s.prior_logvar);
  }
  template <bool kPrior, class V>
  PYGEN_INLINE GaussianKl<V> unclamped(int64_t i) const {
    if constexpr (kPrior) {
      return gaussian_kl_prior(load_as<V>(mu + i), load_as<V>(logvar + i), load_as<V>(prior_mu + i),
                               load_as<V>(prior_logvar + i));
    } else {
      return gaussian_kl_standard(load_as<V>(mu + i), load_as<V>(logvar + i));
    }
  }
  template <bool kPrior, class V>
  PYGEN_INLINE GaussianKl<V> terms(int64_t i, Real free_bits) const {
    GaussianKl<V> t = unclamped<kPrior, V>(i);
    if (free_bits > 0) apply_free_bits(t, free_bits);
    return t;
  }
};

// eps of sample k for the block: the caller's, or drawn.
template <class T, class Real>
PYGEN_INLINE const Real* noise_block(const ReparameterizeKlParams& p, int64_t k, int64_t start, int64_t n,
                                     Scratch<Real>& s) {
  if (n == 0) return s.eps;  // the caller's noise of nothing has no address, and looks absent
  if (p.eps.present()) return read_block<T>(p.eps, k * p.rows * p.cols + start, n, s.eps);
  const int64_t q = start / 4, lead = start % 4;
  fill_normals(s.noise, static_cast<uint64_t>(*p.seed), q, (lead + n + 3) / 4, static_cast<uint32_t>(k),
               NoiseDomain::ReparameterizeKl);
  return s.noise + lead;
}

template <class T, class S, class Real, bool kPrior>
void forward_blocks(const ReparameterizeKlForward& p) {
  const Blocks blocks(p.rows, p.cols);
  LossSums<Real, Blocks> sums(blocks, p.reduce, p.kl);
  const Real free_bits = static_cast<Real>(p.free_bits);
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t start = blocks.start(block), n = blocks.size(block);
    const Inputs<T, S, Real> in(p, start, n, s);
    auto first_sample = [&](S* z, const Real* eps) PYGEN_INLINE_LAMBDA {
      for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
        using V = decltype(zero);
        const auto t = in.template terms<kPrior, V>(i, free_bits);
        store(s.kl + i, t.twice_kl * Real(0.5));
        if (z) store_as(z + i, V(load_as<V>(in.mu + i) + t.std * load<V>(eps + i)));
        if (p.num_samples > 1) store(s.std + i, t.std);
      });
    };
    if (p.num_samples == 0) first_sample(nullptr, nullptr);
    for (int64_t k = 0; k < p.num_samples; ++k) {
      const int64_t at = k * p.rows * p.cols + start;
      const Real* eps = noise_block<T>(p, k, start, n, s);
      S* z = target<T, S>(p.z, at, n, s.z);
      if (k == 0) {
        first_sample(z, eps);
      } else {
        for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
          using V = decltype(zero);
          store_as(z + i, V(load_as<V>(in.mu + i) + load<V>(s.std + i) * load<V>(eps + i)));
        });
      }
      write<T, S, Real>(p.z, at, n, z);
    }
    sums.add(block, s.kl);
  });
  sums.finish(p.kl_scale);
}

template <class T, class S, class Real, bool kPrior>
void backward_blocks(const ReparameterizeKlBackward& p) {
  const Blocks blocks(p.rows, p.cols);
  const Real* grad_kl = static_cast<const Real*>(p.grad_kl);
  const Real free_bits = static_cast<Real>(p.free_bits);
  const bool sampled = p.grad_z.present();
  const bool need_noise = sampled && p.grad[1].present(), one_sample = p.num_samples == 1;
  parallel_blocks(blocks.count, kBlocksPerThread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = scratch<Real>();
    const int64_t start = blocks.start(block), n = blocks.size(block);
    const Inputs<T, S, Real> in(p, start, n, s);
    if (grad_kl) {
      const int64_t rows = p.reduce ? 1 : blocks.num_rows(block);
      const int64_t per_row = n / rows;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = p.reduce ? 0 : (blocks.first_row(block) + r) * p.grad_kl_stride;
        const Real g = grad_kl[row] * static_cast<Real>(p.kl_scale);
        for (int64_t i = 0; i < per_row; ++i) s.grad_kl[r * per_row + i] = g;
      }
    }
    // Over the samples: the sum of grad_z, and of grad_z eps. One sample needs no sums.
    const S* grad_z = nullptr;
    const Real* eps = nullptr;
    for (int64_t k = 0; sampled && k < p.num_samples; ++k) {
      grad_z = read<T, S>(p.grad_z, k * p.rows * p.cols + start, n, s.grad_z);
      if (need_noise) eps = noise_block<T>(p, k, start, n, s);
      if (one_sample) break;
      for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
        using V = decltype(zero);
        const V g = load_as<V>(grad_z + i);
        store(s.sum_grad_z + i, k == 0 ? g : V(load<V>(s.sum_grad_z + i) + g));
        if (!need_noise) return;
        const V weighted = g * load<V>(eps + i);
        store(s.sum_grad_z_eps + i, k == 0 ? weighted : V(load<V>(s.sum_grad_z_eps + i) + weighted));
      });
    }
    S* out[4];
    for (int j = 0; j < 4; ++j) {
      out[j] = !p.grad[j].present() ? nullptr
               : p.wide[j]          ? wide_target<S>(p.grad[j], start, n, s.grad[j])
                                    : target<T, S>(p.grad[j], start, n, s.grad[j]);
    }
    for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
      using V = decltype(zero);
      const auto t = in.template terms<kPrior, V>(i, free_bits);
      V grad_mu{}, grad_logvar{}, grad_prior_mu{}, grad_prior_logvar{};
      if (grad_kl) {
        const V g = load<V>(s.grad_kl + i);
        grad_mu = g * t.grad_mu;
        grad_logvar = g * t.grad_logvar;
        grad_prior_mu = -grad_mu;
        grad_prior_logvar = g * t.grad_prior_logvar;
      }
      if (sampled) {
        const V g = one_sample ? load_as<V>(grad_z + i) : load<V>(s.sum_grad_z + i);
        grad_mu += g;
        if (need_noise) {
          const V weighted = one_sample ? V(g * load<V>(eps + i)) : load<V>(s.sum_grad_z_eps + i);
          grad_logvar += weighted * (t.std * Real(0.5));
        }
      }
      if (out[0]) store_as(out[0] + i, grad_mu);
      if (out[1]) store_as(out[1] + i, grad_logvar);
      if (kPrior && out[2]) store_as(out[2] + i, grad_prior_mu);
      if (kPrior && out[3]) store_as(out[3] + i, grad_prior_logvar);
    });
    for (int j = 0; j < 4; ++j) {
      if (!out[j]) continue;
      if constexpr (std::is_same_v<S, Real>) {
        if (p.wide[j]) {
          write_block<Real>(p.grad[j], start, n, out[j]);
          continue;
        }
      }
      write<T, S, Real>(p.grad[j], start, n, out[j]);
    }
  });
}

template <class T, class Real, bool kPrior>
void forward(const ReparameterizeKlForward& p) {
  if constexpr (!std::is_same_v<T, Real>) {
    if (!in_place({&p.mu, &p.logvar, &p.prior_mu, &p.prior_logvar, &p.z}))
      return forward_blocks<T, Real, Real, kPrior>(p);
  }
  return forward_blocks<T, T, Real, kPrior>(p);
}

template <class T, class Real, bool kPrior>
void backward(const ReparameterizeKlBackward& p) {
  if constexpr (!std::is_same_v<T, Real>) {
    const bool wide = p.wide[0] || p.wide[1] || p.wide[2] || p.wide[3];
    if (wide || !in_place({&p.mu, &p.logvar, &p.prior_mu, &p.prior_logvar, &p.grad_z, &p.grad[0], &p.grad[1],
                           &p.grad[2], &p.grad[3]}))
      return backward_blocks<T, Real, Real, kPrior>(p);
  }
  return backward_blocks<T, T, Real, kPrior>(p);
}

}  // namespace

void reparameterize_kl_forward(const ReparameterizeKlForward& p) {
  const bool prior = p.prior_mu.present();
  PYGEN_BY_DTYPE(p.dtype, (prior ? forward<T, Real, true>(p) : forward<T, Real, false>(p)))
}
void reparameterize_kl_backward(const ReparameterizeKlBackward& p) {
  const bool prior = p.prior_mu.present();
  PYGEN_BY_DTYPE(p.dtype, (prior ? backward<T, Real, true>(p) : backward<T, Real, false>(p)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
