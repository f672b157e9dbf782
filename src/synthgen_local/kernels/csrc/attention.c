/* Attention of rows that share a prompt: who sees what, and which way it is computed.
 *
 * Rows in flight lie in one key-value cache: the cells of their prompt, which all of them see, and
 * between each other's the cells of their own. llama.cpp either multiplies all rows with all cells,
 * or goes through the cells of each row one by one. Here the cells that all rows of a chunk see
 * are one product of matrices, and each row's own follow; what a row does not see costs nothing.
 *
 * Takes GGML_OP_FLASH_ATTN_EXT over keys and values of 16 bits or in bfloat16, and leaves attention
 * with a cap, slopes or sinks to llama.cpp. Knows ggml's tensors; no models, rows or sampling.
 */

#include "attention.h"

#include <string.h>

enum { HIDDEN = 0xFC00 }; /* minus infinity in 16 bits */

static bool prepare(scratch *s, const attention *a, int heads, int own, room *from) {
  const size_t most = up(a->chunk * a->group, LANES), lines = heads * most, cells = up(a->cells, BLOCK);
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

/* Common cells are read once for each chunk, and own ones the better the fewer they are at once. */
static int chunk_of(const attention *a) {
  return a->keys->type == GGML_TYPE_BF16 && CHUNK * a->group <= LINES ? CHUNK : CHUNK / 2;
}

static int chunks_of(const attention *a) { return (int)up(a->queries->ne[1], a->chunk) / a->chunk; }

static size_t size_of_sight(const attention *a) {
  return up(sizeof(sight) + sizeof(int) * (1 + a->chunk) * (size_t)a->cells + a->cells * sizeof(uint16_t), 64);
}

/* Tell the cells that all queries of a chunk see from those that some of them see. Most cells are
 * another row's: four of them are passed by in a step, so cells are a multiple of four. */
static void look(const attention *a, int chunk, sight *to) {
  const uint64_t hidden = HIDDEN * 0x0001000100010001ull;
  const int first = chunk * a->chunk, left = (int)a->queries->ne[1] - first;
  uint16_t *everybody = (uint16_t *)(to->cells + (1 + a->chunk) * (size_t)a->cells);
  to->count = left < a->chunk ? left : a->chunk;
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
    bool leans = false;
    for (int c = 0; c < a->cells; c += 4) {
      uint64_t four, every;
      memcpy(&four, mask + c, sizeof four);
      memcpy(&every, everybody + c, sizeof every);
      if (four == hidden || every == UINT64_MAX) continue;
      for (int j = c; j < c + 4; j++) {
        own[n] = j;
        n += mask[j] != HIDDEN && !everybody[j];
        leans |= mask[j] != HIDDEN && mask[j] != 0;
      }
    }
    to->owns[i] = n;
    to->leans[i] = leans;
  }
}

/* What each chunk sees, found in the first layer of a pass that asks. NULL without memory. */
static const visibility *sights(const attention *a, workspace *at) {
  for (visibility *v = at->seen; v < at->seen + MASKS; v++)
    if (v->mask == a->mask && v->queries == a->queries->ne[1] && v->cells == a->cells && v->chunk == a->chunk) return v;
  visibility *to = &at->seen[at->next_seen];
  at->next_seen = (at->next_seen + 1) % MASKS;
  const size_t each = size_of_sight(a);
  char *found = at_least(&to->chunks, chunks_of(a) * each);
  if (!found) return NULL;
  to->mask = a->mask;
  to->queries = a->queries->ne[1];
  to->cells = a->cells;
  to->chunk = a->chunk;
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

/* Masks may do more than hide: add what they say to the scores of own cells, and find the largest of each
 * line. What follows a line's last cell weighs nothing, up to a whole vector. */
void lean(const attention *a, const scratch *s) {
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
  attention a = {node, node->src[0], node->src[1], node->src[2], node->src[3], 0, 0, 0, 0, 0};
  scratch scratches[MOST_THREADS];
  const int threads = at->threads;
  a.size = (int)a.queries->ne[0];
  a.group = (int)(a.queries->ne[2] / a.keys->ne[2]);
  a.cells = (int)a.keys->ne[1];
  a.chunk = chunk_of(&a);
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
      s->lines = s->sees->count * a.group;
      s->wide = (int)up(s->lines, LANES);
      if (a.keys->type == GGML_TYPE_BF16) attend_wide(&a, s);
      else attend_halves(&a, s);
    }
  }
  return true;
}
