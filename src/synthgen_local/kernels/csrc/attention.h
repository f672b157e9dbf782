/* What the two ways to compute attention share: over keys and values of 16 bits, `attention_f16.c`, and over
 * those in bfloat16, `attention_bf16.c`. Which cells are common to whom is found in `attention.c`.
 */

#pragma once

#include "operators.h"
#include "simd.h"

enum {
#if defined(__AVX512F__) || !defined(__AVX__)
  DIM_VECTORS = 4,  /* vectors of a head that are summed at once: with HEADS of them they fill the registers */
  PRIVATE_TILE = 4, /* own cells whose scores are, likewise */
#else
  DIM_VECTORS = 2,
  PRIVATE_TILE = 2,
#endif
  DIM_BLOCK = LANES * DIM_VECTORS, /* of a head's dimensions */
  HEADS = 4,                       /* heads that read the same keys and are computed together */
  QUERY_CHUNK = 32,                /* queries whose common cells are found together, at most */
  MAX_LINES = 96,                  /* of one head in a chunk, where scores are to stay in the first cache */
  KV_TILE = 8,                     /* cells in a tile of the product with common keys */
  PRIVATE_BLOCK = 16,              /* own cells of a query that stay in the first cache for all heads */
  PREFETCH_DISTANCE = 2,           /* stretches of them from one that is computed to one that is asked for */
  KV_BLOCK = 64,                   /* common cells whose values stay in the first cache */
};

typedef uint16_t half; /* or bfloat16 */

typedef struct {
  struct ggml_tensor *out;
  const struct ggml_tensor *queries, *keys, *values, *mask;
  int head_dim, group, cells, chunk; /* of a head; heads that share keys; of the cache; queries of a chunk */
  float scale;
} attention;

/* What the queries of a chunk see: cells that all of them do, and those that each does beside these. */
typedef struct {
  int count, shared_count, private_counts[QUERY_CHUNK]; /* queries; cells */
  bool has_bias[QUERY_CHUNK];                           /* whether a mask says more than who sees what */
  int cells[];                                          /* common ones, then own ones of each, in [cells] each */
} chunk_visibility;

/* What one thread computes with, for some heads that have keys of their own. A line is one of the heads
 * that read these, of one query; lines of a query are neighbours. */
typedef struct {
  int head, heads, chunk, lines; /* the first head; how many; which queries; lines of a head */
  int padded_lines, most;        /* lines rounded up to whole vectors; at most */
  size_t stride;                 /* of `single` */
  int own;                       /* cells that one query sees beside common ones, at most */
  const chunk_visibility *visible;
  float *query;                 /* [head][line][size]; in bfloat16, here and in `across`, two values are one */
  float *private_scores, *sums; /* [head][line][cells], of own ones; [head][line][size] */
  float *max_score, *sum_exp;   /* [head][line] */
  float *transposed, *scores;   /* of one head: [size][wide]; [cell][wide], in bfloat16 of a block */
  float *kv_tile;               /* keys or values of a few cells */
} scratch;

INLINE const half *mask_row(const attention *a, int query) {
  return (const half *)((const char *)a->mask->data + query * a->mask->nb[1]);
}

/* A head's keys or values of a cell. */
INLINE const half *kv_row(const struct ggml_tensor *t, int head, int cell) {
  return (const half *)((const char *)t->data + cell * t->nb[1] + head * t->nb[2]);
}

INLINE const half *key_row(const attention *a, int head, int cell) { return kv_row(a->keys, head, cell); }
INLINE const half *value_row(const attention *a, int head, int cell) { return kv_row(a->values, head, cell); }

/* Own cells lie far apart in memory, where no processor expects them: ask for them in advance. */
INLINE void prefetch_row(const half *from, int size) {
  for (int d = 0; d < size; d += 32) __builtin_prefetch(from + d);
}

/* Where a line of one of its heads is in memory, counted in lines. */
INLINE size_t line_index(const scratch *s, int head, int line) { return (size_t)(head - s->head) * s->most + line; }

/* Where a line's query is, and where what comes of it goes. */
INLINE const float *query_row(const attention *a, const scratch *s, int head, int line) {
  return (const float *)((const char *)a->queries->data + (s->chunk * a->chunk + line / a->group) * a->queries->nb[1] +
                         (head * a->group + line % a->group) * a->queries->nb[2]);
}

INLINE float *output_row(const attention *a, const scratch *s, int head, int line) {
  return (float *)((char *)a->out->data + (head * a->group + line % a->group) * a->out->nb[1] +
                   (s->chunk * a->chunk + line / a->group) * a->out->nb[2]);
}

/* What a line's sums are to be divided by: a query may see nothing. */
INLINE float divisor(const scratch *s, int head, int line) {
  const float total = s->sum_exp[line_index(s, head, line)];
  return total > 0 ? total : 1;
}

INLINE const int *private_cells(const attention *a, const chunk_visibility *visible, int query) {
  return visible->cells + (size_t)(1 + query) * a->cells;
}

/* Own cells of a query, from some place on: at most NEAR of them. */
typedef struct {
  int query, from, count;
  const int *cells;
} cell_range;

INLINE cell_range get_cell_range(const attention *a, const scratch *s, int query, int from) {
  const int left = s->visible->private_counts[query] - from;
  return (cell_range){query, from,
                      left < 0               ? 0
                      : left < PRIVATE_BLOCK ? left
                                             : PRIVATE_BLOCK,
                      private_cells(a, s->visible, query) + from};
}

/* Those that come next but SOON - 1: queries that began together have their cells side by side. */
INLINE cell_range get_prefetch_range(const attention *a, const scratch *s, cell_range own) {
  const int query = own.query + PREFETCH_DISTANCE, count = s->visible->count;
  return get_cell_range(a, s, query % count, own.from + (query < count ? 0 : PRIVATE_BLOCK));
}

/* Ask for some of a stretch's rows, a part for each head that is computed meanwhile: in one go they would be
 * more than a processor waits for at once. Those of all heads together: so they lie in memory. */
INLINE void prefetch_part(const attention *a, const scratch *s, const struct ggml_tensor *cells, cell_range own,
                          int part) {
  for (int c = own.count * part / s->heads; c < own.count * (part + 1) / s->heads; c++)
    for (int head = s->head; head < s->head + s->heads; head++)
      prefetch_row(kv_row(cells, head, own.cells[c]), a->head_dim);
}

/* Let the number of lines be known where a function is compiled. */
#define BY_LINES(lines, does, ...)                                                                                     \
  switch (lines) {                                                                                                     \
  case 1: does(1, __VA_ARGS__); break;                                                                                 \
  case 2: does(2, __VA_ARGS__); break;                                                                                 \
  case 3: does(3, __VA_ARGS__); break;                                                                                 \
  default: does(HEADS, __VA_ARGS__);                                                                                   \
  }

/* Something that is done with lines of one query and a stretch of its own cells, from a dimension on. */
typedef void private_kernel(int lines, const attention *a, const scratch *s, int head, int line, int d, cell_range own);

/* Do it query after query with all heads, `span` dimensions at a time, while what comes next is asked for. */
INLINE void for_private_cells(const attention *a, const scratch *s, const struct ggml_tensor *cells, int span,
                              private_kernel *does) {
  for (int from = 0; from < s->own; from += PRIVATE_BLOCK)
    for (int i = 0; i < s->visible->count; i++) {
      const cell_range own = get_cell_range(a, s, i, from), next = get_prefetch_range(a, s, own);
      for (int head = s->head; head < s->head + s->heads; head++) {
        prefetch_part(a, s, cells, next, head - s->head);
        for (int d = 0; d < a->head_dim; d += span)
          for (int h = 0; h < a->group; h += HEADS) BY_LINES(a->group - h, does, a, s, head, i * a->group + h, d, own)
      }
    }
}

/* The sum of the lanes of each of some vectors. */
INLINE void reduce_each(const vector *x, float *to) {
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
  for (int i = 0; i < PRIVATE_TILE; i++) to[i] = reduce_add(x[i]);
#endif
}

/* SPAN of some lines' `size` sums, taken into registers and put back. */
INLINE void load_accumulators(int lines, const float *sums, int size, vector total[HEADS][DIM_VECTORS]) {
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < DIM_VECTORS; part++) total[h][part] = load(sums + h * size + part * LANES);
}

INLINE void store_accumulators(int lines, const vector total[HEADS][DIM_VECTORS], float *sums, int size) {
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < DIM_VECTORS; part++) store(sums + h * size + part * LANES, total[h][part]);
}

void transpose_queries(const scratch *s, int head, int rows);
void add_mask_bias(const attention *a, const scratch *s);
void attend_f16(const attention *a, const scratch *s);
void attend_bf16(const attention *a, const scratch *s);
