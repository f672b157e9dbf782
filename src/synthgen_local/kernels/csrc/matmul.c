/* Products with weights that are arranged here, narrow or wide, whatever they are in the file.
 *
 * A narrow weight is an integer of 8 bits times a scale that it shares with 191 others of its row, for
 * AMX or else for AVX-512's dot products of integers. Activations are then integers of 15 bits times
 * their token's scale, for AMX in two halves of 8 bits each. Sums of integers are exact, so it does not
 * matter which of the two computes them. Wide weights and their activations are bfloat16, for
 * AVX-512's dot products of those. Beside wide weights those of the output head are light: integers of 8
 * bits with a scale for 32 of a row, and so are the activations that they meet. The head has the most rows,
 * is multiplied once for each draw, and nothing is computed from what it gives but the draw. In each way what
 * a token gives does not hang on which tokens it is computed with. Weights lie in memory in the order in which they are multiplied: a pass reads them
 * from end to end, and how fast memory is decides how long it takes.
 *
 * Takes GGML_OP_MUL_MAT over weights in the buffer that is made here. Knows ggml's tensors and
 * buffers; no models, rows or sampling.
 */

#include "ggml_backend_abi.h"
#include "operators.h"
#include "simd.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AMX_INT8__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define BY_TILES 1
#else
#define BY_TILES 0
#endif

enum {
  PAGE = 1 << 21,     /* bytes of a large one */
  AHEAD = 12,         /* steps whose weights are on their way from memory, where chunks are many */
  SIDE = 16,          /* tokens, or rows of weights, of a tile */
  DEPTH = 64,         /* values of each in a tile */
  TILE = SIDE * DEPTH,
  RUN = BY_TILES ? 4 : 2, /* narrow values of a row that lie together; of wide ones 2, of light ones 4 */
  CHUNKS = 4,             /* tiles of tokens that are computed together */
  SPAN = 3,               /* steps that are computed at once; narrow weights of them share a scale */
  PARTS = 2,              /* of a step, whose light weights share one */
  ABREAST = 8,            /* tokens whose sums stay in registers, where there are no tiles */
  MOST = 12,              /* the same for the last of a chunk, so that none is computed that is not there */
  HALF = 128,             /* of activations: one is HALF times the first and the second; light ones lie so far above 0 */
  WIDEST = 127 * HALF     /* integer that an activation becomes */
};

typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int16_t shorts __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

enum kind { NARROW, WIDE, LIGHT };

/* Tiles of rows [pair of groups][step][group], each [value / run][row][value % run]; then, but for wide
 * ones, the scales of rows [group][share][row], a share being what has one; of light ones at last what their
 * sums begin with, likewise. */
typedef struct {
  enum kind kind;
  bool head;
  int values, rows, steps, sharing, shares, pairs; /* values of a share; shares of a row */
  size_t tile; /* bytes */
  int8_t *tiles;
  float *scales;
  int32_t *starts;
} weights;

/* Tiles of tokens [chunk][step][half], each [token][value], where there are no halves [chunk][step] of
 * 16 bits, or of 8 and room for as many; then the scales of all tokens, of light ones [token][step][part]. Where
 * not every token is multiplied with every row, `order` says which stands where, and `wanted` [chunk][pair]
 * with what. */
typedef struct {
  int tokens, steps, chunks;
  int8_t *tiles;
  float *scales;
  const int *order;
  const bool *wanted;
} activations;

/* llama.cpp calls it so, or has the embeddings of tokens for one: these are looked up elsewhere. */
static bool is_head(const struct ggml_tensor *t) {
  return strcmp(t->name, "output.weight") == 0 || strcmp(t->name, "token_embd.weight") == 0;
}

static weights weights_of(const struct ggml_tensor *t, bool wide) {
  const bool head = is_head(t);
  const enum kind kind = !wide ? NARROW : head ? LIGHT : WIDE;
  const int steps = (int)up(t->ne[0], DEPTH) / DEPTH, pairs = (int)up(t->ne[1], 2 * SIDE) / (2 * SIDE);
  const int sharing = kind == LIGHT ? DEPTH / PARTS : SPAN * DEPTH;
  const int shares = kind == WIDE ? 0 : (int)up(steps * DEPTH, sharing) / sharing;
  const size_t tile = kind == WIDE ? 2 * TILE : TILE, scales = (size_t)2 * pairs * shares * SIDE;
  weights w = {kind, head, (int)t->ne[0], (int)t->ne[1], steps, sharing, shares, pairs, tile, t->data, NULL, NULL};
  w.scales = (float *)(w.tiles + pairs * steps * 2 * tile);
  w.starts = (int32_t *)(w.scales + scales);
  return w;
}

/* The largest amount of some values; no number if one of them is none. */
static float amount(const float *x, int n) {
  vector most = {0}, none = {0};
  for (int i = 0; i < n; i += LANES) {
    const vector v = load(x + i);
    most = larger(larger(v, -v), most);
    none += v * 0;
  }
  return largest(most) + sum(none);
}

INLINE integers rounded(vector x) {
  const vector round = all(0x1.8p23f);
  return (integers)(x + round) - (integers)round;
}

/* ---- weights in memory ------------------------------------------------------------------------ */

/* Lay a row, of so many bytes a run, into its tiles. */
static void lay(const weights *w, int group, int r, const char *row, size_t run) {
  char *tile = (char *)w->tiles + ((size_t)group / 2 * w->steps * 2 + group % 2) * w->tile;
  const size_t line = w->tile / SIDE; /* bytes of a row in a tile */
  for (int s = 0; s < w->steps; s++, tile += 2 * w->tile, row += line)
    for (size_t at = 0; at < line; at += run) memcpy(tile + at * SIDE + r * run, row + at, run);
}

static void arrange_integers(const weights *w, int group, int r, const float *from, int count, int8_t *row) {
  for (int share = 0; share < w->shares; share++) {
    const int first = share * w->sharing, end = first + w->sharing;
    const int last = count < first ? first : end < count ? end : count;
    const float most = amount(from + first, last - first), by = most > 0 ? 127 / most : 0;
    const size_t at = (group * w->shares + share) * SIDE + r;
    w->scales[at] = most / 127;
    for (int i = first; i < last; i += LANES)
      *(bytes *)(row + i) = __builtin_convertvector(rounded(load(from + i) * by), bytes);
    if (w->kind != LIGHT) continue;
    w->starts[at] = 0;
    for (int i = first; i < last; i++) w->starts[at] -= HALF * row[i];
  }
  lay(w, group, r, (char *)row, w->kind == LIGHT ? 4 : RUN);
}

/* The nearest bfloat16 of each. */
INLINE void to_bfloat16(const float *from, int16_t *to) {
#if HAS_WIDE
  *(shorts *)to = (shorts)_mm512_cvtneps_pbh((__m512)load(from));
#endif
}

static void arrange(const weights *w, int group, const char *from, size_t stride, ggml_to_float_t widen,
                    float *values, void *row) {
  for (int r = 0; r < SIDE; r++) {
    const int at = group * SIDE + r, count = at < w->rows ? w->values : 0;
    memset(row, 0, w->steps * w->tile / SIDE);
    if (count && widen) widen(from + at * stride, values, count);
    else if (count) memcpy(values, from + at * stride, sizeof(float) * count);
    if (w->kind == WIDE) {
      for (int i = 0; i < count; i += LANES) to_bfloat16(values + i, (int16_t *)row + i);
      lay(w, group, r, row, 2 * sizeof(int16_t));
    } else arrange_integers(w, group, r, values, count, row);
  }
}

static bool is_wide(ggml_backend_buffer_type_t);

static _Thread_local const char *set_tensor_error;

/* Return why this thread's last weights could not be repacked, NULL if they were; `set_tensor` returns nothing. */
const char *take_set_tensor_error(void) {
  const char *error = set_tensor_error;
  set_tensor_error = NULL;
  return error;
}

static void fill(ggml_backend_buffer_t buffer, struct ggml_tensor *t, const void *data, size_t offset, size_t size) {
  if (offset || size != ggml_nbytes(t)) { /* llama.cpp loads a tensor at once */
    set_tensor_error = "a tensor is loaded in parts";
    return;
  }
  const weights w = weights_of(t, is_wide(ggml_backend_buffer_get_type(buffer)));
  const ggml_to_float_t widen = ggml_get_type_traits(t->type)->to_float;
  bool failed = false;
#if defined(_OPENMP)
#pragma omp parallel reduction(|| : failed)
#endif
  {
    float *values = aligned_alloc(64, up(sizeof(float) * w.values, 64));
    void *row = aligned_alloc(64, w.steps * w.tile / SIDE);
    failed = !values || !row;
#if defined(_OPENMP)
#pragma omp for
#endif
    for (int group = 0; group < 2 * w.pairs; group++)
      if (!failed) arrange(&w, group, data, t->nb[1], widen, values, row);
    free(values);
    free(row);
  }
  if (failed) set_tensor_error = "memory is short";
}

static struct ggml_backend_buffer_type narrow, wide;

static bool is_wide(ggml_backend_buffer_type_t type) { return type == &wide; }

static const char *name(ggml_backend_buffer_type_t type) { return is_wide(type) ? "16-bit rows" : "8-bit rows"; }
static size_t alignment(ggml_backend_buffer_type_t type) { return (void)type, 64; }

static size_t size(ggml_backend_buffer_type_t type, const struct ggml_tensor *t) {
  const weights w = weights_of(t, is_wide(type));
  const size_t numbers = w.kind == LIGHT ? sizeof(float) + sizeof(int32_t) : sizeof(float);
  return (w.steps * w.tile + w.shares * SIDE * numbers) * 2 * w.pairs;
}

static void *base(ggml_backend_buffer_t buffer) { return buffer->context; }
static void clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }

static void free_buffer(ggml_backend_buffer_t buffer) { free(buffer->context); }

/* In large pages, if the system gives them: a pass reads all weights, and would look up each small page. */
static ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
  const struct ggml_backend_buffer_i does = {.free_buffer = free_buffer, .get_base = base, .set_tensor = fill, .clear = clear};
  void *memory = aligned_alloc(PAGE, up(size, PAGE));
#if defined(__linux__)
  if (memory) madvise(memory, up(size, PAGE), MADV_HUGEPAGE);
#endif
  return memory ? ggml_backend_buffer_init(type, does, memory, size) : NULL;
}

static bool multiplies(enum offer format) {
#if BY_TILES
  enum { REQUEST = 0x1023, TILES = 18 }; /* Linux lets a process use tiles when it has asked for them */
  if (format == INT8) return !syscall(SYS_arch_prctl, REQUEST, TILES);
#endif
  return format == INT8 || HAS_WIDE;
}

ggml_backend_buffer_type_t weights_buffer(ggml_backend_dev_t device, enum offer format) {
  struct ggml_backend_buffer_type *type = format == BF16 ? &wide : &narrow;
  if (!multiplies(format)) return NULL;
  type->iface.get_name = name;
  type->iface.alloc_buffer = allocate;
  type->iface.get_alignment = alignment;
  type->iface.get_alloc_size = size;
  type->device = device;
  return type;
}

/* ---- products --------------------------------------------------------------------------------- */

INLINE int at_place(const activations *a, int place) { return a->order ? a->order[place] : place; }

static void round_wide(const float *x, int n, int16_t *to) {
  for (int i = 0; i < n; i += LANES) to_bfloat16(x + i, to + (size_t)(i / DEPTH) * TILE + i % DEPTH);
}

static void round_light(const float *x, int n, uint8_t *to, float *scales) {
  const int share = DEPTH / PARTS;
  if (n % DEPTH) scales[n / share] = 0; /* of nothing, but it is read */
  for (int i = 0; i < n; i += share) {
    const int count = n - i < share ? n - i : share;
    const float most = amount(x + i, count), by = most > 0 ? 127 / most : 0;
    uint8_t *at = to + (size_t)(i / DEPTH) * 2 * TILE + i % DEPTH;
    scales[i / share] = most / 127;
    for (int d = 0; d < count; d += LANES)
      *(bytes *)(at + d) = __builtin_convertvector(rounded(load(x + i + d) * by) + HALF, bytes);
  }
}

static void round_narrow(const float *x, int n, int8_t *to, float *scale) {
  const float most = amount(x, n), by = most > 0 ? WIDEST / most : 0;
  *scale = most / WIDEST;
  for (int i = 0; i < n; i += LANES) {
    const integers q = rounded(load(x + i) * by), first = (q + HALF / 2) >> 7;
    int8_t *at = to + (size_t)(i / DEPTH) * 2 * TILE;
    const int inside = i % DEPTH;
    if (BY_TILES) {
      *(bytes *)(at + inside) = __builtin_convertvector(first, bytes);
      *(bytes *)(at + inside + TILE) = __builtin_convertvector(q - first * HALF, bytes);
    } else *(shorts *)((int16_t *)at + inside) = __builtin_convertvector(q, shorts);
  }
}

/* Round the token that stands at a place. */
static void round_off(const activations *a, const struct ggml_tensor *t, int place, enum kind kind) {
  const float *x = (const float *)((const char *)t->data + at_place(a, place) * t->nb[1]);
  const int n = (int)t->ne[0], token = place % SIDE * DEPTH;
  int8_t *to = a->tiles + ((size_t)(place / SIDE) * a->steps * 2) * TILE;
  if (kind == WIDE) round_wide(x, n, (int16_t *)to + token);
  else if (kind == LIGHT) round_light(x, n, (uint8_t *)to + token, a->scales + (size_t)place * a->steps * PARTS);
  else round_narrow(x, n, to + (BY_TILES ? token : 2 * token), a->scales + place);
}

/* Let tokens of which all logits are wanted stand before those of which a few are, so that a chunk of
 * the latter is multiplied with few rows: a word of a mask is a pair of groups. */
static bool choose(const wish *wanted, workspace *at, activations *a, int pairs) {
  const int n = wanted->outputs, chunks = (int)up(n, SIDE) / SIDE;
  int *order = at_least(&at->choice, n * sizeof *order + (size_t)chunks * pairs);
  if (!order) return false;
  bool *wants = memset(order + n, 0, (size_t)chunks * pairs);
  int counts[n];
  for (int i = 0; i < n; i++) {
    const uint32_t *mask = wanted->masks[i];
    int count = mask ? 0 : pairs, place = i;
    for (int word = 0; mask && word < pairs; word++) count += mask[word] != 0;
    for (; place && counts[place - 1] < count; place--) {
      counts[place] = counts[place - 1];
      order[place] = order[place - 1];
    }
    counts[place] = count;
    order[place] = i;
  }
  for (int place = 0; place < n; place++) {
    const uint32_t *mask = wanted->masks[order[place]];
    bool *of_chunk = wants + (size_t)(place / SIDE) * pairs;
    for (int word = 0; word < pairs; word++) of_chunk[word] |= !mask || mask[word];
  }
  a->order = order;
  a->wanted = wants;
  return true;
}

static bool read_activations(const struct ggml_tensor *t, workspace *at, activations *a, enum kind kind) {
  a->tokens = (int)ggml_nrows(t);
  a->steps = (int)up(t->ne[0], DEPTH) / DEPTH;
  a->chunks = (int)up(a->tokens, SIDE) / SIDE;
  const size_t tiles = (size_t)a->chunks * a->steps * 2 * TILE;
  a->tiles = at_least(&at->halves, tiles + sizeof(float) * a->chunks * SIDE * (kind == LIGHT ? a->steps * PARTS : 1));
  if (!a->tiles) return false;
  a->scales = (float *)(a->tiles + tiles);
  if (at->activations == t) return true; /* but for the head, all weights of a model are of one kind */
  at->activations = t;
  if (t->ne[0] % DEPTH || a->tokens % SIDE) memset(a->tiles, 0, tiles);
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int token = 0; token < a->tokens; token++) round_off(a, t, token, kind);
  return true;
}

/* Logits are many, and each is read once: they go past the caches, or each line would be fetched first. */
static void write_out(const float *totals, const activations *a, int chunk, const weights *w, int group,
                      struct ggml_tensor *out) {
  const int tokens = a->tokens - chunk * SIDE < SIDE ? a->tokens - chunk * SIDE : SIDE;
  const int rows = w->rows - group * SIDE;
  const __mmask16 there = rows < SIDE ? rows > 0 ? (1u << rows) - 1 : 0 : 0xFFFF;
  for (int i = 0; i < tokens; i++) {
    const int place = chunk * SIDE + i;
    float *to = (float *)((char *)out->data + at_place(a, place) * out->nb[1]) + group * SIDE;
    const float by = w->kind == NARROW ? a->scales[place] : 1;
    const __m512 values = (__m512)(load(totals + i * SIDE) * by);
    if (w->head && rows >= SIDE && (uintptr_t)to % 64 == 0) _mm512_stream_ps(to, values);
    else _mm512_mask_storeu_ps(to, there, values);
  }
}

INLINE const int8_t *expect(const int8_t *from, int lines) {
  for (int line = 0; line < lines; line++) _mm_prefetch(from + line * 64, _MM_HINT_T1);
  return from + lines * 64;
}

#if BY_TILES

static const struct tile_shapes {
  uint8_t palette, start, unused[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* llama.cpp's own products set theirs once in a thread. GCC 12 takes the intrinsic for one that reads
 * 8 bytes (its bug 114098). */
INLINE struct tile_shapes set_shapes(void) {
  struct tile_shapes before;
  __asm__ volatile("sttilecfg %0" : "=m"(before));
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
  return before;
}

INLINE void restore(struct tile_shapes before) { __asm__ volatile("ldtilecfg %0" : : "m"(before)); }

/* Add the sums of a span, of first halves and of second ones, times its rows' scales. */
INLINE void scale(const int32_t *first, const int32_t *second, const float *scales, float *totals) {
  const vector by = load(scales);
  for (int i = 0; i < SIDE * SIDE; i += SIDE) {
    const integers sum = *(const integers *)(first + i) * HALF + *(const integers *)(second + i);
    store(totals + i, load(totals + i) + __builtin_convertvector(sum, vector) * by);
  }
}

/* Multiply a tile of tokens with two of rows, over the steps of a span, and add to the totals of both.
 * Meanwhile what comes `later` is asked for, some lines after each product: in one go it would hold up
 * what is needed now. */
INLINE void add_span(const int8_t *tokens, int count, const int8_t *rows, int steps, const int8_t *later, int lines,
                     const float *scales, int next_scales, float (*totals)[SIDE * SIDE]) {
  int32_t sums[4][SIDE * SIDE] __attribute__((aligned(64)));
  (void)count; /* a tile takes as long with fewer */
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < steps; s++, tokens += 2 * TILE, rows += 2 * TILE) {
    _tile_loadd(4, tokens, DEPTH);
    _tile_loadd(5, tokens + TILE, DEPTH);
    _tile_loadd(6, rows, DEPTH);
    _tile_loadd(7, rows + TILE, DEPTH);
    _tile_dpbssd(0, 4, 6);
    later = expect(later, lines);
    _tile_dpbssd(1, 5, 6);
    later = expect(later, lines);
    _tile_dpbssd(2, 4, 7);
    later = expect(later, lines);
    _tile_dpbssd(3, 5, 7);
    later = expect(later, lines);
  }
  _tile_stored(0, sums[0], SIDE * 4);
  _tile_stored(1, sums[1], SIDE * 4);
  _tile_stored(2, sums[2], SIDE * 4);
  _tile_stored(3, sums[3], SIDE * 4);
  scale(sums[0], sums[1], scales, totals[0]);
  scale(sums[2], sums[3], scales + next_scales, totals[1]);
}

#else

INLINE int set_shapes(void) { return 0; }
INLINE void restore(int before) { (void)before; }

INLINE void add_span(const int8_t *tokens, int count, const int8_t *rows, int steps, const int8_t *later, int lines,
                     const float *scales, int next_scales, float (*totals)[SIDE * SIDE]) {
  for (int first = 0; first < count; first += ABREAST) {
    integers sums[2][ABREAST] = {0}; /* of __m512i GCC 12 makes copies */
    for (int s = 0; s < steps; s++) {
      const int8_t *from = rows + s * 2 * TILE;
      const int16_t *x = (const int16_t *)(tokens + s * 2 * TILE) + first * DEPTH;
      for (int run = 0; run < DEPTH / RUN; run++, from += SIDE * RUN, x += RUN) {
        const __m512i one = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
        const __m512i two = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(from + TILE)));
#pragma GCC unroll 8
        for (int t = 0; t < ABREAST; t++) {
          int32_t pair;
          memcpy(&pair, x + t * DEPTH, sizeof pair);
          const __m512i both = _mm512_set1_epi32(pair);
          sums[0][t] = (integers)_mm512_dpwssd_epi32((__m512i)sums[0][t], one, both);
          sums[1][t] = (integers)_mm512_dpwssd_epi32((__m512i)sums[1][t], two, both);
        }
      }
      for (int i = 0; i < (count > ABREAST ? 2 : 4); i++) later = expect(later, lines);
    }
    for (int group = 0; group < 2; group++) {
      const vector by = load(scales + group * next_scales);
      for (int t = 0; t < ABREAST; t++) {
        float *total = totals[group] + (first + t) * SIDE;
        store(total, load(total) + __builtin_convertvector(sums[group][t], vector) * by);
      }
    }
  }
}

#endif

/* Let the number of tokens be known where a function is compiled. */
#define BY_TOKENS(tokens, does, ...)      \
  switch (tokens) {                       \
  case 1: does(1, __VA_ARGS__); break;    \
  case 2: does(2, __VA_ARGS__); break;    \
  case 3: does(3, __VA_ARGS__); break;    \
  case 4: does(4, __VA_ARGS__); break;    \
  case 5: does(5, __VA_ARGS__); break;    \
  case 6: does(6, __VA_ARGS__); break;    \
  case 7: does(7, __VA_ARGS__); break;    \
  case 8: does(8, __VA_ARGS__); break;    \
  case 9: does(9, __VA_ARGS__); break;    \
  case 10: does(10, __VA_ARGS__); break;  \
  case 11: does(11, __VA_ARGS__); break;  \
  default: does(MOST, __VA_ARGS__);       \
  }

/* Some steps of both groups of a pair with some tokens: where they lie, and where their sums are added. */
typedef struct {
  const int8_t *rows, *tokens;
  int steps, lines, next_scales, next_token; /* lines to ask for after each step; scales of a group; of a token */
  const int8_t *later;
  const float *scales, *token_scales;
  const int32_t *starts;
  float *totals[2];
} product;

/* A lone chunk is done so soon that weights come too late if they are asked for after each step: it asks
 * while it computes, for what comes right after its span. */
INLINE void expect_at_once(const int8_t *from, int run) {
  for (int line = 0; line < 2; line++) _mm_prefetch(from + (run + line) * 64, _MM_HINT_T0);
}

INLINE void add_wide(int n, bool alone, product of) {
#if HAS_WIDE
  __m512 sums[2][MOST];
  for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
    for (int t = 0; t < n; t++) sums[group][t] = (__m512)load(of.totals[group] + t * SIDE);
  for (int s = 0; s < of.steps; s++) {
    const int8_t *from = of.rows + s * 4 * TILE;
    const int16_t *x = (const int16_t *)(of.tokens + s * 2 * TILE);
    for (int run = 0; run < DEPTH / 2; run++, from += SIDE * 4, x += 2) {
      if (alone) expect_at_once(from + SPAN * 4 * TILE, run);
      const __m512bh one = (__m512bh)_mm512_loadu_si512(from), two = (__m512bh)_mm512_loadu_si512(from + 2 * TILE);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        int32_t pair;
        memcpy(&pair, x + t * DEPTH, sizeof pair);
        const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
        sums[0][t] = _mm512_dpbf16_ps(sums[0][t], one, both);
        sums[1][t] = _mm512_dpbf16_ps(sums[1][t], two, both);
      }
    }
    if (!alone) of.later = expect(of.later, of.lines);
  }
  for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
    for (int t = 0; t < n; t++) store(of.totals[group] + t * SIDE, (vector)sums[group][t]);
#endif
}

INLINE void add_light(int n, bool alone, product of) {
  enum { RUNS = DEPTH / PARTS / 4 }; /* of a share */
  for (int share = 0; share < of.steps * PARTS; share++) {
    const int step = share / PARTS, begin = share % PARTS * RUNS;
    const int8_t *from = of.rows + step * 2 * TILE, *x = of.tokens + step * 2 * TILE;
    integers sums[2][MOST]; /* of __m512i GCC 12 would make copies */
    for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
      for (int t = 0; t < n; t++)
        sums[group][t] = *(const integers *)(of.starts + group * of.next_scales + share * SIDE);
#pragma GCC unroll 1
    for (int run = begin; run < begin + RUNS; run++) {
      const int8_t *both_groups = from + run * SIDE * 4;
      if (alone) expect_at_once(both_groups + SPAN * 2 * TILE, run);
      const __m512i one = _mm512_loadu_si512(both_groups), two = _mm512_loadu_si512(both_groups + TILE);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        int32_t four;
        memcpy(&four, x + t * DEPTH + run * 4, sizeof four);
        const __m512i both = _mm512_set1_epi32(four);
        sums[0][t] = (integers)_mm512_dpbusd_epi32((__m512i)sums[0][t], both, one);
        sums[1][t] = (integers)_mm512_dpbusd_epi32((__m512i)sums[1][t], both, two);
      }
    }
    if (!alone) of.later = expect(of.later, of.lines / PARTS);
    for (int group = 0; group < 2; group++) {
      const vector scale = load(of.scales + group * of.next_scales + share * SIDE);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        float *total = of.totals[group] + t * SIDE;
        const vector by = scale * of.token_scales[t * of.next_token + share];
        store(total, load(total) + __builtin_convertvector(sums[group][t], vector) * by);
      }
    }
  }
}

/* Add the products of a span to the totals of so many tokens. */
INLINE void add_all(enum kind kind, bool alone, int count, product of) {
  of.lines *= count > MOST ? 1 : 2; /* else the tokens are taken in two parts */
  for (int n; count; count -= n) {
    n = count > MOST ? ABREAST : count;
    if (kind == WIDE) BY_TOKENS(n, add_wide, alone, of)
    else BY_TOKENS(n, add_light, alone, of)
    of.tokens += n * DEPTH * (kind == WIDE ? 2 : 1);
    of.token_scales += n * of.next_token;
    of.later += of.steps * of.lines * 64;
    for (int group = 0; group < 2; group++) of.totals[group] += n * SIDE;
  }
}

/* The chunks that are multiplied with a pair, and how many they are. */
INLINE int chunks_of(const activations *a, int pair, int pairs, int *chunks) {
  int n = 0;
  for (int chunk = 0; chunk < a->chunks; chunk++) {
    chunks[n] = chunk;
    n += !a->wanted || a->wanted[(size_t)chunk * pairs + pair];
  }
  return n;
}

/* The products of a span with a chunk of tokens; `lines` are asked for four times a step and two tiles. */
INLINE void add_chunk(const weights *w, const activations *a, int pair, int chunk, int begin, const int8_t *later,
                      int lines, float (*totals)[SIDE * SIDE]) {
  const int left = a->tokens - chunk * SIDE, count = left < SIDE ? left : SIDE;
  const int steps = w->steps - begin < SPAN ? w->steps - begin : SPAN;
  const size_t at = ((size_t)2 * pair * w->shares + begin * DEPTH / w->sharing) * SIDE;
  const int8_t *rows = w->tiles + ((size_t)pair * w->steps + begin) * 2 * w->tile;
  const int8_t *tokens = a->tiles + ((size_t)chunk * a->steps + begin) * 2 * TILE;
  const int next = w->shares * SIDE, next_token = a->steps * PARTS;
  if (w->kind == NARROW) return add_span(tokens, count, rows, steps, later, lines, w->scales + at, next, totals);
  const product of = {rows, tokens, steps, (w->kind == WIDE ? 4 : 2) * lines, next, next_token, later, w->scales + at,
                   a->scales + (size_t)chunk * SIDE * next_token + begin * PARTS, w->starts + at, {totals[0], totals[1]}};
  if (w->kind == WIDE && a->chunks == 1) add_all(WIDE, true, count, of);
  else if (w->kind == WIDE) add_all(WIDE, false, count, of);
  else if (a->chunks == 1) add_all(LIGHT, true, count, of);
  else add_all(LIGHT, false, count, of);
}

/* A span's rows stay in the first cache for all chunks that are computed together. */
static void multiply_pairs(const weights *w, const activations *a, int from, int to, struct ggml_tensor *out) {
  float totals[CHUNKS][2][SIDE * SIDE] __attribute__((aligned(64)));
  const __auto_type before = set_shapes();
  int chunks[a->chunks + 1];
  for (int pair = from; pair < to; pair++) {
    const int wanting = chunks_of(a, pair, w->pairs, chunks);
    for (int first = 0; first < wanting; first += CHUNKS) {
      const int count = wanting - first < CHUNKS ? wanting - first : CHUNKS;
      memset(totals, 0, sizeof totals[0] * count);
      const int lines = first ? 0 : (2 * TILE / 64 / 4 + count - 1) / count;
      const size_t asked = (size_t)lines * (w->kind == WIDE ? 8 : 4) * 64; /* by a chunk in a step */
      for (int begin = 0; begin < w->steps; begin += SPAN) {
        const int steps = w->steps - begin < SPAN ? w->steps - begin : SPAN;
        const int8_t *later = w->tiles + ((size_t)pair * w->steps + begin + AHEAD) * 2 * w->tile;
        for (int c = 0; c < count; c++, later += steps * asked)
          add_chunk(w, a, pair, chunks[first + c], begin, later, lines, totals[c]);
      }
      for (int c = 0; c < count; c++) {
        write_out(totals[c][0], a, chunks[first + c], w, 2 * pair, out);
        write_out(totals[c][1], a, chunks[first + c], w, 2 * pair + 1, out);
      }
    }
  }
  if (w->head) _mm_sfence();
  restore(before);
}

/* llama.cpp calls them so in all models. */
bool are_logits(const struct ggml_tensor *node) { return strcmp(node->name, "result_output") == 0; }

enum offer likely_format(void) { return BY_TILES || !HAS_WIDE ? INT8 : BF16; }

bool are_weights(const struct ggml_tensor *t) {
  const struct ggml_tensor *whole = t->view_src ? t->view_src : t;
  return whole->buffer && (whole->buffer->buft == &narrow || whole->buffer->buft == &wide);
}

/* Whether its rows lie one after the other, whatever its dimensions. */
static bool is_packed(const struct ggml_tensor *t) {
  return t->nb[0] == 4 && t->nb[2] == t->ne[1] * t->nb[1] && t->nb[3] == t->ne[2] * t->nb[2];
}

bool takes_product(const struct ggml_tensor *node) {
  const struct ggml_tensor *w = node->src[0], *x = node->src[1];
  return node->op == GGML_OP_MUL_MAT && are_weights(w) && !w->view_src && w->ne[2] == 1 && w->ne[3] == 1 &&
         w->ne[0] % LANES == 0 && (w->type == GGML_TYPE_F32 || ggml_get_type_traits(w->type)->to_float) &&
         x->type == GGML_TYPE_F32 && is_packed(x) && node->type == GGML_TYPE_F32 && is_packed(node);
}

bool multiply(struct ggml_tensor *node, workspace *at) {
  const weights w = weights_of(node->src[0], is_wide(node->src[0]->buffer->buft));
  activations a = {0};
  const wish *wanted = at->wanted;
  if (wanted && are_logits(node) && wanted->outputs == ggml_nrows(node) && !choose(wanted, at, &a, w.pairs)) return false;
  const bool apart = a.order || w.kind == LIGHT; /* in another order or of another kind than before */
  if (apart) at->activations = NULL;
  if (!read_activations(node->src[1], at, &a, w.kind)) return false;
  if (apart) at->activations = NULL;
  const int threads = at->threads;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
  for (int t = 0; t < threads; t++)
    multiply_pairs(&w, &a, w.pairs * t / threads, w.pairs * (t + 1) / threads, node);
  return true;
}

#else

ggml_backend_buffer_type_t weights_buffer(ggml_backend_dev_t device, enum offer format) {
  return (void)device, (void)format, NULL;
}
enum offer likely_format(void) { return NOTHING; }
const char *take_set_tensor_error(void) { return NULL; }
bool are_weights(const struct ggml_tensor *t) { return (void)t, false; }
bool are_logits(const struct ggml_tensor *node) { return (void)node, false; }
bool takes_product(const struct ggml_tensor *node) { return (void)node, false; }
bool multiply(struct ggml_tensor *node, workspace *at) { return (void)node, (void)at, false; }

#endif
