/* Attention of rows that share a prompt.
 *
 * Rows in flight lie in one key-value cache: the cells of their prompt, which all of them see, and
 * between each other's the cells of their own. llama.cpp either multiplies all rows with all cells,
 * or goes through the cells of each row one by one. Here the cells that all rows of a chunk see
 * are one product of matrices, and each row's own follow; what a row does not see costs nothing.
 *
 * Takes GGML_OP_FLASH_ATTN_EXT over keys and values of 16 bits, and leaves attention with a cap,
 * slopes or sinks to llama.cpp. Queries stay in 32 bits; where a model's weights are multiplied in
 * bfloat16, so are common cells. Knows ggml's tensors; no models, rows or sampling.
 */

#include <math.h>
#include <string.h>

#include "operations.h"
#include "vectors.h"

enum {
#if defined(__AVX512F__) || !defined(__AVX__)
  PARTS = 4,    /* vectors of a head that are summed at once: with HEADS of them they fill the registers */
  TOGETHER = 4, /* own cells whose scores are, likewise */
#else
  PARTS = 2,
  TOGETHER = 2,
#endif
  SPAN = LANES * PARTS, /* of a head's dimensions */
  VECTORS = 2,          /* of lines whose scores are summed at once */
  HEADS = 4,            /* heads that read the same keys and are computed together */
  CHUNK = 16,           /* queries whose common cells are found together */
  CELLS = 8,            /* cells in a tile of the product with common keys */
  AHEAD = 12,           /* own cells that are on their way from memory */
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
  bool wide;              /* common cells in bfloat16 */
  float scale;
} attention;

/* What the queries of a chunk see: cells that all of them do, and those that each does beside these. */
typedef struct {
  int count, commons, owns[CHUNK]; /* queries; cells */
  int cells[];                     /* common ones, then own ones of each, in [cells] each */
} sight;

/* What one thread computes with. A line is a query's head; lines of a query are neighbours. */
typedef struct {
  int chunk, lines, wide; /* lines of the chunk; rounded up to whole vectors */
  const sight *sees;
  float *query, *across;    /* [line][size], [size][wide]; in bfloat16 pairs of values are one */
  float *scores, *single;   /* of common cells [cell][wide], of own ones [line][cells] */
  float *few, *top, *total; /* keys or values of a few cells; [wide]; [wide] */
  float *sums;              /* [line][SPAN] */
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

static bool prepare(scratch *s, const attention *a, room *from) {
  const size_t lines = CHUNK * a->group, wide = up(lines, LANES), cells = up(a->cells, BLOCK);
  const size_t floats = lines * a->size + a->size * wide + cells * wide + lines * cells +
                        CELLS * a->size + BLOCK * SPAN + 2 * wide + lines * SPAN;
  float *next = at_least(from, floats * 4);
  if (!next) return false;
  s->query = next, next += lines * a->size;
  s->across = next, next += a->size * wide;
  s->scores = next, next += cells * wide;
  s->single = next, next += lines * cells;
  s->few = next, next += CELLS * a->size + BLOCK * SPAN;
  s->top = next, next += wide;
  s->total = next, next += wide;
  s->sums = next, next += lines * SPAN;
  return true;
}

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
static const char *sights(const attention *a, workspace *at) {
  for (int v = 0; v < VIEWS; v++)
    if (at->views[v].mask == a->mask) return at->views[v].chunks.bytes;
  view *to = &at->views[at->next_view++ % VIEWS];
  const size_t each = size_of_sight(a);
  char *found = at_least(&to->chunks, chunks_of(a) * each);
  if (!found) return NULL;
  to->mask = a->mask;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int chunk = 0; chunk < chunks_of(a); chunk++) look(a, chunk, (sight *)(found + chunk * each));
  return found;
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

static void read_queries(const attention *a, int head, scratch *s) {
  const int rows = a->wide ? a->size / 2 : a->size;
  memset(s->across, 0, sizeof(float) * rows * s->wide);
  for (int line = 0; line < s->lines; line++) {
    const char *query = (const char *)a->queries->data +
                        (s->chunk * CHUNK + line / a->group) * a->queries->nb[1] +
                        (head * a->group + line % a->group) * a->queries->nb[2];
    float *to = s->query + (size_t)line * a->size, *each = to;
    for (int d = 0; d < a->size; d += LANES) store(to + d, load((const float *)query + d) * a->scale);
    if (a->wide) pair_neighbours(to, a->size, (int32_t *)(each = s->few));
    for (int d = 0; d < rows; d++) s->across[(size_t)d * s->wide + line] = each[d];
  }
}

/* Scores of a tile of common cells with some vectors of lines: lanes are lines, so nothing is summed
 * across lanes. */
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

static void score_common(const attention *a, int head, scratch *s) {
  for (int first = 0; first < s->sees->commons; first += CELLS) {
    for (int c = 0; c < CELLS; c++) {
      const int cell = s->sees->cells[first + c < s->sees->commons ? first + c : first];
      if (first + c + 2 * CELLS < s->sees->commons)
        expect(key(a, head, s->sees->cells[first + c + 2 * CELLS]), a->size);
      float wide[LANES];
      for (int d = 0; d < a->size; d += LANES) {
        float *to = a->wide ? wide : s->few + c * a->size + d;
        store(to, widen(key(a, head, cell) + d));
        if (a->wide) pair_neighbours(wide, LANES, (int32_t *)s->few + (c * a->size + d) / 2);
      }
    }
    float *scores = s->scores + (size_t)first * s->wide;
    for (int line = 0; line < s->wide; line += VECTORS * LANES) {
      const bool more = s->wide - line >= VECTORS * LANES;
      if (a->wide && more) score_wide_tile(VECTORS, a, s, line, scores);
      else if (a->wide) score_wide_tile(1, a, s, line, scores);
      else if (more) score_tile(VECTORS, a, s, line, scores);
      else score_tile(1, a, s, line, scores);
    }
  }
  for (int line = 0; line < s->wide; line += LANES) {
    vector top = all(-1e30f);
    for (int c = 0; c < s->sees->commons; c++) top = larger(load(s->scores + (size_t)c * s->wide + line), top);
    store(s->top + line, top);
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
INLINE void dots(int heads, const attention *a, int head, const float *query, const int *own, int n,
                 float *scores, size_t stride) {
  for (int first = 0; first < n; first += TOGETHER) {
    const half *from[TOGETHER];
    vector score[HEADS][TOGETHER] = {0};
    for (int c = 0; c < TOGETHER; c++) {
      from[c] = key(a, head, own[first + c < n ? first + c : first]);
      if (first + c + AHEAD < n) expect(key(a, head, own[first + c + AHEAD]), a->size);
    }
    for (int d = 0; d < a->size; d += LANES)
      for (int c = 0; c < TOGETHER; c++) {
        const vector k = widen(from[c] + d);
        for (int h = 0; h < heads; h++) score[h][c] += k * load(query + h * a->size + d);
      }
    for (int h = 0; h < heads; h++) sum_each(score[h], scores + h * stride + first);
  }
}

static void score_own(const attention *a, int head, scratch *s) {
  for (int i = 0; i < s->sees->count; i++) {
    const int *own = own_cells(a, s->sees, i), n = s->sees->owns[i];
    const size_t stride = up(a->cells, BLOCK);
    for (int h = 0; h < a->group; h += HEADS) {
      const int line = i * a->group + h;
      const float *query = s->query + (size_t)line * a->size;
      float *scores = s->single + line * stride;
      switch (a->group - h) {
      case 1: dots(1, a, head, query, own, n, scores, stride); break;
      case 2: dots(2, a, head, query, own, n, scores, stride); break;
      case 3: dots(3, a, head, query, own, n, scores, stride); break;
      default: dots(HEADS, a, head, query, own, n, scores, stride);
      }
    }
    const half *mask = mask_of(a, s->chunk * CHUNK + i);
    for (int line = i * a->group; line < (i + 1) * a->group; line++) {
      float *scores = s->single + line * stride;
      for (int c = 0; c < n; c++)
        if (mask[own[c]] != 0) scores[c] += ggml_fp16_to_fp32(mask[own[c]]);
      for (size_t c = n; c < up(n, LANES); c++) scores[c] = -INFINITY;
      vector top = all(s->top[line]);
      for (int c = 0; c < n; c += LANES) top = larger(load(scores + c), top);
      s->top[line] = largest(top);
    }
  }
}

/* Scores become weights; `total` is what they are to be divided by. */
static void soften(const attention *a, scratch *s) {
  for (int line = 0; line < s->wide; line += LANES) {
    const vector top = load(s->top + line);
    vector total = {0};
    for (int c = 0; c < s->sees->commons; c++) {
      float *at = s->scores + (size_t)c * s->wide + line;
      const vector weight = exponential(load(at) - top);
      store(at, weight);
      total += weight;
    }
    store(s->total + line, total);
    for (int c = 0; a->wide && c < s->sees->commons; c += 2) {
      const float *at = s->scores + (size_t)c * s->wide + line;
      const vector second = c + 1 < s->sees->commons ? load(at + s->wide) : all(0);
      pair_vectors(load(at), second, (int32_t *)s->scores + (size_t)c / 2 * s->wide + line);
    }
  }
  for (int line = 0; line < s->lines; line++) {
    float *at = s->single + line * up(a->cells, BLOCK);
    vector total = {0};
    for (int c = 0; c < s->sees->owns[line / a->group]; c += LANES) {
      const vector weight = exponential(load(at + c) - s->top[line]);
      store(at + c, weight);
      total += weight;
    }
    s->total[line] += sum(total);
  }
}

INLINE void add_common(int heads, const float *values, int n, const float *weights, size_t wide, float *sums) {
  vector total[HEADS][PARTS];
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = load(sums + h * SPAN + part * LANES);
  for (int c = 0; c < n; c++)
    for (int part = 0; part < PARTS; part++) {
      const vector v = load(values + c * SPAN + part * LANES);
      for (int h = 0; h < heads; h++) total[h][part] += v * weights[c * wide + h];
    }
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * SPAN + part * LANES, total[h][part]);
}

/* The same of pairs of cells in bfloat16. */
INLINE void add_wide_common(int heads, const float *values, int pairs, const float *weights, size_t wide, float *sums) {
#if HAS_WIDE
  __m512 total[HEADS][PARTS];
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = (__m512)load(sums + h * SPAN + part * LANES);
  for (int c = 0; c < pairs; c++)
    for (int part = 0; part < PARTS; part++) {
      const __m512bh v = (__m512bh)_mm512_loadu_si512(values + c * SPAN + part * LANES);
      for (int h = 0; h < heads; h++) {
        const __m512bh both = (__m512bh)_mm512_set1_epi32(((const int32_t *)weights)[c * wide + h]);
        total[h][part] = _mm512_dpbf16_ps(total[h][part], v, both);
      }
    }
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * SPAN + part * LANES, (vector)total[h][part]);
#endif
}

INLINE void add_own(int heads, const attention *a, int head, int d, const int *own, int n,
                    const float *weights, size_t stride, float *sums) {
  vector total[HEADS][PARTS];
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = load(sums + h * SPAN + part * LANES);
  for (int c = 0; c < n; c++) {
    const half *from = value(a, head, own[c]) + d;
    if (c + AHEAD < n) expect(value(a, head, own[c + AHEAD]) + d, SPAN);
    for (int part = 0; part < PARTS; part++) {
      const vector v = widen(from + part * LANES);
      for (int h = 0; h < heads; h++) total[h][part] += v * weights[h * stride + c];
    }
  }
  for (int h = 0; h < heads; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * SPAN + part * LANES, total[h][part]);
}

/* Values of a block of common cells, for SPAN of a head's dimensions from `d` on. */
static void read_values(const attention *a, int head, int d, const scratch *s, int first, int n) {
  const int *cells = s->sees->cells + first;
  for (int c = 0; c < n; c++)
    if (first + c + BLOCK < s->sees->commons) expect(value(a, head, cells[c + BLOCK]) + d, SPAN);
  for (int c = 0; c < n; c += 1 + a->wide)
    for (int part = 0; part < PARTS; part++) {
      const vector v = widen(value(a, head, cells[c]) + d + part * LANES);
      const int next = c + 1 < n;
      if (a->wide)
        pair_vectors(v, next ? widen(value(a, head, cells[c + next]) + d + part * LANES) : all(0),
                     (int32_t *)s->few + c / 2 * SPAN + part * LANES);
      else store(s->few + c * SPAN + part * LANES, v);
    }
}

INLINE void add_block(int heads, const attention *a, const scratch *s, int first, int n, int line) {
  float *sums = s->sums + (size_t)line * SPAN;
  if (a->wide) add_wide_common(heads, s->few, (n + 1) / 2, s->scores + (size_t)first / 2 * s->wide + line, s->wide, sums);
  else add_common(heads, s->few, n, s->scores + (size_t)first * s->wide + line, s->wide, sums);
}

/* Sums of values by their weights, for SPAN of a head's dimensions from `d` on. */
static void weigh(const attention *a, int head, int d, scratch *s) {
  memset(s->sums, 0, sizeof(float) * s->lines * SPAN);
  for (int first = 0; first < s->sees->commons; first += BLOCK) {
    const int n = s->sees->commons - first < BLOCK ? s->sees->commons - first : BLOCK;
    read_values(a, head, d, s, first, n);
    for (int line = 0; line < s->lines; line += HEADS) {
      switch (s->lines - line) {
      case 1: add_block(1, a, s, first, n, line); break;
      case 2: add_block(2, a, s, first, n, line); break;
      case 3: add_block(3, a, s, first, n, line); break;
      default: add_block(HEADS, a, s, first, n, line);
      }
    }
  }
  const size_t stride = up(a->cells, BLOCK);
  for (int i = 0; i < s->sees->count; i++) {
    const int *own = own_cells(a, s->sees, i), n = s->sees->owns[i];
    for (int h = 0; h < a->group; h += HEADS) {
      const int line = i * a->group + h;
      const float *weights = s->single + line * stride;
      float *sums = s->sums + (size_t)line * SPAN;
      switch (a->group - h) {
      case 1: add_own(1, a, head, d, own, n, weights, stride, sums); break;
      case 2: add_own(2, a, head, d, own, n, weights, stride, sums); break;
      case 3: add_own(3, a, head, d, own, n, weights, stride, sums); break;
      default: add_own(HEADS, a, head, d, own, n, weights, stride, sums);
      }
    }
  }
  for (int line = 0; line < s->lines; line++) {
    const float total = s->total[line] > 0 ? s->total[line] : 1; /* a query may see nothing */
    float *to = (float *)((char *)a->out->data + (head * a->group + line % a->group) * a->out->nb[1] +
                          (s->chunk * CHUNK + line / a->group) * a->out->nb[2]);
    for (int part = 0; part < PARTS; part++)
      store(to + d + part * LANES, load(s->sums + (size_t)line * SPAN + part * LANES) / total);
  }
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
  const char *seen = sights(&a, at);
  if (!seen) return false;
  for (int t = 0; t < threads; t++)
    if (!prepare(&scratches[t], &a, &at->lines[t])) return false;
  const int heads = (int)a.keys->ne[2], tasks = chunks_of(&a) * heads;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
  for (int t = 0; t < threads; t++) {
    scratch *s = &scratches[t];
    for (int task = tasks * t / threads; task < tasks * (t + 1) / threads; task++) {
      const int head = task % heads;
      s->chunk = task / heads;
      s->sees = (const sight *)(seen + s->chunk * size_of_sight(&a));
      s->lines = s->sees->count * a.group;
      s->wide = (int)up(s->lines, LANES);
      read_queries(&a, head, s);
      score_common(&a, head, s);
      score_own(&a, head, s);
      soften(&a, s);
      for (int d = 0; d < a.size; d += SPAN) weigh(&a, head, d, s);
    }
  }
  return true;
}
