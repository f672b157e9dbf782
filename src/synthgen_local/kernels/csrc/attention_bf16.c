/* Attention over keys and values in bfloat16, for AVX-512's dot products of those.
 *
 * Queries and weights are rounded to bfloat16, too; sums stay in 32 bits. Common cells are taken head by
 * head, a block at a time: what is known of a block's scores stays in the first cache until its values
 * are added. A larger score than all before shrinks what was added until then [1]. Own cells are taken
 * one by one, with all heads. By the rounding of weights what a row gives hangs on who is in its chunk.
 * Knows ggml's tensors, and what each query sees.
 *
 * [1] Milakov and Gimelshein, Online normalizer calculation for softmax, 2018, arXiv:1805.02867.
 */

#include "attention.h"

#if HAS_BF16

#include <string.h>

enum { VECTORS = 3, PAIRS = 2 * LANES }; /* of lines in a tile of scores; values in a vector */

INLINE __m512bh load_bf16(const void *from) { return (__m512bh)_mm512_loadu_si512(from); }
INLINE __m512bh broadcast_pair(int32_t pair) { return (__m512bh)_mm512_set1_epi32(pair); }

INLINE vector dot_bf16(vector to, __m512bh x, __m512bh y) { return (vector)_mm512_dpbf16_ps((__m512)to, x, y); }

/* Pairs of neighbours. */
INLINE void convert_pairs(vector x, int32_t *to) {
  _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

/* Pairs of values of two vectors. */
INLINE void interleave_vectors(vector first, vector second, int32_t *to) {
  const __m512i rope_cache =
      _mm512_add_epi32(_mm512_set1_epi32(16 << 16),
                       _mm512_mullo_epi32(_mm512_set1_epi32(0x10001),
                                          _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(rope_cache, both));
}

/* Pairs of values of two cells, of PAIRS dimensions: first of each eight the first four, then the last four.
 * Sums are in that order until they are written out. */
INLINE void interleave_cells(const half *first, const half *second, __m512bh to[2]) {
  const __m512i one = _mm512_loadu_si512(first), other = _mm512_loadu_si512(second);
  to[0] = (__m512bh)_mm512_unpacklo_epi16(one, other);
  to[1] = (__m512bh)_mm512_unpackhi_epi16(one, other);
}

/* e to the x for x of at most 0, within 6e-5 of it: 2^n times the series of 2^f to its fourth power. */
INLINE vector fast_exp(vector x) {
  const __m512 twos = (__m512)(x * 0x1.715476p0f), n = _mm512_roundscale_ps(twos, 0);
  const vector f = (vector)twos - (vector)n;
  vector series = broadcast(0.00961813f);
  series = series * f + 0.0555041f;
  series = series * f + 0.240227f;
  series = series * f + 0.693147f;
  series = series * f + 1;
  return (vector)_mm512_scalef_ps((__m512)series, n);
}

static int32_t *query_of(const attention *a, const scratch *s, int head, int line) {
  return (int32_t *)s->query + line_index(s, head, line) * (a->head_dim / 2);
}

static void load_queries(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *query = query_row(a, s, head, line);
    int32_t *to = query_of(a, s, head, line);
    for (int d = 0; d < a->head_dim; d += LANES) convert_pairs(load(query + d) * a->scale, to + d / 2);
  }
}

/* ---- own cells -------------------------------------------------------------------------------- */

/* Scores of own cells, and of some that are none up to a multiple of TOGETHER. */
INLINE void score_private(int lines, const attention *a, const scratch *s, int head, int line, int from_d,
                          cell_range own) {
  const int32_t *query = query_of(a, s, head, line);
  float *scores = s->private_scores + line_index(s, head, line) * s->stride + own.from;
  (void)from_d; /* all dimensions are taken at once */
  for (int first = 0; first < own.count; first += PRIVATE_TILE) {
    const half *keys[PRIVATE_TILE];
    vector score[HEADS][PRIVATE_TILE] = {0};
    for (int c = 0; c < PRIVATE_TILE; c++)
      keys[c] = key_row(a, head, own.cells[first + c < own.count ? first + c : first]);
    for (int d = 0; d < a->head_dim; d += PAIRS)
      for (int c = 0; c < PRIVATE_TILE; c++) {
        const __m512bh k = load_bf16(keys[c] + d);
        for (int h = 0; h < lines; h++)
          score[h][c] = dot_bf16(score[h][c], k, load_bf16(query + h * (a->head_dim / 2) + d / 2));
      }
    for (int h = 0; h < lines; h++) reduce_each(score[h], scores + h * s->stride + first);
  }
}

/* Scores of own cells become weights, pairs of neighbours; their sums are added to the totals. */
static void softmax_private(const attention *a, int head, const scratch *s) {
  const float *tops = s->max_score + line_index(s, head, 0);
  float *totals = s->sum_exp + line_index(s, head, 0);
  for (int line = 0; line < s->lines; line++) {
    float *at = s->private_scores + line_index(s, head, line) * s->stride;
    vector total = {0};
    for (int c = 0; c < s->visible->private_counts[line / a->group]; c += LANES) {
      const vector weight = fast_exp(load(at + c) - tops[line]);
      total += weight;
      convert_pairs(weight, (int32_t *)at + c / 2);
    }
    totals[line] += reduce_add(total);
  }
}

INLINE void accumulate_private(int lines, const attention *a, const scratch *s, int head, int line, int d,
                               cell_range own) {
  const int32_t *weights = (const int32_t *)(s->private_scores + line_index(s, head, line) * s->stride) + own.from / 2;
  float *sums = s->sums + line_index(s, head, line) * a->head_dim + d;
  vector total[HEADS][DIM_VECTORS];
  load_accumulators(lines, sums, a->head_dim, total);
  for (int c = 0; c < own.count; c += 2) {
    const half *first = value_row(a, head, own.cells[c]) + d;
    const half *second = value_row(a, head, own.cells[c + 1 < own.count ? c + 1 : c]) + d;
    for (int part = 0; part < DIM_VECTORS; part += 2) {
      __m512bh pairs[2];
      interleave_cells(first + part * LANES, second + part * LANES, pairs);
      for (int h = 0; h < lines; h++) {
        const __m512bh weight = broadcast_pair(weights[h * s->stride + c / 2]);
        total[h][part] = dot_bf16(total[h][part], pairs[0], weight);
        total[h][part + 1] = dot_bf16(total[h][part + 1], pairs[1], weight);
      }
    }
  }
  store_accumulators(lines, total, sums, a->head_dim);
}

/* ---- common cells ----------------------------------------------------------------------------- */

/* Some common cells whose scores, and then weights, are in memory at once. */
typedef struct {
  const int *cells;
  int count, left; /* in the block; from its first one on */
} block;

/* Scores of CELLS of a block with some vectors of lines. */
INLINE void score_tile(int vectors, const int32_t *const *keys, int pairs, const int32_t *transposed,
                       size_t padded_lines, float *scores) {
  vector score[VECTORS][KV_TILE] = {0};
  for (int d = 0; d < pairs; d++) {
    __m512bh query[VECTORS];
    for (int v = 0; v < vectors; v++) query[v] = load_bf16(transposed + d * padded_lines + v * LANES);
    for (int c = 0; c < KV_TILE; c++)
      for (int v = 0; v < vectors; v++) score[v][c] = dot_bf16(score[v][c], query[v], broadcast_pair(keys[c][d]));
  }
  for (int c = 0; c < KV_TILE; c++)
    for (int v = 0; v < vectors; v++) store(scores + c * padded_lines + v * LANES, score[v][c]);
}

static void score_block(const attention *a, int head, const scratch *s, block of) {
  for (int first = 0; first < of.count; first += KV_TILE) {
    const int32_t *keys[KV_TILE];
    for (int c = 0; c < KV_TILE; c++) {
      if (first + c + 2 * KV_TILE < of.left)
        prefetch_row(key_row(a, head, of.cells[first + c + 2 * KV_TILE]), a->head_dim);
      keys[c] = (const int32_t *)key_row(a, head, of.cells[first + c < of.count ? first + c : first]);
    }
    float *scores = s->scores + first * s->padded_lines;
    const int32_t *transposed = (const int32_t *)s->transposed;
    for (int line = 0; line < s->padded_lines;) {
      const int left = (s->padded_lines - line) / LANES, vectors = left == VECTORS + 1 ? 2
                                                                   : left < VECTORS    ? left
                                                                                       : VECTORS;
      if (vectors == 1) score_tile(1, keys, a->head_dim / 2, transposed + line, s->padded_lines, scores + line);
      else if (vectors == 2) score_tile(2, keys, a->head_dim / 2, transposed + line, s->padded_lines, scores + line);
      else score_tile(VECTORS, keys, a->head_dim / 2, transposed + line, s->padded_lines, scores + line);
      line += vectors * LANES;
    }
  }
}

/* Where a line's largest score grew, what was summed of it shrinks. */
static void rescale_accumulators(const attention *a, int head, const scratch *s, int line, vector by) {
  for (int i = 0; i < LANES && line + i < s->lines; i++) {
    if (by[i] == 1) continue;
    float *sums = s->sums + line_index(s, head, line + i) * a->head_dim;
    for (int d = 0; d < a->head_dim; d += LANES) store(sums + d, load(sums + d) * by[i]);
  }
}

/* Scores of a block become weights, in pairs of cells. */
static void online_softmax_block(const attention *a, int head, const scratch *s, block of) {
  for (int line = 0; line < s->padded_lines; line += LANES) {
    float *tops = s->max_score + line_index(s, head, line), *totals = s->sum_exp + line_index(s, head, line);
    float *scores = s->scores + line;
    const vector before = load(tops);
    vector top = before, total = {0};
    for (int c = 0; c < of.count; c++) top = max_vector(load(scores + c * s->padded_lines), top);
    for (int c = 0; c < of.count; c += 2) {
      const vector first = fast_exp(load(scores + c * s->padded_lines) - top);
      const vector second = c + 1 < of.count ? fast_exp(load(scores + (c + 1) * s->padded_lines) - top) : broadcast(0);
      total += first + second;
      interleave_vectors(first, second, (int32_t *)scores + c / 2 * s->padded_lines);
    }
    const vector by = fast_exp(before - top);
    store(tops, top);
    store(totals, load(totals) * by + total);
    rescale_accumulators(a, head, s, line, by);
  }
}

/* Values of a block, for SPAN of a head's dimensions from `d` on, in pairs of cells. */
static void pack_values(const attention *a, int head, int d, const scratch *s, block of) {
  int32_t *to = (int32_t *)s->kv_tile;
  for (int c = 0; c < of.count; c += 2) {
    for (int next = c + KV_BLOCK; next < c + KV_BLOCK + 2 && next < of.left; next++)
      prefetch_row(value_row(a, head, of.cells[next]) + d, DIM_BLOCK);
    const half *first = value_row(a, head, of.cells[c]) + d;
    const half *second = value_row(a, head, of.cells[c + 1 < of.count ? c + 1 : c]) + d;
    for (int part = 0; part < DIM_BLOCK; part += PAIRS, to += 2 * LANES) {
      __m512bh pairs[2];
      interleave_cells(first + part, second + part, pairs);
      _mm512_storeu_si512(to, (__m512i)pairs[0]);
      _mm512_storeu_si512(to + LANES, (__m512i)pairs[1]);
    }
  }
}

/* Add values of pairs of cells, by their weights, to SPAN of each line's `size` sums. */
INLINE void accumulate_pairs(int lines, const int32_t *values, int pairs, const int32_t *weights, size_t padded_lines,
                             float *sums, int size) {
  vector total[HEADS][DIM_VECTORS];
  load_accumulators(lines, sums, size, total);
  for (int c = 0; c < pairs; c++)
    for (int part = 0; part < DIM_VECTORS; part++) {
      const __m512bh v = load_bf16(values + c * DIM_BLOCK + part * LANES);
      for (int h = 0; h < lines; h++)
        total[h][part] = dot_bf16(total[h][part], v, broadcast_pair(weights[c * padded_lines + h]));
    }
  store_accumulators(lines, total, sums, size);
}

static void accumulate_block(const attention *a, int head, const scratch *s, block of) {
  float *sums = s->sums + line_index(s, head, 0) * a->head_dim;
  const int32_t *values = (const int32_t *)s->kv_tile, *weights = (const int32_t *)s->scores;
  for (int d = 0; d < a->head_dim; d += DIM_BLOCK) {
    pack_values(a, head, d, s, of);
    for (int line = 0; line < s->lines; line += HEADS)
      BY_LINES(s->lines - line, accumulate_pairs, values, (of.count + 1) / 2, weights + line, s->padded_lines,
               sums + line * a->head_dim + d, a->head_dim)
  }
}

static void attend_shared(const attention *a, int head, const scratch *s) {
  const int shared_count = s->visible->shared_count;
  memset(s->sums + line_index(s, head, 0) * a->head_dim, 0, sizeof(float) * s->lines * a->head_dim);
  memset(s->sum_exp + line_index(s, head, 0), 0, sizeof(float) * s->padded_lines);
  transpose_queries(s, head, a->head_dim / 2);
  for (int first = 0; first < shared_count; first += KV_BLOCK) {
    const int left = shared_count - first;
    const block of = {s->visible->cells + first, left < KV_BLOCK ? left : KV_BLOCK, left};
    score_block(a, head, s, of);
    online_softmax_block(a, head, s, of);
    accumulate_block(a, head, s, of);
  }
}

static void store_outputs(const attention *a, int head, const scratch *s) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  for (int line = 0; line < s->lines; line++) {
    const float *sums = s->sums + line_index(s, head, line) * a->head_dim, by = divisor(s, head, line);
    float *to = output_row(a, s, head, line);
    for (int d = 0; d < a->head_dim; d += PAIRS) {
      const __m512 even = (__m512)(load(sums + d) / by), odd = (__m512)(load(sums + d + LANES) / by);
      store(to + d, (vector)_mm512_permutex2var_ps(even, first, odd));
      store(to + d + LANES, (vector)_mm512_permutex2var_ps(even, second, odd));
    }
  }
}

void attend_bf16(const attention *a, const scratch *s) {
  const int end = s->head + s->heads;
  for (int head = s->head; head < end; head++) load_queries(a, head, s);
  for_private_cells(a, s, a->keys, a->head_dim, score_private);
  add_mask_bias(a, s);
  for (int head = s->head; head < end; head++) {
    attend_shared(a, head, s);
    softmax_private(a, head, s);
  }
  for_private_cells(a, s, a->values, DIM_BLOCK, accumulate_private);
  for (int head = s->head; head < end; head++) store_outputs(a, head, s);
}

#else

void attend_bf16(const attention *a, const scratch *s) { (void)a, (void)s; }

#endif
