/* Attention of rows that share a prompt.
 *
 * Rows in flight lie in one key-value cache: the cells of their prompt, which all of them see, and
 * between each other's the cells of their own. llama.cpp either multiplies all rows with all cells,
 * or goes through the cells of each row one by one. Here the cells that all rows of a chunk see
 * are one product of matrices, and each row's own follow; what a row does not see costs nothing.
 *
 * Takes GGML_OP_FLASH_ATTN_EXT over keys and values of 16 bits, and leaves attention with a cap,
 * slopes or sinks to llama.cpp. Queries stay in 32 bits; where a model's weights are multiplied in
 * bfloat16, so are common cells, and what a row gives hangs, by that rounding, on who is in its chunk.
 * Knows ggml's tensors; no models, rows or sampling.
 */

#include <math.h>
#include <string.h>

#include "operations.h"
#include "vectors.h"

enum {
#if defined(__AVX512F__) || !defined(__AVX__)
  PARTS = 4,    /* vectors of a head that are summed at once: with HEADS of them they fill the registers */
  TOGETHER = 4, /* own cells whose scores are, likewise */
  VECTORS = 2,  /* of lines whose scores of common cells are, likewise */
#else
  PARTS = 2,
  TOGETHER = 2,
  VECTORS = 1,
#endif
  SPAN = LANES * PARTS, /* of a head's dimensions */
  HEADS = 4,            /* heads that read the same keys and are computed together */
  CHUNK = 16,           /* queries whose common cells are found together */
  CELLS = 8,            /* cells in a tile of the product with common keys */
  NEAR = 16,            /* own cells of a query that stay in the first cache for all heads */
  BLOCK = 64,           /* common cells whose values stay in the first cache */
};

typedef ggml_fp16_t half;

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

typedef struct {
  struct ggml_tensor *out;
  const struct ggml_tensor *queries, *keys, *values, *mask;
  int size, group, cells; /* of a head; heads that share keys; of the cache */
  bool in_bf16;           /* common cells */
  float scale;
} attention;

/* What the queries of a chunk see: cells that all of them do, and those that each does beside these. */
typedef struct {
  int count, commons, owns[CHUNK]; /* queries; cells */
  int cells[];                     /* common ones, then own ones of each, in [cells] each */
} sight;

/* What one thread computes with, for some heads that have keys of their own. A line is one of the heads
 * that read these, of one query; lines of a query are neighbours. */
typedef struct {
  int head, heads, chunk, lines; /* the first head; how many; which queries; lines of a head */
  int wide, most;                /* lines rounded up to whole vectors; at most */
  size_t stride;                 /* of `single` */
  int own; /* cells that one query sees beside common ones, at most */
  const sight *sees;
  float *query;               /* [head][line][size] */
  float *single, *sums;       /* [head][line][cells], of own ones; [head][line][size] */
  float *top, *total;         /* [head][line] */
  float *across, *scores;     /* of one head: [size][wide], in bfloat16 pairs of values are one; [cell][wide] */
  float *few;                 /* keys or values of a few cells */
} scratch;

enum { HIDDEN = 0xFC00 }; /* minus infinity in 16 bits */

static const half *mask_of(const attention *a, int query) {
  return (const half *)((const char *)a->mask->data + query * a->mask->nb[1]);
}

static const half *key(const attention *a, int head, int cell) {
  return (const half *)((const char *)a->keys->data + cell * a->keys->nb[1] + head * a->keys->nb[2]);
}

static const half *value(const attention *a, int head, int cell) {
  return (const half *)((const char *)a->values->data + cell * a->values->nb[1] + head * a->values->nb[2]);
}

/* Own cells lie far apart in memory, where no processor expects them: ask for them in advance. */
INLINE void expect(const half *from, int size) {
  for (int d = 0; d < size; d += 32) __builtin_prefetch(from + d);
}

static bool prepare(scratch *s, const attention *a, int heads, int own, room *from) {
  const size_t most = up(CHUNK * a->group, LANES), lines = heads * most, cells = up(a->cells, BLOCK);
  s->stride = up(own, LANES) + LANES; /* no power of two, which would be one place in a cache for all lines */
  const size_t floats = 2 * lines * a->size + lines * s->stride + 2 * lines + a->size * most + cells * most +
                        CELLS * a->size + BLOCK * SPAN;
  float *next = at_least(from, floats * 4);
  if (!next) return false;
  s->most = (int)most;
  s->heads = heads;
  s->own = own;
  s->query = next, next += lines * a->size;
  s->sums = next, next += lines * a->size;
  s->single = next, next += lines * s->stride;
  s->top = next, next += lines;
  s->total = next, next += lines;
  s->across = next, next += a->size * most;
  s->scores = next, next += cells * most;
  s->few = next;
  return true;
}

/* Where a line of one of its heads is in memory, counted in lines. */
INLINE size_t at_line(const scratch *s, int head, int line) { return (size_t)(head - s->head) * s->most + line; }

static int chunks_of(const attention *a) { return (int)up(a->queries->ne[1], CHUNK) / CHUNK; }

static size_t size_of_sight(const attention *a) {
  return up(sizeof(sight) + sizeof(int) * (1 + CHUNK) * (size_t)a->cells + a->cells * sizeof(uint16_t), 64);
}

static const int *own_cells(const attention *a, const sight *sees, int query) {
  return sees->cells + (size_t)(1 + query) * a->cells;
}

/* Tell the cells that all queries of a chunk see from those that some of them see. Most cells are
 * another row's: four of them are passed by in a step, so cells are a multiple of four. */
static void look(const attention *a, int chunk, sight *to) {
  const uint64_t hidden = HIDDEN * 0x0001000100010001ull;
  const int first = chunk * CHUNK, left = (int)a->queries->ne[1] - first;
  uint16_t *everybody = (uint16_t *)(to->cells + (1 + CHUNK) * (size_t)a->cells);
  to->count = left < CHUNK ? left : CHUNK;
  memset(everybody, 0xFF, a->cells * sizeof *everybody);
  for (int i = 0; i < to->count; i++) {
    const half *mask = mask_of(a, first + i);
    for (int c = 0; c < a->cells; c++) everybody[c] &= mask[c] == 0 ? 0xFFFF : 0;
  }
  to->commons = 0;
  for (int c = 0; c < a->cells; c++) {
    to->cells[to->commons] = c;
    to->commons += everybody[c] != 0;
  }
  for (int i = 0; i < to->count; i++) {
    const half *mask = mask_of(a, first + i);
    int *own = to->cells + (size_t)(1 + i) * a->cells, n = 0;
    for (int c = 0; c < a->cells; c += 4) {
      uint64_t four, every;
      memcpy(&four, mask + c, sizeof four);
      memcpy(&every, everybody + c, sizeof every);
      if (four == hidden || every == UINT64_MAX) continue;
      for (int j = c; j < c + 4; j++) {
        own[n] = j;
        n += mask[j] != HIDDEN && !everybody[j];
      }
    }
    to->owns[i] = n;
  }
}

/* What each chunk sees, found in the first layer of a pass that asks. NULL without memory. */
static const visibility *sights(const attention *a, workspace *at) {
  for (visibility *v = at->seen; v < at->seen + MASKS; v++)
    if (v->mask == a->mask && v->queries == a->queries->ne[1] && v->cells == a->cells) return v;
  visibility *to = &at->seen[at->next_seen];
  at->next_seen = (at->next_seen + 1) % MASKS;
  const size_t each = size_of_sight(a);
  char *found = at_least(&to->chunks, chunks_of(a) * each);
  if (!found) return NULL;
  to->mask = a->mask;
  to->queries = a->queries->ne[1];
  to->cells = a->cells;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int chunk = 0; chunk < chunks_of(a); chunk++) look(a, chunk, (sight *)(found + chunk * each));
  to->own = 0;
  for (int chunk = 0; chunk < chunks_of(a); chunk++) {
    const sight *sees = (const sight *)(found + chunk * each);
    for (int i = 0; i < sees->count; i++) to->own = sees->owns[i] > to->own ? sees->owns[i] : to->own;
  }
  return to;
}

/* Pairs of neighbours, or of values of two vectors, in bfloat16. */
INLINE void pair_neighbours(const float *from, int n, int32_t *to) {
#if HAS_WIDE
  for (int i = 0; i < n; i += LANES)
    _mm256_storeu_si256((__m256i *)(to + i / 2), (__m256i)_mm512_cvtneps_pbh((__m512)load(from + i)));
#endif
}

INLINE void pair_vectors(vector first, vector second, int32_t *to) {
#if HAS_WIDE
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#endif
}

static void read_queries(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const char *query = (const char *)a->queries->data +
                        (s->chunk * CHUNK + line / a->group) * a->queries->nb[1] +
                        (head * a->group + line % a->group) * a->queries->nb[2];
    float *to = s->query + at_line(s, head, line) * a->size;
    for (int d = 0; d < a->size; d += LANES) store(to + d, load((const float *)query + d) * a->scale);
  }
}

/* Let lanes be lines: so nothing is summed across lanes where all see the same cells. */
static void lay_across(const attention *a, int head, const scratch *s) {
  const int rows = a->in_bf16 ? a->size / 2 : a->size;
  memset(s->across, 0, sizeof(float) * rows * s->wide);
  for (int line = 0; line < s->lines; line++) {
    const float *query = s->query + at_line(s, head, line) * a->size;
    if (a->in_bf16) {
      pair_neighbours(query, a->size, (int32_t *)s->few);
      query = s->few;
    }
    for (int d = 0; d < rows; d++) s->across[(size_t)d * s->wide + line] = query[d];
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

INLINE void score_wide_tile(int vectors, const attention *a, const scratch *s, int line, float *scores) {
#if HAS_WIDE
  const int32_t *keys = (const int32_t *)s->few;
  __m512 score[VECTORS][CELLS] = {0};
  for (int d = 0; d < a->size / 2; d++) {
    __m512bh query[VECTORS];
    for (int v = 0; v < vectors; v++)
      query[v] = (__m512bh)_mm512_loadu_si512(s->across + (size_t)d * s->wide + line + v * LANES);
    for (int c = 0; c < CELLS; c++) {
      const __m512bh both = (__m512bh)_mm512_set1_epi32(keys[c * (a->size / 2) + d]);
      for (int v = 0; v < vectors; v++) score[v][c] = _mm512_dpbf16_ps(score[v][c], query[v], both);
    }
  }
  for (int c = 0; c < CELLS; c++)
    for (int v = 0; v < vectors; v++)
      store(scores + (size_t)c * s->wide + line + v * LANES, (vector)score[v][c]);
#endif
}

static void score_common(const attention *a, int head, const scratch *s) {
  for (int first = 0; first < s->sees->commons; first += CELLS) {
    for (int c = 0; c < CELLS; c++) {
      const int cell = s->sees->cells[first + c < s->sees->commons ? first + c : first];
      if (first + c + 2 * CELLS < s->sees->commons)
        expect(key(a, head, s->sees->cells[first + c + 2 * CELLS]), a->size);
      float widened[LANES];
      for (int d = 0; d < a->size; d += LANES) {
        float *to = a->in_bf16 ? widened : s->few + c * a->size + d;
        store(to, widen(key(a, head, cell) + d));
        if (a->in_bf16) pair_neighbours(widened, LANES, (int32_t *)s->few + (c * a->size + d) / 2);
      }
    }
    float *scores = s->scores + (size_t)first * s->wide;
    for (int line = 0; line < s->wide; line += VECTORS * LANES) {
      const bool more = s->wide - line >= VECTORS * LANES;
      if (a->in_bf16 && more) score_wide_tile(VECTORS, a, s, line, scores);
      else if (a->in_bf16) score_wide_tile(1, a, s, line, scores);
      else if (more) score_tile(VECTORS, a, s, line, scores);
      else score_tile(1, a, s, line, scores);
    }
  }
  for (int line = 0; line < s->wide; line += LANES) {
    float *to = s->top + at_line(s, head, line);
    vector top = load(to);
    for (int c = 0; c < s->sees->commons; c++) top = larger(load(s->scores + (size_t)c * s->wide + line), top);
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

/* Own cells of a query, from some place on: at most NEAR of them. */
typedef struct {
  int query, from, count;
  const int *cells;
} stretch;

INLINE stretch stretch_of(const attention *a, const scratch *s, int query, int from) {
  const int left = s->sees->owns[query] - from;
  return (stretch){query, from, left < 0 ? 0 : left < NEAR ? left : NEAR, own_cells(a, s->sees, query) + from};
}

/* Those that come next: queries that began together have their cells side by side. */
INLINE stretch after(const attention *a, const scratch *s, stretch own) {
  return own.query + 1 < s->sees->count ? stretch_of(a, s, own.query + 1, own.from) : stretch_of(a, s, 0, own.from + NEAR);
}

/* Ask for the rows of all heads: what lies together in memory comes together. */
INLINE void expect_heads(const attention *a, const scratch *s, const half *first, size_t next) {
  for (int h = 0; h < s->heads; h++) expect((const half *)((const char *)first + h * next), a->size);
}

/* Scores of own cells, and of some that are none up to a multiple of TOGETHER. */
INLINE void dots(int lines, const attention *a, const scratch *s, int head, int line, stretch own, stretch next) {
  const float *query = s->query + at_line(s, head, line) * a->size;
  float *scores = s->single + at_line(s, head, line) * s->stride + own.from;
  const bool asks = head == s->head && line % a->group == 0;
  for (int c = 0; asks && c < next.count; c++) expect_heads(a, s, key(a, s->head, next.cells[c]), a->keys->nb[2]);
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

static void lean(const attention *a, const scratch *s, int i, int head, const int *own, int n) {
  const half *mask = mask_of(a, s->chunk * CHUNK + i);
  for (int line = i * a->group; line < (i + 1) * a->group; line++) {
    float *scores = s->single + at_line(s, head, line) * s->stride;
    for (int c = 0; c < n; c++)
      if (mask[own[c]] != 0) scores[c] += ggml_fp16_to_fp32(mask[own[c]]);
    for (size_t c = n; c < up(n, LANES); c++) scores[c] = -INFINITY;
    vector top = all(-1e30f);
    for (int c = 0; c < n; c += LANES) top = larger(load(scores + c), top);
    s->top[at_line(s, head, line)] = largest(top);
  }
}

/* Scores of own cells, and the largest of each line. */
static void score_own(const attention *a, const scratch *s) {
  for (int from = 0; from < s->own; from += NEAR)
    for (int i = 0; i < s->sees->count; i++) {
      const stretch own = stretch_of(a, s, i, from), next = after(a, s, own);
      for (int head = s->head; head < s->head + s->heads; head++)
        for (int h = 0; h < a->group; h += HEADS) {
          const int line = i * a->group + h;
          switch (a->group - h) {
          case 1: dots(1, a, s, head, line, own, next); break;
          case 2: dots(2, a, s, head, line, own, next); break;
          case 3: dots(3, a, s, head, line, own, next); break;
          default: dots(HEADS, a, s, head, line, own, next);
          }
        }
    }
  for (int i = 0; i < s->sees->count; i++)
    for (int head = s->head; head < s->head + s->heads; head++)
      lean(a, s, i, head, own_cells(a, s->sees, i), s->sees->owns[i]);
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
    for (int c = 0; a->in_bf16 && c < s->sees->commons; c += 2) {
      const float *at = s->scores + (size_t)c * s->wide + line;
      const vector second = c + 1 < s->sees->commons ? load(at + s->wide) : all(0);
      pair_vectors(load(at), second, (int32_t *)s->scores + (size_t)c / 2 * s->wide + line);
    }
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
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = load(sums + h * size + part * LANES);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < PARTS; part++) {
      const vector v = load(values + c * SPAN + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[c * wide + h];
    }
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * size + part * LANES, total[h][part]);
}

/* The same of pairs of cells in bfloat16. */
INLINE void add_wide_common(int lines, const float *values, int pairs, const float *weights, size_t wide, float *sums,
                            int size) {
#if HAS_WIDE
  __m512 total[HEADS][PARTS];
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = (__m512)load(sums + h * size + part * LANES);
  for (int c = 0; c < pairs; c++)
    for (int part = 0; part < PARTS; part++) {
      const __m512bh v = (__m512bh)_mm512_loadu_si512(values + c * SPAN + part * LANES);
      for (int h = 0; h < lines; h++) {
        const __m512bh both = (__m512bh)_mm512_set1_epi32(((const int32_t *)weights)[c * wide + h]);
        total[h][part] = _mm512_dpbf16_ps(total[h][part], v, both);
      }
    }
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * size + part * LANES, (vector)total[h][part]);
#endif
}

/* The same of own cells. */
INLINE void add_own(int lines, const attention *a, const scratch *s, int head, int line, int d, stretch own, stretch next) {
  const float *weights = s->single + at_line(s, head, line) * s->stride + own.from;
  float *sums = s->sums + at_line(s, head, line) * a->size + d;
  const bool asks = head == s->head && line % a->group == 0 && d == 0;
  for (int c = 0; asks && c < next.count; c++) expect_heads(a, s, value(a, s->head, next.cells[c]), a->values->nb[2]);
  vector total[HEADS][PARTS];
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = load(sums + h * a->size + part * LANES);
  for (int c = 0; c < own.count; c++) {
    const half *values = value(a, head, own.cells[c]) + d;
    for (int part = 0; part < PARTS; part++) {
      const vector v = widen(values + part * LANES);
      for (int h = 0; h < lines; h++) total[h][part] += v * weights[h * s->stride + c];
    }
  }
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * a->size + part * LANES, total[h][part]);
}

/* Values of a block of common cells, for SPAN of a head's dimensions from `d` on. */
static void read_values(const attention *a, int head, int d, const scratch *s, int first, int n) {
  const int *cells = s->sees->cells + first;
  for (int c = 0; c < n; c++)
    if (first + c + BLOCK < s->sees->commons) expect(value(a, head, cells[c + BLOCK]) + d, SPAN);
  for (int c = 0; c < n; c += 1 + a->in_bf16)
    for (int part = 0; part < PARTS; part++) {
      const vector v = widen(value(a, head, cells[c]) + d + part * LANES);
      const int next = c + 1 < n;
      if (a->in_bf16)
        pair_vectors(v, next ? widen(value(a, head, cells[c + next]) + d + part * LANES) : all(0),
                     (int32_t *)s->few + c / 2 * SPAN + part * LANES);
      else store(s->few + c * SPAN + part * LANES, v);
    }
}

INLINE void add_block(int lines, const attention *a, const scratch *s, int head, int line, int d, int first, int n) {
  float *sums = s->sums + at_line(s, head, line) * a->size + d;
  const float *weights = s->scores + (size_t)(a->in_bf16 ? first / 2 : first) * s->wide + line;
  if (a->in_bf16) add_wide_common(lines, s->few, (n + 1) / 2, weights, s->wide, sums, a->size);
  else add_common(lines, s->few, n, weights, s->wide, sums, a->size);
}

/* Sums of common cells' values by their weights. */
static void weigh_common(const attention *a, int head, const scratch *s) {
  memset(s->sums + at_line(s, head, 0) * a->size, 0, sizeof(float) * s->lines * a->size);
  for (int d = 0; d < a->size; d += SPAN)
    for (int first = 0; first < s->sees->commons; first += BLOCK) {
      const int n = s->sees->commons - first < BLOCK ? s->sees->commons - first : BLOCK;
      read_values(a, head, d, s, first, n);
      for (int line = 0; line < s->lines; line += HEADS) {
        switch (s->lines - line) {
        case 1: add_block(1, a, s, head, line, d, first, n); break;
        case 2: add_block(2, a, s, head, line, d, first, n); break;
        case 3: add_block(3, a, s, head, line, d, first, n); break;
        default: add_block(HEADS, a, s, head, line, d, first, n);
        }
      }
    }
}

/* Own cells' values are added to them. */
static void weigh_own(const attention *a, const scratch *s) {
  for (int from = 0; from < s->own; from += NEAR)
    for (int i = 0; i < s->sees->count; i++) {
      const stretch own = stretch_of(a, s, i, from), next = after(a, s, own);
      for (int head = s->head; head < s->head + s->heads; head++)
        for (int d = 0; d < a->size; d += SPAN)
          for (int h = 0; h < a->group; h += HEADS) {
            const int line = i * a->group + h;
            switch (a->group - h) {
            case 1: add_own(1, a, s, head, line, d, own, next); break;
            case 2: add_own(2, a, s, head, line, d, own, next); break;
            case 3: add_own(3, a, s, head, line, d, own, next); break;
            default: add_own(HEADS, a, s, head, line, d, own, next);
            }
          }
    }
}

static void write_out(const attention *a, int head, const scratch *s) {
  for (int line = 0; line < s->lines; line++) {
    const size_t at = at_line(s, head, line);
    const float total = s->total[at] > 0 ? s->total[at] : 1; /* a query may see nothing */
    float *to = (float *)((char *)a->out->data + (head * a->group + line % a->group) * a->out->nb[1] +
                          (s->chunk * CHUNK + line / a->group) * a->out->nb[2]);
    for (int d = 0; d < a->size; d += LANES) store(to + d, load(s->sums + at * a->size + d) / total);
  }
}

/* Common cells are taken head by head, as a product of matrices; own cells one by one, with all heads. */
static void attend_chunk(const attention *a, scratch *s) {
  const int end = s->head + s->heads;
  s->lines = s->sees->count * a->group;
  s->wide = (int)up(s->lines, LANES);
  for (int head = s->head; head < end; head++) read_queries(a, head, s);
  score_own(a, s);
  for (int head = s->head; head < end; head++) {
    lay_across(a, head, s);
    score_common(a, head, s);
    soften(a, head, s);
    weigh_common(a, head, s);
  }
  weigh_own(a, s);
  for (int head = s->head; head < end; head++) write_out(a, head, s);
}

bool takes_attention(const struct ggml_tensor *node) {
  if (node->op != GGML_OP_FLASH_ATTN_EXT) return false;
  const struct ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
  float parameters[3]; /* scale, largest slope, cap */
  memcpy(parameters, node->op_params, sizeof parameters);
  return parameters[1] == 0 && parameters[2] == 0 && mask && !node->src[4] &&
         q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 &&
         mask->type == GGML_TYPE_F16 && q->nb[0] == 4 && k->nb[0] == 2 && v->nb[0] == 2 && mask->nb[0] == 2 &&
         q->ne[0] % SPAN == 0 && k->ne[0] == q->ne[0] && v->ne[0] == q->ne[0] && k->ne[2] == v->ne[2] &&
         k->ne[1] % 4 == 0 && q->ne[2] % k->ne[2] == 0 && q->ne[3] == 1 && k->ne[3] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1;
}

bool attend(struct ggml_tensor *node, workspace *at) {
  attention a = {node, node->src[0], node->src[1], node->src[2], node->src[3], 0, 0, 0, at->wide, 0};
  scratch scratches[MOST_THREADS];
  const int threads = at->threads;
  a.size = (int)a.queries->ne[0];
  a.group = (int)(a.queries->ne[2] / a.keys->ne[2]);
  a.cells = (int)a.keys->ne[1];
  memcpy(&a.scale, node->op_params, sizeof a.scale);
  const visibility *seen = sights(&a, at);
  if (!seen) return false;
  const int heads = (int)a.keys->ne[2], each = threads == 1 ? heads : 1, tasks = chunks_of(&a) * heads / each;
  for (int t = 0; t < threads; t++)
    if (!prepare(&scratches[t], &a, each, seen->own, &at->lines[t])) return false;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
  for (int t = 0; t < threads; t++) {
    scratch *s = &scratches[t];
    for (int task = tasks * t / threads; task < tasks * (t + 1) / threads; task++) {
      s->head = task * each % heads;
      s->chunk = task * each / heads;
      s->sees = (const sight *)((const char *)seen->chunks.bytes + s->chunk * size_of_sight(&a));
      attend_chunk(&a, s);
    }
  }
  return true;
}
