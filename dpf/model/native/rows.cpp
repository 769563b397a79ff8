// What stands between the encoder's matrix products, in one reading and one writing: residual plus dropout plus layer
// norm, with its gradient, and ReLU plus dropout. bf16 in memory, float32 in between.
//
//     S = R + keep M,   Y = (S - mean) / sqrt(variance + eps) * weight + bias        (row by row)
//     dR = rstd (g - mean(g) - xhat mean(g xhat)),  dM = keep dR,  with g = dY weight, xhat = (S - mean) rstd
//
// Dropout keeps an element where its 16 random bits are at or above the threshold; without bits all are kept. Sums over
// rows are taken in chunks of a fixed size and added in order: no result depends on the number of threads.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

#include "threads.h"

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
inline __mmask16 kept(const std::uint16_t* bits, long at, __mmask16 mask, int threshold) {
  if (!bits) return mask;
  const __m256i words = _mm256_maskz_loadu_epi16(mask, bits + at);
  return _mm256_mask_cmpge_epu16_mask(mask, words, _mm256_set1_epi16(static_cast<short>(threshold)));
}

struct Rows {
  long rows, width;
  int threshold;
  float eps;
  const Bf16 *residual, *mixed;
  const std::uint16_t* bits;
  const float *weight, *bias;
  Bf16 *sum, *out;
  float* stats;  // (rows, 2): mean, 1/sqrt(variance + eps)
  const Bf16* grad_out;
  Bf16 *grad_residual, *grad_mixed;
  float* partial;  // (chunks, 2, width): gradients of weight and bias
  std::atomic<long> next{0};
};

void forward_row(const Rows& x, long row) {
  alignas(64) float line[kWidest];
  const long start = row * x.width;
  __m512 total = _mm512_setzero_ps();
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 mixed = _mm512_maskz_mov_ps(kept(x.bits, start + d, mask, x.threshold), load(x.mixed + start + d, mask));
    const __m512 sum = rounded(_mm512_add_ps(load(x.residual + start + d, mask), mixed));
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

void backward_row(const Rows& x, long row, float* weight_sum, float* bias_sum) {
  alignas(64) float normals[kWidest], grads[kWidest];
  const long start = row * x.width;
  const __m512 mean = _mm512_set1_ps(x.stats[2 * row]), rstd = _mm512_set1_ps(x.stats[2 * row + 1]);
  __m512 total = _mm512_setzero_ps(), slope = _mm512_setzero_ps();
  for (long d = 0; d < x.width; d += kLanes) {
    const __mmask16 mask = lanes(x.width - d);
    const __m512 normal = _mm512_maskz_mul_ps(mask, _mm512_sub_ps(load(x.sum + start + d, mask), mean), rstd);
    const __m512 out = load(x.grad_out + start + d, mask);
    const __m512 grad = _mm512_mul_ps(out, _mm512_maskz_loadu_ps(mask, x.weight + d));
    _mm512_store_ps(weight_sum + d, _mm512_fmadd_ps(out, normal, _mm512_load_ps(weight_sum + d)));
    _mm512_store_ps(bias_sum + d, _mm512_add_ps(out, _mm512_load_ps(bias_sum + d)));
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
    store(x.grad_residual + start + d, mask, grad);
    store(x.grad_mixed + start + d, mask, _mm512_maskz_mov_ps(kept(x.bits, start + d, mask, x.threshold), grad));
  }
}

void forward(void* data) {
  auto& x = *static_cast<Rows*>(data);
  for (long chunk = x.next++; chunk * kChunk < x.rows; chunk = x.next++)
    for (long row = chunk * kChunk; row < std::min(x.rows, (chunk + 1) * kChunk); ++row) forward_row(x, row);
}

void backward(void* data) {
  auto& x = *static_cast<Rows*>(data);
  alignas(64) float weight_sum[kWidest], bias_sum[kWidest];
  for (long chunk = x.next++; chunk * kChunk < x.rows; chunk = x.next++) {
    std::fill(weight_sum, weight_sum + kWidest, 0.0f);
    std::fill(bias_sum, bias_sum + kWidest, 0.0f);
    for (long row = chunk * kChunk; row < std::min(x.rows, (chunk + 1) * kChunk); ++row)
      backward_row(x, row, weight_sum, bias_sum);
    float* to = x.partial + chunk * 2 * x.width;
    std::copy(weight_sum, weight_sum + x.width, to);
    std::copy(bias_sum, bias_sum + x.width, to + x.width);
  }
}

struct Elements {
  long count;
  int threshold;
  Bf16* x;
  const std::uint16_t* bits;
  std::atomic<long> next{0};
};

// ReLU of bf16 is on its bits: a negative number (and -0) has the sign bit, and NaN with the sign bit stays NaN.
void drop_relu(void* data) {
  auto& e = *static_cast<Elements*>(data);
  constexpr long kPiece = 1 << 16;
  const __m512i threshold = _mm512_set1_epi16(static_cast<short>(e.threshold));
  const __m512i infinity = _mm512_set1_epi16(0x7f80), magnitude = _mm512_set1_epi16(0x7fff);
  for (long piece = e.next++; piece * kPiece < e.count; piece = e.next++)
    for (long i = piece * kPiece; i < std::min(e.count, (piece + 1) * kPiece); i += 32) {
      const long left = e.count - i;
      const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1u;
      const __m512i x = _mm512_maskz_loadu_epi16(mask, e.x + i);
      const __mmask32 nan = _mm512_cmpgt_epu16_mask(_mm512_and_si512(x, magnitude), infinity);
      __mmask32 keep = ~_mm512_movepi16_mask(x);
      if (e.bits) keep &= _mm512_cmpge_epu16_mask(_mm512_maskz_loadu_epi16(mask, e.bits + i), threshold);
      _mm512_mask_storeu_epi16(e.x + i, mask, _mm512_maskz_mov_epi16(keep | nan, x));
    }
}

int threads_for(long pieces, int threads) { return static_cast<int>(std::max(1L, std::min<long>(pieces, threads))); }

}  // namespace

extern "C" void dpf_add_norm_forward(long rows, long width, int threads, int threshold, float eps, const Bf16* residual,
                                     const Bf16* mixed, const std::uint16_t* bits, const float* weight,
                                     const float* bias, Bf16* sum, Bf16* out, float* stats) {
  Rows x{rows, width, threshold, eps, residual, mixed, bits, weight, bias, sum, out, stats, nullptr, nullptr, nullptr,
         nullptr};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), forward, &x);
}

extern "C" void dpf_add_norm_backward(long rows, long width, int threads, int threshold, const Bf16* grad_out, Bf16* sum,
                                      const std::uint16_t* bits, const float* weight, float* stats,
                                      Bf16* grad_residual, Bf16* grad_mixed, float* partial) {
  Rows x{rows, width, threshold, 0.0f, nullptr, nullptr, bits, weight, nullptr, sum, nullptr, stats, grad_out,
         grad_residual, grad_mixed, partial};
  run_on_threads(threads_for((rows + kChunk - 1) / kChunk, threads), backward, &x);
}

extern "C" void dpf_drop_relu(long count, int threads, int threshold, Bf16* x, const std::uint16_t* bits) {
  Elements e{count, threshold, x, bits};
  run_on_threads(threads_for((count + (1 << 16) - 1) >> 16, threads), drop_relu, &e);
}

#endif  // __AVX512BF16__
