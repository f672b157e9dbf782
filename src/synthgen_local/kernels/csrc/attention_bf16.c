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

#if HAS_WIDE

#include <string.h>

enum { VECTORS = 3, PAIRS = 2 * LANES }; /* of lines in a tile of scores; values in a vector */

INLINE __m512bh wide_at(const void *from) { return (__m512bh)_mm512_loadu_si512(from); }
INLINE __m512bh twice(int32_t pair) { return (__m512bh)_mm512_set1_epi32(pair); }

INLINE vector add_products(vector to, __m512bh x, __m512bh y) { return (vector)_mm512_dpbf16_ps((__m512)to, x, y); }

/* Pairs of neighbours. */
INLINE void pair_neighbours(vector x, int32_t *to) {
  _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

/* Pairs of values of two vectors. */
INLINE void pair_vectors(vector first, vector second, int32_t *to) {
  const __m512i turns = _mm512_add_epi32(_mm512_set1_epi32(16 << 16), _mm512_mullo_epi32(
      _mm512_set1_epi32(0x10001), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(turns, both));
}

/* Pairs of values of two cells, of PAIRS dimensions: first of each eight the first four, then the last four.
 * Sums are in that order until they are written out. */
INLINE void pair_cells(const half *first, const half *second, __m512bh to[2]) {
  const __m512i one = _mm512_loadu_si512(first), other = _mm512_loadu_si512(second);
  to[0] = (__m512bh)_mm512_unpacklo_epi16(one, other);
  to[1] = (__m512bh)_mm512_unpackhi_epi16(one, other);
}

/* e to the x for x of at most 0, within 6e-5 of it: 2^n times the series of 2^f to its fourth power. */
INLINE vector weight_of(vector x) {
  const __m512 twos = (__m512)(x * 0x1.715476p0f), n = _mm512_roundscale_ps(twos, 0);
  const vector f = (vector)twos - (vector)n;
  vector series = all(0.00961813f);
  series = series * f + 0.0555041f;
  series = series * f + 0.240227f;
  series = series * f + 0.693147f;
  series = series * f + 1;
  return (vector)_mm512_scalef_ps((__m512)series, n);
}

static int32_t *query_of(const attention *a, const scratch *s, int head, int line) {
  return (int32_t *)s->query + at_line(s, head, line) * (a->size / 2);
}

static void read_queries(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *query = query_at(a, s, head, line);
    int32_t *to = query_of(a, s, head, line);
    for (int d = 0; d < a->size; d += LANES) pair_neighbours(load(query + d) * a->scale, to + d / 2);
  }
}

/* ---- own cells -------------------------------------------------------------------------------- */

/* Scores of own cells, and of some that are none up to a multiple of TOGETHER. */
INLINE void dots(int lines, const attention *a, const scratch *s, int head, int line, int from_d, stretch own) {
  const int32_t *query = query_of(a, s, head, line);
  float *scores = s->single + at_line(s, head, line) * s->stride + own.from;
  (void)from_d; /* all dimensions are taken at once */
  for (int first = 0; first < own.count; first += TOGETHER) {
    const half *keys[TOGETHER];
    vector score[HEADS][TOGETHER] = {0};
    for (int c = 0; c < TOGETHER; c++) keys[c] = key(a, head, own.cells[first + c < own.count ? first + c : first]);
    for (int d = 0; d < a->size; d += PAIRS)
      for (int c = 0; c < TOGETHER; c++) {
        const __m512bh k = wide_at(keys[c] + d);
        for (int h = 0; h < lines; h++)
          score[h][c] = add_products(score[h][c], k, wide_at(query + h * (a->size / 2) + d / 2));
      }
    for (int h = 0; h < lines; h++) sum_each(score[h], scores + h * s->stride + first);
  }
}

/* Scores of own cells become weights, pairs of neighbours; their sums are added to the totals. */
static void soften_own(const attention *a, int head, const scratch *s) {
  const float *tops = s->top + at_line(s, head, 0);
  float *totals = s->total + at_line(s, head, 0);
  for (int line = 0; line < s->lines; line++) {
    float *at = s->single + at_line(s, head, line) * s->stride;
    vector total = {0};
    for (int c = 0; c < s->sees->owns[line / a->group]; c += LANES) {
      const vector weight = weight_of(load(at + c) - tops[line]);
      total += weight;
      pair_neighbours(weight, (int32_t *)at + c / 2);
    }
    totals[line] += sum(total);
  }
}

INLINE void add_own(int lines, const attention *a, const scratch *s, int head, int line, int d, stretch own) {
  const int32_t *weights = (const int32_t *)(s->single + at_line(s, head, line) * s->stride) + own.from / 2;
  float *sums = s->sums + at_line(s, head, line) * a->size + d;
  vector total[HEADS][PARTS];
  take(lines, sums, a->size, total);
  for (int c = 0; c < own.count; c += 2) {
    const half *first = value(a, head, own.cells[c]) + d;
    const half *second = value(a, head, own.cells[c + 1 < own.count ? c + 1 : c]) + d;
    for (int part = 0; part < PARTS; part += 2) {
      __m512bh pairs[2];
      pair_cells(first + part * LANES, second + part * LANES, pairs);
      for (int h = 0; h < lines; h++) {
        const __m512bh weight = twice(weights[h * s->stride + c / 2]);
        total[h][part] = add_products(total[h][part], pairs[0], weight);
        total[h][part + 1] = add_products(total[h][part + 1], pairs[1], weight);
      }
    }
  }
  put(lines, total, sums, a->size);
}

/* ---- common cells ----------------------------------------------------------------------------- */

/* Some common cells whose scores, and then weights, are in memory at once. */
typedef struct {
  const int *cells;
  int count, left; /* in the block; from its first one on */
} block;

/* Scores of CELLS of a block with some vectors of lines. */
INLINE void score_tile(int vectors, const int32_t *const *keys, int pairs, const int32_t *across, size_t wide,
                       float *scores) {
  vector score[VECTORS][CELLS] = {0};
  for (int d = 0; d < pairs; d++) {
    __m512bh query[VECTORS];
    for (int v = 0; v < vectors; v++) query[v] = wide_at(across + d * wide + v * LANES);
    for (int c = 0; c < CELLS; c++)
      for (int v = 0; v < vectors; v++) score[v][c] = add_products(score[v][c], query[v], twice(keys[c][d]));
  }
  for (int c = 0; c < CELLS; c++)
    for (int v = 0; v < vectors; v++) store(scores + c * wide + v * LANES, score[v][c]);
}

static void score_block(const attention *a, int head, const scratch *s, block of) {
  for (int first = 0; first < of.count; first += CELLS) {
    const int32_t *keys[CELLS];
    for (int c = 0; c < CELLS; c++) {
      if (first + c + 2 * CELLS < of.left) expect(key(a, head, of.cells[first + c + 2 * CELLS]), a->size);
      keys[c] = (const int32_t *)key(a, head, of.cells[first + c < of.count ? first + c : first]);
    }
    float *scores = s->scores + first * s->wide;
    const int32_t *across = (const int32_t *)s->across;
    for (int line = 0; line < s->wide;) {
      const int left = (s->wide - line) / LANES, vectors = left == VECTORS + 1 ? 2 : left < VECTORS ? left : VECTORS;
      if (vectors == 1) score_tile(1, keys, a->size / 2, across + line, s->wide, scores + line);
      else if (vectors == 2) score_tile(2, keys, a->size / 2, across + line, s->wide, scores + line);
      else score_tile(VECTORS, keys, a->size / 2, across + line, s->wide, scores + line);
      line += vectors * LANES;
    }
  }
}

/* Where a line's largest score grew, what was summed of it shrinks. */
static void shrink(const attention *a, int head, const scratch *s, int line, vector by) {
  for (int i = 0; i < LANES && line + i < s->lines; i++) {
    if (by[i] == 1) continue;
    float *sums = s->sums + at_line(s, head, line + i) * a->size;
    for (int d = 0; d < a->size; d += LANES) store(sums + d, load(sums + d) * by[i]);
  }
}

/* Scores of a block become weights, in pairs of cells. */
static void soften_block(const attention *a, int head, const scratch *s, block of) {
  for (int line = 0; line < s->wide; line += LANES) {
    float *tops = s->top + at_line(s, head, line), *totals = s->total + at_line(s, head, line);
    float *scores = s->scores + line;
    const vector before = load(tops);
    vector top = before, total = {0};
    for (int c = 0; c < of.count; c++) top = larger(load(scores + c * s->wide), top);
    for (int c = 0; c < of.count; c += 2) {
      const vector first = weight_of(load(scores + c * s->wide) - top);
      const vector second = c + 1 < of.count ? weight_of(load(scores + (c + 1) * s->wide) - top) : all(0);
      total += first + second;
      pair_vectors(first, second, (int32_t *)scores + c / 2 * s->wide);
    }
    const vector by = weight_of(before - top);
    store(tops, top);
    store(totals, load(totals) * by + total);
    shrink(a, head, s, line, by);
  }
}

/* Values of a block, for SPAN of a head's dimensions from `d` on, in pairs of cells. */
static void read_values(const attention *a, int head, int d, const scratch *s, block of) {
  int32_t *to = (int32_t *)s->few;
  for (int c = 0; c < of.count; c += 2) {
    for (int next = c + BLOCK; next < c + BLOCK + 2 && next < of.left; next++) expect(value(a, head, of.cells[next]) + d, SPAN);
    const half *first = value(a, head, of.cells[c]) + d;
    const half *second = value(a, head, of.cells[c + 1 < of.count ? c + 1 : c]) + d;
    for (int part = 0; part < SPAN; part += PAIRS, to += 2 * LANES) {
      __m512bh pairs[2];
      pair_cells(first + part, second + part, pairs);
      _mm512_storeu_si512(to, (__m512i)pairs[0]);
      _mm512_storeu_si512(to + LANES, (__m512i)pairs[1]);
    }
  }
}

/* Add values of pairs of cells, by their weights, to SPAN of each line's `size` sums. */
INLINE void add_pairs(int lines, const int32_t *values, int pairs, const int32_t *weights, size_t wide, float *sums,
                      int size) {
  vector total[HEADS][PARTS];
  take(lines, sums, size, total);
  for (int c = 0; c < pairs; c++)
    for (int part = 0; part < PARTS; part++) {
      const __m512bh v = wide_at(values + c * SPAN + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] = add_products(total[h][part], v, twice(weights[c * wide + h]));
    }
  put(lines, total, sums, size);
}

static void add_block(const attention *a, int head, const scratch *s, block of) {
  float *sums = s->sums + at_line(s, head, 0) * a->size;
  const int32_t *values = (const int32_t *)s->few, *weights = (const int32_t *)s->scores;
  for (int d = 0; d < a->size; d += SPAN) {
    read_values(a, head, d, s, of);
    for (int line = 0; line < s->lines; line += HEADS)
      BY_LINES(s->lines - line, add_pairs, values, (of.count + 1) / 2, weights + line, s->wide,
               sums + line * a->size + d, a->size)
  }
}

static void attend_common(const attention *a, int head, const scratch *s) {
  const int commons = s->sees->commons;
  memset(s->sums + at_line(s, head, 0) * a->size, 0, sizeof(float) * s->lines * a->size);
  memset(s->total + at_line(s, head, 0), 0, sizeof(float) * s->wide);
  lay_across(s, head, a->size / 2);
  for (int first = 0; first < commons; first += BLOCK) {
    const int left = commons - first;
    const block of = {s->sees->cells + first, left < BLOCK ? left : BLOCK, left};
    score_block(a, head, s, of);
    soften_block(a, head, s, of);
    add_block(a, head, s, of);
  }
}

static void write_out(const attention *a, int head, const scratch *s) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  for (int line = 0; line < s->lines; line++) {
    const float *sums = s->sums + at_line(s, head, line) * a->size, by = divisor(s, head, line);
    float *to = out_at(a, s, head, line);
    for (int d = 0; d < a->size; d += PAIRS) {
      const __m512 even = (__m512)(load(sums + d) / by), odd = (__m512)(load(sums + d + LANES) / by);
      store(to + d, (vector)_mm512_permutex2var_ps(even, first, odd));
      store(to + d + LANES, (vector)_mm512_permutex2var_ps(even, second, odd));
    }
  }
}

void attend_wide(const attention *a, const scratch *s) {
  const int end = s->head + s->heads;
  for (int head = s->head; head < end; head++) read_queries(a, head, s);
  for_own(a, s, a->keys, a->size, dots);
  lean(a, s);
  for (int head = s->head; head < end; head++) {
    attend_common(a, head, s);
    soften_own(a, head, s);
  }
  for_own(a, s, a->values, SPAN, add_own);
  for (int head = s->head; head < end; head++) write_out(a, head, s);
}

#else

void attend_wide(const attention *a, const scratch *s) { (void)a, (void)s; }

#endif
