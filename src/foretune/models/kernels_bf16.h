// What products and attention share in bf16 dot products with fp32 sums, where the processor has them (AVX512-BF16).
// SPDX-License-Identifier: Apache-2.0
//
// A pair is two bf16 neighbours of the dimension that is summed over, in one 32-bit word: what vdpbf16ps multiplies.
// A left factor is read pair by pair, a right factor as vectors of pairs: [summed / 2, columns]. Attention packs the
// keys and values of a tree once; every segment begins at a slot that a vector starts at, the slots behind it are 0.
//
// Shapes as in kernels.cpp; W keys of a range, filled up to whole vectors.

using pair = uint32_t;
constexpr int PR = 6, PV = 4;  // rows and vectors of a block

inline const pair* pairs(const bf16* p) { return (const pair*)p; }
inline __m256i rounded(vf v) { return (__m256i)_mm512_cvtneps_pbh((__m512)v); }
inline __m512i interleaved(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}
inline __m512i masked_row(const pair* p, i64 n) { return _mm512_maskz_loadu_epi32(__mmask16((1u << n) - 1), p); }

// C [M, N vectors] = or += A B over `depth` pairs; a pair of A lies at a[m * row + k * column].
template <int M, int N>
void pair_block(i64 depth, const pair* a, i64 row, i64 column, const pair* b, i64 ldb, float* c, i64 ldc, bool adds) {
  __m512 sums[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sums[m][n] = adds ? _mm512_loadu_ps(c + m * ldc + n * VL) : _mm512_setzero_ps();
  for (i64 k = 0; k < depth; ++k) {
    __m512bh right[N];
    for (int n = 0; n < N; ++n) right[n] = (__m512bh)_mm512_loadu_si512(b + k * ldb + n * VL);
    for (int m = 0; m < M; ++m) {
      __m512bh left = (__m512bh)_mm512_set1_epi32(int(a[m * row + k * column]));
      for (int n = 0; n < N; ++n) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], left, right[n]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + m * ldc + n * VL, sums[m][n]);
}

using PairBlock = void (*)(i64, const pair*, i64, i64, const pair*, i64, float*, i64, bool);
template <int M> constexpr PairBlock PAIR_ROW[PV] = {pair_block<M, 1>, pair_block<M, 2>, pair_block<M, 3>, pair_block<M, 4>};
constexpr const PairBlock* PAIR_BLOCKS[PR] = {PAIR_ROW<1>, PAIR_ROW<2>, PAIR_ROW<3>, PAIR_ROW<4>, PAIR_ROW<5>, PAIR_ROW<6>};

// Up to PR rows of a product; `width` is a multiple of VL.
inline void pair_rows(i64 rows, i64 width, i64 depth, const pair* a, i64 row, i64 column, const pair* b, i64 ldb, float* c,
                      i64 ldc, bool adds) {
  for (i64 n = 0; n < width; n += PV * VL) {
    i64 vectors = std::min(i64(PV), (width - n) / VL);
    PAIR_BLOCKS[rows - 1][vectors - 1](depth, a, row, column, b + n, ldb, c + n, ldc, adds);
  }
}

constexpr i64 AHEAD = 16;  // rows that are fetched before they are read: they lie too far apart for the processor to guess

// Rows of bf16, two by two, as rows of pairs: [rows, columns] -> [rows / 2, columns]; a row too few counts as 0.
inline void interleave(const bf16* in, i64 rows, i64 ldi, i64 columns, pair* out, i64 ldo) {
  for (i64 r = 0; r < rows; r += 2) {
    const bf16 *even = in + r * ldi, *odd = even + ldi;
    for (i64 c = 0; c < columns; c += 2 * VL) {
      _mm_prefetch((const char*)(even + AHEAD * ldi + c), _MM_HINT_T0);
      _mm_prefetch((const char*)(odd + AHEAD * ldi + c), _MM_HINT_T0);
    }
    for (i64 c = 0; c < columns; c += VL) {
      __mmask16 m = columns - c >= VL ? __mmask16(-1) : __mmask16((1u << (columns - c)) - 1);
      __m256i first = _mm256_maskz_loadu_epi16(m, even + c);
      __m256i second = r + 1 < rows ? _mm256_maskz_loadu_epi16(m, odd + c) : _mm256_setzero_si256();
      _mm512_mask_storeu_epi32(out + r / 2 * ldo + c, m, interleaved(first, second));
    }
  }
}

// VL rows of up to VL pairs turned over: out[c * ldo + r] = in[r * ldi + c].
inline void turn_block(const pair* in, i64 rows, i64 ldi, i64 columns, pair* out, i64 ldo) {
  __m512i a[16], b[16];
  for (int r = 0; r < 16; ++r) a[r] = r < rows ? masked_row(in + r * ldi, columns) : _mm512_setzero_si512();
  for (int r = 0; r < 8; ++r) {
    b[2 * r] = _mm512_unpacklo_epi32(a[2 * r], a[2 * r + 1]);
    b[2 * r + 1] = _mm512_unpackhi_epi32(a[2 * r], a[2 * r + 1]);
  }
  for (int g = 0; g < 4; ++g)
    for (int h = 0; h < 2; ++h) {
      a[4 * g + 2 * h] = _mm512_unpacklo_epi64(b[4 * g + h], b[4 * g + 2 + h]);
      a[4 * g + 2 * h + 1] = _mm512_unpackhi_epi64(b[4 * g + h], b[4 * g + 2 + h]);
    }
  for (int j = 0; j < 4; ++j) {  // column 4 q + j of rows 4 g and on lies in lane q of a[4 g + j]
    __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x44), high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xee);
    __m512i low2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x44), high2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xee);
    b[j] = _mm512_shuffle_i32x4(low, low2, 0x88);
    b[4 + j] = _mm512_shuffle_i32x4(low, low2, 0xdd);
    b[8 + j] = _mm512_shuffle_i32x4(high, high2, 0x88);
    b[12 + j] = _mm512_shuffle_i32x4(high, high2, 0xdd);
  }
  for (i64 c = 0; c < std::min(i64(16), columns); ++c) _mm512_storeu_si512(out + c * ldo, b[c]);
}

// Rows of pairs turned over: [rows, columns] -> [columns, rows filled up to whole vectors].
inline void turn(const pair* in, i64 rows, i64 ldi, i64 columns, pair* out, i64 ldo) {
  for (i64 r = 0; r < rows; r += VL)
    for (i64 c = 0; c < columns; c += VL) {
      for (i64 i = VL; i < 2 * VL; ++i) _mm_prefetch((const char*)(in + (r + i) * ldi + c), _MM_HINT_T0);
      turn_block(in + r * ldi + c, std::min(i64(VL), rows - r), ldi, std::min(i64(VL), columns - c), out + c * ldo + r, ldo);
    }
}
