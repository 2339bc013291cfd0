// Attention of kernels.cpp in bf16 dot products with fp32 sums and softmax, where the processor has them (AVX512-BF16).
// SPDX-License-Identifier: Apache-2.0
//
// The keys and values of a tree are packed once for each key head. Every segment begins at a slot that is a multiple of
// VL, and the slots behind its last token are 0, so that a range of keys is whole vectors.

// What one thread works with; sizes only grow.
struct PairScratch {
  std::vector<pair> key_pairs, value_pairs, keys, values, queries, query_rows, douts, dout_rows, shares, changes, row;
  std::vector<float> scores, dscores, result, dkeys, dvalues, wide;
  std::vector<i64> slots;
  template <class T> static T* of(std::vector<T>& v, i64 n) { if (i64(v.size()) < n) v.resize(n); return v.data(); }
};

// Keys that a tile sees: where a range begins in the packed tree, in the columns of scores, and how many it has.
struct Range { i64 slot, column, num; };

inline i64 whole(i64 n) { return (n + VL - 1) / VL * VL; }

// A tree for one key head: packed keys and values, and where its segments lie.
struct PackedTree {
  i64 base, num_slots, width;  // first token, slots, E filled up to whole vectors
  const pair *key_pairs, *value_pairs;  // [E / 2, slots]: summed over the head's width
  const pair *keys, *values;            // [slots / 2, width]: summed over tokens
  const i64* slots;                     // of a token that begins a segment
};

// Slots of the segments of a tree, by their first token less the tree's.
inline i64 lay_slots(const Tables& t, i64 first, i64 last, i64 tokens, PairScratch& s) {
  i64 *slots = PairScratch::of(s.slots, tokens), next = 0;
  for (i64 i = first; i < last; ++i) {
    const Tile& tile = t.tiles[i];
    if (tile.start == tile.origin) slots[tile.start - t.tiles[first].start] = next = whole(next);
    next += tile.end - tile.start;
  }
  return whole(next);
}

// Up to VL tokens from `token` on as rows of bf16, [VL, width]: rotated, or (no tables) as they are; the rest is 0.
inline void read_rows(const bf16* x, i64 stride, const float* cosine, const float* sine, i64 num, i64 E, i64 width, bf16* out) {
  i64 half = E / 2;
  for (i64 r = 0; r < num; ++r, out += width, x += stride) {
    if (cosine)
      over(half, [&](i64 i, i64 n) {
        vf a = get(x + i, n), b = get(x + half + i, n), c = get(cosine + r * half + i, n), s = get(sine + r * half + i, n);
        put(out + i, a * c - b * s, n);
        put(out + half + i, b * c + a * s, n);
      });
    else
      std::memcpy(out, x, E * sizeof(bf16));
    std::memset((void*)(out + E), 0, (width - E) * sizeof(bf16));
  }
}

// Packs one of keys and values, of all segments of a tree; where `by_width` or `by_token` is null that form is left out.
inline void pack(const bf16* qkv, const Tables& t, const Sizes& z, i64 first, i64 last, i64 head, bool is_rotated,
                 const PackedTree& tree, pair* by_width, pair* by_token, PairScratch& s) {
  i64 half = z.E / 2;
  bf16* rows = (bf16*)PairScratch::of(s.row, VL * tree.width / 2);
  i64 slot = 0;
  for (i64 i = first; i < last;) {
    i64 start = t.tiles[i].start, end = start;
    for (; i < last && t.tiles[i].origin == start; ++i) end = t.tiles[i].end;
    slot = tree.slots[start - tree.base];
    for (i64 token = start; token < end; token += VL, slot += VL) {
      i64 num = std::min(i64(VL), end - token);
      const bf16* x = qkv + token * z.columns() + head * z.E;
      const float *c = is_rotated ? t.cosine + token * half : nullptr, *sine = is_rotated ? t.sine + token * half : nullptr;
      read_rows(x, z.columns(), c, sine, num, z.E, tree.width, rows);
      std::memset((void*)(rows + num * tree.width), 0, (VL - num) * tree.width * sizeof(bf16));
      if (by_width) turn(pairs(rows), VL, tree.width / 2, half, by_width + slot, tree.num_slots);
      if (by_token) interleave(rows, VL, tree.width, tree.width, by_token + slot / 2 * tree.width, tree.width);
    }
  }
}

inline PackedTree packed_tree(const bf16* qkv, const Tables& t, const Sizes& z, i64 number, i64 k, bool is_backward,
                              PairScratch& s) {
  i64 first = t.trees[3 * number], last = t.trees[3 * number + 1];
  i64 slots = lay_slots(t, first, last, t.trees[3 * number + 2], s), width = whole(z.E);
  pair* key_pairs = PairScratch::of(s.key_pairs, z.E / 2 * slots);
  pair* value_pairs = is_backward ? PairScratch::of(s.value_pairs, z.E / 2 * slots) : nullptr;
  pair* keys = is_backward ? PairScratch::of(s.keys, slots / 2 * width) : nullptr;
  pair* values = is_backward ? nullptr : PairScratch::of(s.values, slots / 2 * width);
  PackedTree tree{t.tiles[first].start, slots, width, key_pairs, value_pairs, keys, values, s.slots.data()};
  pack(qkv, t, z, first, last, z.H + k, true, tree, key_pairs, keys, s);
  pack(qkv, t, z, first, last, z.H + z.K + k, false, tree, value_pairs, values, s);
  return tree;
}

// The ranges of a tile's keys, its own segment last; returns the columns they take.
inline i64 key_ranges(const Tables& t, const Tile& tile, const PackedTree& tree, std::vector<Range>& ranges) {
  i64 column = 0;
  ranges.clear();
  for (i64 r = 0; r <= tile.num_ranges; ++r) {
    bool own = r == tile.num_ranges;
    i64 begin = own ? tile.origin : t.ranges[2 * (tile.first_range + r)];
    i64 end = own ? tile.end : t.ranges[2 * (tile.first_range + r) + 1];
    ranges.push_back({tree.slots[begin - tree.base], column, end - begin});
    column += whole(end - begin);
  }
  return column;
}

// Columns of a range that the query `i` of a tile sees.
inline i64 seen_of(const std::vector<Range>& ranges, size_t r, const Tile& tile, i64 i) {
  return r + 1 < ranges.size() ? ranges[r].num : tile.start - tile.origin + i + 1;
}

// Scores (or what else is summed over the head's width) of `rows` queries from `i` on, all ranges.
inline void products_with_keys(const std::vector<Range>& ranges, const Tile& tile, const PackedTree& tree, const pair* left,
                               const pair* right, i64 i, i64 rows, i64 E, float* out, i64 ldo) {
  for (size_t r = 0; r < ranges.size(); ++r)
    pair_rows(rows, whole(seen_of(ranges, r, tile, i + rows - 1)), E / 2, left + i * (tree.width / 2), tree.width / 2, 1,
              right + ranges[r].slot, tree.num_slots, out + ranges[r].column, ldo, false);
}

// What `rows` of shares [rows, columns] make of packed rows of tokens.
inline void products_with_tokens(const std::vector<Range>& ranges, const Tile& tile, const PackedTree& tree,
                                 const bf16* shares, i64 columns, const pair* right, i64 i, i64 rows, float* out) {
  for (size_t r = 0; r < ranges.size(); ++r)
    pair_rows(rows, tree.width, whole(seen_of(ranges, r, tile, i + rows - 1)) / 2, pairs(shares + ranges[r].column),
              columns / 2, 1, right + ranges[r].slot / 2 * tree.width, tree.width, out, tree.width, r > 0);
}

// exp(scores - the largest) of the query `i` as bf16, 0 where it sees nothing; returns their sum and the largest.
struct Softmax { float mass, peak; };
inline Softmax soft_row(const std::vector<Range>& ranges, const Tile& tile, i64 i, i64 last, float scale,
                        const float* scores, bf16* shares) {
  vf best = splat(-INFINITY), total = {};
  for (size_t r = 0; r < ranges.size(); ++r) {
    i64 seen = seen_of(ranges, r, tile, i);
    for (i64 j = 0; j < seen; j += VL)
      best = (vf)_mm512_mask_max_ps((__m512)best, mask_of(seen - j), (__m512)best, _mm512_loadu_ps(scores + ranges[r].column + j));
  }
  float peak = top(best) * scale;
  for (size_t r = 0; r < ranges.size(); ++r) {
    i64 seen = seen_of(ranges, r, tile, i), width = whole(seen_of(ranges, r, tile, last));
    for (i64 j = 0; j < width; j += VL) {
      vf p = vexp(load(scores + ranges[r].column + j) * scale - peak);
      p = (vf)_mm512_maskz_mov_ps(mask_of(seen - j), (__m512)p);
      total += p;
      store(shares + ranges[r].column + j, p);
    }
  }
  return {sum(total), peak};
}

inline void tile_forward(const bf16* qkv, bf16* out, float* lse, const Tables& t, const Sizes& z, const Tile& tile, i64 k,
                         const PackedTree& tree, PairScratch& s, std::vector<Range>& ranges) {
  i64 L = tile.end - tile.start, half = z.E / 2, columns = key_ranges(t, tile, tree, ranges);
  pair* queries = PairScratch::of(s.query_rows, L * tree.width / 2);
  float* scores = PairScratch::of(s.scores, PR * columns);
  float* result = PairScratch::of(s.result, PR * tree.width);
  bf16* shares = (bf16*)PairScratch::of(s.shares, PR * columns / 2);
  for (i64 h = k * (z.H / z.K); h < (k + 1) * (z.H / z.K); ++h) {
    read_rows(qkv + tile.start * z.columns() + h * z.E, z.columns(), t.cosine + tile.start * half, t.sine + tile.start * half,
              L, z.E, tree.width, (bf16*)queries);
    for (i64 i = 0; i < L; i += PR) {
      i64 rows = std::min(i64(PR), L - i);
      float inverse[PR];
      products_with_keys(ranges, tile, tree, queries, tree.key_pairs, i, rows, z.E, scores, columns);
      for (i64 r = 0; r < rows; ++r) {
        Softmax soft = soft_row(ranges, tile, i + r, i + rows - 1, z.scale, scores + r * columns, shares + r * columns);
        inverse[r] = 1.0f / soft.mass;
        lse[(tile.start + i + r) * z.H + h] = std::log(soft.mass) + soft.peak;
      }
      products_with_tokens(ranges, tile, tree, shares, columns, tree.values, i, rows, result);
      for (i64 r = 0; r < rows; ++r) {
        bf16* to = out + ((tile.start + i + r) * z.H + h) * z.E;
        over(z.E, [&](i64 e, i64 n) { put(to + e, get(result + r * tree.width + e, n) * inverse[r], n); });
      }
    }
  }
}

inline void attention(const bf16* qkv, bf16* out, float* lse, const Tables& t, const Sizes& z, int threads) {
  i64 num = t.num_trees * z.K;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (i64 task = 0; task < num; ++task) {
    static thread_local PairScratch s;
    static thread_local std::vector<Range> ranges;
    i64 number = task / z.K, k = task % z.K;
    PackedTree tree = packed_tree(qkv, t, z, number, k, false, s);
    for (i64 i = t.trees[3 * number]; i < t.trees[3 * number + 1]; ++i)
      tile_forward(qkv, out, lse, t, z, t.tiles[i], k, tree, s, ranges);
  }
}

// The rows of one query head of a tile, as the backward pass wants them.
struct Queries {
  pair *rows, *turned, *dout_rows, *dout_turned;  // [L, width / 2] and [L / 2, width]
  float* deltas;                                  // of each query: its result times the result's gradient
};

inline void read_queries(const bf16* qkv, const bf16* out, const bf16* dout, const Tables& t, const Sizes& z,
                         const Tile& tile, i64 h, i64 width, const Queries& q) {
  i64 L = tile.end - tile.start, half = z.E / 2;
  read_rows(qkv + tile.start * z.columns() + h * z.E, z.columns(), t.cosine + tile.start * half, t.sine + tile.start * half, L,
            z.E, width, (bf16*)q.rows);
  read_rows(dout + (tile.start * z.H + h) * z.E, z.H * z.E, nullptr, nullptr, L, z.E, width, (bf16*)q.dout_rows);
  interleave((bf16*)q.rows, L, width, width, q.turned, width);
  interleave((bf16*)q.dout_rows, L, width, width, q.dout_turned, width);
  for (i64 i = 0; i < L; ++i) {
    i64 at = ((tile.start + i) * z.H + h) * z.E;
    vf dot = {};
    over(z.E, [&](i64 e, i64 n) { dot += get(out + at + e, n) * get(dout + at + e, n); });
    q.deltas[i] = sum(dot);
  }
}

// Shares and gradients of scores of two queries, `i` and the next: as rows of pairs of queries, gradients also as rows.
inline void change_rows(const std::vector<Range>& ranges, const Tile& tile, i64 i, i64 L, const float* peaks, i64 stride,
                        const float* deltas, float scale, const float* scores, const float* dscores, i64 columns,
                        pair* shares, pair* changes, bf16* rows) {
  i64 num = std::min(i64(2), L - i);
  for (size_t r = 0; r < ranges.size(); ++r)
    for (i64 j = 0; j < whole(ranges[r].num); j += VL) {
      __m256i p16[2] = {}, d16[2] = {};
      for (i64 q = 0; q < num; ++q) {
        __mmask16 mask = mask_of(seen_of(ranges, r, tile, i + q) - j);
        i64 at = q * columns + ranges[r].column + j;
        if (mask) {
          vf p = (vf)_mm512_maskz_mov_ps(mask, (__m512)vexp(load(scores + at) * scale - peaks[q * stride]));
          vf d = (vf)_mm512_maskz_mov_ps(mask, (__m512)(p * (load(dscores + at) - deltas[i + q]) * scale));
          p16[q] = rounded(p);
          d16[q] = rounded(d);
        }
        _mm256_storeu_si256((__m256i*)(rows + at), d16[q]);
      }
      i64 at = i / 2 * columns + ranges[r].column + j;
      _mm512_storeu_si512(shares + at, interleaved(p16[0], p16[1]));
      _mm512_storeu_si512(changes + at, interleaved(d16[0], d16[1]));
    }
}

// Adds what the queries of one head of a tile give to the gradients of the keys and values they see.
inline void add_to_keys(const std::vector<Range>& ranges, const Tile& tile, const PackedTree& tree, const Queries& q,
                        const pair* shares, const pair* changes, i64 columns, float* dkeys, float* dvalues) {
  i64 L = tile.end - tile.start, depth = (L + 1) / 2;
  for (size_t r = 0; r < ranges.size(); ++r)
    for (i64 j = 0; j < ranges[r].num; j += PR) {
      i64 rows = std::min(i64(PR), ranges[r].num - j), to = (ranges[r].slot + j) * tree.width;
      i64 first = r + 1 < ranges.size() ? 0 : std::max(i64(0), j - (tile.start - tile.origin)) / 2;  // none earlier sees j
      i64 from = first * columns + ranges[r].column + j, left = depth - first;
      pair_rows(rows, tree.width, left, changes + from, 1, columns, q.turned + first * tree.width, tree.width, dkeys + to,
                tree.width, true);
      pair_rows(rows, tree.width, left, shares + from, 1, columns, q.dout_turned + first * tree.width, tree.width,
                dvalues + to, tree.width, true);
    }
}

inline void tile_backward(const bf16* qkv, const bf16* out, const bf16* dout, const float* lse, bf16* dqkv, const Tables& t,
                          const Sizes& z, const Tile& tile, i64 k, const PackedTree& tree, PairScratch& s,
                          std::vector<Range>& ranges) {
  i64 L = tile.end - tile.start, half = z.E / 2, columns = key_ranges(t, tile, tree, ranges), width = tree.width;
  Queries q{PairScratch::of(s.query_rows, L * width / 2), PairScratch::of(s.queries, (L + 1) / 2 * width),
            PairScratch::of(s.dout_rows, L * width / 2), PairScratch::of(s.douts, (L + 1) / 2 * width),
            PairScratch::of(s.wide, L)};
  float* scores = PairScratch::of(s.scores, PR * columns);
  float* dscores = PairScratch::of(s.dscores, PR * columns);
  float* result = PairScratch::of(s.result, PR * width);
  pair* shares = PairScratch::of(s.shares, (L + 1) / 2 * columns);
  pair* changes = PairScratch::of(s.changes, (L + 1) / 2 * columns);
  bf16* rows_of = (bf16*)PairScratch::of(s.row, std::max(VL * width, PR * columns) / 2);
  for (i64 h = k * (z.H / z.K); h < (k + 1) * (z.H / z.K); ++h) {
    read_queries(qkv, out, dout, t, z, tile, h, width, q);
    for (i64 i = 0; i < L; i += PR) {
      i64 rows = std::min(i64(PR), L - i);
      products_with_keys(ranges, tile, tree, q.rows, tree.key_pairs, i, rows, z.E, scores, columns);
      products_with_keys(ranges, tile, tree, q.dout_rows, tree.value_pairs, i, rows, z.E, dscores, columns);
      for (i64 r = 0; r < rows; r += 2)
        change_rows(ranges, tile, i + r, L, lse + (tile.start + i + r) * z.H + h, z.H, q.deltas, z.scale,
                    scores + r * columns, dscores + r * columns, columns, shares, changes, rows_of + r * columns);
      products_with_tokens(ranges, tile, tree, rows_of, columns, tree.keys, i, rows, result);
      for (i64 r = 0; r < rows; ++r) {
        i64 token = tile.start + i + r;
        write_unrotated(result + r * width, t.cosine + token * half, t.sine + token * half,
                        dqkv + token * z.columns() + h * z.E, z.E);
      }
    }
    add_to_keys(ranges, tile, tree, q, shares, changes, columns, s.dkeys.data(), s.dvalues.data());
  }
}

// Gradients of keys and values of a tree, back from their slots.
inline void write_keys(bf16* dqkv, const Tables& t, const Sizes& z, i64 first, i64 last, i64 k, const PackedTree& tree,
                       const PairScratch& s) {
  i64 half = z.E / 2;
  for (i64 i = first; i < last; ++i)
    for (i64 token = t.tiles[i].start; token < t.tiles[i].end; ++token) {
      i64 at = (tree.slots[t.tiles[i].origin - tree.base] + token - t.tiles[i].origin) * tree.width;
      bf16 *row = dqkv + token * z.columns(), *to = row + (z.H + z.K + k) * z.E;
      write_unrotated(s.dkeys.data() + at, t.cosine + token * half, t.sine + token * half, row + (z.H + k) * z.E, z.E);
      over(z.E, [&](i64 e, i64 n) { put(to + e, get(s.dvalues.data() + at + e, n), n); });
    }
}

inline void attention_backward(const bf16* qkv, const bf16* out, const bf16* dout, const float* lse, bf16* dqkv,
                               const Tables& t, const Sizes& z, int threads) {
  i64 num = t.num_trees * z.K;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (i64 task = 0; task < num; ++task) {
    static thread_local PairScratch s;
    static thread_local std::vector<Range> ranges;
    i64 number = task / z.K, k = task % z.K, first = t.trees[3 * number], last = t.trees[3 * number + 1];
    PackedTree tree = packed_tree(qkv, t, z, number, k, true, s);
    s.dkeys.assign(tree.num_slots * tree.width, 0.0f);
    s.dvalues.assign(tree.num_slots * tree.width, 0.0f);
    for (i64 i = first; i < last; ++i) tile_backward(qkv, out, dout, lse, dqkv, t, z, t.tiles[i], k, tree, s, ranges);
    write_keys(dqkv, t, z, first, last, k, tree, s);
  }
}
