// Softmax attention and its gradient for x86 CPUs with AVX-512, without a matrix of all queries by all keys.
//
//     S = Q K^T / sqrt(K),  P = softmax(S),  O = P V
//     dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(dO O)),  dQ = dS K / sqrt(K),  dK = dS^T Q / sqrt(K)
//
// The scheme is FlashAttention's (Dao et al., arXiv:2205.14135; arXiv:2307.08691): blocks of keys pass under a panel of
// queries, with a running maximum and sum. Scores are held transposed, 16 queries a vector and a key a row, so maxima
// and sums are lane by lane and no product needs a shuffled operand. Products take 32-bit words, a word being one
// float or two bf16 neighbours along the summed dimension (AVX512-BF16's dot product); all sums are float32.
//
// One well's one head is one thread's work from beginning to end, in a fixed order: the result does not depend on the
// number of threads, bit for bit.

#include <dlfcn.h>
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#define INLINE inline __attribute__((always_inline))

namespace {

// On the OpenMP threads that PyTorch keeps, where its runtime is found: a second set of threads would fight with them
// for the cores while they wait for work.
void run_on_threads(int threads, void (*body)(void*), void* data) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  if (threads <= 1) {
    body(data);
  } else if (parallel) {
    parallel(body, data, static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(body, data);
    body(data);
    for (std::thread& other : others) other.join();
  }
}

}  // namespace

#define DPF_PANEL_NAME wide
#define DPF_PANEL_VECTORS 3
#include "attention_panel.h"
#undef DPF_PANEL_NAME
#undef DPF_PANEL_VECTORS

// Of a few induced points most of a wide panel would be empty.
#define DPF_PANEL_NAME narrow
#define DPF_PANEL_VECTORS 1
#include "attention_panel.h"

// 0: done; 1: out of memory; 2: a width or a type that this build does not have.
extern "C" int dpf_attention_forward(long wells, long queries, long keys, long heads, long width, long q_stride,
                                     long kv_stride, int bf16, int threads, const void* q, const void* k,
                                     const void* v, void* out, float* lse) {
  const auto call = [&](auto empty) {
    empty = {wells, queries, keys, heads, width, q_stride, kv_stride, q, k, v, out, lse};
    return empty;
  };
  return queries <= narrow::kPanel ? narrow::run<narrow::Forward>(call(narrow::Call{}), bf16, threads)
                                   : wide::run<wide::Forward>(call(wide::Call{}), bf16, threads);
}

extern "C" int dpf_attention_backward(long wells, long queries, long keys, long heads, long width, long q_stride,
                                      long kv_stride, int bf16, int threads, const void* q, const void* k,
                                      const void* v, const void* out, const float* lse, const void* grad_out,
                                      void* grad_q, void* grad_k, void* grad_v) {
  const auto call = [&](auto empty) {
    empty = {wells, queries, keys, heads, width, q_stride, kv_stride, q, k, v, const_cast<void*>(out),
             const_cast<float*>(lse), grad_out, grad_q, grad_k, grad_v};
    return empty;
  };
  return queries <= narrow::kPanel ? narrow::run<narrow::Backward>(call(narrow::Call{}), bf16, threads)
                                   : wide::run<wide::Backward>(call(wide::Call{}), bf16, threads);
}
