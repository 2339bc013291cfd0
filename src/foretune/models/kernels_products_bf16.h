// Products of flat tokens and their low-rank changes in bf16 dot products with fp32 sums (AVX512-BF16).
// SPDX-License-Identifier: Apache-2.0
//
// Every sum stays in registers until it is written, once: residual + bias + x W + (x A) B. Shapes: T tokens, I inputs,
// O outputs, R ranks of all adapters of one input.

constexpr i64 PANEL = PV * VL;       // columns of a right factor packed together
constexpr i64 ROWS = 48 * PR;        // rows that a thread takes at once; a multiple of every height
constexpr i64 MOST_PAIRS = 1 << 21;  // packed at once
constexpr i64 HEIGHTS[PV] = {16, 12, 8, PR};  // rows of a block of 1 to PV vectors

// One adapter: outputs [start, end), ranks [column, column + rank). A [rank, I] and B [end - start, rank] in fp32.
struct Slot { i64 start, end, column, rank; double scale; float *a, *b; };
struct Slots { const Slot* slot; i64 num; };

// One summand of Y [T, O]: X [T, I] times W, which lies as [O, I] (`turned`) or as [I, O]. With slots W is 0 but for
// the ranks of an output's own adapter.
struct Factor { const bf16 *x, *w; i64 ldx, ldw, I; int turned; Slots slots; };

// A summand of a block: pairs of X, row by row, and a packed panel.
struct Term { const pair* a; i64 row; const pair* b; i64 depth; };

template <class Y> struct Output { const Y* residual; const bf16* bias; Y* y; i64 ld; };

inline __mmask16 mask_of(i64 n) { return n >= VL ? __mmask16(-1) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1); }
inline __m512 load_masked(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
inline __m512 load_masked(const bf16* p, __mmask16 m) {
  return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16);
}
inline void store_masked(float* p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }
inline void store_masked(bf16* p, __mmask16 m, __m512 v) { _mm256_mask_storeu_epi16(p, m, rounded((vf)v)); }

// M rows and N vectors of the sum of all terms, with residual and bias.
template <int M, int N, class Y>
void sum_block(const Term* terms, int num, const Output<Y>& out, i64 columns) {
  __m512 sums[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) {
      sums[m][n] = _mm512_setzero_ps();
      if (out.residual) _mm_prefetch((const char*)(out.residual + m * out.ld + n * VL), _MM_HINT_T0);
    }
  for (int i = 0; i < num; ++i) {
    const pair *a = terms[i].a, *b = terms[i].b;
    i64 row = terms[i].row, depth = terms[i].depth;
    for (i64 k = 0; k < depth; ++k) {
      __m512bh right[N];
      for (int n = 0; n < N; ++n) right[n] = (__m512bh)_mm512_loadu_si512(b + k * PANEL + n * VL);
      for (int m = 0; m < M; ++m) {
        __m512bh left = (__m512bh)_mm512_set1_epi32(int(a[m * row + k]));
        for (int n = 0; n < N; ++n) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], left, right[n]);
      }
    }
  }
  for (int n = 0; n < N; ++n) {
    __mmask16 mask = mask_of(columns - n * VL);
    __m512 bias = out.bias ? load_masked(out.bias + n * VL, mask) : _mm512_setzero_ps();
    for (int m = 0; m < M; ++m) {
      __m512 v = _mm512_add_ps(sums[m][n], bias);
      if (out.residual) v = _mm512_add_ps(v, load_masked(out.residual + m * out.ld + n * VL, mask));
      store_masked(out.y + m * out.ld + n * VL, mask, v);
    }
  }
}

template <class Y> using SumBlock = void (*)(const Term*, int, const Output<Y>&, i64);
template <class Y, int M>
constexpr SumBlock<Y> SUM_ROW[PV] = {sum_block<M, 1, Y>, sum_block<M, 2, Y>, sum_block<M, 3, Y>, sum_block<M, 4, Y>};
template <class Y>
constexpr const SumBlock<Y>* SUM_BLOCKS[PR] = {SUM_ROW<Y, 1>, SUM_ROW<Y, 2>, SUM_ROW<Y, 3>, SUM_ROW<Y, 4>, SUM_ROW<Y, 5>, SUM_ROW<Y, 6>};
template <class Y>
constexpr SumBlock<Y> HIGH_BLOCKS[PV] = {sum_block<HEIGHTS[0], 1, Y>, sum_block<HEIGHTS[1], 2, Y>, sum_block<HEIGHTS[2], 3, Y>, sum_block<HEIGHTS[3], 4, Y>};

// Ranks that columns [n, n + columns) of a factor read, from an even one on; all inputs where it has no slots.
struct Span { i64 first, num; };
inline Span span_of(const Factor& f, i64 n, i64 columns) {
  if (!f.slots.num) return {0, f.I};
  i64 first = f.I, last = 0;
  for (i64 i = 0; i < f.slots.num; ++i) {
    const Slot& s = f.slots.slot[i];
    if (s.start >= n + columns || s.end <= n) continue;
    first = std::min(first, s.column / 2 * 2);
    last = std::max(last, (s.column + s.rank + 1) / 2 * 2);
  }
  return {first, std::max(last - first, i64(0))};
}

// Columns [n, n + columns) of W as pairs, [span / 2, PANEL].
inline void pack_panel(const Factor& f, i64 n, i64 columns, pair* out) {
  Span span = span_of(f, n, columns);
  if (f.turned)
    turn(pairs(f.w + n * f.ldw + span.first), columns, f.ldw / 2, span.num / 2, out, PANEL);
  else
    interleave(f.w + span.first * f.ldw + n, span.num, f.ldw, columns, out, PANEL);
}

// Rows [first, last) and columns [n, n + PANEL) of a product, from a packed panel.
template <class Y>
void product_block(const Factor* factors, int num, const pair* packed, const Output<Y>& out, i64 first, i64 last, i64 n, i64 O) {
  i64 columns = std::min(PANEL, O - n), vectors = (columns + VL - 1) / VL, high = HEIGHTS[vectors - 1];
  Span spans[2];
  for (int i = 0; i < num; ++i) spans[i] = span_of(factors[i], n, columns);
  for (i64 t = first, rows; t < last; t += rows) {
    rows = last - t >= high ? high : std::min(i64(PR), last - t);
    Term terms[2];
    const pair* from = packed;
    for (int i = 0; i < num; from += spans[i++].num / 2 * PANEL)
      terms[i] = {pairs(factors[i].x + t * factors[i].ldx + spans[i].first), factors[i].ldx / 2, from, spans[i].num / 2};
    i64 at = t * out.ld + n;
    Output<Y> part{out.residual ? out.residual + at : nullptr, out.bias ? out.bias + n : nullptr, out.y + at, out.ld};
    (rows == high ? HIGH_BLOCKS<Y>[vectors - 1] : SUM_BLOCKS<Y>[rows - 1][vectors - 1])(terms, num, part, columns);
  }
}

// Y [T, O] = residual + bias + the sum of at most two factors' products; even widths I. Weights are packed a few panels
// at a time, by all threads, before all of them multiply.
template <class Y>
void product(const Factor* factors, int num, const Output<Y>& out, i64 T, i64 O, int threads) {
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
      i64 n = (begin + p) * PANEL, columns = std::min(PANEL, O - n);
      for (int i = 0; i < num; to += span_of(factors[i++], n, columns).num / 2 * PANEL) pack_panel(factors[i], n, columns, to);
    }
#pragma omp for schedule(dynamic)
    for (i64 task = 0; task < here * blocks; ++task) {
      i64 p = task / blocks, n = (begin + p) * PANEL, first = task % blocks * ROWS;
      product_block(factors, num, packed + p * size, out, first, std::min(T, first + ROWS), n, O);
    }
  }
}

// ---- a sum over tokens ----------------------------------------------------------------------------------------------

constexpr i64 CHUNK = 128;      // tokens that are packed at once
constexpr i64 MOST_PANELS = 8;  // side by side: rows of Y are read in pieces of 1 KiB, not of a cache line

// Calls write(sums [R, PANEL], first column, columns) for all of H^T Y of H [T, R] and Y [T, N]. Rows of Y lie far
// apart, so a few of them are packed before the next ones are read.
template <class Write>
void outer(const bf16* h, i64 ldh, const bf16* y, i64 ldy, i64 T, i64 R, i64 N, int threads, Write write) {
  static thread_local std::vector<pair> turned;
  if (i64(turned.size()) < (T + 1) / 2 * R) turned.resize((T + 1) / 2 * R);
  const pair* left = turned.data();
  interleave(h, T, ldh, R, turned.data(), R);
  i64 panels = (N + PANEL - 1) / PANEL, groups = (panels + MOST_PANELS - 1) / MOST_PANELS;
  i64 width = (panels + groups - 1) / groups, parts = (R + PR - 1) / PR, high = (R + parts - 1) / parts;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (i64 begin = 0; begin < panels; begin += width) {
    static thread_local std::vector<pair> packed;
    static thread_local std::vector<float> sums;
    i64 end = std::min(panels, begin + width), size = CHUNK / 2 * PANEL;
    if (i64(packed.size()) < width * size) packed.resize(width * size);
    if (i64(sums.size()) < width * R * PANEL) sums.resize(width * R * PANEL);
    for (i64 t = 0; t < T; t += CHUNK) {
      i64 num = std::min(CHUNK, T - t), depth = (num + 1) / 2;
      for (i64 k = 0; k < depth; ++k)
        for (i64 p = begin; p < end; ++p)
          interleave(y + (t + 2 * k) * ldy + p * PANEL, std::min(i64(2), num - 2 * k), ldy, std::min(PANEL, N - p * PANEL),
                     packed.data() + (p - begin) * size + k * PANEL, PANEL);
      for (i64 p = begin; p < end; ++p)
        for (i64 r = 0; r < R; r += high)
          pair_rows(std::min(high, R - r), padded(std::min(PANEL, N - p * PANEL)), depth, left + t / 2 * R + r, 1, R,
                    packed.data() + (p - begin) * size, PANEL, sums.data() + ((p - begin) * R + r) * PANEL, PANEL, t > 0);
    }
    for (i64 p = begin; p < end; ++p)
      write(sums.data() + (p - begin) * R * PANEL, p * PANEL, std::min(PANEL, N - p * PANEL));
  }
}

// Rows of a block of sums, each to its place.
inline void write_rows(const float* sums, float* out, i64 ld, i64 R, i64 columns) {
  for (i64 r = 0; r < R; ++r) std::memcpy(out + r * ld, sums + r * PANEL, columns * sizeof(float));
}

// A block of sums turned over and scaled: out [columns, R].
inline void write_turned(const float* sums, float* out, i64 R, i64 columns, float scale) {
  alignas(64) float turned[PANEL * VL];
  for (i64 r = 0; r < R; r += VL) {
    __mmask16 mask = mask_of(R - r);
    turn((const pair*)sums + r * PANEL, std::min(i64(VL), R - r), PANEL, columns, (pair*)turned, VL);
    for (i64 c = 0; c < columns; ++c) store_masked(out + c * R + r, mask, (__m512)(load(turned + c * VL) * scale));
  }
}

// ---- a product with adapters ----------------------------------------------------------------------------------------

// Where every slot begins and ends at a pair, each is multiplied by itself.
inline Slots even(const Slots& s) {
  for (i64 i = 0; i < s.num; ++i)
    if ((s.slot[i].start | s.slot[i].end | s.slot[i].column | s.slot[i].rank) & 1) return {nullptr, 0};
  return s;
}

// A of all adapters below each other, [R, I], and the scaled B of all as a block diagonal, [O, R].
inline void join_ranks(const Slots& s, i64 I, i64 O, i64 R, bf16* a, bf16* b) {
  std::memset((void*)b, 0, O * R * sizeof(bf16));
  for (i64 i = 0; i < s.num; ++i) {
    const Slot& slot = s.slot[i];
    over(slot.rank * I, [&](i64 at, i64 n) { put(a + slot.column * I + at, get(slot.a + at, n), n); });
    for (i64 o = slot.start; o < slot.end; ++o)
      over(slot.rank, [&](i64 r, i64 n) {
        put(b + o * R + slot.column + r, get(slot.b + (o - slot.start) * slot.rank + r, n) * float(slot.scale), n);
      });
  }
}

struct Sides { i64 T, I, O, R; };

template <class Y>
void adapted(const bf16* x, const bf16* seen, const bf16* w, const Slots& s, const Output<Y>& out, bf16* a, bf16* b, bf16* h,
             const Sides& z, int threads) {
  join_ranks(s, z.I, z.O, z.R, a, b);
  Factor down{seen, a, z.I, z.I, z.I, 1, {}};
  product(&down, 1, Output<bf16>{nullptr, nullptr, h, z.R}, z.T, z.R, threads);
  Factor both[2] = {{x, w, z.I, z.I, z.I, 1, {}}, {h, b, z.R, z.R, z.R, 1, even(s)}};
  product(both, 2, out, z.T, z.O, threads);
}

// dh [T, R] = dy B, each adapter from its own outputs.
inline void rank_gradient(const bf16* dy, const bf16* b, const Slots& s, bf16* dh, const Sides& z, int threads) {
  Slots each = even(s);
  Slot all{0, z.O, 0, z.R, 1, nullptr, nullptr};
  if (!each.num) each = {&all, 1};
  for (i64 i = 0; i < each.num; ++i) {
    const Slot& slot = each.slot[i];
    Factor up{dy + slot.start, b + slot.start * z.R + slot.column, z.O, z.R, slot.end - slot.start, 0, {}};
    product(&up, 1, Output<bf16>{nullptr, nullptr, dh + slot.column, z.R}, z.T, slot.rank, threads);
  }
}

// Gradients of every A and B into the slots' places, of x W + (x A) B into dx [T, I] (null: not wanted).
inline void adapted_backward(const bf16* dy, const bf16* seen, const bf16* h, const bf16* w, const bf16* a, const bf16* b,
                             const Slots& s, bf16* dh, bf16* dx, const Sides& z, int threads) {
  rank_gradient(dy, b, s, dh, z, threads);
  Factor both[2] = {{dy, w, z.O, z.I, z.O, 0, {}}, {dh, a, z.R, z.I, z.R, 0, {}}};
  if (dx) product(both, 2, Output<bf16>{nullptr, nullptr, dx, z.I}, z.T, z.I, threads);
  outer(dh, z.R, seen, z.I, z.T, z.R, z.I, threads, [&](const float* sums, i64 n, i64 columns) {
    for (i64 i = 0; i < s.num; ++i)
      write_rows(sums + s.slot[i].column * PANEL, s.slot[i].a + n, z.I, s.slot[i].rank, columns);
  });
  for (i64 i = 0; i < s.num; ++i) {
    const Slot& slot = s.slot[i];
    outer(h + slot.column, z.R, dy + slot.start, z.O, z.T, slot.rank, slot.end - slot.start, threads,
          [&](const float* sums, i64 n, i64 columns) {
            write_turned(sums, slot.b + n * slot.rank, slot.rank, columns, float(slot.scale));
          });
  }
}
