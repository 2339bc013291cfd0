// Fused kernels of the flat-token decoder for the CPU: norm, gate, cross-entropy, rotary attention. Plain C interface.
// SPDX-License-Identifier: Apache-2.0
//
// Storage is fp32 or bf16 (type code 0 or 1), arithmetic is fp32. Every function is held equal to the plain torch code
// by tests/parity/test_kernels.py. Attention follows Dao et al. 2022 (arXiv 2205.14135): probabilities are never kept,
// the backward pass computes them again from the log-sum-exp.
//
// Shapes: T tokens, D width, F gate width, M rows of logits, V vocabulary, H query heads, K key heads, E head width,
// L queries of a tile, S keys that a tile sees.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int VL = 16, MR = 6, NV = 4;  // floats of a vector, rows and vectors of a block of a product
#else
constexpr int VL = 8, MR = 4, NV = 2;
#endif

namespace {

using i64 = int64_t;
typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
struct bf16 { uint16_t bits; };

inline vf splat(float x) { return vf{} + x; }
inline vf load(const float* p) { vf v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
inline vf load(const bf16* p) {
  vh h; std::memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
#if defined(__AVX512BF16__)
inline void store(bf16* p, vf v) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh((__m512)v)); }
#else
inline void store(bf16* p, vf v) {  // round to nearest, ties to even; what is not a number stays so
  vu u = (vu)v;
  vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  vi odd = v != v;
  rounded = ((vu)odd & 0x7fc0u) | (~(vu)odd & rounded);
  vh h = __builtin_convertvector(rounded, vh);
  std::memcpy(p, &h, sizeof h);
}
#endif
inline float load1(const float* p) { return *p; }
inline float load1(const bf16* p) { uint32_t u = uint32_t(p->bits) << 16; float f; std::memcpy(&f, &u, 4); return f; }
inline void store1(float* p, float f) { *p = f; }
inline void store1(bf16* p, float f) {
  uint32_t u; std::memcpy(&u, &f, 4);
  p->bits = f != f ? 0x7fc0 : uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
template <class T> inline vf load_some(const T* p, i64 n) {  // the first n, the rest 0
  vf v = {};
  for (i64 i = 0; i < n; ++i) v[i] = load1(p + i);
  return v;
}
template <class T> inline void store_some(T* p, vf v, i64 n) { for (i64 i = 0; i < n; ++i) store1(p + i, v[i]); }
inline float sum(vf v) { float s = 0; for (int i = 0; i < VL; ++i) s += v[i]; return s; }
inline float top(vf v) { float s = v[0]; for (int i = 1; i < VL; ++i) s = std::max(s, v[i]); return s; }
inline vf larger(vf a, vf b) { return a > b ? a : b; }

// exp to 2 units in the last place between -87 and 88, clamped outside (Cephes, S. Moshier 1992: expf).
inline vf vexp(vf x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: its low bits hold the rounded power of two
  vf t = x * 1.44269504088896341f + magic;
  vf n = t - magic;
  vf r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return (vf)((vi)p + ((vi)t << 23));
}

// Calls f(vector of x at i, how many of it count) over a row.
template <class F> inline void over(i64 n, F f) {
  i64 i = 0;
  for (; i + VL <= n; i += VL) f(i, i64(VL));
  if (i < n) f(i, n - i);
}
template <class T> inline vf get(const T* p, i64 n) { return n == VL ? load(p) : load_some(p, n); }
template <class T> inline void put(T* p, vf v, i64 n) { n == VL ? store(p, v) : store_some(p, v, n); }

// ---- norm -----------------------------------------------------------------------------------------------------------

template <class X, class W, class Y>
void rms_norm(const X* x, const W* w, Y* y, float* inverse, i64 T, i64 D, float epsilon, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (i64 t = 0; t < T; ++t) {
    const X* xt = x + t * D;
    Y* yt = y + t * D;
    vf square = {};
    over(D, [&](i64 i, i64 n) { vf v = get(xt + i, n); square += v * v; });
    float scale = 1.0f / std::sqrt(sum(square) / float(D) + epsilon);
    inverse[t] = scale;
    over(D, [&](i64 i, i64 n) { put(yt + i, get(xt + i, n) * scale * get(w + i, n), n); });
  }
}

template <class X, class W, class Y>
void rms_norm_backward(const X* x, const W* w, const Y* dy, const float* inverse, X* dx, i64 T, i64 D, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (i64 t = 0; t < T; ++t) {
    const X* xt = x + t * D;
    const Y* dt = dy + t * D;
    float scale = inverse[t];
    vf dot = {};
    over(D, [&](i64 i, i64 n) { dot += get(dt + i, n) * get(w + i, n) * get(xt + i, n); });
    float mean = sum(dot) * scale * scale / float(D);
    X* out = dx + t * D;
    over(D, [&](i64 i, i64 n) {
      put(out + i, (get(dt + i, n) * get(w + i, n) - get(xt + i, n) * mean) * scale, n);
    });
  }
}

// ---- gate -----------------------------------------------------------------------------------------------------------

template <class X> void gated(const X* both, X* y, i64 T, i64 F, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (i64 t = 0; t < T; ++t) {
    const X *gate = both + t * 2 * F, *up = gate + F;
    X* out = y + t * F;
    over(F, [&](i64 i, i64 n) {
      vf g = get(gate + i, n);
      put(out + i, g / (1.0f + vexp(-g)) * get(up + i, n), n);
    });
  }
}

template <class X> void gated_backward(const X* both, const X* dy, X* dboth, i64 T, i64 F, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (i64 t = 0; t < T; ++t) {
    const X *gate = both + t * 2 * F, *up = gate + F, *d = dy + t * F;
    X *dgate = dboth + t * 2 * F, *dup = dgate + F;
    over(F, [&](i64 i, i64 n) {
      vf g = get(gate + i, n), v = get(d + i, n);
      vf s = 1.0f / (1.0f + vexp(-g));
      put(dup + i, v * g * s, n);
      put(dgate + i, v * get(up + i, n) * s * (1.0f + g * (1.0f - s)), n);
    });
  }
}

// ---- cross-entropy --------------------------------------------------------------------------------------------------

// Losses of rows of logits; with `has_gradient` the logits become their share, less one at the target, in place.
template <class X>
void cross_entropy(X* logits, const i64* targets, float* losses, uint8_t* right, i64 M, i64 V, int has_gradient,
                   int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (i64 m = 0; m < M; ++m) {
    X* row = logits + m * V;
    vf best = splat(-INFINITY);
    i64 whole = V / VL * VL;
    for (i64 i = 0; i < whole; i += VL) best = larger(load(row + i), best);
    float peak = top(best);
    for (i64 i = whole; i < V; ++i) peak = std::max(peak, load1(row + i));
    vf total = {};
    for (i64 i = 0; i < whole; i += VL) total += vexp(load(row + i) - peak);
    float mass = sum(total);
    for (i64 i = whole; i < V; ++i) mass += std::exp(load1(row + i) - peak);
    float chosen = load1(row + targets[m]);
    losses[m] = std::log(mass) + peak - chosen;
    right[m] = chosen >= peak;
    if (!has_gradient) continue;
    float scale = 1.0f / mass, at_target = std::exp(chosen - peak) * scale - 1.0f;
    for (i64 i = 0; i < whole; i += VL) store(row + i, vexp(load(row + i) - peak) * scale);
    for (i64 i = whole; i < V; ++i) store1(row + i, std::exp(load1(row + i) - peak) * scale);
    store1(row + targets[m], at_target);
  }
}

// ---- small products -------------------------------------------------------------------------------------------------

// C [M, N vectors] = or += A [M, k] B [k, N vectors]; an element of A lies at a[m * row + k * column].
template <int M, int N>
void block(i64 depth, const float* a, i64 row, i64 column, const float* b, i64 ldb, float* c, i64 ldc, bool adds) {
  vf sums[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sums[m][n] = adds ? load(c + m * ldc + n * VL) : vf{};
  for (i64 k = 0; k < depth; ++k) {
    vf right[N];
    for (int n = 0; n < N; ++n) right[n] = load(b + k * ldb + n * VL);
    for (int m = 0; m < M; ++m) {
      vf left = splat(a[m * row + k * column]);
      for (int n = 0; n < N; ++n) sums[m][n] += left * right[n];
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) store(c + m * ldc + n * VL, sums[m][n]);
}

using Block = void (*)(i64, const float*, i64, i64, const float*, i64, float*, i64, bool);
template <int M> struct Row {
  static Block of(i64 vectors) {
    switch (vectors) {
      case 1: return block<M, 1>;
      case 2: return block<M, 2>;
#if defined(__AVX512F__)
      case 3: return block<M, 3>;
#endif
      default: return block<M, NV>;
    }
  }
};
inline Block block_of(i64 rows, i64 vectors) {
  switch (rows) {
    case 1: return Row<1>::of(vectors);
    case 2: return Row<2>::of(vectors);
    case 3: return Row<3>::of(vectors);
#if defined(__AVX512F__)
    case 4: return Row<4>::of(vectors);
    case 5: return Row<5>::of(vectors);
#endif
    default: return Row<MR>::of(vectors);
  }
}

// Up to MR rows of a product; `width` is a multiple of VL.
inline void rows_of_product(i64 rows, i64 width, i64 depth, const float* a, i64 row, i64 column, const float* b, i64 ldb,
                            float* c, i64 ldc, bool adds) {
  for (i64 n = 0; n < width; n += NV * VL) {
    i64 vectors = std::min(i64(NV), (width - n) / VL);
    block_of(rows, vectors)(depth, a, row, column, b + n, ldb, c + n, ldc, adds);
  }
}

// ---- attention ------------------------------------------------------------------------------------------------------

inline i64 padded(i64 n) { return (n + VL - 1) / VL * VL; }

// A tile: queries [start, end) of a segment, whose keys are `num_ranges` ancestors' ranges and the segment from origin.
struct Tile { i64 start, end, origin, first_range, num_ranges; };
struct Tables { const Tile* tiles; const i64* ranges; const i64* trees; i64 num_trees; const float *cosine, *sine; };
struct Sizes { i64 H, K, E; float scale; i64 columns() const { return (H + 2 * K) * E; } };

template <class X> void read_rotated(const X* x, const float* cosine, const float* sine, float* out, i64 E) {
  i64 half = E / 2;
  over(half, [&](i64 i, i64 n) {
    vf first = get(x + i, n), second = get(x + half + i, n), c = get(cosine + i, n), s = get(sine + i, n);
    put(out + i, first * c - second * s, n);
    put(out + half + i, second * c + first * s, n);
  });
}
template <class X> void write_unrotated(const float* d, const float* cosine, const float* sine, X* out, i64 E) {
  i64 half = E / 2;
  over(half, [&](i64 i, i64 n) {
    vf first = get(d + i, n), second = get(d + half + i, n), c = get(cosine + i, n), s = get(sine + i, n);
    put(out + i, first * c + second * s, n);
    put(out + half + i, second * c - first * s, n);
  });
}
template <class X> void read_plain(const X* x, float* out, i64 E) {
  over(E, [&](i64 i, i64 n) { put(out + i, get(x + i, n), n); });
}
inline void transpose(const float* in, i64 rows, i64 ldi, i64 columns, float* out, i64 ldo) {
  for (i64 r = 0; r < rows; r += VL)
    for (i64 c = 0; c < columns; ++c)
      for (i64 i = r; i < std::min(rows, r + VL); ++i) out[c * ldo + i] = in[i * ldi + c];
}

#if defined(__AVX512BF16__)
#include "kernels_bf16.h"
#include "kernels_products_bf16.h"
#endif

// What one thread works with; sizes only grow.
struct Scratch {
  std::vector<float> keys, values, flipped, flipped_values, queries, scores, changes, douts, result, dkeys, dvalues, deltas;
  static float* of(std::vector<float>& v, i64 n) { if (i64(v.size()) < n) v.resize(n); return v.data(); }
};

// Keys and values that a tile sees, in fp32, keys rotated; returns their number.
template <class X>
i64 gather(const X* qkv, const Tables& t, const Sizes& z, const Tile& tile, i64 k, Scratch& s, i64 lde) {
  i64 num = tile.end - tile.origin;
  for (i64 r = 0; r < tile.num_ranges; ++r)
    num += t.ranges[2 * (tile.first_range + r) + 1] - t.ranges[2 * (tile.first_range + r)];
  float* keys = Scratch::of(s.keys, num * lde);
  float* values = Scratch::of(s.values, num * lde);
  i64 place = 0, half = z.E / 2;
  for (i64 r = 0; r <= tile.num_ranges; ++r) {
    bool own = r == tile.num_ranges;
    i64 begin = own ? tile.origin : t.ranges[2 * (tile.first_range + r)];
    i64 end = own ? tile.end : t.ranges[2 * (tile.first_range + r) + 1];
    for (i64 token = begin; token < end; ++token, ++place) {
      const X* row = qkv + token * z.columns();
      read_rotated(row + (z.H + k) * z.E, t.cosine + token * half, t.sine + token * half, keys + place * lde, z.E);
      read_plain(row + (z.H + z.K + k) * z.E, values + place * lde, z.E);
      for (i64 e = z.E; e < lde; ++e) keys[place * lde + e] = values[place * lde + e] = 0;
    }
  }
  return num;
}

template <class X>
void read_queries(const X* qkv, const Tables& t, const Sizes& z, const Tile& tile, i64 h, float* out, i64 lde) {
  i64 half = z.E / 2;
  for (i64 token = tile.start; token < tile.end; ++token) {
    float* row = out + (token - tile.start) * lde;
    read_rotated(qkv + token * z.columns() + h * z.E, t.cosine + token * half, t.sine + token * half, row, z.E);
    for (i64 e = z.E; e < lde; ++e) row[e] = 0;
  }
}

template <class X>
void tile_forward(const X* qkv, X* out, float* lse, const Tables& t, const Sizes& z, const Tile& tile, i64 k, Scratch& s) {
  i64 lde = padded(z.E), L = tile.end - tile.start, S = gather(qkv, t, z, tile, k, s, lde), lds = padded(S);
  i64 before = S - L;  // keys that every query of the tile sees, but itself and its neighbours
  float* flipped = Scratch::of(s.flipped, z.E * lds);
  for (i64 e = 0; e < z.E; ++e) std::fill(flipped + e * lds + S, flipped + e * lds + lds, 0.0f);
  transpose(s.keys.data(), S, lde, z.E, flipped, lds);
  float* queries = Scratch::of(s.queries, L * lde);
  float* scores = Scratch::of(s.scores, MR * lds);
  float* result = Scratch::of(s.result, MR * lde);
  for (i64 h = k * (z.H / z.K); h < (k + 1) * (z.H / z.K); ++h) {
    read_queries(qkv, t, z, tile, h, queries, lde);
    for (i64 i = 0; i < L; i += MR) {
      i64 rows = std::min(i64(MR), L - i), seen = before + i + rows;
      rows_of_product(rows, padded(seen), z.E, queries + i * lde, lde, 1, flipped, lds, scores, lds, false);
      for (i64 r = 0; r < rows; ++r) {
        float* row = scores + r * lds;
        i64 num = before + i + r + 1;
        vf best = splat(-INFINITY);
        over(num, [&](i64 j, i64 n) {
          if (n == VL) best = larger(load(row + j), best);
          else for (i64 q = 0; q < n; ++q) best[q] = std::max(best[q], row[j + q]);
        });
        float peak = top(best) * z.scale;
        vf total = {};
        over(num, [&](i64 j, i64 n) {
          vf p = vexp(get(row + j, n) * z.scale - peak);
          for (i64 q = n; q < VL; ++q) p[q] = 0;
          total += p;
          put(row + j, p, n);
        });
        float mass = sum(total);
        std::fill(row + num, row + padded(seen), 0.0f);
        lse[(tile.start + i + r) * z.H + h] = std::log(mass) + peak;
        float inverse = 1.0f / mass;
        over(num, [&](i64 j, i64 n) { put(row + j, get(row + j, n) * inverse, n); });
      }
      rows_of_product(rows, lde, seen, scores, lds, 1, s.values.data(), lde, result, lde, false);
      for (i64 r = 0; r < rows; ++r) {
        X* to = out + ((tile.start + i + r) * z.H + h) * z.E;
        over(z.E, [&](i64 e, i64 n) { put(to + e, get(result + r * lde + e, n), n); });
      }
    }
  }
}

template <class X>
void attention(const X* qkv, X* out, float* lse, const Tables& t, const Sizes& z, int threads) {
  i64 num = t.num_trees * z.K;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (i64 task = 0; task < num; ++task) {
    static thread_local Scratch scratch;
    i64 tree = task / z.K, k = task % z.K;
    for (i64 i = t.trees[3 * tree]; i < t.trees[3 * tree + 1]; ++i)
      tile_forward(qkv, out, lse, t, z, t.tiles[i], k, scratch);
  }
}

template <class X>
void tile_backward(const X* qkv, const X* out, const X* dout, const float* lse, X* dqkv, const Tables& t, const Sizes& z,
                   const Tile& tile, i64 k, i64 base, Scratch& s) {
  i64 lde = padded(z.E), L = tile.end - tile.start, S = gather(qkv, t, z, tile, k, s, lde), lds = padded(S);
  i64 before = S - L, half = z.E / 2;
  float* flipped = Scratch::of(s.flipped, z.E * lds);
  float* flipped_values = Scratch::of(s.flipped_values, z.E * lds);
  for (i64 e = 0; e < z.E; ++e) {
    std::fill(flipped + e * lds + S, flipped + e * lds + lds, 0.0f);
    std::fill(flipped_values + e * lds + S, flipped_values + e * lds + lds, 0.0f);
  }
  transpose(s.keys.data(), S, lde, z.E, flipped, lds);
  transpose(s.values.data(), S, lde, z.E, flipped_values, lds);
  float* queries = Scratch::of(s.queries, L * lde);
  float* douts = Scratch::of(s.douts, L * lde);
  float* scores = Scratch::of(s.scores, L * lds);    // probabilities
  float* changes = Scratch::of(s.changes, L * lds);  // gradients of scores
  float* result = Scratch::of(s.result, MR * lde);
  for (i64 h = k * (z.H / z.K); h < (k + 1) * (z.H / z.K); ++h) {
    read_queries(qkv, t, z, tile, h, queries, lde);
    for (i64 i = 0; i < L; ++i) {
      read_plain(dout + ((tile.start + i) * z.H + h) * z.E, douts + i * lde, z.E);
      for (i64 e = z.E; e < lde; ++e) douts[i * lde + e] = 0;
    }
    for (i64 i = 0; i < L; i += MR) {
      i64 rows = std::min(i64(MR), L - i), seen = before + i + rows, width = padded(seen);
      rows_of_product(rows, width, z.E, queries + i * lde, lde, 1, flipped, lds, scores + i * lds, lds, false);
      rows_of_product(rows, width, z.E, douts + i * lde, lde, 1, flipped_values, lds, changes + i * lds, lds, false);
      for (i64 r = 0; r < rows; ++r) {
        i64 token = tile.start + i + r, num = before + i + r + 1;
        const X* o = out + (token * z.H + h) * z.E;
        vf dot = {};
        over(z.E, [&](i64 e, i64 n) { dot += get(o + e, n) * get(douts + (i + r) * lde + e, n); });
        float delta = sum(dot), peak = lse[token * z.H + h];
        float *p = scores + (i + r) * lds, *d = changes + (i + r) * lds;
        over(num, [&](i64 j, i64 n) {
          vf share = vexp(get(p + j, n) * z.scale - peak);
          put(p + j, share, n);
          put(d + j, share * (get(d + j, n) - delta) * z.scale, n);
        });
        std::fill(p + num, p + lds, 0.0f);
        std::fill(d + num, d + lds, 0.0f);
      }
      rows_of_product(rows, lde, seen, changes + i * lds, lds, 1, s.keys.data(), lde, result, lde, false);
      for (i64 r = 0; r < rows; ++r) {
        i64 token = tile.start + i + r;
        write_unrotated(result + r * lde, t.cosine + token * half, t.sine + token * half,
                        dqkv + token * z.columns() + h * z.E, z.E);
      }
    }
    i64 place = 0;
    for (i64 range = 0; range <= tile.num_ranges; ++range) {
      bool own = range == tile.num_ranges;
      i64 begin = own ? tile.origin : t.ranges[2 * (tile.first_range + range)];
      i64 end = own ? tile.end : t.ranges[2 * (tile.first_range + range) + 1];
      for (i64 j = 0; j < end - begin; j += MR) {
        i64 rows = std::min(i64(MR), end - begin - j);
        i64 first = std::max(i64(0), place + j - before);  // no earlier query sees these keys
        i64 to = (begin + j - base) * lde;
        rows_of_product(rows, lde, L - first, changes + first * lds + place + j, 1, lds, queries + first * lde, lde,
                        s.dkeys.data() + to, lde, true);
        rows_of_product(rows, lde, L - first, scores + first * lds + place + j, 1, lds, douts + first * lde, lde,
                        s.dvalues.data() + to, lde, true);
      }
      place += end - begin;
    }
  }
}

template <class X>
void attention_backward(const X* qkv, const X* out, const X* dout, const float* lse, X* dqkv, const Tables& t,
                        const Sizes& z, int threads) {
  i64 num = t.num_trees * z.K, lde = padded(z.E), half = z.E / 2;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (i64 task = 0; task < num; ++task) {
    static thread_local Scratch s;
    i64 tree = task / z.K, k = task % z.K;
    i64 first = t.trees[3 * tree], last = t.trees[3 * tree + 1], base = t.tiles[first].start;
    i64 tokens = t.trees[3 * tree + 2];
    s.dkeys.assign(tokens * lde, 0.0f);
    s.dvalues.assign(tokens * lde, 0.0f);
    for (i64 i = first; i < last; ++i) tile_backward(qkv, out, dout, lse, dqkv, t, z, t.tiles[i], k, base, s);
    for (i64 i = 0; i < tokens; ++i) {
      X* row = dqkv + (base + i) * z.columns();
      write_unrotated(s.dkeys.data() + i * lde, t.cosine + (base + i) * half, t.sine + (base + i) * half,
                      row + (z.H + k) * z.E, z.E);
      X* to = row + (z.H + z.K + k) * z.E;
      over(z.E, [&](i64 e, i64 n) { put(to + e, get(s.dvalues.data() + i * lde + e, n), n); });
    }
  }
}

#if defined(__AVX512BF16__)
#include "kernels_attention_bf16.h"
#endif

}  // namespace

// ---- the interface --------------------------------------------------------------------------------------------------

#define PICK(type, NAME, CALL) \
  if (type == 0) { using NAME = float; CALL; } else { using NAME = bf16; CALL; }

extern "C" {

int foretune_kernels_version() { return 3; }

#if defined(__AVX512BF16__)
void foretune_product(const void* x, i64 ldx, const void* w, i64 ldw, int turned, const void* residual, const void* bias,
                      void* y, int type, i64 T, i64 I, i64 O, int threads) {
  Factor factor{(const bf16*)x, (const bf16*)w, ldx, ldw, I, turned, {}};
  PICK(type, Y, product(&factor, 1, Output<Y>{(const Y*)residual, (const bf16*)bias, (Y*)y, O}, T, O, threads))
}

void foretune_adapted(const void* x, const void* seen, const void* w, const void* slots, i64 num, const void* residual,
                      const void* bias, void* y, int type, void* a, void* b, void* h, i64 T, i64 I, i64 O, i64 R,
                      int threads) {
  PICK(type, Y, adapted((const bf16*)x, (const bf16*)seen, (const bf16*)w, Slots{(const Slot*)slots, num},
                        Output<Y>{(const Y*)residual, (const bf16*)bias, (Y*)y, O}, (bf16*)a, (bf16*)b, (bf16*)h,
                        Sides{T, I, O, R}, threads))
}

void foretune_adapted_backward(const void* dy, const void* seen, const void* h, const void* w, const void* a, const void* b,
                               const void* slots, i64 num, void* dh, void* dx, i64 T, i64 I, i64 O, i64 R, int threads) {
  adapted_backward((const bf16*)dy, (const bf16*)seen, (const bf16*)h, (const bf16*)w, (const bf16*)a, (const bf16*)b,
                   Slots{(const Slot*)slots, num}, (bf16*)dh, (bf16*)dx, Sides{T, I, O, R}, threads);
}
#endif

void foretune_rms_norm(const void* x, int xt, const void* w, int wt, void* y, int yt, float* inverse, i64 T, i64 D,
                       float epsilon, int threads) {
  PICK(xt, X, PICK(wt, W, PICK(yt, Y, (rms_norm((const X*)x, (const W*)w, (Y*)y, inverse, T, D, epsilon, threads)))))
}

void foretune_rms_norm_backward(const void* x, int xt, const void* w, int wt, const void* dy, int yt,
                                const float* inverse, void* dx, i64 T, i64 D, int threads) {
  PICK(xt, X, PICK(wt, W, PICK(yt, Y,
      (rms_norm_backward((const X*)x, (const W*)w, (const Y*)dy, inverse, (X*)dx, T, D, threads)))))
}

void foretune_gated(const void* both, int type, void* y, i64 T, i64 F, int threads) {
  PICK(type, X, gated((const X*)both, (X*)y, T, F, threads))
}

void foretune_gated_backward(const void* both, int type, const void* dy, void* dboth, i64 T, i64 F, int threads) {
  PICK(type, X, gated_backward((const X*)both, (const X*)dy, (X*)dboth, T, F, threads))
}

void foretune_cross_entropy(void* logits, int type, const i64* targets, float* losses, uint8_t* right, i64 M, i64 V,
                            int has_gradient, int threads) {
  PICK(type, X, cross_entropy((X*)logits, targets, losses, right, M, V, has_gradient, threads))
}

void foretune_attention(const void* qkv, int type, void* out, float* lse, const i64* tiles, const i64* ranges,
                        const i64* trees, i64 num_trees, const float* cosine, const float* sine, i64 H, i64 K, i64 E,
                        float scale, int threads) {
  Tables t{(const Tile*)tiles, ranges, trees, num_trees, cosine, sine};
  Sizes z{H, K, E, scale};
  PICK(type, X, attention((const X*)qkv, (X*)out, lse, t, z, threads))
}

void foretune_attention_backward(const void* qkv, int type, const void* out, const void* dout, const float* lse,
                                 void* dqkv, const i64* tiles, const i64* ranges, const i64* trees, i64 num_trees,
                                 const float* cosine, const float* sine, i64 H, i64 K, i64 E, float scale, int threads) {
  Tables t{(const Tile*)tiles, ranges, trees, num_trees, cosine, sine};
  Sizes z{H, K, E, scale};
  PICK(type, X, attention_backward((const X*)qkv, (const X*)out, (const X*)dout, lse, (X*)dqkv, t, z, threads))
}

}  // extern "C"
