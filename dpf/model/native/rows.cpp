// What stands between the encoder's matrix products, in one reading and one writing: residual plus bias plus dropout plus
// layer norm, bias plus ReLU plus dropout, their gradients, and dropout's random bits. bf16 in memory, float32 in between.
//
//     S = R + gain keep (M + b),   Y = (S - mean) / sqrt(variance + eps) * weight + bias        (row by row)
//     dR = rstd (g - mean(g) - xhat mean(g xhat)),  dM = gain keep dR,  with g = dY weight, xhat = (S - mean) rstd
//     H = gain keep relu(M + b),   dM = gain dH where H > 0
//     P = sum of a well's T   (added up by 64 genes)
//     T = base + x slope,   dbase = sum dT, dslope = sum x dT, dx = dT slope   (a gene's tokens are affine in one number)
//
// Dropout keeps an element where its 16 random bits are at or above the threshold; without bits all are kept. Sums over
// rows are taken in chunks of a fixed size and added in order: no result depends on the number of threads.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

#include "threads.h"

#define INLINE inline __attribute__((always_inline))

#ifdef __AVX512BF16__

namespace {

using Bf16 = std::uint16_t;
constexpr long kLanes = 16;
constexpr long kChunk = 512;    // rows
constexpr long kWidest = 1024;  // elements of a row

inline __mmask16 lanes(long count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffffu : (1u << (count > 0 ? count : 0)) - 1u);
}
inline __m512 load(const Bf16* from, __mmask16 mask) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
}
inline void store(Bf16* to, __mmask16 mask, __m512 x) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
}
inline __m512 rounded(__m512 x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16));
}
// Sixteen elements' masks are a word; a row begins with a word of its own.
inline long words_of(long width) { return (width + kLanes - 1) / kLanes; }
inline __mmask16 kept(const std::uint16_t* bits, long at, __mmask16 mask, int threshold) {
  if (!bits) return mask;
  const __m256i words = _mm256_maskz_loadu_epi16(mask, bits + at);
  return _mm256_mask_cmpge_epu16_mask(mask, words, _mm256_set1_epi16(static_cast<short>(threshold)));
}

struct Rows {
  long rows, width;
  int threshold;
  float gain, eps;
  const Bf16 *residual, *mixed;
  const float* mixed_bias;
  const std::uint16_t* bits;
  const float *weight, *bias;
  Bf16 *sum, *out;      // sum may lie where mixed lies
  float* stats;         // (rows, 2): mean, 1/sqrt(variance + eps)
  std::uint16_t* keep;  // (rows, words of a row): what the bits said; nullptr: all are kept
  const Bf16* grad_out;
  long first, shared;   // row r's gradient is row (first + r) / shared of grad_out
  Bf16 *grad_residual, *grad_mixed;
  float* partial;  // (chunks, 3, width): gradients of weight, of bias and of mixed_bias
  std::atomic<long> next{0};
};

void forward_row(const Rows& x, long row) {
  alignas(64) float line[kWidest];
  const long start = row * x.width;
  __m512 total = _mm512_setzero_ps();
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 mixed = _mm512_add_ps(load(x.mixed + start + d, mask), _mm512_maskz_loadu_ps(mask, x.mixed_bias + d));
    const __mmask16 keep = kept(x.bits, start + d, mask, x.threshold);
    if (x.keep) x.keep[row * words_of(x.width) + d / kLanes] = keep;
    const __m512 drawn = _mm512_maskz_mul_ps(keep, mixed, _mm512_set1_ps(x.gain));
    const __m512 sum = rounded(_mm512_add_ps(load(x.residual + start + d, mask), drawn));
    store(x.sum + start + d, mask, sum);
    _mm512_store_ps(line + d, sum);
    total = _mm512_add_ps(total, sum);
  }
  const float mean = _mm512_reduce_add_ps(total) / static_cast<float>(x.width);
  const __m512 middle = _mm512_set1_ps(mean);
  total = _mm512_setzero_ps();
  for (long d = 0; d < x.width; d += kLanes) {
    const __m512 off = _mm512_maskz_sub_ps(lanes(x.width - d), _mm512_load_ps(line + d), middle);
    total = _mm512_fmadd_ps(off, off, total);
  }
  const float rstd = 1.0f / std::sqrt(_mm512_reduce_add_ps(total) / static_cast<float>(x.width) + x.eps);
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 normal = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(line + d), middle), _mm512_set1_ps(rstd));
    const __m512 weight = _mm512_maskz_loadu_ps(mask, x.weight + d), bias = _mm512_maskz_loadu_ps(mask, x.bias + d);
    store(x.out + start + d, mask, _mm512_fmadd_ps(normal, weight, bias));
  }
  x.stats[2 * row] = mean;
  x.stats[2 * row + 1] = rstd;
}

INLINE void add_to(float* sum, __m512 x) { _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), x)); }

void backward_row(const Rows& x, long row, float* weight_sum, float* bias_sum, float* mixed_sum) {
  alignas(64) float normals[kWidest], grads[kWidest];
  const long start = row * x.width;
  const Bf16* grad_out = x.grad_out + (x.first + row) / x.shared * x.width;
  const __m512 mean = _mm512_set1_ps(x.stats[2 * row]), rstd = _mm512_set1_ps(x.stats[2 * row + 1]);
  __m512 total = _mm512_setzero_ps(), slope = _mm512_setzero_ps();
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 normal = _mm512_maskz_mul_ps(mask, _mm512_sub_ps(load(x.sum + start + d, mask), mean), rstd);
    const __m512 out = load(grad_out + d, mask);
    const __m512 grad = _mm512_mul_ps(out, _mm512_maskz_loadu_ps(mask, x.weight + d));
    _mm512_store_ps(weight_sum + d, _mm512_fmadd_ps(out, normal, _mm512_load_ps(weight_sum + d)));
    add_to(bias_sum + d, out);
    _mm512_store_ps(normals + d, normal);
    _mm512_store_ps(grads + d, grad);
    total = _mm512_add_ps(total, grad);
    slope = _mm512_fmadd_ps(grad, normal, slope);
  }
  const float width = static_cast<float>(x.width);
  const __m512 level = _mm512_set1_ps(_mm512_reduce_add_ps(total) / width);
  const __m512 tilt = _mm512_set1_ps(_mm512_reduce_add_ps(slope) / width);
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 centred = _mm512_sub_ps(_mm512_load_ps(grads + d), level);
    const __m512 grad = _mm512_mul_ps(rstd, _mm512_fnmadd_ps(_mm512_load_ps(normals + d), tilt, centred));
    const __mmask16 keep = x.keep ? x.keep[row * words_of(x.width) + d / kLanes] : mask;
    const __m512 mixed = _mm512_maskz_mul_ps(keep, grad, _mm512_set1_ps(x.gain));
    store(x.grad_residual + start + d, mask, grad);
    store(x.grad_mixed + start + d, mask, mixed);
    add_to(mixed_sum + d, mixed);
  }
}

void forward(void* data) {
  auto& x = *static_cast<Rows*>(data);
  for (long chunk = x.next++; chunk * kChunk < x.rows; chunk = x.next++)
    for (long row = chunk * kChunk; row < std::min(x.rows, (chunk + 1) * kChunk); ++row) forward_row(x, row);
}

void backward(void* data) {
  auto& x = *static_cast<Rows*>(data);
  alignas(64) float sums[3][kWidest];
  for (long chunk = x.next++; chunk * kChunk < x.rows; chunk = x.next++) {
    std::fill(&sums[0][0], &sums[0][0] + 3 * kWidest, 0.0f);
    for (long row = chunk * kChunk; row < std::min(x.rows, (chunk + 1) * kChunk); ++row)
      backward_row(x, row, sums[0], sums[1], sums[2]);
    for (int part = 0; part < 3; ++part) std::copy(sums[part], sums[part] + x.width, x.partial + (3 * chunk + part) * x.width);
  }
}

struct Hidden {
  long rows, width;
  int threshold;
  float gain;
  Bf16* x;  // forward: what becomes H; backward: H
  const float* bias;
  const std::uint16_t* bits;
  Bf16* grad;      // dH, which becomes dM
  float* partial;  // (chunks, width): gradient of the bias
  std::atomic<long> next{0};
};

// What is not a number stays so, kept or not: max gives its second operand where one of them is not a number.
void drop_relu(void* data) {
  auto& h = *static_cast<Hidden*>(data);
  for (long chunk = h.next++; chunk * kChunk < h.rows; chunk = h.next++)
    for (long row = chunk * kChunk; row < std::min(h.rows, (chunk + 1) * kChunk); ++row)
      for (long d = 0; d < h.width; d += kLanes) {
        const __mmask16 mask = lanes(h.width - d);
        Bf16* at = h.x + row * h.width + d;
        const __m512 x = _mm512_add_ps(load(at, mask), _mm512_maskz_loadu_ps(mask, h.bias + d));
        const __mmask16 keep = kept(h.bits, row * h.width + d, mask, h.threshold) | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), x);
        store(at, mask, _mm512_maskz_mul_ps(keep, positive, _mm512_set1_ps(h.gain)));
      }
}

void drop_relu_grad(void* data) {
  auto& h = *static_cast<Hidden*>(data);
  for (long chunk = h.next++; chunk * kChunk < h.rows; chunk = h.next++) {
    float* sum = h.partial + chunk * h.width;
    std::fill(sum, sum + h.width, 0.0f);
    for (long row = chunk * kChunk; row < std::min(h.rows, (chunk + 1) * kChunk); ++row)
      for (long d = 0; d < h.width; d += kLanes) {
        const __mmask16 mask = lanes(h.width - d);
        const long at = row * h.width + d;
        const __mmask16 passes = _mm512_cmp_ps_mask(load(h.x + at, mask), _mm512_setzero_ps(), _CMP_NLE_UQ);
        const __m512 grad = _mm512_maskz_mul_ps(passes, load(h.grad + at, mask), _mm512_set1_ps(h.gain));
        store(h.grad + at, mask, grad);
        _mm512_mask_storeu_ps(sum + d, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, sum + d), grad));
      }
  }
}

struct Embedding {
  long wells, genes, width;
  const float* x;      // (wells, genes)
  const float* slope;  // (width)
  const Bf16* base;    // (genes, width)
  Bf16* tokens;        // (wells, genes, width), or their gradient
  float* grad_x;       // nullptr where nobody asks for it
  float* grad_base;
  float* partial;  // (chunks of genes, width): gradient of slope
  std::atomic<long> next{0};
};
constexpr long kGenes = 64;  // genes of a chunk

void embed(void* data) {
  auto& e = *static_cast<Embedding*>(data);
  for (long chunk = e.next++; chunk * kGenes < e.genes; chunk = e.next++)
    for (long well = 0; well < e.wells; ++well)
      for (long gene = chunk * kGenes; gene < std::min(e.genes, (chunk + 1) * kGenes); ++gene) {
        const __m512 x = _mm512_set1_ps(e.x[well * e.genes + gene]);
        for (long d = 0; d < e.width; d += kLanes) {
          const __mmask16 mask = lanes(e.width - d);
          const __m512 base = load(e.base + gene * e.width + d, mask), slope = _mm512_maskz_loadu_ps(mask, e.slope + d);
          store(e.tokens + (well * e.genes + gene) * e.width + d, mask, _mm512_fmadd_ps(x, slope, base));
        }
      }
}

void embed_grad(void* data) {
  auto& e = *static_cast<Embedding*>(data);
  for (long chunk = e.next++; chunk * kGenes < e.genes; chunk = e.next++) {
    float* slopes = e.partial + chunk * e.width;
    std::fill(slopes, slopes + e.width, 0.0f);
    for (long gene = chunk * kGenes; gene < std::min(e.genes, (chunk + 1) * kGenes); ++gene) {
      for (long well = 0; e.grad_x && well < e.wells; ++well) e.grad_x[well * e.genes + gene] = 0.0f;
      for (long d = 0; d < e.width; d += kLanes) {
        const __mmask16 mask = lanes(e.width - d);
        const __m512 slope = _mm512_maskz_loadu_ps(mask, e.slope + d);
        __m512 base = _mm512_setzero_ps(), sum = _mm512_maskz_loadu_ps(mask, slopes + d);
        for (long well = 0; well < e.wells; ++well) {
          const long at = well * e.genes + gene;
          const __m512 grad = load(e.tokens + at * e.width + d, mask);
          base = _mm512_add_ps(base, grad);
          sum = _mm512_fmadd_ps(grad, _mm512_set1_ps(e.x[at]), sum);
          if (e.grad_x) e.grad_x[at] += _mm512_reduce_add_ps(_mm512_mul_ps(grad, slope));
        }
        _mm512_mask_storeu_ps(e.grad_base + gene * e.width + d, mask, base);
        _mm512_mask_storeu_ps(slopes + d, mask, sum);
      }
    }
  }
}

struct Sums {
  long wells, genes, width;
  const Bf16* tokens;  // (wells, genes, width)
  float* out;          // (wells, width)
  std::atomic<long> next{0};
};

void sum_genes(void* data) {
  auto& s = *static_cast<Sums*>(data);
  alignas(64) float some[kWidest];
  for (long well = s.next++; well < s.wells; well = s.next++) {
    float* out = s.out + well * s.width;
    std::fill(out, out + s.width, 0.0f);
    for (long start = 0; start < s.genes; start += kGenes) {
      std::fill(some, some + kWidest, 0.0f);
      for (long gene = start; gene < std::min(s.genes, start + kGenes); ++gene)
        for (long d = 0; d < s.width; d += kLanes)
          add_to(some + d, load(s.tokens + (well * s.genes + gene) * s.width + d, lanes(s.width - d)));
      for (long d = 0; d < s.width; ++d) out[d] += some[d];
    }
  }
}

// NumPy's SFC64 for each chunk of words from its own state, eight chunks side by side; the first numbers are thrown away.
struct Streams {
  long chunks, chunk, words;  // words in all: the last chunk may be short
  const std::uint64_t* states;  // (chunks, 4)
  std::uint64_t* out;
  std::atomic<long> next{0};
};
constexpr int kThrownAway = 12;

INLINE __m512i step(__m512i (&s)[4]) {
  const __m512i word = _mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), s[3]);
  s[3] = _mm512_add_epi64(s[3], _mm512_set1_epi64(1));
  s[0] = _mm512_xor_si512(s[1], _mm512_srli_epi64(s[1], 11));
  s[1] = _mm512_add_epi64(s[2], _mm512_slli_epi64(s[2], 3));
  s[2] = _mm512_add_epi64(_mm512_rol_epi64(s[2], 24), word);
  return word;
}

INLINE void transpose_words(__m512i (&x)[8]) {
  __m512i y[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    y[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd) {
    const __m512i a = _mm512_shuffle_i64x2(y[odd], y[2 + odd], 0x88), b = _mm512_shuffle_i64x2(y[odd], y[2 + odd], 0xdd);
    const __m512i c = _mm512_shuffle_i64x2(y[4 + odd], y[6 + odd], 0x88);
    const __m512i d = _mm512_shuffle_i64x2(y[4 + odd], y[6 + odd], 0xdd);
    x[odd] = _mm512_shuffle_i64x2(a, c, 0x88);
    x[4 + odd] = _mm512_shuffle_i64x2(a, c, 0xdd);
    x[2 + odd] = _mm512_shuffle_i64x2(b, d, 0x88);
    x[6 + odd] = _mm512_shuffle_i64x2(b, d, 0xdd);
  }
}

void draw(void* data) {
  auto& x = *static_cast<Streams*>(data);
  for (long first = 8 * x.next++; first < x.chunks; first = 8 * x.next++) {
    const long lanes_used = std::min(8L, x.chunks - first);
    alignas(64) std::uint64_t start[4][8] = {};
    for (long lane = 0; lane < lanes_used; ++lane)
      for (int part = 0; part < 4; ++part) start[part][lane] = x.states[4 * (first + lane) + part];
    __m512i s[4];
    for (int part = 0; part < 4; ++part) s[part] = _mm512_load_si512(start[part]);
    for (int i = 0; i < kThrownAway; ++i) step(s);
    for (long at = 0; at < x.chunk; at += 8) {
      __m512i block[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) block[i] = step(s);
      transpose_words(block);
#pragma GCC unroll 8
      for (long lane = 0; lane < 8; ++lane) {
        const long where = (first + lane) * x.chunk + at, left = x.words - where;
        if (lane < lanes_used && left > 0)
          _mm512_mask_storeu_epi64(x.out + where, static_cast<__mmask8>(left >= 8 ? 0xff : (1 << left) - 1), block[lane]);
      }
    }
  }
}

int threads_for(long pieces, int threads) { return static_cast<int>(std::max(1L, std::min<long>(pieces, threads))); }

}  // namespace

extern "C" void dpf_add_norm_forward(long rows, long width, int threads, int threshold, float gain, float eps,
                                     const Bf16* residual,
                                     const Bf16* mixed, const float* mixed_bias, const std::uint16_t* bits,
                                     const float* weight, const float* bias, Bf16* sum, Bf16* out, float* stats,
                                     std::uint16_t* keep) {
  Rows x{rows, width, threshold, gain, eps, residual, mixed, mixed_bias, bits, weight, bias, sum, out, stats, keep, nullptr,
         0, 1, nullptr, nullptr, nullptr};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), forward, &x);
}

extern "C" void dpf_add_norm_backward(long rows, long width, int threads, float gain, long first, long shared,
                                      const Bf16* grad_out, Bf16* sum,
                                      std::uint16_t* keep, const float* weight, float* stats,
                                      Bf16* grad_residual, Bf16* grad_mixed, float* partial) {
  Rows x{rows, width, 0, gain, 0.0f, nullptr, nullptr, nullptr, nullptr, weight, nullptr, sum, nullptr, stats, keep, grad_out,
         first, shared, grad_residual, grad_mixed, partial};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), backward, &x);
}

extern "C" void dpf_drop_relu(long rows, long width, int threads, int threshold, float gain, Bf16* x, const float* bias,
                              const std::uint16_t* bits) {
  Hidden h{rows, width, threshold, gain, x, bias, bits, nullptr, nullptr};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), drop_relu, &h);
}

extern "C" void dpf_drop_relu_grad(long rows, long width, int threads, float gain, Bf16* hidden, Bf16* grad, float* partial) {
  Hidden h{rows, width, 0, gain, hidden, nullptr, nullptr, grad, partial};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), drop_relu_grad, &h);
}

extern "C" void dpf_embed(long wells, long genes, long width, int threads, const float* x, const float* slope,
                          const Bf16* base, Bf16* tokens) {
  Embedding e{wells, genes, width, x, slope, base, tokens, nullptr, nullptr, nullptr};
  run_on_threads(threads_for((genes + kGenes - 1) / kGenes, threads), embed, &e);
}

extern "C" void dpf_embed_grad(long wells, long genes, long width, int threads, const float* x, const float* slope,
                               Bf16* grad, float* grad_x, float* grad_base, float* partial) {
  Embedding e{wells, genes, width, x, slope, nullptr, grad, grad_x, grad_base, partial};
  run_on_threads(threads_for((genes + kGenes - 1) / kGenes, threads), embed_grad, &e);
}

extern "C" void dpf_sum_genes(long wells, long genes, long width, int threads, const Bf16* tokens, float* out) {
  Sums s{wells, genes, width, tokens, out};
  run_on_threads(threads_for(wells, threads), sum_genes, &s);
}

extern "C" void dpf_draw(long chunks, long chunk, long words, int threads, const std::uint64_t* states,
                         std::uint64_t* out) {
  Streams x{chunks, chunk, words, states, out};
  run_on_threads(threads_for((chunks + 7) / 8, threads), draw, &x);
}

#endif  // __AVX512BF16__
