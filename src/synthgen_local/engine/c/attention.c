/* Attention of rows that share a prompt: who sees what, and which way it is computed.
 *
 * Rows in flight lie in one key-value cache: the cells of their prompt, which all of them see, and
 * between each other's the cells of their own. llama.cpp either multiplies all rows with all cells,
 * or goes through the cells of each row one by one. Here the cells that all rows of a band see
 * are one product of matrices, and each row's own follow; what a row does not see costs nothing.
 *
 * Takes GGML_OP_FLASH_ATTN_EXT over keys and values of 16 bits or in bfloat16, and leaves attention
 * with a cap, slopes or sinks to llama.cpp. Knows ggml's tensors; no models, rows or sampling.
 */

#include "attention.h"

#include <string.h>

enum { HIDDEN = 0xFC00 }; /* minus infinity in 16 bits */

static bool is_wide(const attention *a) { return a->keys->type == GGML_TYPE_BF16; }

static size_t quads_of(const attention *a) { return up(a->group, HEADS) / HEADS; }

static bool prepare(scratch *s, const attention *a, int heads, int own, room *from) {
  const size_t most = up(a->chunk * a->group, LANES), lines = heads * most;
  const size_t wide = up(a->band * a->group, LANES), cells = is_wide(a) ? BLOCK : up(a->cells, BLOCK);
  s->stride = up(own, LANES) + LANES; /* no power of two, which would be one place in a cache for all */
  const size_t single = is_wide(a) ? (size_t)own * heads * quads_of(a) * HEADS * HANDFUL : lines * s->stride;
  const size_t floats = 2 * lines * a->size + single + 2 * lines + (a->size + cells) * wide +
                        CELLS * a->size + BLOCK * SPAN;
  float *next = at_least(from, floats * 4);
  if (!next) return false;
  s->most = (int)most;
  s->heads = heads;
  s->own = own;
  s->query = next, next += lines * a->size;
  s->sums = next, next += lines * a->size;
  s->single = next, next += single;
  s->top = next, next += lines;
  s->total = next, next += lines;
  s->across = next, next += a->size * wide;
  s->scores = next, next += cells * wide;
  s->few = next;
  return true;
}

/* Common cells are read once for each band. In 16 bits own ones are computed the better the fewer they are at once;
 * in bfloat16 those of all queries together, if no other thread is to have some of them. */
static void divide(attention *a, int threads) {
  a->band = is_wide(a) && BAND * a->group <= LINES ? BAND : BAND / 2;
  a->chunk = is_wide(a) && threads == 1 ? CHUNK : a->band;
}

static int chunks_of(const attention *a) { return (int)up(a->queries->ne[1], a->chunk) / a->chunk; }

/* Notes beside a sight: which cells everybody in a band sees, and which are somebody's own. */
static uint16_t *everybody_in(const attention *a, const sight *sees) {
  return (uint16_t *)(handfuls(a, sees) + (size_t)a->chunk * a->cells / HANDFUL);
}
static uint16_t *somebody_in(const attention *a, const sight *sees) { return everybody_in(a, sees) + a->cells; }

static size_t size_of_sight(const attention *a) {
  const size_t cells = a->cells, each = sizeof(int) * (bands_of(a) + a->chunk + 1) + 2 * sizeof(uint16_t);
  return up(sizeof(sight) + each * cells + sizeof(beginning) * (windows_of(a) + 1) +
            sizeof(handful) * a->chunk * cells / HANDFUL, 64);
}

/* Tell the cells that all queries of a band see from those that some of them see. Most cells are
 * another row's: four of them are passed by in a step, so cells are a multiple of four. */
static void look_at_band(const attention *a, int chunk, int band, sight *to) {
  const uint64_t hidden = HIDDEN * 0x0001000100010001ull;
  const int first = band * a->band, end = to->count < first + a->band ? to->count : first + a->band;
  uint16_t *everybody = everybody_in(a, to), *somebody = somebody_in(a, to);
  int *common = common_cells(a, to, band), commons = 0;
  memset(everybody, 0xFF, a->cells * sizeof *everybody);
  for (int i = first; i < end; i++) {
    const half *mask = mask_of(a, chunk * a->chunk + i);
    for (int c = 0; c < a->cells; c++) everybody[c] &= mask[c] == 0 ? 0xFFFF : 0;
  }
  for (int c = 0; c < a->cells; c++) {
    common[commons] = c;
    commons += everybody[c] != 0;
  }
  to->commons[band] = commons;
  for (int i = first; i < end; i++) {
    const half *mask = mask_of(a, chunk * a->chunk + i);
    int *own = own_cells(a, to, i), n = 0;
    bool leans = false;
    for (int c = 0; c < a->cells; c += 4) {
      uint64_t four, every;
      memcpy(&four, mask + c, sizeof four);
      memcpy(&every, everybody + c, sizeof every);
      if (four == hidden || every == UINT64_MAX) continue;
      for (int j = c; j < c + 4; j++) {
        const bool is_own = mask[j] != HIDDEN && !everybody[j];
        own[n] = j;
        n += is_own;
        somebody[j] |= is_own;
        leans |= mask[j] != HIDDEN && mask[j] != 0;
      }
    }
    to->owns[i] = n;
    to->leans[i] = leans;
  }
}

/* Put own cells of a query, of which so many are done, into handfuls, of which the last may be smaller. */
static handful *take_handfuls(int query, const int *own, int count, int *done, bool last, handful *to) {
  while (*done + HANDFUL <= count || (last && *done < count)) {
    *to = (handful){query, count - *done < HANDFUL ? count - *done : HANDFUL, {0}};
    for (int c = 0; c < HANDFUL; c++) to->cells[c] = own[*done + (c < to->count ? c : 0)];
    *done += to++->count;
  }
  return to;
}

/* Find own cells in the order in which they are to be computed: window after window, for memory is fastest where it
 * is read from end to end, and within a window query after query. What makes no handful waits for the next window. */
static void sort(const attention *a, sight *to) {
  const uint16_t *somebody = somebody_in(a, to);
  int *anyones = own_cells(a, to, a->chunk), seen[CHUNK] = {0}, done[CHUNK] = {0}, n = 0;
  handful *const first = handfuls(a, to), *at = first;
  for (int window = 0; window < windows_of(a); window++) {
    const int begin = window * WINDOW, end = begin + WINDOW < a->cells ? begin + WINDOW : a->cells;
    begins(a, to)[window] = (beginning){n, (int)(at - first)};
    for (int c = begin; c < end; c++) {
      anyones[n] = c;
      n += somebody[c];
    }
    for (int i = 0; i < to->count; i++) {
      const int *own = own_cells(a, to, i);
      while (seen[i] < to->owns[i] && own[seen[i]] < end) seen[i]++;
      at = take_handfuls(i, own, seen[i], &done[i], end == a->cells, at);
    }
  }
  begins(a, to)[windows_of(a)] = (beginning){n, (int)(at - first)};
}

static void look(const attention *a, int chunk, sight *to) {
  const int left = (int)a->queries->ne[1] - chunk * a->chunk;
  to->count = left < a->chunk ? left : a->chunk;
  memset(somebody_in(a, to), 0, a->cells * sizeof(uint16_t));
  for (int band = 0; band * a->band < to->count; band++) look_at_band(a, chunk, band, to);
  if (is_wide(a)) sort(a, to);
}

static int most_own(const attention *a, const sight *sees) {
  if (is_wide(a)) return begins(a, sees)[windows_of(a)].handful;
  int most = 0;
  for (int i = 0; i < sees->count; i++) most = sees->owns[i] > most ? sees->owns[i] : most;
  return most;
}

/* What each chunk sees, found in the first layer of a pass that asks. NULL without memory. */
static const visibility *sights(const attention *a, workspace *at) {
  for (visibility *v = at->seen; v < at->seen + MASKS; v++)
    if (v->mask == a->mask && v->queries == a->queries->ne[1] && v->cells == a->cells && v->chunk == a->chunk &&
        v->band == a->band)
      return v;
  visibility *to = &at->seen[at->next_seen];
  at->next_seen = (at->next_seen + 1) % MASKS;
  const size_t each = size_of_sight(a);
  char *found = at_least(&to->chunks, chunks_of(a) * each);
  if (!found) return NULL;
  to->mask = a->mask;
  to->queries = a->queries->ne[1];
  to->cells = a->cells;
  to->chunk = a->chunk;
  to->band = a->band;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int chunk = 0; chunk < chunks_of(a); chunk++) look(a, chunk, (sight *)(found + chunk * each));
  to->own = 0;
  for (int chunk = 0; chunk < chunks_of(a); chunk++) {
    const int own = most_own(a, (const sight *)(found + chunk * each));
    to->own = own > to->own ? own : to->own;
  }
  return to;
}

/* Let lanes be lines: so nothing is summed across lanes where all see the same cells. A query is so many rows of
 * 32 bits, be they one value or two. */
void lay_across(const scratch *s, int head, int rows) {
  int32_t *across = (int32_t *)s->across;
  memset(across, 0, sizeof *across * rows * s->wide);
  for (int line = 0; line < s->lines; line++) {
    const int32_t *query = (const int32_t *)s->query + at_line(s, head, line) * rows;
    for (int d = 0; d < rows; d++) across[(size_t)d * s->wide + line] = query[d];
  }
}

/* A chunk's scratch as one of its bands sees it: the band's lines are the first. */
scratch of_band(const attention *a, const scratch *s, int band) {
  scratch of = *s;
  const int queries = s->sees->count - band * a->band, first = band * a->band * a->group;
  of.lines = (queries < a->band ? queries : a->band) * a->group;
  of.wide = (int)up(of.lines, LANES);
  of.common = common_cells(a, s->sees, band);
  of.commons = s->sees->commons[band];
  of.query += first * (is_wide(a) ? a->size / 2 : a->size);
  of.sums += first * a->size;
  of.top += first;
  of.total += first;
  return of;
}

bool takes_attention(const struct ggml_tensor *node) {
  if (node->op != GGML_OP_FLASH_ATTN_EXT) return false;
  const struct ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
  float parameters[3]; /* scale, largest slope, cap */
  memcpy(parameters, node->op_params, sizeof parameters);
  return parameters[1] == 0 && parameters[2] == 0 && mask && !node->src[4] &&
         q->type == GGML_TYPE_F32 && (k->type == GGML_TYPE_F16 || (HAS_WIDE && k->type == GGML_TYPE_BF16)) && v->type == k->type &&
         mask->type == GGML_TYPE_F16 && q->nb[0] == 4 && k->nb[0] == 2 && v->nb[0] == 2 && mask->nb[0] == 2 &&
         q->ne[0] % SPAN == 0 && k->ne[0] == q->ne[0] && v->ne[0] == q->ne[0] && k->ne[2] == v->ne[2] &&
         k->ne[1] % 4 == 0 && q->ne[2] % k->ne[2] == 0 && q->ne[3] == 1 && k->ne[3] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1;
}

bool attend(struct ggml_tensor *node, workspace *at) {
  attention a = {node, node->src[0], node->src[1], node->src[2], node->src[3], 0, 0, 0, 0, 0, 0};
  scratch scratches[MOST_THREADS];
  const int threads = at->threads;
  a.size = (int)a.queries->ne[0];
  a.group = (int)(a.queries->ne[2] / a.keys->ne[2]);
  a.cells = (int)a.keys->ne[1];
  divide(&a, threads);
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
      if (is_wide(&a)) attend_wide(&a, s);
      else attend_halves(&a, s);
    }
  }
  return true;
}
