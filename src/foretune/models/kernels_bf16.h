// Products and attention of kernels.cpp in bf16 dot products with fp32 sums, where the processor has them (AVX512-BF16).
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

// Rows of bf16, two by two, as rows of pairs: [rows, columns] -> [rows / 2, columns]; a row too few counts as 0.
inline void interleave(const bf16* in, i64 rows, i64 ldi, i64 columns, pair* out, i64 ldo) {
  for (i64 r = 0; r < rows; r += 2) {
    const bf16 *even = in + r * ldi, *odd = even + ldi;
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
    for (i64 c = 0; c < columns; c += VL)
      turn_block(in + r * ldi + c, std::min(i64(VL), rows - r), ldi, std::min(i64(VL), columns - c), out + c * ldo + r, ldo);
}

// ---- a product of flat tokens ---------------------------------------------------------------------------------------

// One summand of Y [T, O]: X [T, I] times W, which lies as [O, I] (`turned`) or as [I, O].
struct Factor { const bf16 *x, *w; i64 ldx, ldw, I; int turned; };

constexpr i64 PANEL = PV * VL;      // columns of W packed together
constexpr i64 ROWS = 48 * PR;       // rows of X that a thread takes at once
constexpr i64 MOST_PAIRS = 1 << 21;  // packed at once

// Columns [n, n + columns) of W as pairs, [I / 2, PANEL].
inline void pack_panel(const Factor& f, i64 n, i64 columns, pair* out) {
  if (f.turned)
    turn(pairs(f.w + n * f.ldw), columns, f.ldw / 2, f.I / 2, out, PANEL);
  else
    interleave(f.w + n, f.I, f.ldw, columns, out, PANEL);
}

template <class Y>
void write_rows(const float* sums, const Y* residual, const bf16* bias, Y* y, i64 rows, i64 columns, i64 O) {
  for (i64 r = 0; r < rows; ++r)
    over(columns, [&](i64 c, i64 n) {
      vf v = load(sums + r * PANEL + c);
      if (bias) v += get(bias + c, n);
      if (residual) v += get(residual + r * O + c, n);
      put(y + r * O + c, v, n);
    });
}

// Rows [first, last) and columns [n, n + PANEL) of a product, from a packed panel.
template <class Y>
void product_block(const Factor* factors, int num, const pair* packed, const Y* residual, const bf16* bias, Y* y, i64 first,
                   i64 last, i64 n, i64 O) {
  alignas(64) float sums[PR * PANEL];
  i64 columns = std::min(PANEL, O - n);
  for (i64 t = first; t < last; t += PR) {
    i64 rows = std::min(i64(PR), last - t);
    const pair* from = packed;
    for (int i = 0; i < num; from += factors[i++].I / 2 * PANEL)
      pair_rows(rows, padded(columns), factors[i].I / 2, pairs(factors[i].x + t * factors[i].ldx), factors[i].ldx / 2, 1,
                from, PANEL, sums, PANEL, i > 0);
    write_rows(sums, residual ? residual + t * O + n : nullptr, bias ? bias + n : nullptr, y + t * O + n, rows, columns, O);
  }
}

// Y [T, O] = residual + bias + the sum of the factors' products; even widths I. Weights are packed a few panels at a
// time, by all threads, before all of them multiply.
template <class Y>
void product(const Factor* factors, int num, const Y* residual, const bf16* bias, Y* y, i64 T, i64 O, int threads) {
  i64 panels = (O + PANEL - 1) / PANEL, blocks = (T + ROWS - 1) / ROWS, depth = 0;
  for (int i = 0; i < num; ++i) depth += factors[i].I / 2;
  i64 size = depth * PANEL, most = std::min(panels, std::max(MOST_PAIRS / size, i64(8)));
  static thread_local std::vector<pair> shared;
  if (i64(shared.size()) < most * size) shared.resize(most * size);
  pair* packed = shared.data();
#pragma omp parallel num_threads(threads) if (threads > 1)
  for (i64 begin = 0; begin < panels; begin += most) {
    i64 here = std::min(most, panels - begin);
#pragma omp for schedule(static)
    for (i64 p = 0; p < here; ++p) {
      pair* to = packed + p * size;
      i64 n = (begin + p) * PANEL;
      for (int i = 0; i < num; to += factors[i++].I / 2 * PANEL) pack_panel(factors[i], n, std::min(PANEL, O - n), to);
    }
#pragma omp for schedule(dynamic)
    for (i64 task = 0; task < here * blocks; ++task) {
      i64 p = task / blocks, n = (begin + p) * PANEL, first = task % blocks * ROWS;
      product_block(factors, num, packed + p * size, residual, bias, y, first, std::min(T, first + ROWS), n, O);
    }
  }
}

// ---- a sum over tokens ----------------------------------------------------------------------------------------------

constexpr int OUTER = 12;  // rows of a block of a sum over tokens; two vectors wide

// C [M, 32] = H^T Y over tokens, two by two: H as pairs [T / 2, R], Y as it lies.
template <int M>
void outer_block(i64 T, const pair* h, i64 R, const bf16* y, i64 ldy, __mmask32 mask, float* c, i64 ldc) {
  alignas(64) uint16_t order[2][32];
  for (int i = 0; i < 32; ++i)
    for (int n = 0; n < 2; ++n) order[n][i] = uint16_t(i / 2 + 16 * n + (i % 2 ? 32 : 0));
  __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
  __m512 sums[M][2];
  for (int m = 0; m < M; ++m) sums[m][0] = sums[m][1] = _mm512_setzero_ps();
  for (i64 t = 0; t < T; t += 2) {
    __m512i even = _mm512_maskz_loadu_epi16(mask, y + t * ldy);
    __m512i odd = t + 1 < T ? _mm512_maskz_loadu_epi16(mask, y + (t + 1) * ldy) : _mm512_setzero_si512();
    __m512bh right[2] = {(__m512bh)_mm512_permutex2var_epi16(even, low, odd), (__m512bh)_mm512_permutex2var_epi16(even, high, odd)};
    for (int m = 0; m < M; ++m) {
      __m512bh left = (__m512bh)_mm512_set1_epi32(int(h[t / 2 * R + m]));
      for (int n = 0; n < 2; ++n) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], left, right[n]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < 2; ++n) _mm512_mask_storeu_ps(c + m * ldc + n * VL, __mmask16(mask >> (n * VL)), sums[m][n]);
}

using OuterBlock = void (*)(i64, const pair*, i64, const bf16*, i64, __mmask32, float*, i64);
constexpr OuterBlock OUTER_BLOCKS[OUTER] = {outer_block<1>, outer_block<2>,  outer_block<3>,  outer_block<4>,
                                            outer_block<5>, outer_block<6>,  outer_block<7>,  outer_block<8>,
                                            outer_block<9>, outer_block<10>, outer_block<11>, outer_block<12>};

// C [R, N] = H^T Y of H [T, R] and Y [T, N], in fp32.
inline void outer(const bf16* h, i64 ldh, const bf16* y, i64 ldy, float* c, i64 T, i64 R, i64 N, int threads) {
  static thread_local std::vector<pair> turned;
  if (i64(turned.size()) < (T + 1) / 2 * R) turned.resize((T + 1) / 2 * R);
  const pair* left = turned.data();
  interleave(h, T, ldh, R, turned.data(), R);
  i64 parts = (R + OUTER - 1) / OUTER, most = (R + parts - 1) / parts;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (i64 n = 0; n < N; n += 2 * VL)
    for (i64 r = 0; r < R; r += most) {
      __mmask32 mask = N - n >= 2 * VL ? __mmask32(-1) : __mmask32((1u << (N - n)) - 1);
      i64 rows = std::min(most, R - r);
      OUTER_BLOCKS[rows - 1](T, left + r, R, y + n, ldy, mask, c + r * N + n, N);
    }
}
