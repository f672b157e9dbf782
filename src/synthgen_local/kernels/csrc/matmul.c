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
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif

enum {
  HUGE_PAGE = 1 << 21,    /* bytes of a large one */
  PREFETCH_DISTANCE = 12, /* steps whose weights are on their way from memory, where chunks are many */
  TILE_M = 16,            /* tokens, or rows of weights, of a tile */
  TILE_K = 64,            /* values of each in a tile */
  TILE_SIZE = TILE_M * TILE_K,
  K_PACK = HAS_AMX ? 4 : 2, /* narrow values of a row that lie together; of wide ones 2, of light ones 4 */
  M_BLOCK = 4,              /* tiles of tokens that are computed together */
  K_BLOCK = 3,              /* steps that are computed at once; narrow weights of them share a scale */
  K_PARTS = 2,              /* of a step, whose light weights share one */
  MR = 8,                   /* tokens whose sums stay in registers, where there are no tiles */
  MR_TAIL = 12,             /* the same for the last of a chunk, so that none is computed that is not there */
  HALF_RANGE = 128, /* of activations: one is HALF times the first and the second; light ones lie so far above 0 */
  MAX_ACTIVATION = 127 * HALF_RANGE /* integer that an activation becomes */
};

typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int16_t shorts __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

enum weight_kind { W8A16, BF16, W8A8 };

/* Tiles of rows [pair of groups][step][group], each [value / run][row][value % run]; then, but for wide
 * ones, the scales of rows [group][share][row], a share being what has one; of light ones at last what their
 * sums begin with, likewise. */
typedef struct {
  enum weight_kind weight_kind;
  bool head;
  int values, rows, steps, quant_group, quant_groups, panels; /* values of a share; shares of a row */
  size_t tile;                                                /* bytes */
  int8_t *tiles;
  float *scales;
  int32_t *sum_offsets;
} packed_weights;

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
static bool is_output_head(const struct ggml_tensor *t) {
  return strcmp(t->name, "output.weight") == 0 || strcmp(t->name, "token_embd.weight") == 0;
}

static packed_weights get_packed_weights(const struct ggml_tensor *t, bool bf16_type) {
  const bool head = is_output_head(t);
  const enum weight_kind weight_kind = !bf16_type ? W8A16 : head ? W8A8 : BF16;
  const int steps = (int)round_up(t->ne[0], TILE_K) / TILE_K,
            panels = (int)round_up(t->ne[1], 2 * TILE_M) / (2 * TILE_M);
  const int quant_group = weight_kind == W8A8 ? TILE_K / K_PARTS : K_BLOCK * TILE_K;
  const int quant_groups = weight_kind == BF16 ? 0 : (int)round_up(steps * TILE_K, quant_group) / quant_group;
  const size_t tile = weight_kind == BF16 ? 2 * TILE_SIZE : TILE_SIZE,
               scales = (size_t)2 * panels * quant_groups * TILE_M;
  packed_weights w = {weight_kind,  head,   (int)t->ne[0], (int)t->ne[1], steps, quant_group,
                      quant_groups, panels, tile,          t->data,       NULL,  NULL};
  w.scales = (float *)(w.tiles + panels * steps * 2 * tile);
  w.sum_offsets = (int32_t *)(w.scales + scales);
  return w;
}

/* The largest amount of some values; no number if one of them is none. */
static float max_abs(const float *x, int n) {
  vector most = {0}, none = {0};
  for (int i = 0; i < n; i += LANES) {
    const vector v = load(x + i);
    most = max_vector(max_vector(v, -v), most);
    none += v * 0;
  }
  return reduce_max(most) + reduce_add(none);
}

INLINE ivector round_to_int(vector x) {
  const vector round = broadcast(0x1.8p23f);
  return (ivector)(x + round) - (ivector)round;
}

/* ---- weights in memory ------------------------------------------------------------------------ */

/* Lay a row, of so many bytes a run, into its tiles. */
static void pack_row(const packed_weights *w, int group, int r, const char *row, size_t run) {
  char *tile = (char *)w->tiles + ((size_t)group / 2 * w->steps * 2 + group % 2) * w->tile;
  const size_t line = w->tile / TILE_M; /* bytes of a row in a tile */
  for (int s = 0; s < w->steps; s++, tile += 2 * w->tile, row += line)
    for (size_t at = 0; at < line; at += run) memcpy(tile + at * TILE_M + r * run, row + at, run);
}

static void quantize_row(const packed_weights *w, int group, int r, const float *from, int count, int8_t *row) {
  for (int share = 0; share < w->quant_groups; share++) {
    const int first = share * w->quant_group, end = first + w->quant_group;
    const int last = count < first ? first : end < count ? end : count;
    const float most = max_abs(from + first, last - first), by = most > 0 ? 127 / most : 0;
    const size_t at = (group * w->quant_groups + share) * TILE_M + r;
    w->scales[at] = most / 127;
    for (int i = first; i < last; i += LANES)
      *(bytes *)(row + i) = __builtin_convertvector(round_to_int(load(from + i) * by), bytes);
    if (w->weight_kind != W8A8) continue;
    w->sum_offsets[at] = 0;
    for (int i = first; i < last; i++) w->sum_offsets[at] -= HALF_RANGE * row[i];
  }
  pack_row(w, group, r, (char *)row, w->weight_kind == W8A8 ? 4 : K_PACK);
}

/* The nearest bfloat16 of each. */
INLINE void to_bfloat16(const float *from, int16_t *to) {
#if HAS_BF16
  *(shorts *)to = (shorts)_mm512_cvtneps_pbh((__m512)load(from));
#endif
}

static void repack_group(const packed_weights *w, int group, const char *from, size_t stride, ggml_to_float_t to_float,
                         float *values, void *row) {
  for (int r = 0; r < TILE_M; r++) {
    const int at = group * TILE_M + r, count = at < w->rows ? w->values : 0;
    memset(row, 0, w->steps * w->tile / TILE_M);
    if (count && to_float) to_float(from + at * stride, values, count);
    else if (count) memcpy(values, from + at * stride, sizeof(float) * count);
    if (w->weight_kind == BF16) {
      for (int i = 0; i < count; i += LANES) to_bfloat16(values + i, (int16_t *)row + i);
      pack_row(w, group, r, row, 2 * sizeof(int16_t));
    } else quantize_row(w, group, r, values, count, row);
  }
}

static bool is_bf16_type(ggml_backend_buffer_type_t);

static _Thread_local const char *set_tensor_error;

/* Return why this thread's last weights could not be repacked, NULL if they were; `set_tensor` returns nothing. */
const char *take_set_tensor_error(void) {
  const char *error = set_tensor_error;
  set_tensor_error = NULL;
  return error;
}

static void set_tensor(ggml_backend_buffer_t buffer, struct ggml_tensor *t, const void *data, size_t offset,
                       size_t size) {
  if (offset || size != ggml_nbytes(t)) { /* llama.cpp loads a tensor at once */
    set_tensor_error = "a tensor is loaded in parts";
    return;
  }
  const packed_weights w = get_packed_weights(t, is_bf16_type(ggml_backend_buffer_get_type(buffer)));
  const ggml_to_float_t to_float = ggml_get_type_traits(t->type)->to_float;
  bool failed = false;
#if defined(_OPENMP)
#pragma omp parallel reduction(|| : failed)
#endif
  {
    float *values = aligned_alloc(64, round_up(sizeof(float) * w.values, 64));
    void *row = aligned_alloc(64, w.steps * w.tile / TILE_M);
    failed = !values || !row;
#if defined(_OPENMP)
#pragma omp for
#endif
    for (int group = 0; group < 2 * w.panels; group++)
      if (!failed) repack_group(&w, group, data, t->nb[1], to_float, values, row);
    free(values);
    free(row);
  }
  if (failed) set_tensor_error = "memory is short";
}

static struct ggml_backend_buffer_type w8_type, bf16_type;

static bool is_bf16_type(ggml_backend_buffer_type_t type) { return type == &bf16_type; }

static const char *name(ggml_backend_buffer_type_t type) { return is_bf16_type(type) ? "16-bit rows" : "8-bit rows"; }
static size_t alignment(ggml_backend_buffer_type_t type) { return (void)type, 64; }

static size_t size(ggml_backend_buffer_type_t type, const struct ggml_tensor *t) {
  const packed_weights w = get_packed_weights(t, is_bf16_type(type));
  const size_t numbers = w.weight_kind == W8A8 ? sizeof(float) + sizeof(int32_t) : sizeof(float);
  return (w.steps * w.tile + w.quant_groups * TILE_M * numbers) * 2 * w.panels;
}

static void *base(ggml_backend_buffer_t buffer) { return buffer->context; }
static void clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(buffer->context, value, buffer->size); }

static void free_buffer(ggml_backend_buffer_t buffer) { free(buffer->context); }

/* In large pages, if the system gives them: a pass reads all weights, and would look up each small page. */
static ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
  const struct ggml_backend_buffer_i does = {
      .free_buffer = free_buffer, .get_base = base, .set_tensor = set_tensor, .clear = clear};
  void *memory = aligned_alloc(HUGE_PAGE, round_up(size, HUGE_PAGE));
#if defined(__linux__)
  if (memory) madvise(memory, round_up(size, HUGE_PAGE), MADV_HUGEPAGE);
#endif
  return memory ? ggml_backend_buffer_init(type, does, memory, size) : NULL;
}

static bool supports_format(enum device_mode format) {
#if HAS_AMX
  enum { REQUEST = 0x1023, TILES = 18 }; /* Linux lets a process use tiles when it has asked for them */
  if (format == LOAD_INT8) return !syscall(SYS_arch_prctl, REQUEST, TILES);
#endif
  return format == LOAD_INT8 || HAS_BF16;
}

ggml_backend_buffer_type_t get_repack_buffer_type(ggml_backend_dev_t device, enum device_mode format) {
  struct ggml_backend_buffer_type *type = format == LOAD_BF16 ? &bf16_type : &w8_type;
  if (!supports_format(format)) return NULL;
  type->iface.get_name = name;
  type->iface.alloc_buffer = allocate;
  type->iface.get_alignment = alignment;
  type->iface.get_alloc_size = size;
  type->device = device;
  return type;
}

/* ---- products --------------------------------------------------------------------------------- */

INLINE int token_at(const activations *a, int place) { return a->order ? a->order[place] : place; }

static void quantize_bf16(const float *x, int n, int16_t *to) {
  for (int i = 0; i < n; i += LANES) to_bfloat16(x + i, to + (size_t)(i / TILE_K) * TILE_SIZE + i % TILE_K);
}

static void quantize_a8(const float *x, int n, uint8_t *to, float *scales) {
  const int share = TILE_K / K_PARTS;
  if (n % TILE_K) scales[n / share] = 0; /* of nothing, but it is read */
  for (int i = 0; i < n; i += share) {
    const int count = n - i < share ? n - i : share;
    const float most = max_abs(x + i, count), by = most > 0 ? 127 / most : 0;
    uint8_t *at = to + (size_t)(i / TILE_K) * 2 * TILE_SIZE + i % TILE_K;
    scales[i / share] = most / 127;
    for (int d = 0; d < count; d += LANES)
      *(bytes *)(at + d) = __builtin_convertvector(round_to_int(load(x + i + d) * by) + HALF_RANGE, bytes);
  }
}

static void quantize_a16(const float *x, int n, int8_t *to, float *scale) {
  const float most = max_abs(x, n), by = most > 0 ? MAX_ACTIVATION / most : 0;
  *scale = most / MAX_ACTIVATION;
  for (int i = 0; i < n; i += LANES) {
    const ivector q = round_to_int(load(x + i) * by), first = (q + HALF_RANGE / 2) >> 7;
    int8_t *at = to + (size_t)(i / TILE_K) * 2 * TILE_SIZE;
    const int inside = i % TILE_K;
    if (HAS_AMX) {
      *(bytes *)(at + inside) = __builtin_convertvector(first, bytes);
      *(bytes *)(at + inside + TILE_SIZE) = __builtin_convertvector(q - first * HALF_RANGE, bytes);
    } else *(shorts *)((int16_t *)at + inside) = __builtin_convertvector(q, shorts);
  }
}

/* Round the token that stands at a place. */
static void quantize_token(const activations *a, const struct ggml_tensor *t, int place, enum weight_kind weight_kind) {
  const float *x = (const float *)((const char *)t->data + token_at(a, place) * t->nb[1]);
  const int n = (int)t->ne[0], token = place % TILE_M * TILE_K;
  int8_t *to = a->tiles + ((size_t)(place / TILE_M) * a->steps * 2) * TILE_SIZE;
  if (weight_kind == BF16) quantize_bf16(x, n, (int16_t *)to + token);
  else if (weight_kind == W8A8)
    quantize_a8(x, n, (uint8_t *)to + token, a->scales + (size_t)place * a->steps * K_PARTS);
  else quantize_a16(x, n, to + (HAS_AMX ? token : 2 * token), a->scales + place);
}

/* Let tokens of which all logits are wanted stand before those of which a few are, so that a chunk of
 * the latter is multiplied with few rows: a word of a mask is a pair of groups. */
static bool order_tokens(const logits_request *wanted, workspace *at, activations *a, int panels) {
  const int n = wanted->outputs, chunks = (int)round_up(n, TILE_M) / TILE_M;
  int *order = ensure_capacity(&at->token_order, n * sizeof *order + (size_t)chunks * panels);
  if (!order) return false;
  bool *wants = memset(order + n, 0, (size_t)chunks * panels);
  int counts[n];
  for (int i = 0; i < n; i++) {
    const uint32_t *mask = wanted->masks[i];
    int count = mask ? 0 : panels, place = i;
    for (int word = 0; mask && word < panels; word++) count += mask[word] != 0;
    for (; place && counts[place - 1] < count; place--) {
      counts[place] = counts[place - 1];
      order[place] = order[place - 1];
    }
    counts[place] = count;
    order[place] = i;
  }
  for (int place = 0; place < n; place++) {
    const uint32_t *mask = wanted->masks[order[place]];
    bool *of_chunk = wants + (size_t)(place / TILE_M) * panels;
    for (int word = 0; word < panels; word++) of_chunk[word] |= !mask || mask[word];
  }
  a->order = order;
  a->wanted = wants;
  return true;
}

static bool pack_activations(const struct ggml_tensor *t, workspace *at, activations *a, enum weight_kind weight_kind) {
  a->tokens = (int)ggml_nrows(t);
  a->steps = (int)round_up(t->ne[0], TILE_K) / TILE_K;
  a->chunks = (int)round_up(a->tokens, TILE_M) / TILE_M;
  const size_t tiles = (size_t)a->chunks * a->steps * 2 * TILE_SIZE;
  a->tiles = ensure_capacity(&at->packed_activations, tiles + sizeof(float) * a->chunks * TILE_M *
                                                                  (weight_kind == W8A8 ? a->steps * K_PARTS : 1));
  if (!a->tiles) return false;
  a->scales = (float *)(a->tiles + tiles);
  if (at->activations == t) return true; /* but for the head, all weights of a model are of one kind */
  at->activations = t;
  if (t->ne[0] % TILE_K || a->tokens % TILE_M) memset(a->tiles, 0, tiles);
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int token = 0; token < a->tokens; token++) quantize_token(a, t, token, weight_kind);
  return true;
}

/* Logits are many, and each is read once: they go past the caches, or each line would be fetched first. */
static void store_tile(const float *totals, const activations *a, int chunk, const packed_weights *w, int group,
                       struct ggml_tensor *out) {
  const int tokens = a->tokens - chunk * TILE_M < TILE_M ? a->tokens - chunk * TILE_M : TILE_M;
  const int rows = w->rows - group * TILE_M;
  const __mmask16 there = rows < TILE_M ? rows > 0 ? (1u << rows) - 1 : 0 : 0xFFFF;
  for (int i = 0; i < tokens; i++) {
    const int place = chunk * TILE_M + i;
    float *to = (float *)((char *)out->data + token_at(a, place) * out->nb[1]) + group * TILE_M;
    const float by = w->weight_kind == W8A16 ? a->scales[place] : 1;
    const __m512 values = (__m512)(load(totals + i * TILE_M) * by);
    if (w->head && rows >= TILE_M && (uintptr_t)to % 64 == 0) _mm512_stream_ps(to, values);
    else _mm512_mask_storeu_ps(to, there, values);
  }
}

INLINE const int8_t *prefetch_lines(const int8_t *from, int lines) {
  for (int line = 0; line < lines; line++) _mm_prefetch(from + line * 64, _MM_HINT_T1);
  return from + lines * 64;
}

#if HAS_AMX

static const struct tile_config {
  uint8_t palette, start, unused[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* llama.cpp's own products set theirs once in a thread. GCC 12 takes the intrinsic for one that reads
 * 8 bytes (its bug 114098). */
INLINE struct tile_config load_tile_config(void) {
  struct tile_config before;
  __asm__ volatile("sttilecfg %0" : "=m"(before));
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
  return before;
}

INLINE void restore_tile_config(struct tile_config before) { __asm__ volatile("ldtilecfg %0" : : "m"(before)); }

/* Add the sums of a span, of first halves and of second ones, times its rows' scales. */
INLINE void scale(const int32_t *first, const int32_t *second, const float *scales, float *totals) {
  const vector by = load(scales);
  for (int i = 0; i < TILE_M * TILE_M; i += TILE_M) {
    const ivector sum = *(const ivector *)(first + i) * HALF_RANGE + *(const ivector *)(second + i);
    store(totals + i, load(totals + i) + __builtin_convertvector(sum, vector) * by);
  }
}

/* Multiply a tile of tokens with two of rows, over the steps of a span, and add to the totals of both.
 * Meanwhile what comes `later` is asked for, some lines after each product: in one go it would hold up
 * what is needed now. */
INLINE void accumulate_w8a16(const int8_t *tokens, int count, const int8_t *rows, int steps, const int8_t *later,
                             int lines, const float *scales, int next_scales, float (*totals)[TILE_M * TILE_M]) {
  int32_t sums[4][TILE_M * TILE_M] __attribute__((aligned(64)));
  (void)count; /* a tile takes as long with fewer */
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < steps; s++, tokens += 2 * TILE_SIZE, rows += 2 * TILE_SIZE) {
    _tile_loadd(4, tokens, TILE_K);
    _tile_loadd(5, tokens + TILE_SIZE, TILE_K);
    _tile_loadd(6, rows, TILE_K);
    _tile_loadd(7, rows + TILE_SIZE, TILE_K);
    _tile_dpbssd(0, 4, 6);
    later = prefetch_lines(later, lines);
    _tile_dpbssd(1, 5, 6);
    later = prefetch_lines(later, lines);
    _tile_dpbssd(2, 4, 7);
    later = prefetch_lines(later, lines);
    _tile_dpbssd(3, 5, 7);
    later = prefetch_lines(later, lines);
  }
  _tile_stored(0, sums[0], TILE_M * 4);
  _tile_stored(1, sums[1], TILE_M * 4);
  _tile_stored(2, sums[2], TILE_M * 4);
  _tile_stored(3, sums[3], TILE_M * 4);
  scale(sums[0], sums[1], scales, totals[0]);
  scale(sums[2], sums[3], scales + next_scales, totals[1]);
}

#else

INLINE int load_tile_config(void) { return 0; }
INLINE void restore_tile_config(int before) { (void)before; }

INLINE void accumulate_w8a16(const int8_t *tokens, int count, const int8_t *rows, int steps, const int8_t *later,
                             int lines, const float *scales, int next_scales, float (*totals)[TILE_M * TILE_M]) {
  for (int first = 0; first < count; first += MR) {
    ivector sums[2][MR] = {0}; /* of __m512i GCC 12 makes copies */
    for (int s = 0; s < steps; s++) {
      const int8_t *from = rows + s * 2 * TILE_SIZE;
      const int16_t *x = (const int16_t *)(tokens + s * 2 * TILE_SIZE) + first * TILE_K;
      for (int run = 0; run < TILE_K / K_PACK; run++, from += TILE_M * K_PACK, x += K_PACK) {
        const __m512i one = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
        const __m512i two = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(from + TILE_SIZE)));
#pragma GCC unroll 8
        for (int t = 0; t < MR; t++) {
          int32_t pair;
          memcpy(&pair, x + t * TILE_K, sizeof pair);
          const __m512i both = _mm512_set1_epi32(pair);
          sums[0][t] = (ivector)_mm512_dpwssd_epi32((__m512i)sums[0][t], one, both);
          sums[1][t] = (ivector)_mm512_dpwssd_epi32((__m512i)sums[1][t], two, both);
        }
      }
      for (int i = 0; i < (count > MR ? 2 : 4); i++) later = prefetch_lines(later, lines);
    }
    for (int group = 0; group < 2; group++) {
      const vector by = load(scales + group * next_scales);
      for (int t = 0; t < MR; t++) {
        float *total = totals[group] + (first + t) * TILE_M;
        store(total, load(total) + __builtin_convertvector(sums[group][t], vector) * by);
      }
    }
  }
}

#endif

/* Let the number of tokens be known where a function is compiled. */
#define BY_TOKENS(tokens, does, ...)                                                                                   \
  switch (tokens) {                                                                                                    \
  case 1: does(1, __VA_ARGS__); break;                                                                                 \
  case 2: does(2, __VA_ARGS__); break;                                                                                 \
  case 3: does(3, __VA_ARGS__); break;                                                                                 \
  case 4: does(4, __VA_ARGS__); break;                                                                                 \
  case 5: does(5, __VA_ARGS__); break;                                                                                 \
  case 6: does(6, __VA_ARGS__); break;                                                                                 \
  case 7: does(7, __VA_ARGS__); break;                                                                                 \
  case 8: does(8, __VA_ARGS__); break;                                                                                 \
  case 9: does(9, __VA_ARGS__); break;                                                                                 \
  case 10: does(10, __VA_ARGS__); break;                                                                               \
  case 11: does(11, __VA_ARGS__); break;                                                                               \
  default: does(MR_TAIL, __VA_ARGS__);                                                                                 \
  }

/* Some steps of both groups of a pair with some tokens: where they lie, and where their sums are added. */
typedef struct {
  const int8_t *rows, *tokens;
  int steps, lines, next_scales, next_token; /* lines to ask for after each step; scales of a group; of a token */
  const int8_t *later;
  const float *scales, *token_scales;
  const int32_t *sum_offsets;
  float *totals[2];
} panel_product;

/* A lone chunk is done so soon that weights come too late if they are asked for after each step: it asks
 * while it computes, for what comes right after its span. */
INLINE void prefetch_next_block(const int8_t *from, int run) {
  for (int line = 0; line < 2; line++) _mm_prefetch(from + (run + line) * 64, _MM_HINT_T0);
}

INLINE void accumulate_bf16(int n, bool alone, panel_product of) {
#if HAS_BF16
  __m512 sums[2][MR_TAIL];
  for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
    for (int t = 0; t < n; t++) sums[group][t] = (__m512)load(of.totals[group] + t * TILE_M);
  for (int s = 0; s < of.steps; s++) {
    const int8_t *from = of.rows + s * 4 * TILE_SIZE;
    const int16_t *x = (const int16_t *)(of.tokens + s * 2 * TILE_SIZE);
    for (int run = 0; run < TILE_K / 2; run++, from += TILE_M * 4, x += 2) {
      if (alone) prefetch_next_block(from + K_BLOCK * 4 * TILE_SIZE, run);
      const __m512bh one = (__m512bh)_mm512_loadu_si512(from), two = (__m512bh)_mm512_loadu_si512(from + 2 * TILE_SIZE);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        int32_t pair;
        memcpy(&pair, x + t * TILE_K, sizeof pair);
        const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
        sums[0][t] = _mm512_dpbf16_ps(sums[0][t], one, both);
        sums[1][t] = _mm512_dpbf16_ps(sums[1][t], two, both);
      }
    }
    if (!alone) of.later = prefetch_lines(of.later, of.lines);
  }
  for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
    for (int t = 0; t < n; t++) store(of.totals[group] + t * TILE_M, (vector)sums[group][t]);
#endif
}

INLINE void accumulate_w8a8(int n, bool alone, panel_product of) {
  enum { RUNS = TILE_K / K_PARTS / 4 }; /* of a share */
  for (int share = 0; share < of.steps * K_PARTS; share++) {
    const int compute_elementwise = share / K_PARTS, begin = share % K_PARTS * RUNS;
    const int8_t *from = of.rows + compute_elementwise * 2 * TILE_SIZE,
                 *x = of.tokens + compute_elementwise * 2 * TILE_SIZE;
    ivector sums[2][MR_TAIL]; /* of __m512i GCC 12 would make copies */
    for (int group = 0; group < 2; group++)
#pragma GCC unroll 12
      for (int t = 0; t < n; t++)
        sums[group][t] = *(const ivector *)(of.sum_offsets + group * of.next_scales + share * TILE_M);
#pragma GCC unroll 1
    for (int run = begin; run < begin + RUNS; run++) {
      const int8_t *both_groups = from + run * TILE_M * 4;
      if (alone) prefetch_next_block(both_groups + K_BLOCK * 2 * TILE_SIZE, run);
      const __m512i one = _mm512_loadu_si512(both_groups), two = _mm512_loadu_si512(both_groups + TILE_SIZE);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        int32_t four;
        memcpy(&four, x + t * TILE_K + run * 4, sizeof four);
        const __m512i both = _mm512_set1_epi32(four);
        sums[0][t] = (ivector)_mm512_dpbusd_epi32((__m512i)sums[0][t], both, one);
        sums[1][t] = (ivector)_mm512_dpbusd_epi32((__m512i)sums[1][t], both, two);
      }
    }
    if (!alone) of.later = prefetch_lines(of.later, of.lines / K_PARTS);
    for (int group = 0; group < 2; group++) {
      const vector scale = load(of.scales + group * of.next_scales + share * TILE_M);
#pragma GCC unroll 12
      for (int t = 0; t < n; t++) {
        float *total = of.totals[group] + t * TILE_M;
        const vector by = scale * of.token_scales[t * of.next_token + share];
        store(total, load(total) + __builtin_convertvector(sums[group][t], vector) * by);
      }
    }
  }
}

/* Add the products of a span to the totals of so many tokens. */
INLINE void accumulate_tokens(enum weight_kind weight_kind, bool alone, int count, panel_product of) {
  of.lines *= count > MR_TAIL ? 1 : 2; /* else the tokens are taken in two parts */
  for (int n; count; count -= n) {
    n = count > MR_TAIL ? MR : count;
    if (weight_kind == BF16) BY_TOKENS(n, accumulate_bf16, alone, of)
    else BY_TOKENS(n, accumulate_w8a8, alone, of)
    of.tokens += n * TILE_K * (weight_kind == BF16 ? 2 : 1);
    of.token_scales += n * of.next_token;
    of.later += of.steps * of.lines * 64;
    for (int group = 0; group < 2; group++) of.totals[group] += n * TILE_M;
  }
}

/* The chunks that are multiplied with a pair, and how many they are. */
INLINE int select_chunks(const activations *a, int pair, int panels, int *chunks) {
  int n = 0;
  for (int chunk = 0; chunk < a->chunks; chunk++) {
    chunks[n] = chunk;
    n += !a->wanted || a->wanted[(size_t)chunk * panels + pair];
  }
  return n;
}

/* The products of a span with a chunk of tokens; `lines` are asked for four times a step and two tiles. */
INLINE void accumulate_chunk(const packed_weights *w, const activations *a, int pair, int chunk, int begin,
                             const int8_t *later, int lines, float (*totals)[TILE_M * TILE_M]) {
  const int left = a->tokens - chunk * TILE_M, count = left < TILE_M ? left : TILE_M;
  const int steps = w->steps - begin < K_BLOCK ? w->steps - begin : K_BLOCK;
  const size_t at = ((size_t)2 * pair * w->quant_groups + begin * TILE_K / w->quant_group) * TILE_M;
  const int8_t *rows = w->tiles + ((size_t)pair * w->steps + begin) * 2 * w->tile;
  const int8_t *tokens = a->tiles + ((size_t)chunk * a->steps + begin) * 2 * TILE_SIZE;
  const int next = w->quant_groups * TILE_M, next_token = a->steps * K_PARTS;
  if (w->weight_kind == W8A16)
    return accumulate_w8a16(tokens, count, rows, steps, later, lines, w->scales + at, next, totals);
  const panel_product of = {rows,
                            tokens,
                            steps,
                            (w->weight_kind == BF16 ? 4 : 2) * lines,
                            next,
                            next_token,
                            later,
                            w->scales + at,
                            a->scales + (size_t)chunk * TILE_M * next_token + begin * K_PARTS,
                            w->sum_offsets + at,
                            {totals[0], totals[1]}};
  if (w->weight_kind == BF16 && a->chunks == 1) accumulate_tokens(BF16, true, count, of);
  else if (w->weight_kind == BF16) accumulate_tokens(BF16, false, count, of);
  else if (a->chunks == 1) accumulate_tokens(W8A8, true, count, of);
  else accumulate_tokens(W8A8, false, count, of);
}

/* A span's rows stay in the first cache for all chunks that are computed together. */
static void multiply_panels(const packed_weights *w, const activations *a, int from, int to, struct ggml_tensor *out) {
  float totals[M_BLOCK][2][TILE_M * TILE_M] __attribute__((aligned(64)));
  const __auto_type before = load_tile_config();
  int chunks[a->chunks + 1];
  for (int pair = from; pair < to; pair++) {
    const int wanting = select_chunks(a, pair, w->panels, chunks);
    for (int first = 0; first < wanting; first += M_BLOCK) {
      const int count = wanting - first < M_BLOCK ? wanting - first : M_BLOCK;
      memset(totals, 0, sizeof totals[0] * count);
      const int lines = first ? 0 : (2 * TILE_SIZE / 64 / 4 + count - 1) / count;
      const size_t asked = (size_t)lines * (w->weight_kind == BF16 ? 8 : 4) * 64; /* by a chunk in a step */
      for (int begin = 0; begin < w->steps; begin += K_BLOCK) {
        const int steps = w->steps - begin < K_BLOCK ? w->steps - begin : K_BLOCK;
        const int8_t *later = w->tiles + ((size_t)pair * w->steps + begin + PREFETCH_DISTANCE) * 2 * w->tile;
        for (int c = 0; c < count; c++, later += steps * asked)
          accumulate_chunk(w, a, pair, chunks[first + c], begin, later, lines, totals[c]);
      }
      for (int c = 0; c < count; c++) {
        store_tile(totals[c][0], a, chunks[first + c], w, 2 * pair, out);
        store_tile(totals[c][1], a, chunks[first + c], w, 2 * pair + 1, out);
      }
    }
  }
  if (w->head) _mm_sfence();
  restore_tile_config(before);
}

/* llama.cpp calls them so in all models. */
bool is_logits(const struct ggml_tensor *node) { return strcmp(node->name, "result_output") == 0; }

enum device_mode get_preferred_format(void) { return HAS_AMX || !HAS_BF16 ? LOAD_INT8 : LOAD_BF16; }

bool is_repacked(const struct ggml_tensor *t) {
  const struct ggml_tensor *whole = t->view_src ? t->view_src : t;
  return whole->buffer && (whole->buffer->buft == &w8_type || whole->buffer->buft == &bf16_type);
}

/* Whether its rows lie one after the other, whatever its dimensions. */
static bool is_contiguous_rows(const struct ggml_tensor *t) {
  return t->nb[0] == 4 && t->nb[2] == t->ne[1] * t->nb[1] && t->nb[3] == t->ne[2] * t->nb[2];
}

bool supports_mul_mat(const struct ggml_tensor *node) {
  const struct ggml_tensor *w = node->src[0], *x = node->src[1];
  return node->op == GGML_OP_MUL_MAT && is_repacked(w) && !w->view_src && w->ne[2] == 1 && w->ne[3] == 1 &&
         w->ne[0] % LANES == 0 && (w->type == GGML_TYPE_F32 || ggml_get_type_traits(w->type)->to_float) &&
         x->type == GGML_TYPE_F32 && is_contiguous_rows(x) && node->type == GGML_TYPE_F32 && is_contiguous_rows(node);
}

bool compute_mul_mat(struct ggml_tensor *node, workspace *at) {
  const packed_weights w = get_packed_weights(node->src[0], is_bf16_type(node->src[0]->buffer->buft));
  activations a = {0};
  const logits_request *wanted = at->wanted;
  if (wanted && is_logits(node) && wanted->outputs == ggml_nrows(node) && !order_tokens(wanted, at, &a, w.panels))
    return false;
  const bool repack_needed = a.order || w.weight_kind == W8A8; /* in another order or of another kind than before */
  if (repack_needed) at->activations = NULL;
  if (!pack_activations(node->src[1], at, &a, w.weight_kind)) return false;
  if (repack_needed) at->activations = NULL;
  const int threads = at->threads;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
  for (int t = 0; t < threads; t++) multiply_panels(&w, &a, w.panels * t / threads, w.panels * (t + 1) / threads, node);
  return true;
}

#else

ggml_backend_buffer_type_t get_repack_buffer_type(ggml_backend_dev_t device, enum device_mode format) {
  return (void)device, (void)format, NULL;
}
enum device_mode get_preferred_format(void) { return DEVICE_OFF; }
const char *take_set_tensor_error(void) { return NULL; }
bool is_repacked(const struct ggml_tensor *t) { return (void)t, false; }
bool is_logits(const struct ggml_tensor *node) { return (void)node, false; }
bool supports_mul_mat(const struct ggml_tensor *node) { return (void)node, false; }
bool compute_mul_mat(struct ggml_tensor *node, workspace *at) { return (void)node, (void)at, false; }

#endif
