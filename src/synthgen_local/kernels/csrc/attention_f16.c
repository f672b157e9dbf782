/* Attention over keys and values of 16 bits, in the vectors of any processor. Queries stay in 32 bits.
 *
 * Common cells are taken head by head, as a product of matrices; own cells one by one, with all heads.
 * Knows ggml's tensors, and what each query sees.
 */

#include "attention.h"

#include <string.h>

enum { VECTORS = TOGETHER / 2 }; /* of lines whose scores of common cells are computed at once */

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
  for (int first = 0; first < s->sees->commons; first += CELLS) {
    for (int c = 0; c < CELLS; c++) {
      const int cell = s->sees->cells[first + c < s->sees->commons ? first + c : first];
      if (first + c + 2 * CELLS < s->sees->commons)
        expect(key(a, head, s->sees->cells[first + c + 2 * CELLS]), a->size);
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
    for (int c = 0; c < s->sees->commons; c++) top = larger(load(s->scores + (size_t)c * s->wide + line), top);
    store(to, top);
  }
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

/* Scores become weights; `total` is what they are to be divided by. */
static void soften(const attention *a, int head, const scratch *s) {
  const float *tops = s->top + at_line(s, head, 0);
  float *totals = s->total + at_line(s, head, 0);
  for (int line = 0; line < s->wide; line += LANES) {
    const vector top = load(tops + line);
    vector total = {0};
    for (int c = 0; c < s->sees->commons; c++) {
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
  const int *cells = s->sees->cells + first;
  for (int c = 0; c < n; c++)
    if (first + c + BLOCK < s->sees->commons) expect(value(a, head, cells[c + BLOCK]) + d, SPAN);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < SPAN; part += LANES)
      store(s->few + c * SPAN + part, widen(value(a, head, cells[c]) + d + part));
}

/* Sums of common cells' values by their weights. */
static void weigh_common(const attention *a, int head, const scratch *s) {
  float *sums = s->sums + at_line(s, head, 0) * a->size;
  memset(sums, 0, sizeof(float) * s->lines * a->size);
  for (int d = 0; d < a->size; d += SPAN)
    for (int first = 0; first < s->sees->commons; first += BLOCK) {
      const int n = s->sees->commons - first < BLOCK ? s->sees->commons - first : BLOCK;
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

void attend_halves(const attention *a, const scratch *s) {
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
