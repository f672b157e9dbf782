/* Attention over keys and values in bfloat16, for AVX-512's dot products of those.
 *
 * Queries and weights are rounded to bfloat16, too; sums stay in 32 bits. Common cells are taken head by
 * head, a block at a time: what is known of a block's scores stays in the first cache until its values
 * are added. A larger score than all before shrinks what was added until then [1]. Own cells are taken
 * about as they lie in memory, a few of one query and then of the next, with all heads.
 * By the rounding of weights what a row gives hangs on who is in its band, not on its chunk.
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

/* Read queries; nothing has been summed of them. */
static void start(const attention *a, int head, const scratch *s) {
  const size_t first = at_line(s, head, 0), lines = s->sees->count * a->group;
  memset(s->sums + first * a->size, 0, sizeof(float) * lines * a->size);
  memset(s->total + first, 0, sizeof(float) * up(lines, LANES));
  for (size_t line = 0; line < up(lines, LANES); line++) s->top[first + line] = -1e30f;
  for (int line = 0; line < (int)lines; line++) {
    const float *query = query_at(a, s, head, line);
    int32_t *to = query_of(a, s, head, line);
    for (int d = 0; d < a->size; d += LANES) pair_neighbours(load(query + d) * a->scale, to + d / 2);
  }
}

/* ---- own cells -------------------------------------------------------------------------------- */

/* A quad is HEADS lines of a query that read the same keys, or fewer. A vector holds its scores with a handful of
 * cells, [cell][line]. Cells that are missing weigh nothing; what is in the place of a line that is missing is not
 * written out. */
typedef struct {
  const int32_t *query; /* these and what follows: of its first line */
  float *sums, *top, *total, *scores;
} quad;

/* Sums of neighbours, of pairs of neighbours, and of quarters, of two vectors. */
INLINE __m512 fold(__m512 x, __m512 y) { return _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y)); }
INLINE __m512 fold_pairs(__m512 x, __m512 y) {
  const __m512d one = (__m512d)x, other = (__m512d)y;
  return _mm512_add_ps((__m512)_mm512_unpacklo_pd(one, other), (__m512)_mm512_unpackhi_pd(one, other));
}
INLINE __m512 fold_quarters(__m512 x, __m512 y) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xDD));
}

/* Of the four values that each line of a quad has, the sum; the largest. */
INLINE __m128 sum_lines(__m512 x) {
  const __m512 two = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0x4E));
  return _mm_add_ps(_mm512_castps512_ps128(two), _mm512_extractf32x4_ps(two, 1));
}
INLINE __m128 largest_of_lines(__m512 x) {
  const __m512 two = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0x4E));
  return _mm_max_ps(_mm512_castps512_ps128(two), _mm512_extractf32x4_ps(two, 1));
}

INLINE void put_lines(int lines, __m128 x, float *to) { _mm_mask_storeu_ps(to, (1 << lines) - 1, x); }

/* The scores of a quad with a cell, each in four parts. */
INLINE __m512 dots(int lines, int size, const half *key, const int32_t *query) {
  __m512 score[HEADS];
  for (int h = 0; h < HEADS; h++) score[h] = _mm512_setzero_ps();
  for (int d = 0; d < size; d += PAIRS)
    for (int h = 0; h < lines; h++)
      score[h] = _mm512_dpbf16_ps(score[h], wide_at(key + d), wide_at(query + h * (size / 2) + d / 2));
  return fold_pairs(fold(score[0], score[1]), fold(score[2], score[3]));
}

/* A mask may do more than hide: what it says to each score. */
static vector leaning(const half *mask, const handful *own) {
  float says[LANES];
  for (int i = 0; i < LANES; i++) says[i] = ggml_fp16_to_fp32(mask[own->cells[i / HEADS]]);
  return load(says);
}

/* Something that is done with a quad and a handful, whose head's keys or values are in `rows`, so many bytes from one
 * another. The mask is there where it leans. */
typedef void with_own(int lines, int size, const handful *own, const char *rows, size_t stride, const half *mask,
                      quad of);

INLINE void score_own(int lines, int size, const handful *own, const char *rows, size_t stride, const half *mask,
                      quad of) {
  __m512 parts[HANDFUL];
  for (int c = 0; c < HANDFUL; c++)
    parts[c] = dots(lines, size, (const half *)(rows + own->cells[c] * stride), of.query);
  __m512 score = fold_quarters(fold_quarters(parts[0], parts[1]), fold_quarters(parts[2], parts[3]));
  if (mask) score = _mm512_add_ps(score, (__m512)leaning(mask, own));
  score = _mm512_mask_blend_ps((1 << own->count * HEADS) - 1, _mm512_set1_ps(-1e30f), score);
  store(of.scores, (vector)score);
  put_lines(lines, _mm_max_ps(largest_of_lines(score), _mm_loadu_ps(of.top)), of.top);
}

/* Weights of a handful in pairs of cells, [pair][line]. */
INLINE void pair_handful(vector weight, int32_t *to) {
  const __m256i turns = _mm256_setr_epi16(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  _mm256_storeu_si256((__m256i *)to, _mm256_permutexvar_epi16(turns, (__m256i)_mm512_cvtneps_pbh((__m512)weight)));
}

INLINE void add_own(int lines, int size, const handful *own, const char *rows, size_t stride, const half *mask,
                    quad of) {
  const vector weight = weight_of(load(of.scores) - (vector)_mm512_broadcast_f32x4(_mm_loadu_ps(of.top)));
  int32_t weights[HANDFUL / 2 * HEADS];
  (void)mask; /* has been heard */
  pair_handful(weight, weights);
  put_lines(lines, _mm_add_ps(sum_lines((__m512)weight), _mm_loadu_ps(of.total)), of.total);
  for (int d = 0; d < size; d += SPAN) {
    vector total[HEADS][PARTS];
    take(lines, of.sums + d, size, total);
    for (int c = 0; c < HANDFUL; c += 2) {
      const half *first = (const half *)(rows + own->cells[c] * stride) + d;
      const half *second = (const half *)(rows + own->cells[c + 1] * stride) + d;
      for (int part = 0; part < PARTS; part += 2) {
        __m512bh pairs[2];
        pair_cells(first + part * LANES, second + part * LANES, pairs);
        for (int h = 0; h < lines; h++) {
          const __m512bh by = twice(weights[c / 2 * HEADS + h]);
          total[h][part] = add_products(total[h][part], pairs[0], by);
          total[h][part + 1] = add_products(total[h][part + 1], pairs[1], by);
        }
      }
    }
    put(lines, total, of.sums + d, size);
  }
}

/* Do it with all handfuls and quads, of `lines` but for a head's last one. Meanwhile rows of the next window are asked
 * for, some before each head: in one go they would be more than a processor waits for at once. Those of all heads
 * together: so they lie in memory, one after the other. */
INLINE void for_own(int lines, int size, const attention *a, const scratch *s, const struct ggml_tensor *t,
                    with_own *does) {
  const beginning *begin = begins(a, s->sees);
  const handful *const first = handfuls(a, s->sees), *own = first;
  const int *const cells = own_cells(a, s->sees, a->chunk);
  const int heads = s->heads, group = a->group, windows = windows_of(a);
  const size_t stride = t->nb[1], next_head = t->nb[2], most = s->most;
  const char *const rows = (const char *)row_of(t, s->head, 0);
  quad of = {.scores = s->single};
  for (int window = 0; window < windows; window++, begin++) {
    const int *soon = cells + begin[1].cell, *end = window + 1 < windows ? cells + begin[2].cell : soon;
    for (; own < first + begin[1].handful; own++) {
      const half *mask = s->sees->leans[own->query] ? mask_of(a, s->chunk * a->chunk + own->query) : NULL;
      for (int head = 0; head < heads; head++) {
        for (int c = HANDFUL * head / heads; c < HANDFUL * (head + 1) / heads && soon < end; c++, soon++)
          expect((const half *)(rows + *soon * stride), heads * size);
        for (int h = 0; h < group; h += HEADS, of.scores += LANES) {
          const size_t line = head * most + own->query * group + h;
          of.query = (const int32_t *)s->query + line * (size / 2);
          of.sums = s->sums + line * size;
          of.top = s->top + line;
          of.total = s->total + line;
          if (lines < HEADS || group == HEADS) does(lines, size, own, rows + head * next_head, stride, mask, of);
          else BY_LINES(group - h, does, size, own, rows + head * next_head, stride, mask, of)
        }
      }
    }
  }
}

static void score_all_own(const attention *a, const scratch *s) {
  if (a->size == 64) BY_LINES(a->group, for_own, 64, a, s, a->keys, score_own)
  else BY_LINES(a->group, for_own, a->size, a, s, a->keys, score_own)
}

static void add_all_own(const attention *a, const scratch *s) {
  if (a->size == 64) BY_LINES(a->group, for_own, 64, a, s, a->values, add_own)
  else BY_LINES(a->group, for_own, a->size, a, s, a->values, add_own)
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
  const int commons = s->commons;
  lay_across(s, head, a->size / 2);
  for (int first = 0; first < commons; first += BLOCK) {
    const int left = commons - first;
    const block of = {s->common + first, left < BLOCK ? left : BLOCK, left};
    score_block(a, head, s, of);
    soften_block(a, head, s, of);
    add_block(a, head, s, of);
  }
}

static void write_out(const attention *a, int head, const scratch *s) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  for (int line = 0; line < s->sees->count * a->group; line++) {
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
  for (int head = s->head; head < end; head++) start(a, head, s);
  score_all_own(a, s);
  for (int head = s->head; head < end; head++)
    for (int band = 0; band * a->band < s->sees->count; band++) {
      const scratch of = of_band(a, s, band);
      attend_common(a, head, &of);
    }
  add_all_own(a, s);
  for (int head = s->head; head < end; head++) write_out(a, head, s);
}

#else

void attend_wide(const attention *a, const scratch *s) { (void)a, (void)s; }

#endif
