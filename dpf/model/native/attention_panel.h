// The kernels of attention.cpp for one width of a panel of queries: DPF_PANEL_VECTORS vectors of 16, in the namespace
// DPF_PANEL_NAME. Included once for each.

namespace DPF_PANEL_NAME {
namespace {

using Word = std::uint32_t;

constexpr int kLanes = 16;
constexpr int kPanelVectors = DPF_PANEL_VECTORS;
constexpr int kPanel = kPanelVectors * kLanes;  // queries of a panel
constexpr int kKeysForward = 96;                // keys of a block: scores of a block and a panel stay in the L1 cache
constexpr int kKeysBackward = 48;
constexpr int kScoreRows = 8;  // keys, or head dimensions, of a register tile that is a panel wide
constexpr int kKeyRows = 12;   // keys of a register tile that is two vectors of head dimensions wide
static_assert(kKeysForward % kScoreRows == 0);
constexpr int kFewKeys = 24;
static_assert(kKeysBackward % kScoreRows == 0 && kKeysBackward % kKeyRows == 0);
static_assert(kFewKeys % kScoreRows == 0 && kFewKeys % kKeyRows == 0 && kFewKeys <= kKeysBackward);

// 2^x to a relative 3e-6 (degree 4) or float rounding (degree 6); minimax on [0, 1), the rest is the exponent. NaN stays NaN.
template <int kDegree>
INLINE __m512 exp2_vector(__m512 x);

template <>
INLINE __m512 exp2_vector<4>(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 0x01);  // x - floor(x)
  __m512 p = _mm512_set1_ps(0.013534168f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0520114623f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.241442754f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693003835f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.00000259f));
  return _mm512_scalef_ps(p, x);
}

template <>
INLINE __m512 exp2_vector<6>(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 0x01);
  __m512 p = _mm512_set1_ps(0.000217022555f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0012439688f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.00967884095f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.055483342f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240229836f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693146984f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

// A mask of the first `count` lanes, at most 32.
INLINE Word first_bits(long count) { return count >= 32 ? 0xffffffffu : count <= 0 ? 0u : (1u << count) - 1u; }

// Sixteen rows of sixteen 32-bit words, in place.
INLINE void transpose(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // now x[i + j]: words j, 4 + j, 8 + j, 12 + j of rows i to i + 3
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88), odd = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
    const __m512i even2 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
    const __m512i odd2 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
    y[j] = _mm512_shuffle_i32x4(even, even2, 0x88);
    y[8 + j] = _mm512_shuffle_i32x4(even, even2, 0xdd);
    y[4 + j] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
    y[12 + j] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = y[i];
}

struct Float32 {
  using Element = float;
  static constexpr int kStep = 1;  // elements of a word
  static constexpr int kExpDegree = 6;

  static INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
  // Up to 16 elements as floats and back, and up to 16 words of a row; what the mask leaves out is zero or untouched.
  static INLINE __m512 load(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
  static INLINE void store(float* to, __mmask16 mask, __m512 x) { _mm512_mask_storeu_ps(to, mask, x); }
  static INLINE __m512i load_words(const float* from, long count) {
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(first_bits(count)), from);
  }

  // A vector of a gene's head dimensions and of the next gene's, as words summed over genes.
  static INLINE void store_pair(Word* to, __m512 first, __m512) { _mm512_store_ps(to, first); }
  // Two keys' values of a vector of queries, as words summed over keys: rows of the panel's width.
  static INLINE void store_by_key(Word* to, __m512 first, __m512 second) {
    _mm512_store_ps(to, first);
    _mm512_store_ps(to + kPanel, second);
  }
  // The same as words summed over queries: one row a key.
  static INLINE void store_by_query(Word* row, Word* next, __m512 first, __m512 second) {
    _mm512_store_ps(row, first);
    _mm512_store_ps(next, second);
  }
};

#ifdef __AVX512BF16__
struct BFloat16 {
  using Element = std::uint16_t;
  static constexpr int kStep = 2;
  static constexpr int kExpDegree = 4;

  static INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
  static INLINE __m512 load(const std::uint16_t* from, __mmask16 mask) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
  }
  static INLINE void store(std::uint16_t* to, __mmask16 mask, __m512 x) {
    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
  }
  static INLINE __m512i load_words(const std::uint16_t* from, long count) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>(first_bits(count)), from);
  }

  static INLINE void store_pair(Word* to, __m512 first, __m512 second) {  // exact: these were bf16 before
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(first), 16);
    _mm512_store_si512(to, _mm512_or_si512(low, _mm512_castps_si512(second)));
  }
  static INLINE void store_by_key(Word* to, __m512 first, __m512 second) {
    alignas(64) static constexpr std::uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), both));
  }
  static INLINE void store_by_query(Word* row, Word* next, __m512 first, __m512 second) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm256_store_si256(reinterpret_cast<__m256i*>(row), _mm512_castsi512_si256(both));
    _mm256_store_si256(reinterpret_cast<__m256i*>(next), _mm512_extracti64x4_epi64(both, 1));
  }
};
#endif

// A register tile: tile[r][v] += sum over w of a[r * row + w * column] * b[w * width + v].
template <class E, int kRows, int kVectors>
INLINE void multiply(__m512 (&tile)[kRows][kVectors], const Word* a, long row, long column, const Word* b, long width,
                     int depth) {
  for (int w = 0; w < depth; ++w) {
    __m512i right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = _mm512_load_si512(b + w * width + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i left = _mm512_set1_epi32(static_cast<int>(a[r * row + w * column]));
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) tile[r][v] = E::dot(tile[r][v], left, right[v]);
    }
  }
}

template <int kRows, int kVectors>
INLINE void clear(__m512 (&tile)[kRows][kVectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) tile[r][v] = _mm512_setzero_ps();
}

template <int kRows, int kVectors>
INLINE void load(__m512 (&tile)[kRows][kVectors], const float* from, long width) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) tile[r][v] = _mm512_load_ps(from + r * width + v * kLanes);
}

template <int kRows, int kVectors>
INLINE void store(const __m512 (&tile)[kRows][kVectors], float* to, long width) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm512_store_ps(to + r * width + v * kLanes, tile[r][v]);
}

long up(long value, long multiple) { return (value + multiple - 1) / multiple * multiple; }

// One head of one well in the caller's memory: `count` genes, `stride` elements from a gene to the next.
template <class E>
struct Rows {
  const typename E::Element* data;
  long stride;
  long count;
  int width;  // head width, at most the padded one

  const typename E::Element* operator[](long row) const { return data + row * stride; }
  Rows from(long row) const { return {data + row * stride, stride, count - row, width}; }
};

// Three packings of a head, each zero where there is nothing: `wide` is the padded head width.

// Words along the head width, a row a gene; rows past the end repeat the last gene, so that maxima stay right.
template <class E>
void pack_rows(Word* to, Rows<E> x, int wide, long rows) {
  const long words = wide / E::kStep;
  std::memset(to, 0, sizeof(Word) * rows * words);
  for (long i = 0; i < rows; ++i)
    std::memcpy(to + i * words, x[i < x.count ? i : x.count - 1], sizeof(typename E::Element) * x.width);
}

// Words along the head width, transposed: panels of [word][48 genes].
template <class E>
void pack_panels(Word* to, Rows<E> x, int wide) {
  const long words = wide / E::kStep;
  for (long i = 0; i < up(x.count, kPanel); i += kLanes) {
    Word* block = to + i / kPanel * words * kPanel + i % kPanel;
    for (long w = 0; w < words; w += kLanes) {
      __m512i tile[16];
      for (long r = 0; r < kLanes; ++r)
        tile[r] = i + r < x.count ? E::load_words(x[i + r] + w * E::kStep, x.width - w * E::kStep) : _mm512_setzero_si512();
      transpose(tile);
      for (long r = 0; r < (words - w < kLanes ? words - w : kLanes); ++r)
        _mm512_store_si512(block + (w + r) * kPanel, tile[r]);
    }
  }
}

// Words along the genes: [word of genes][head width].
template <class E>
void pack_pairs(Word* to, Rows<E> x, int wide, long rows) {
  for (long i = 0; i < rows; i += E::kStep)
    for (int k = 0; k < wide; k += kLanes) {
      const auto mask = static_cast<__mmask16>(first_bits(x.width - k));
      const __m512 zero = _mm512_setzero_ps();
      const __m512 first = i < x.count ? E::load(x[i] + k, mask) : zero;
      const __m512 second = E::kStep == 2 && i + 1 < x.count ? E::load(x[i + 1] + k, mask) : zero;
      E::store_pair(to + i / E::kStep * wide + k, first, second);
    }
}

// Rows from columns: row i < rows of `to` becomes the vector of its head dimensions in `from`, [dimension][48 genes],
// times `factor` of its panel's column.
template <class E>
INLINE void write_panel(Rows<E> to, long start, long rows, const float* from, const float* factor) {
  for (long i = 0; i < rows; i += kLanes) {
    const __m512 scale = _mm512_load_ps(factor + i);
    for (int d = 0; d < to.width; d += kLanes) {
      __m512i tile[16];
      for (int r = 0; r < kLanes; ++r)
        tile[r] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(from + (d + r) * kPanel + i), scale));
      transpose(tile);
      const auto mask = static_cast<__mmask16>(first_bits(to.width - d));
      for (long r = 0; r < (rows - i < kLanes ? rows - i : kLanes); ++r)
        E::store(const_cast<typename E::Element*>(to[start + i + r]) + d, mask, _mm512_castsi512_ps(tile[r]));
    }
  }
}

// A thread's own memory, cut into 64-byte-aligned pieces.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : start_(static_cast<char*>(std::aligned_alloc(64, bytes))), next_(start_) {}
  ~Scratch() { std::free(start_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  explicit operator bool() const { return start_ != nullptr; }

  template <class T>
  T* take(long count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += up(count * static_cast<long>(sizeof(T)), 64);
    return piece;
  }

 private:
  char* start_;
  char* next_;
};

// What the caller passes. Queries: (wells, queries, heads, width), rows `q_stride` elements apart; keys and values:
// (wells, keys, heads, width), rows `kv_stride` apart; their gradients lie as they do. out and its gradient: (wells,
// queries, heads, width) without gaps; lse: (wells, heads, queries), the scores' logarithm of summed exponentials to
// base 2.
struct Call {
  long wells, queries, keys, heads, width, q_stride, kv_stride;
  const void *q, *k, *v;
  void* out;
  float* lse;
  const void* grad_out;
  void *grad_q, *grad_k, *grad_v;

  template <class E>
  Rows<E> rows(long unit, const void* from, long count, long stride) const {
    const long well = unit / heads, head = unit % heads;
    const auto* start = static_cast<const typename E::Element*>(from) + well * count * stride;
    return {start + head * width, stride, count, static_cast<int>(width)};
  }
  template <class E>
  Rows<E> of_queries(long unit, const void* from) const {
    return rows<E>(unit, from, queries, q_stride);
  }
  template <class E>
  Rows<E> of_keys(long unit, const void* from) const {
    return rows<E>(unit, from, keys, kv_stride);
  }
  template <class E>
  Rows<E> mixed(long unit, const void* from) const {
    return rows<E>(unit, from, queries, heads * width);
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }
  float scale_base_2() const { return scale() * 1.44269504f; }
};

template <class E, int kWidth>
class Forward {
  static constexpr int kWords = kWidth / E::kStep;

 public:
  static std::size_t bytes(const Call& call) {
    return sizeof(Word) * (2 * packed(call) * kWords + kPanel * (kWords + kKeysForward + kWidth)) + 1024;
  }

  Forward(const Call& call, Scratch& scratch) : call_(call) {
    const long rows = packed(call);
    keys_ = scratch.take<Word>(rows * kWords);
    values_ = scratch.take<Word>(rows * kWords);
    queries_ = scratch.take<Word>(kPanel * kWords);
    scores_ = scratch.take<float>(kPanel * kKeysForward);
    out_ = scratch.take<float>(kPanel * kWidth);
  }

  void run(long unit) {
    if (!once(call_)) pack(unit, 0, packed(call_));
    for (long start = 0; start < call_.queries; start += kPanel) panel(unit, start);
  }

 private:
  // Keys that one panel of queries asks are packed block by block: nobody needs them again.
  static bool once(const Call& call) { return call.queries <= kPanel; }
  static long packed(const Call& call) { return once(call) ? kKeysForward : up(call.keys, kKeysForward); }

  void pack(long unit, long key, long rows) {
    pack_rows<E>(keys_, call_.of_keys<E>(unit, call_.k).from(key), kWidth, rows);
    pack_pairs<E>(values_, call_.of_keys<E>(unit, call_.v).from(key), kWidth, rows);
  }

  void panel(long unit, long start) {
    Rows<E> queries = call_.of_queries<E>(unit, call_.q);
    queries.data = queries[start];
    queries.count = call_.queries - start < kPanel ? call_.queries - start : kPanel;
    pack_panels<E>(queries_, queries, kWidth);
    std::memset(out_, 0, sizeof(float) * kPanel * kWidth);
    __m512 maximum[kPanelVectors], sum[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) {
      maximum[v] = _mm512_set1_ps(-1e30f);
      sum[v] = _mm512_setzero_ps();
    }
    for (long key = 0; key < call_.keys; key += kKeysForward) {
      if (once(call_)) pack(unit, key, kKeysForward);
      block(key, once(call_) ? 0 : key, maximum, sum);
    }
    write(unit, start, queries.count, maximum, sum);
  }

  // One block of keys, packed from row `at` on, under the panel: scores, their exponentials, and those times the values.
  INLINE void block(long key, long at, __m512 (&maximum)[kPanelVectors], __m512 (&sum)[kPanelVectors]) {
    const int count = static_cast<int>(call_.keys - key < kKeysForward ? call_.keys - key : kKeysForward);
    __m512 highest[kPanelVectors], shrink[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) highest[v] = _mm512_set1_ps(-INFINITY);
    for (int row = 0; row < count; row += kScoreRows) {
      __m512 tile[kScoreRows][kPanelVectors];
      clear(tile);
      multiply<E>(tile, keys_ + (at + row) * kWords, kWords, 1, queries_, kPanel, kWords);
      store(tile, scores_ + row * kPanel, kPanel);
#pragma GCC unroll 8
      for (int r = 0; r < kScoreRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) highest[v] = _mm512_max_ps(tile[r][v], highest[v]);
    }
    const __m512 scale = _mm512_set1_ps(call_.scale_base_2());
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m512 now = _mm512_max_ps(maximum[v], _mm512_mul_ps(highest[v], scale));
      shrink[v] = exp2_vector<E::kExpDegree>(_mm512_sub_ps(maximum[v], now));
      maximum[v] = now;
      sum[v] = _mm512_mul_ps(sum[v], shrink[v]);
    }
    exponentials(count, scale, maximum, sum);
    const auto* weights = reinterpret_cast<const Word*>(scores_);
    for (int d = 0; d < kWidth; d += kScoreRows) {
      __m512 tile[kScoreRows][kPanelVectors];
      load(tile, out_ + d * kPanel, kPanel);
#pragma GCC unroll 8
      for (int r = 0; r < kScoreRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) tile[r][v] = _mm512_mul_ps(tile[r][v], shrink[v]);
      multiply<E>(tile, values_ + at / E::kStep * kWidth + d, 1, kWidth, weights, kPanel, (count + 1) / 2 * 2 / E::kStep);
      store(tile, out_ + d * kPanel, kPanel);
    }
  }

  // Scores become weights, in place: a pair of rows is read before the row or two it becomes are written.
  INLINE void exponentials(int count, __m512 scale, const __m512 (&maximum)[kPanelVectors],
                           __m512 (&sum)[kPanelVectors]) {
    auto* weights = reinterpret_cast<Word*>(scores_);
    for (int row = 0; row < count; row += 2) {
      const float* from = scores_ + row * kPanel;
      Word* to = weights + row / E::kStep * kPanel;
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVectors; ++v) {
        const __m512 s0 = _mm512_load_ps(from + v * kLanes), s1 = _mm512_load_ps(from + kPanel + v * kLanes);
        const __m512 e0 = exp2_vector<E::kExpDegree>(_mm512_fmsub_ps(s0, scale, maximum[v]));
        __m512 e1 = exp2_vector<E::kExpDegree>(_mm512_fmsub_ps(s1, scale, maximum[v]));
        if (row + 1 == count) e1 = _mm512_setzero_ps();
        sum[v] = _mm512_add_ps(sum[v], _mm512_add_ps(e0, e1));
        E::store_by_key(to + v * kLanes, e0, e1);
      }
    }
  }

  void write(long unit, long start, long count, const __m512 (&maximum)[kPanelVectors],
             const __m512 (&sum)[kPanelVectors]) {
    alignas(64) float top[kPanel], total[kPanel], share[kPanel];
    for (int v = 0; v < kPanelVectors; ++v) {
      _mm512_store_ps(top + v * kLanes, maximum[v]);
      _mm512_store_ps(total + v * kLanes, sum[v]);
      _mm512_store_ps(share + v * kLanes, _mm512_div_ps(_mm512_set1_ps(1.0f), sum[v]));
    }
    write_panel<E>(call_.mixed<E>(unit, call_.out), start, count, out_, share);
    float* lse = call_.lse + unit * call_.queries + start;
    for (long i = 0; i < count; ++i) lse[i] = top[i] + std::log2(total[i]);
  }

  const Call& call_;
  Word *keys_, *values_, *queries_;
  float *scores_, *out_;
};

template <class E, int kWidth>
class Backward {
  static constexpr int kWords = kWidth / E::kStep;
  static constexpr int kPanelWords = kPanel / E::kStep;
  static constexpr int kColumns = kWidth < 2 * kLanes ? 1 : 2;  // vectors of a tile of key gradients

 public:
  static std::size_t bytes(const Call& call) {
    const long rows = kKeysBackward, queries = packed(call);
    const long words = (3 * rows + 4 * queries) * kWords + queries * (kWidth + 2) +
                       kKeysBackward * (2 * kWidth + 3 * kPanelWords) + kScoreRows * kPanel;
    return up(sizeof(Word) * words + 2048, 64);
  }

  Backward(const Call& call, Scratch& scratch) : call_(call) {
    const long rows = kKeysBackward, queries = packed(call);
    for (Word** piece : {&keys_, &values_, &key_pairs_}) *piece = scratch.take<Word>(rows * kWords);
    for (Word** piece : {&queries_, &grads_, &query_pairs_, &grad_pairs_})
      *piece = scratch.take<Word>(queries * kWords);
    for (float** piece : {&lse_, &delta_}) *piece = scratch.take<float>(queries);
    query_grads_ = scratch.take<float>(queries * kWidth);
    for (float** piece : {&key_grads_, &value_grads_}) *piece = scratch.take<float>(kKeysBackward * kWidth);
    for (Word** piece : {&weights_, &score_grads_, &score_grads_by_key_})
      *piece = scratch.take<Word>(kKeysBackward * kPanelWords);
    exponentials_ = scratch.take<float>(kScoreRows * kPanel);
  }

  void run(long unit) {
    if (!once(call_)) pack_queries(unit, 0, packed(call_));
    for (long key = 0; key < call_.keys; key += kKeysBackward) {
      pack_keys(unit, key);
      std::memset(key_grads_, 0, sizeof(float) * kKeysBackward * kWidth);
      std::memset(value_grads_, 0, sizeof(float) * kKeysBackward * kWidth);
      for (long query = 0; query < call_.queries; query += kPanel) {
        if (once(call_)) pack_queries(unit, query, kPanel);
        block(call_.keys - key, once(call_) ? 0 : query);
        if (once(call_)) write_query_gradients(unit, query, 0);
      }
      write_key_gradients(unit, key);
    }
    for (long query = 0; !once(call_) && query < call_.queries; query += kPanel)
      write_query_gradients(unit, query, query);
  }

 private:
  // Queries that ask one block of keys are packed panel by panel: nobody needs them again.
  static bool once(const Call& call) { return call.keys <= kKeysBackward; }
  static long packed(const Call& call) { return once(call) ? kPanel : up(call.queries, kPanel); }

  void pack_keys(long unit, long key) {
    const Rows<E> k = call_.of_keys<E>(unit, call_.k).from(key), v = call_.of_keys<E>(unit, call_.v).from(key);
    pack_rows<E>(keys_, k, kWidth, kKeysBackward);
    pack_rows<E>(values_, v, kWidth, kKeysBackward);
    pack_pairs<E>(key_pairs_, k, kWidth, kKeysBackward);
  }

  // `rows` queries from number `start` on.
  void pack_queries(long unit, long start, long rows) {
    Rows<E> q = call_.of_queries<E>(unit, call_.q).from(start);
    Rows<E> out = call_.mixed<E>(unit, call_.out).from(start), grad = call_.mixed<E>(unit, call_.grad_out).from(start);
    const long count = std::min(rows, call_.queries - start);
    q.count = grad.count = count;
    pack_panels<E>(queries_, q, kWidth);
    pack_panels<E>(grads_, grad, kWidth);
    pack_pairs<E>(query_pairs_, q, kWidth, rows);
    pack_pairs<E>(grad_pairs_, grad, kWidth, rows);
    std::memset(query_grads_, 0, sizeof(float) * rows * kWidth);
    for (long i = 0; i < rows; ++i) {
      __m512 delta = _mm512_setzero_ps();
      for (int d = 0; i < count && d < call_.width; d += kLanes) {
        const auto mask = static_cast<__mmask16>(first_bits(call_.width - d));
        delta = _mm512_fmadd_ps(E::load(grad[i] + d, mask), E::load(out[i] + d, mask), delta);
      }
      delta_[i] = _mm512_reduce_add_ps(delta);
      lse_[i] = i < count ? call_.lse[unit * call_.queries + start + i] : 0.0f;
    }
  }

  // The block of keys, the first of which are so many of the call's, and the panel of queries that is packed at `query`.
  INLINE void block(long count, long query) {
    const int rows = count <= kFewKeys ? kFewKeys : kKeysBackward;  // of a few induced points not the whole block
    for (int row = 0; row < rows; row += kScoreRows) score_gradients(query, row, count);
    const long panel = query * kWords;
    for (int row = 0; row < rows; row += kKeyRows)
      for (int d = 0; d < kWidth; d += kColumns * kLanes) {
        key_gradients(value_grads_ + row * kWidth + d, weights_ + row * kPanelWords, grad_pairs_ + panel + d);
        key_gradients(key_grads_ + row * kWidth + d, score_grads_ + row * kPanelWords, query_pairs_ + panel + d);
      }
    for (int d = 0; d < kWidth; d += kScoreRows) {
      float* sums = query_grads_ + query * kWidth + d * kPanel;
      __m512 tile[kScoreRows][kPanelVectors];
      load(tile, sums, kPanel);
      multiply<E>(tile, key_pairs_ + d, 1, kWidth, score_grads_by_key_, kPanel, rows / E::kStep);
      store(tile, sums, kPanel);
    }
  }

  // P and dS of eight keys and a panel of queries; rows past the last key are zero.
  INLINE void score_gradients(long query, int row, long count) {
    const __m512 scale = _mm512_set1_ps(call_.scale_base_2());
    __m512 tile[kScoreRows][kPanelVectors];
    clear(tile);
    multiply<E>(tile, keys_ + row * kWords, kWords, 1, queries_ + query * kWords, kPanel, kWords);
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m512 lse = _mm512_load_ps(lse_ + query + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kScoreRows; r += 2) {
        __m512 p[2];
        for (int i = 0; i < 2; ++i) {
          p[i] = exp2_vector<E::kExpDegree>(_mm512_fmsub_ps(tile[r + i][v], scale, lse));
          p[i] = _mm512_maskz_mov_ps(row + r + i < count ? 0xffff : 0, p[i]);
          _mm512_store_ps(exponentials_ + (r + i) * kPanel + v * kLanes, p[i]);
        }
        Word* to = weights_ + (row + r) * kPanelWords + v * kLanes / E::kStep;
        E::store_by_query(to, to + kPanelWords, p[0], p[1]);
      }
    }
    clear(tile);
    multiply<E>(tile, values_ + row * kWords, kWords, 1, grads_ + query * kWords, kPanel, kWords);
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m512 delta = _mm512_load_ps(delta_ + query + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kScoreRows; r += 2) {
        __m512 g[2];
        for (int i = 0; i < 2; ++i) {
          const __m512 p = _mm512_load_ps(exponentials_ + (r + i) * kPanel + v * kLanes);
          g[i] = _mm512_mul_ps(p, _mm512_sub_ps(tile[r + i][v], delta));
        }
        Word* to = score_grads_ + (row + r) * kPanelWords + v * kLanes / E::kStep;
        E::store_by_query(to, to + kPanelWords, g[0], g[1]);
        E::store_by_key(score_grads_by_key_ + (row + r) / E::kStep * kPanel + v * kLanes, g[0], g[1]);
      }
    }
  }

  // dV += P^T dO or dK += dS^T Q, twelve keys at a time.
  INLINE void key_gradients(float* sums, const Word* left, const Word* right) {
    __m512 tile[kKeyRows][kColumns];
    load(tile, sums, kWidth);
    multiply<E>(tile, left, kPanelWords, 1, right, kWidth, kPanelWords);
    store(tile, sums, kWidth);
  }

  void write_query_gradients(long unit, long start, long from) {
    alignas(64) float scale[kPanel];
    for (float& value : scale) value = call_.scale();
    write_panel<E>(call_.of_queries<E>(unit, call_.grad_q), start, std::min<long>(call_.queries - start, kPanel),
                   query_grads_ + from * kWidth, scale);
  }

  void write_key_gradients(long unit, long key) {
    const Rows<E> keys = call_.of_keys<E>(unit, call_.grad_k), values = call_.of_keys<E>(unit, call_.grad_v);
    for (long j = 0; j < kKeysBackward && key + j < call_.keys; ++j) {
      auto* key_row = const_cast<typename E::Element*>(keys[key + j]);
      auto* value_row = const_cast<typename E::Element*>(values[key + j]);
      for (int d = 0; d < call_.width; d += kLanes) {
        const auto mask = static_cast<__mmask16>(first_bits(call_.width - d));
        const __m512 sum = _mm512_load_ps(key_grads_ + j * kWidth + d);
        E::store(key_row + d, mask, _mm512_mul_ps(sum, _mm512_set1_ps(call_.scale())));
        E::store(value_row + d, mask, _mm512_load_ps(value_grads_ + j * kWidth + d));
      }
    }
  }

  const Call& call_;
  Word *keys_, *values_, *key_pairs_, *queries_, *grads_, *query_pairs_, *grad_pairs_;
  Word *weights_, *score_grads_, *score_grads_by_key_;
  float *lse_, *delta_, *query_grads_, *key_grads_, *value_grads_, *exponentials_;
};

// Every thread takes the next head that nobody has taken, until there are none.
struct Work {
  Call call;
  std::atomic<long> next{0};
  std::atomic<bool> out_of_memory{false};
};

template <class Pass>
void work(void* data) {
  auto& shared = *static_cast<Work*>(data);
  Scratch scratch(up(static_cast<long>(Pass::bytes(shared.call)), 64));
  if (!scratch) {
    shared.out_of_memory = true;
    return;
  }
  Pass pass(shared.call, scratch);
  for (long unit = shared.next++; unit < shared.call.wells * shared.call.heads; unit = shared.next++) pass.run(unit);
}

template <class E, template <class, int> class Pass>
int run(const Call& call, int threads) {
  Work shared;
  shared.call = call;
  const long units = call.wells * call.heads;
  const int used = static_cast<int>(units < threads ? units : threads);
  if (call.width <= 16) run_on_threads(used, work<Pass<E, 16>>, &shared);
  else if (call.width <= 32) run_on_threads(used, work<Pass<E, 32>>, &shared);
  else if (call.width <= 64) run_on_threads(used, work<Pass<E, 64>>, &shared);
  else if (call.width <= 128) run_on_threads(used, work<Pass<E, 128>>, &shared);
  else return 2;
  return shared.out_of_memory ? 1 : 0;
}

template <template <class, int> class Pass>
int run(const Call& call, int bf16, int threads) {
#ifdef __AVX512BF16__
  if (bf16) return run<BFloat16, Pass>(call, threads);
#endif
  return bf16 ? 2 : run<Float32, Pass>(call, threads);
}

}  // namespace
}  // namespace DPF_PANEL_NAME
