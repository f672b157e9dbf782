/* Attention over keys and values of 16 bits, in the vectors of any processor. Queries stay in 32 bits.
 *
 * Common cells are taken head by head, as a product of matrices; own cells one by one, with all heads.
 * Knows ggml's tensors, and what each query sees.
 */

#include "attention.h"

#include <string.h>

enum { VECTORS = PRIVATE_TILE / 2 }; /* of lines whose scores of common cells are computed at once */

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

static void load_queries(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *query = query_row(a, s, head, line);
    float *to = s->query + line_index(s, head, line) * a->head_dim;
    for (int d = 0; d < a->head_dim; d += LANES) store(to + d, load(query + d) * a->scale);
  }
}

/* Scores of a tile of common cells with some vectors of lines. */
INLINE void score_tile(int vectors, const attention *a, const scratch *s, int line, float *scores) {
  vector score[VECTORS][KV_TILE] = {0};
  for (int d = 0; d < a->head_dim; d++) {
    vector query[VECTORS];
    for (int v = 0; v < vectors; v++) query[v] = load(s->transposed + (size_t)d * s->padded_lines + line + v * LANES);
    for (int c = 0; c < KV_TILE; c++)
      for (int v = 0; v < vectors; v++) score[v][c] += query[v] * s->kv_tile[c * a->head_dim + d];
  }
  for (int c = 0; c < KV_TILE; c++)
    for (int v = 0; v < vectors; v++) store(scores + (size_t)c * s->padded_lines + line + v * LANES, score[v][c]);
}

static void score_shared(const attention *a, int head, const scratch *s) {
  for (int first = 0; first < s->visible->shared_count; first += KV_TILE) {
    for (int c = 0; c < KV_TILE; c++) {
      const int cell = s->visible->cells[first + c < s->visible->shared_count ? first + c : first];
      if (first + c + 2 * KV_TILE < s->visible->shared_count)
        prefetch_row(key_row(a, head, s->visible->cells[first + c + 2 * KV_TILE]), a->head_dim);
      for (int d = 0; d < a->head_dim; d += LANES)
        store(s->kv_tile + c * a->head_dim + d, widen(key_row(a, head, cell) + d));
    }
    float *scores = s->scores + (size_t)first * s->padded_lines;
    for (int line = 0; line < s->padded_lines; line += VECTORS * LANES)
      if (s->padded_lines - line >= VECTORS * LANES) score_tile(VECTORS, a, s, line, scores);
      else score_tile(1, a, s, line, scores);
  }
  for (int line = 0; line < s->padded_lines; line += LANES) {
    float *to = s->max_score + line_index(s, head, line);
    vector top = load(to);
    for (int c = 0; c < s->visible->shared_count; c++)
      top = max_vector(load(s->scores + (size_t)c * s->padded_lines + line), top);
    store(to, top);
  }
}

/* Scores of own cells, and of some that are none up to a multiple of TOGETHER. */
INLINE void score_private(int lines, const attention *a, const scratch *s, int head, int line, int from_d,
                          cell_range own) {
  const float *query = s->query + line_index(s, head, line) * a->head_dim;
  float *scores = s->private_scores + line_index(s, head, line) * s->stride + own.from;
  (void)from_d; /* all dimensions are taken at once */
  for (int first = 0; first < own.count; first += PRIVATE_TILE) {
    const half *keys[PRIVATE_TILE];
    vector score[HEADS][PRIVATE_TILE] = {0};
    for (int c = 0; c < PRIVATE_TILE; c++)
      keys[c] = key_row(a, head, own.cells[first + c < own.count ? first + c : first]);
    for (int d = 0; d < a->head_dim; d += LANES)
      for (int c = 0; c < PRIVATE_TILE; c++) {
        const vector k = widen(keys[c] + d);
        for (int h = 0; h < lines; h++) score[h][c] += k * load(query + h * a->head_dim + d);
      }
    for (int h = 0; h < lines; h++) reduce_each(score[h], scores + h * s->stride + first);
  }
}

/* Scores become weights; `total` is what they are to be divided by. */
static void softmax(const attention *a, int head, const scratch *s) {
  const float *tops = s->max_score + line_index(s, head, 0);
  float *totals = s->sum_exp + line_index(s, head, 0);
  for (int line = 0; line < s->padded_lines; line += LANES) {
    const vector top = load(tops + line);
    vector total = {0};
    for (int c = 0; c < s->visible->shared_count; c++) {
      float *at = s->scores + (size_t)c * s->padded_lines + line;
      const vector weight = exp_nonpositive(load(at) - top);
      store(at, weight);
      total += weight;
    }
    store(totals + line, total);
  }
  for (int line = 0; line < s->lines; line++) {
    float *at = s->private_scores + line_index(s, head, line) * s->stride;
    vector total = {0};
    for (int c = 0; c < s->visible->private_counts[line / a->group]; c += LANES) {
      const vector weight = exp_nonpositive(load(at + c) - tops[line]);
      store(at + c, weight);
      total += weight;
    }
    totals[line] += reduce_add(total);
  }
}

/* Add values of common cells, by their weights, to SPAN of each line's `size` sums. */
INLINE void accumulate_shared(int lines, const float *values, int n, const float *weights, size_t padded_lines,
                              float *sums, int size) {
  vector total[HEADS][DIM_VECTORS];
  load_accumulators(lines, sums, size, total);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < DIM_VECTORS; part++) {
      const vector v = load(values + c * DIM_BLOCK + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[c * padded_lines + h];
    }
  store_accumulators(lines, total, sums, size);
}

/* The same of own cells. */
INLINE void accumulate_private(int lines, const attention *a, const scratch *s, int head, int line, int d,
                               cell_range own) {
  const float *weights = s->private_scores + line_index(s, head, line) * s->stride + own.from;
  float *sums = s->sums + line_index(s, head, line) * a->head_dim + d;
  vector total[HEADS][DIM_VECTORS];
  load_accumulators(lines, sums, a->head_dim, total);
  for (int c = 0; c < own.count; c++) {
    const half *values = value_row(a, head, own.cells[c]) + d;
    for (int part = 0; part < DIM_VECTORS; part++) {
      const vector v = widen(values + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[h * s->stride + c];
    }
  }
  store_accumulators(lines, total, sums, a->head_dim);
}

/* Values of a block of common cells, for SPAN of a head's dimensions from `d` on. */
static void pack_values(const attention *a, int head, int d, const scratch *s, int first, int n) {
  const int *cells = s->visible->cells + first;
  for (int c = 0; c < n; c++)
    if (first + c + KV_BLOCK < s->visible->shared_count)
      prefetch_row(value_row(a, head, cells[c + KV_BLOCK]) + d, DIM_BLOCK);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < DIM_BLOCK; part += LANES)
      store(s->kv_tile + c * DIM_BLOCK + part, widen(value_row(a, head, cells[c]) + d + part));
}

/* Sums of common cells' values by their weights. */
static void multiply_shared_values(const attention *a, int head, const scratch *s) {
  float *sums = s->sums + line_index(s, head, 0) * a->head_dim;
  memset(sums, 0, sizeof(float) * s->lines * a->head_dim);
  for (int d = 0; d < a->head_dim; d += DIM_BLOCK)
    for (int first = 0; first < s->visible->shared_count; first += KV_BLOCK) {
      const int n = s->visible->shared_count - first < KV_BLOCK ? s->visible->shared_count - first : KV_BLOCK;
      const float *weights = s->scores + (size_t)first * s->padded_lines;
      pack_values(a, head, d, s, first, n);
      for (int line = 0; line < s->lines; line += HEADS)
        BY_LINES(s->lines - line, accumulate_shared, s->kv_tile, n, weights + line, s->padded_lines,
                 sums + line * a->head_dim + d, a->head_dim)
    }
}

static void store_outputs(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const float *sums = s->sums + line_index(s, head, line) * a->head_dim, by = divisor(s, head, line);
    float *to = output_row(a, s, head, line);
    for (int d = 0; d < a->head_dim; d += LANES) store(to + d, load(sums + d) / by);
  }
}

void attend_f16(const attention *a, const scratch *s) {
  const int end = s->head + s->heads;
  for (int head = s->head; head < end; head++) load_queries(a, head, s);
  for_private_cells(a, s, a->keys, a->head_dim, score_private);
  add_mask_bias(a, s);
  for (int head = s->head; head < end; head++) {
    transpose_queries(s, head, a->head_dim);
    score_shared(a, head, s);
    softmax(a, head, s);
    multiply_shared_values(a, head, s);
  }
  for_private_cells(a, s, a->values, DIM_BLOCK, accumulate_private);
  for (int head = s->head; head < end; head++) store_outputs(a, head, s);
}
