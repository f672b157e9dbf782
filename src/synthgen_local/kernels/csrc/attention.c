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

enum { F16_MINUS_INFINITY = 0xFC00 }; /* minus infinity in 16 bits */

static bool carve_scratch(scratch *s, const attention *a, int heads, int own, scratch_buffer *from) {
  const size_t most = round_up(a->chunk * a->group, LANES), lines = heads * most, cells = round_up(a->cells, KV_BLOCK);
  s->stride = round_up(own, LANES) + LANES; /* no power of two, which would be one place in a cache for all lines */
  const size_t floats = 2 * lines * a->head_dim + lines * s->stride + 2 * lines + a->head_dim * most + cells * most +
                        KV_TILE * a->head_dim + KV_BLOCK * DIM_BLOCK;
  float *next = ensure_capacity(from, floats * 4);
  if (!next) return false;
  s->most = (int)most;
  s->heads = heads;
  s->own = own;
  s->query = next, next += lines * a->head_dim;
  s->sums = next, next += lines * a->head_dim;
  s->private_scores = next, next += lines * s->stride;
  s->max_score = next, next += lines;
  s->sum_exp = next, next += lines;
  s->transposed = next, next += a->head_dim * most;
  s->scores = next, next += cells * most;
  s->kv_tile = next;
  return true;
}

/* Common cells are read once for each chunk, and own ones the better the fewer they are at once. */
static int choose_query_chunk(const attention *a) {
  return a->keys->type == GGML_TYPE_BF16 && QUERY_CHUNK * a->group <= MAX_LINES ? QUERY_CHUNK : QUERY_CHUNK / 2;
}

static int count_chunks(const attention *a) { return (int)round_up(a->queries->ne[1], a->chunk) / a->chunk; }

static size_t chunk_visibility_size(const attention *a) {
  return round_up(
      sizeof(chunk_visibility) + sizeof(int) * (1 + a->chunk) * (size_t)a->cells + a->cells * sizeof(uint16_t), 64);
}

/* Tell the cells that all queries of a chunk see from those that some of them see. Most cells are
 * another row's: four of them are passed by in a step, so cells are a multiple of four. */
static void build_chunk_visibility(const attention *a, int chunk, chunk_visibility *to) {
  const uint64_t hidden = F16_MINUS_INFINITY * 0x0001000100010001ull;
  const int first = chunk * a->chunk, left = (int)a->queries->ne[1] - first;
  uint16_t *shared_by_all = (uint16_t *)(to->cells + (1 + a->chunk) * (size_t)a->cells);
  to->count = left < a->chunk ? left : a->chunk;
  memset(shared_by_all, 0xFF, a->cells * sizeof *shared_by_all);
  for (int i = 0; i < to->count; i++) {
    const half *mask = mask_row(a, first + i);
    for (int c = 0; c < a->cells; c++) shared_by_all[c] &= mask[c] == 0 ? 0xFFFF : 0;
  }
  to->shared_count = 0;
  for (int c = 0; c < a->cells; c++) {
    to->cells[to->shared_count] = c;
    to->shared_count += shared_by_all[c] != 0;
  }
  for (int i = 0; i < to->count; i++) {
    const half *mask = mask_row(a, first + i);
    int *own = to->cells + (size_t)(1 + i) * a->cells, n = 0;
    bool has_bias = false;
    for (int c = 0; c < a->cells; c += 4) {
      uint64_t four, every;
      memcpy(&four, mask + c, sizeof four);
      memcpy(&every, shared_by_all + c, sizeof every);
      if (four == hidden || every == UINT64_MAX) continue;
      for (int j = c; j < c + 4; j++) {
        own[n] = j;
        n += mask[j] != F16_MINUS_INFINITY && !shared_by_all[j];
        has_bias |= mask[j] != F16_MINUS_INFINITY && mask[j] != 0;
      }
    }
    to->private_counts[i] = n;
    to->has_bias[i] = has_bias;
  }
}

/* What each chunk sees, found in the first layer of a pass that asks. NULL without memory. */
static const kv_visibility *get_kv_visibility(const attention *a, workspace *at) {
  for (kv_visibility *v = at->visibilities; v < at->visibilities + MAX_VISIBILITIES; v++)
    if (v->mask == a->mask && v->queries == a->queries->ne[1] && v->cells == a->cells && v->chunk == a->chunk) return v;
  kv_visibility *to = &at->visibilities[at->next_visibility];
  at->next_visibility = (at->next_visibility + 1) % MAX_VISIBILITIES;
  const size_t each = chunk_visibility_size(a);
  char *found = ensure_capacity(&to->chunks, count_chunks(a) * each);
  if (!found) return NULL;
  to->mask = a->mask;
  to->queries = a->queries->ne[1];
  to->cells = a->cells;
  to->chunk = a->chunk;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int chunk = 0; chunk < count_chunks(a); chunk++)
    build_chunk_visibility(a, chunk, (chunk_visibility *)(found + chunk * each));
  to->max_private = 0;
  for (int chunk = 0; chunk < count_chunks(a); chunk++) {
    const chunk_visibility *visible = (const chunk_visibility *)(found + chunk * each);
    for (int i = 0; i < visible->count; i++)
      to->max_private = visible->private_counts[i] > to->max_private ? visible->private_counts[i] : to->max_private;
  }
  return to;
}

/* Let lanes be lines: so nothing is summed across lanes where all see the same cells. A query is so many rows of
 * 32 bits, be they one value or two. */
void transpose_queries(const scratch *s, int head, int rows) {
  int32_t *transposed = (int32_t *)s->transposed;
  memset(transposed, 0, sizeof *transposed * rows * s->padded_lines);
  for (int line = 0; line < s->lines; line++) {
    const int32_t *query = (const int32_t *)s->query + line_index(s, head, line) * rows;
    for (int d = 0; d < rows; d++) transposed[(size_t)d * s->padded_lines + line] = query[d];
  }
}

/* Masks may do more than hide: add what they say to the scores of own cells, and find the largest of each
 * line. What follows a line's last cell weighs nothing, up to a whole vector. */
void add_mask_bias(const attention *a, const scratch *s) {
  for (int i = 0; i < s->visible->count; i++) {
    const half *mask = mask_row(a, s->chunk * a->chunk + i);
    const int *own = private_cells(a, s->visible, i), n = s->visible->private_counts[i];
    for (int head = s->head; head < s->head + s->heads; head++)
      for (int line = i * a->group; line < (i + 1) * a->group; line++) {
        float *scores = s->private_scores + line_index(s, head, line) * s->stride;
        for (int c = 0; s->visible->has_bias[i] && c < n; c++) scores[c] += ggml_fp16_to_fp32(mask[own[c]]);
        for (size_t c = n; c < round_up(n, LANES); c++) scores[c] = -1e30f;
        vector top = broadcast(-1e30f);
        for (int c = 0; c < n; c += LANES) top = max_vector(load(scores + c), top);
        s->max_score[line_index(s, head, line)] = reduce_max(top);
      }
  }
}

bool supports_attention(const struct ggml_tensor *node) {
  if (node->op != GGML_OP_FLASH_ATTN_EXT) return false;
  const struct ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
  float parameters[3]; /* scale, largest slope, cap */
  memcpy(parameters, node->op_params, sizeof parameters);
  return parameters[1] == 0 && parameters[2] == 0 && mask && !node->src[4] && q->type == GGML_TYPE_F32 &&
         (k->type == GGML_TYPE_F16 || (HAS_BF16 && k->type == GGML_TYPE_BF16)) && v->type == k->type &&
         mask->type == GGML_TYPE_F16 && q->nb[0] == 4 && k->nb[0] == 2 && v->nb[0] == 2 && mask->nb[0] == 2 &&
         q->ne[0] % DIM_BLOCK == 0 && k->ne[0] == q->ne[0] && v->ne[0] == q->ne[0] && k->ne[2] == v->ne[2] &&
         k->ne[1] % 4 == 0 && q->ne[2] % k->ne[2] == 0 && q->ne[3] == 1 && k->ne[3] == 1 && mask->ne[2] == 1 &&
         mask->ne[3] == 1;
}

bool compute_attention(struct ggml_tensor *node, workspace *at) {
  attention a = {node, node->src[0], node->src[1], node->src[2], node->src[3], 0, 0, 0, 0, 0};
  scratch scratches[MAX_THREADS];
  const int threads = at->threads;
  a.head_dim = (int)a.queries->ne[0];
  a.group = (int)(a.queries->ne[2] / a.keys->ne[2]);
  a.cells = (int)a.keys->ne[1];
  a.chunk = choose_query_chunk(&a);
  memcpy(&a.scale, node->op_params, sizeof a.scale);
  const kv_visibility *visibilities = get_kv_visibility(&a, at);
  if (!visibilities) return false;
  const int heads = (int)a.keys->ne[2], each = threads == 1 ? heads : 1, tasks = count_chunks(&a) * heads / each;
  for (int t = 0; t < threads; t++)
    if (!carve_scratch(&scratches[t], &a, each, visibilities->max_private, &at->attention_scratch[t])) return false;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
  for (int t = 0; t < threads; t++) {
    scratch *s = &scratches[t];
    for (int task = tasks * t / threads; task < tasks * (t + 1) / threads; task++) {
      s->head = task * each % heads;
      s->chunk = task * each / heads;
      s->visible =
          (const chunk_visibility *)((const char *)visibilities->chunks.bytes + s->chunk * chunk_visibility_size(&a));
      s->lines = s->visible->count * a.group;
      s->padded_lines = (int)round_up(s->lines, LANES);
      if (a.keys->type == GGML_TYPE_BF16) attend_bf16(&a, s);
      else attend_f16(&a, s);
    }
  }
  return true;
}
