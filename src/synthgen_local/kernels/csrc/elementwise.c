/* What a layer does between its products: norms, turns of positions, gates, sums, copies of rows.
 *
 * Each is small beside a product. They are computed here so that a pass stays with this backend
 * from its first product to its last; where products are llama.cpp's, so are these. Knows ggml's
 * tensors; no models, rows or sampling.
 */

#include <math.h>
#include <string.h>

#include "operators.h"
#include "simd.h"

#if defined(__AVX512F__)

/* Row number `i` of a tensor, over all of its dimensions but the first. */
INLINE char *row_data(const struct ggml_tensor *t, int64_t i) {
  const int64_t one = i % t->ne[1], two = i / t->ne[1] % t->ne[2], three = i / t->ne[1] / t->ne[2];
  return (char *)t->data + one * t->nb[1] + two * t->nb[2] + three * t->nb[3];
}

static int64_t row_count(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

static bool has_f32_rows(const struct ggml_tensor *t) {
  return t->type == GGML_TYPE_F32 && t->nb[0] == 4 && t->ne[0] % LANES == 0;
}

static bool is_same_shape(const struct ggml_tensor *x, const struct ggml_tensor *y) {
  return memcmp(x->ne, y->ne, sizeof x->ne) == 0;
}

static float get_op_param(const struct ggml_tensor *node, int i) {
  float x;
  memcpy(&x, node->op_params + i, sizeof x);
  return x;
}

static void rms_norm(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row_data(node->src[0], i);
  float *to = (float *)row_data(node, i);
  const int n = (int)node->ne[0];
  vector squares = {0};
  for (int d = 0; d < n; d += LANES) squares += load(x + d) * load(x + d);
  const float by = 1 / sqrtf(reduce_add(squares) / n + get_op_param(node, 0));
  for (int d = 0; d < n; d += LANES) store(to + d, load(x + d) * by);
}

static void add_mul(const struct ggml_tensor *node, int64_t i) {
  const struct ggml_tensor *other = node->src[1];
  const float *x = (const float *)row_data(node->src[0], i),
              *y = (const float *)row_data(other, row_count(other) == 1 ? 0 : i);
  float *to = (float *)row_data(node, i);
  for (int d = 0; d < node->ne[0]; d += LANES)
    store(to + d, node->op == GGML_OP_ADD ? load(x + d) + load(y + d) : load(x + d) * load(y + d));
}

static void scale(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row_data(node->src[0], i), by = get_op_param(node, 0), more = get_op_param(node, 1);
  float *to = (float *)row_data(node, i);
  for (int d = 0; d < node->ne[0]; d += LANES) store(to + d, load(x + d) * by + more);
}

/* x times the share that a logistic function of z leaves of it. */
INLINE vector mul_sigmoid(vector x, vector z) {
  const vector small = exp_nonpositive(-max_vector(z, -z));
  const ivector positive = z >= 0;
  const vector above = (vector)(((ivector)broadcast(1) & positive) | ((ivector)small & ~positive));
  return x * above / (1 + small);
}

/* GELU's 1 + tanh(u) is twice a logistic function of 2u. */
INLINE vector gelu_argument(vector x) { return x * (1 + 0.044715f * x * x) * 1.59576912160573f; }

static void glu(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row_data(node->src[0], i), *y = (const float *)row_data(node->src[1], i);
  float *to = (float *)row_data(node, i);
  const bool gelu = ggml_get_glu_op(node) == GGML_GLU_OP_GEGLU;
  for (int d = 0; d < node->ne[0]; d += LANES) {
    const vector v = load(x + d);
    store(to + d, mul_sigmoid(v, gelu ? gelu_argument(v) : v) * load(y + d));
  }
}

/* What a node turns by: pairs of a head, whether they are neighbours, and base, scale, amount. */
typedef struct {
  int pairs;
  bool interleaved;
  float parameters[3];
} rope_params;

static rope_params get_rope_params(const struct ggml_tensor *node) {
  const int mode = node->op_params[2];
  return (rope_params){node->op_params[1] / 2,
                       mode == GGML_ROPE_TYPE_NORMAL,
                       {get_op_param(node, 5), get_op_param(node, 6), get_op_param(node, 8)}};
}

static const float *get_cos_sin_table(const struct ggml_tensor *node, workspace *at) {
  const rope_params by = get_rope_params(node);
  const struct ggml_tensor *positions = node->src[1];
  for (int i = 0; i < ROPE_CACHES; i++) {
    const rope_cache *t = &at->rope_caches[i];
    if (t->positions == positions && t->pairs == by.pairs &&
        !memcmp(t->parameters, by.parameters, sizeof by.parameters))
      return t->table.bytes;
  }
  rope_cache *t = &at->rope_caches[at->next_rope_cache];
  at->next_rope_cache = (at->next_rope_cache + 1) % ROPE_CACHES;
  float *table = ensure_capacity(&t->table, sizeof(float) * positions->ne[0] * by.pairs * 2);
  t->positions = table ? positions : NULL;
  t->pairs = by.pairs;
  memcpy(t->parameters, by.parameters, sizeof by.parameters);
  if (!table) return NULL;
  const float each = powf(by.parameters[0], -1.0f / by.pairs);
  for (int64_t p = 0; p < positions->ne[0]; p++) {
    float angle = ((const int32_t *)positions->data)[p];
    for (int pair = 0; pair < by.pairs; pair++, angle *= each) {
      float *to = table + (p * by.pairs + pair) * 2;
      to[0] = cosf(angle * by.parameters[1]) * by.parameters[2];
      to[1] = sinf(angle * by.parameters[1]) * by.parameters[2];
    }
  }
  return table;
}

static void rope(const struct ggml_tensor *node, int64_t i, const float *table) {
  const rope_params by = get_rope_params(node);
  const float *x = (const float *)row_data(node->src[0], i), *angle = table + i / node->ne[1] * by.pairs * 2;
  float *to = (float *)row_data(node, i);
  const int next = by.interleaved ? 2 : 1, other = by.interleaved ? 1 : by.pairs;
  for (int pair = 0; pair < by.pairs; pair++) {
    const float a = x[pair * next], b = x[pair * next + other];
    to[pair * next] = a * angle[pair * 2] - b * angle[pair * 2 + 1];
    to[pair * next + other] = a * angle[pair * 2 + 1] + b * angle[pair * 2];
  }
  if (to != x) memcpy(to + by.pairs * 2, x + by.pairs * 2, sizeof(float) * (node->ne[0] - by.pairs * 2));
}

static int64_t get_row_index(const struct ggml_tensor *t, int64_t i) {
  return t->type == GGML_TYPE_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
}

static void get_row(const struct ggml_tensor *node, int64_t i) {
  memcpy(row_data(node, i), row_data(node->src[0], get_row_index(node->src[1], i)), sizeof(float) * node->ne[0]);
}

static void set_row(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row_data(node->src[0], i);
  char *to = (char *)node->data + get_row_index(node->src[1], i) * node->nb[1];
  for (int d = 0; d < node->ne[0]; d += LANES) {
    const __m512 values = (__m512)load(x + d);
    __m256i rounded;
#if HAS_BF16
    if (node->type == GGML_TYPE_BF16) rounded = (__m256i)_mm512_cvtneps_pbh(values);
    else
#endif
      rounded = _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)(to + d * 2), rounded);
  }
}

static bool supports_rope(const struct ggml_tensor *node) {
  const int mode = node->op_params[2], dimensions = node->op_params[1];
  return !node->src[2] && node->src[1]->type == GGML_TYPE_I32 && node->src[1]->ne[0] == node->ne[2] &&
         (mode == GGML_ROPE_TYPE_NORMAL || mode == GGML_ROPE_TYPE_NEOX) && get_op_param(node, 7) == 0 &&
         node->op_params[15] == 0 && dimensions % 2 == 0 && dimensions <= node->ne[0] && node->ne[3] == 1;
}

static bool supports_row_copy(const struct ggml_tensor *node, enum ggml_type type) {
  const struct ggml_tensor *at = node->src[1];
  return node->type == type && (at->type == GGML_TYPE_I64 || at->type == GGML_TYPE_I32) && ggml_is_contiguous(at) &&
         row_count(at) == 1 && node->ne[2] == 1 && node->ne[3] == 1 && node->src[0]->ne[2] == 1 &&
         node->src[0]->ne[3] == 1;
}

bool supports_elementwise(const struct ggml_tensor *node) {
  const struct ggml_tensor *x = node->src[0], *y = node->src[1];
  if (!x || !has_f32_rows(x)) return false;
  switch (node->op) {
  case GGML_OP_RMS_NORM:
  case GGML_OP_SCALE: return has_f32_rows(node);
  case GGML_OP_ADD:
  case GGML_OP_MUL:
    return has_f32_rows(node) && has_f32_rows(y) && y->ne[0] == x->ne[0] && (is_same_shape(x, y) || row_count(y) == 1);
  case GGML_OP_GLU:
    return has_f32_rows(node) && y && has_f32_rows(y) && is_same_shape(x, y) &&
           (ggml_get_glu_op(node) == GGML_GLU_OP_SWIGLU || ggml_get_glu_op(node) == GGML_GLU_OP_GEGLU);
  case GGML_OP_ROPE: return has_f32_rows(node) && supports_rope(node);
  case GGML_OP_GET_ROWS: return has_f32_rows(node) && supports_row_copy(node, GGML_TYPE_F32);
  case GGML_OP_SET_ROWS:
    return node->nb[0] == 2 &&
           (supports_row_copy(node, GGML_TYPE_F16) || (HAS_BF16 && supports_row_copy(node, GGML_TYPE_BF16)));
  default: return false;
  }
}

bool compute_elementwise(struct ggml_tensor *node, workspace *at) {
  const float *table = node->op == GGML_OP_ROPE ? get_cos_sin_table(node, at) : NULL;
  if (node->op == GGML_OP_ROPE && !table) return false;
  const int64_t count = row_count(node->op == GGML_OP_SET_ROWS ? node->src[0] : node);
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int64_t i = 0; i < count; i++) {
    switch (node->op) {
    case GGML_OP_RMS_NORM: rms_norm(node, i); break;
    case GGML_OP_SCALE: scale(node, i); break;
    case GGML_OP_GLU: glu(node, i); break;
    case GGML_OP_ROPE: rope(node, i, table); break;
    case GGML_OP_GET_ROWS: get_row(node, i); break;
    case GGML_OP_SET_ROWS: set_row(node, i); break;
    default: add_mul(node, i);
    }
  }
  return true;
}

#else

bool supports_elementwise(const struct ggml_tensor *node) { return (void)node, false; }
bool compute_elementwise(struct ggml_tensor *node, workspace *at) { return (void)node, (void)at, false; }

#endif
