/* Attention over keys and values of 16 bits, in the vectors of any processor. Queries stay in 32 bits.
 *
 * Common cells are taken head by head, as a product of matrices; own cells one by one, with all heads.
 * Knows ggml's tensors, and what each query sees.
 */

#include "attention.h"

#include <string.h>

enum {
#if defined(__AVX512F__) || !defined(__AVX__)
  TOGETHER = 4,           /* own cells whose scores are computed at once */
#else
  TOGETHER = 2,
#endif
  VECTORS = TOGETHER / 2, /* of lines whose scores of common cells are computed at once */
  NEAR = 16,              /* own cells of a query that stay in the first cache for all heads */
  SOON = 2,               /* stretches of them from one that is computed to one that is asked for */
};

/* Own cells of a query, from some place on: at most NEAR of them. */
typedef struct {
  int query, from, count;
  const int *cells;
} stretch;

INLINE stretch stretch_of(const attention *a, const scratch *s, int query, int from) {
  const int left = s->sees->owns[query] - from;
  return (stretch){query, from, left < 0 ? 0 : left < NEAR ? left : NEAR, own_cells(a, s->sees, query) + from};
}

/* Those that come next but SOON - 1: queries that began together have their cells side by side. */
INLINE stretch after(const attention *a, const scratch *s, stretch own) {
  const int query = own.query + SOON, count = s->sees->count;
  return stretch_of(a, s, query % count, own.from + (query < count ? 0 : NEAR));
}

/* Ask for some of a stretch's rows, a part for each head that is computed meanwhile: in one go they would be
 * more than a processor waits for at once. Those of all heads together: so they lie in memory. */
INLINE void expect_part(const attention *a, const scratch *s, const struct ggml_tensor *cells, stretch own, int part) {
  for (int c = own.count * part / s->heads; c < own.count * (part + 1) / s->heads; c++)
    for (int head = s->head; head < s->head + s->heads; head++) expect(row_of(cells, head, own.cells[c]), a->size);
}

/* Something that is done with lines of one query and a stretch of its own cells, from a dimension on. */
typedef void with_own(int lines, const attention *a, const scratch *s, int head, int line, int d, stretch own);

/* Do it query after query with all heads, `span` dimensions at a time, while what comes next is asked for. */
INLINE void for_own(const attention *a, const scratch *s, const struct ggml_tensor *cells, int span, with_own *does) {
  for (int from = 0; from < s->own; from += NEAR)
    for (int i = 0; i < s->sees->count; i++) {
      const stretch own = stretch_of(a, s, i, from), next = after(a, s, own);
      for (int head = s->head; head < s->head + s->heads; head++) {
        expect_part(a, s, cells, next, head - s->head);
        for (int d = 0; d < a->size; d += span)
          for (int h = 0; h < a->group; h += HEADS) BY_LINES(a->group - h, does, a, s, head, i * a->group + h, d, own)
      }
    }
}

INLINE vector widen(const half *from) {
#if defined(__AVX512F__)
  return (vector)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif defined(__AVX__) && defined(__F16C__)
  return (vector)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#elif defined(__ARM_NEON)
  return (vector)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
  vector x;
  for (int i = 0; i < LANES; i++) x[i] = ggml_fp16_to_fp32(from[i]);
  return x;
#endif
}

static void read_queries(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *query = query_at(a, s, head, line);
    float *to = s->query + at_line(s, head, line) * a->size;
    for (int d = 0; d < a->size; d += LANES) store(to + d, load(query + d) * a->scale);
  }
}

/* Scores of a tile of common cells with some vectors of lines. */
INLINE void score_tile(int vectors, const attention *a, const scratch *s, int line, float *scores) {
  vector score[VECTORS][CELLS] = {0};
  for (int d = 0; d < a->size; d++) {
    vector query[VECTORS];
    for (int v = 0; v < vectors; v++) query[v] = load(s->across + (size_t)d * s->wide + line + v * LANES);
    for (int c = 0; c < CELLS; c++)
      for (int v = 0; v < vectors; v++) score[v][c] += query[v] * s->few[c * a->size + d];
  }
  for (int c = 0; c < CELLS; c++)
    for (int v = 0; v < vectors; v++) store(scores + (size_t)c * s->wide + line + v * LANES, score[v][c]);
}

static void score_common(const attention *a, int head, const scratch *s) {
  for (int first = 0; first < s->commons; first += CELLS) {
    for (int c = 0; c < CELLS; c++) {
      const int cell = s->common[first + c < s->commons ? first + c : first];
      if (first + c + 2 * CELLS < s->commons)
        expect(key(a, head, s->common[first + c + 2 * CELLS]), a->size);
      for (int d = 0; d < a->size; d += LANES) store(s->few + c * a->size + d, widen(key(a, head, cell) + d));
    }
    float *scores = s->scores + (size_t)first * s->wide;
    for (int line = 0; line < s->wide; line += VECTORS * LANES)
      if (s->wide - line >= VECTORS * LANES) score_tile(VECTORS, a, s, line, scores);
      else score_tile(1, a, s, line, scores);
  }
  for (int line = 0; line < s->wide; line += LANES) {
    float *to = s->top + at_line(s, head, line);
    vector top = load(to);
    for (int c = 0; c < s->commons; c++) top = larger(load(s->scores + (size_t)c * s->wide + line), top);
    store(to, top);
  }
}

/* The sum of the lanes of each of some vectors. */
INLINE void sum_each(const vector *x, float *to) {
#if defined(__AVX512F__)
  __m512 two[2], four;
  for (int i = 0; i < 2; i++) {
    const __m512 one = (__m512)x[2 * i], other = (__m512)x[2 * i + 1];
    two[i] = _mm512_add_ps(_mm512_unpacklo_ps(one, other), _mm512_unpackhi_ps(one, other));
  }
  const __m512d ab = (__m512d)two[0], cd = (__m512d)two[1];
  four = _mm512_add_ps((__m512)_mm512_unpacklo_pd(ab, cd), (__m512)_mm512_unpackhi_pd(ab, cd));
  const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(four), (__m256)_mm512_extractf64x4_pd((__m512d)four, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
#else
  for (int i = 0; i < TOGETHER; i++) to[i] = sum(x[i]);
#endif
}

/* Scores of own cells, and of some that are none up to a multiple of TOGETHER. */
INLINE void dots(int lines, const attention *a, const scratch *s, int head, int line, int from_d, stretch own) {
  const float *query = s->query + at_line(s, head, line) * a->size;
  float *scores = s->single + at_line(s, head, line) * s->stride + own.from;
  (void)from_d; /* all dimensions are taken at once */
  for (int first = 0; first < own.count; first += TOGETHER) {
    const half *keys[TOGETHER];
    vector score[HEADS][TOGETHER] = {0};
    for (int c = 0; c < TOGETHER; c++) keys[c] = key(a, head, own.cells[first + c < own.count ? first + c : first]);
    for (int d = 0; d < a->size; d += LANES)
      for (int c = 0; c < TOGETHER; c++) {
        const vector k = widen(keys[c] + d);
        for (int h = 0; h < lines; h++) score[h][c] += k * load(query + h * a->size + d);
      }
    for (int h = 0; h < lines; h++) sum_each(score[h], scores + h * s->stride + first);
  }
}

/* Masks may do more than hide: add what they say to the scores of own cells, and find the largest of each
 * line. What follows a line's last cell weighs nothing, up to a whole vector. */
static void lean(const attention *a, const scratch *s) {
  for (int i = 0; i < s->sees->count; i++) {
    const half *mask = mask_of(a, s->chunk * a->chunk + i);
    const int *own = own_cells(a, s->sees, i), n = s->sees->owns[i];
    for (int head = s->head; head < s->head + s->heads; head++)
      for (int line = i * a->group; line < (i + 1) * a->group; line++) {
        float *scores = s->single + at_line(s, head, line) * s->stride;
        for (int c = 0; s->sees->leans[i] && c < n; c++) scores[c] += ggml_fp16_to_fp32(mask[own[c]]);
        for (size_t c = n; c < up(n, LANES); c++) scores[c] = -1e30f;
        vector top = all(-1e30f);
        for (int c = 0; c < n; c += LANES) top = larger(load(scores + c), top);
        s->top[at_line(s, head, line)] = largest(top);
      }
  }
}

/* Scores become weights; `total` is what they are to be divided by. */
static void soften(const attention *a, int head, const scratch *s) {
  const float *tops = s->top + at_line(s, head, 0);
  float *totals = s->total + at_line(s, head, 0);
  for (int line = 0; line < s->wide; line += LANES) {
    const vector top = load(tops + line);
    vector total = {0};
    for (int c = 0; c < s->commons; c++) {
      float *at = s->scores + (size_t)c * s->wide + line;
      const vector weight = exponential(load(at) - top);
      store(at, weight);
      total += weight;
    }
    store(totals + line, total);
  }
  for (int line = 0; line < s->lines; line++) {
    float *at = s->single + at_line(s, head, line) * s->stride;
    vector total = {0};
    for (int c = 0; c < s->sees->owns[line / a->group]; c += LANES) {
      const vector weight = exponential(load(at + c) - tops[line]);
      store(at + c, weight);
      total += weight;
    }
    totals[line] += sum(total);
  }
}

/* Add values of common cells, by their weights, to SPAN of each line's `size` sums. */
INLINE void add_common(int lines, const float *values, int n, const float *weights, size_t wide, float *sums, int size) {
  vector total[HEADS][PARTS];
  take(lines, sums, size, total);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < PARTS; part++) {
      const vector v = load(values + c * SPAN + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[c * wide + h];
    }
  put(lines, total, sums, size);
}

/* The same of own cells. */
INLINE void add_own(int lines, const attention *a, const scratch *s, int head, int line, int d, stretch own) {
  const float *weights = s->single + at_line(s, head, line) * s->stride + own.from;
  float *sums = s->sums + at_line(s, head, line) * a->size + d;
  vector total[HEADS][PARTS];
  take(lines, sums, a->size, total);
  for (int c = 0; c < own.count; c++) {
    const half *values = value(a, head, own.cells[c]) + d;
    for (int part = 0; part < PARTS; part++) {
      const vector v = widen(values + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[h * s->stride + c];
    }
  }
  put(lines, total, sums, a->size);
}

/* Values of a block of common cells, for SPAN of a head's dimensions from `d` on. */
static void read_values(const attention *a, int head, int d, const scratch *s, int first, int n) {
  const int *cells = s->common + first;
  for (int c = 0; c < n; c++)
    if (first + c + BLOCK < s->commons) expect(value(a, head, cells[c + BLOCK]) + d, SPAN);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < SPAN; part += LANES)
      store(s->few + c * SPAN + part, widen(value(a, head, cells[c]) + d + part));
}

/* Sums of common cells' values by their weights. */
static void weigh_common(const attention *a, int head, const scratch *s) {
  float *sums = s->sums + at_line(s, head, 0) * a->size;
  memset(sums, 0, sizeof(float) * s->lines * a->size);
  for (int d = 0; d < a->size; d += SPAN)
    for (int first = 0; first < s->commons; first += BLOCK) {
      const int n = s->commons - first < BLOCK ? s->commons - first : BLOCK;
      const float *weights = s->scores + (size_t)first * s->wide;
      read_values(a, head, d, s, first, n);
      for (int line = 0; line < s->lines; line += HEADS)
        BY_LINES(s->lines - line, add_common, s->few, n, weights + line, s->wide, sums + line * a->size + d, a->size)
    }
}

static void write_out(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *sums = s->sums + at_line(s, head, line) * a->size, by = divisor(s, head, line);
    float *to = out_at(a, s, head, line);
    for (int d = 0; d < a->size; d += LANES) store(to + d, load(sums + d) / by);
  }
}

void attend_halves(const attention *a, const scratch *chunk) {
  const scratch band = of_band(a, chunk, 0), *s = &band; /* the only one */
  const int end = s->head + s->heads;
  for (int head = s->head; head < end; head++) read_queries(a, head, s);
  for_own(a, s, a->keys, a->size, dots);
  lean(a, s);
  for (int head = s->head; head < end; head++) {
    lay_across(s, head, a->size);
    score_common(a, head, s);
    soften(a, head, s);
    weigh_common(a, head, s);
  }
  for_own(a, s, a->values, SPAN, add_own);
  for (int head = s->head; head < end; head++) write_out(a, head, s);
}
