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
INLINE char *row(const struct ggml_tensor *t, int64_t i) {
  const int64_t one = i % t->ne[1], two = i / t->ne[1] % t->ne[2], three = i / t->ne[1] / t->ne[2];
  return (char *)t->data + one * t->nb[1] + two * t->nb[2] + three * t->nb[3];
}

static int64_t rows(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

static bool in_floats(const struct ggml_tensor *t) {
  return t->type == GGML_TYPE_F32 && t->nb[0] == 4 && t->ne[0] % LANES == 0;
}

static bool one_shape(const struct ggml_tensor *x, const struct ggml_tensor *y) {
  return memcmp(x->ne, y->ne, sizeof x->ne) == 0;
}

static float parameter(const struct ggml_tensor *node, int i) {
  float x;
  memcpy(&x, node->op_params + i, sizeof x);
  return x;
}

static void normalize(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row(node->src[0], i);
  float *to = (float *)row(node, i);
  const int n = (int)node->ne[0];
  vector squares = {0};
  for (int d = 0; d < n; d += LANES) squares += load(x + d) * load(x + d);
  const float by = 1 / sqrtf(sum(squares) / n + parameter(node, 0));
  for (int d = 0; d < n; d += LANES) store(to + d, load(x + d) * by);
}

static void combine(const struct ggml_tensor *node, int64_t i) {
  const struct ggml_tensor *other = node->src[1];
  const float *x = (const float *)row(node->src[0], i), *y = (const float *)row(other, rows(other) == 1 ? 0 : i);
  float *to = (float *)row(node, i);
  for (int d = 0; d < node->ne[0]; d += LANES)
    store(to + d, node->op == GGML_OP_ADD ? load(x + d) + load(y + d) : load(x + d) * load(y + d));
}

static void scale(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row(node->src[0], i), by = parameter(node, 0), more = parameter(node, 1);
  float *to = (float *)row(node, i);
  for (int d = 0; d < node->ne[0]; d += LANES) store(to + d, load(x + d) * by + more);
}

/* x times the share that a logistic function of z leaves of it. */
INLINE vector share(vector x, vector z) {
  const vector small = exponential(-larger(z, -z));
  const integers positive = z >= 0;
  const vector above = (vector)(((integers)all(1) & positive) | ((integers)small & ~positive));
  return x * above / (1 + small);
}

/* GELU's 1 + tanh(u) is twice a logistic function of 2u. */
INLINE vector curve(vector x) { return x * (1 + 0.044715f * x * x) * 1.59576912160573f; }

static void gate(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row(node->src[0], i), *y = (const float *)row(node->src[1], i);
  float *to = (float *)row(node, i);
  const bool gelu = ggml_get_glu_op(node) == GGML_GLU_OP_GEGLU;
  for (int d = 0; d < node->ne[0]; d += LANES) {
    const vector v = load(x + d);
    store(to + d, share(v, gelu ? curve(v) : v) * load(y + d));
  }
}

/* What a node turns by: pairs of a head, whether they are neighbours, and base, scale, amount. */
typedef struct {
  int pairs;
  bool neighbours;
  float parameters[3];
} turning;

static turning turning_of(const struct ggml_tensor *node) {
  const int mode = node->op_params[2];
  return (turning){node->op_params[1] / 2, mode == GGML_ROPE_TYPE_NORMAL,
                   {parameter(node, 5), parameter(node, 6), parameter(node, 8)}};
}

static const float *angles(const struct ggml_tensor *node, workspace *at) {
  const turning by = turning_of(node);
  const struct ggml_tensor *positions = node->src[1];
  for (int i = 0; i < TURNS; i++) {
    const turns *t = &at->turned[i];
    if (t->positions == positions && t->pairs == by.pairs && !memcmp(t->parameters, by.parameters, sizeof by.parameters))
      return t->table.bytes;
  }
  turns *t = &at->turned[at->next_turn];
  at->next_turn = (at->next_turn + 1) % TURNS;
  float *table = at_least(&t->table, sizeof(float) * positions->ne[0] * by.pairs * 2);
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

static void turn(const struct ggml_tensor *node, int64_t i, const float *table) {
  const turning by = turning_of(node);
  const float *x = (const float *)row(node->src[0], i), *angle = table + i / node->ne[1] * by.pairs * 2;
  float *to = (float *)row(node, i);
  const int next = by.neighbours ? 2 : 1, other = by.neighbours ? 1 : by.pairs;
  for (int pair = 0; pair < by.pairs; pair++) {
    const float a = x[pair * next], b = x[pair * next + other];
    to[pair * next] = a * angle[pair * 2] - b * angle[pair * 2 + 1];
    to[pair * next + other] = a * angle[pair * 2 + 1] + b * angle[pair * 2];
  }
  if (to != x) memcpy(to + by.pairs * 2, x + by.pairs * 2, sizeof(float) * (node->ne[0] - by.pairs * 2));
}

static int64_t index_at(const struct ggml_tensor *t, int64_t i) {
  return t->type == GGML_TYPE_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
}

static void take_row(const struct ggml_tensor *node, int64_t i) {
  memcpy(row(node, i), row(node->src[0], index_at(node->src[1], i)), sizeof(float) * node->ne[0]);
}

static void keep_row(const struct ggml_tensor *node, int64_t i) {
  const float *x = (const float *)row(node->src[0], i);
  char *to = (char *)node->data + index_at(node->src[1], i) * node->nb[1];
  for (int d = 0; d < node->ne[0]; d += LANES) {
    const __m512 values = (__m512)load(x + d);
    __m256i rounded;
#if HAS_WIDE
    if (node->type == GGML_TYPE_BF16) rounded = (__m256i)_mm512_cvtneps_pbh(values);
    else
#endif
      rounded = _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)(to + d * 2), rounded);
  }
}

static bool takes_turn(const struct ggml_tensor *node) {
  const int mode = node->op_params[2], dimensions = node->op_params[1];
  return !node->src[2] && node->src[1]->type == GGML_TYPE_I32 && node->src[1]->ne[0] == node->ne[2] &&
         (mode == GGML_ROPE_TYPE_NORMAL || mode == GGML_ROPE_TYPE_NEOX) && parameter(node, 7) == 0 &&
         node->op_params[15] == 0 && dimensions % 2 == 0 && dimensions <= node->ne[0] && node->ne[3] == 1;
}

static bool takes_rows(const struct ggml_tensor *node, enum ggml_type type) {
  const struct ggml_tensor *at = node->src[1];
  return node->type == type && (at->type == GGML_TYPE_I64 || at->type == GGML_TYPE_I32) && ggml_is_contiguous(at) &&
         rows(at) == 1 && node->ne[2] == 1 && node->ne[3] == 1 &&
         node->src[0]->ne[2] == 1 && node->src[0]->ne[3] == 1;
}

bool takes_step(const struct ggml_tensor *node) {
  const struct ggml_tensor *x = node->src[0], *y = node->src[1];
  if (!x || !in_floats(x)) return false;
  switch (node->op) {
  case GGML_OP_RMS_NORM:
  case GGML_OP_SCALE: return in_floats(node);
  case GGML_OP_ADD:
  case GGML_OP_MUL:
    return in_floats(node) && in_floats(y) && y->ne[0] == x->ne[0] && (one_shape(x, y) || rows(y) == 1);
  case GGML_OP_GLU:
    return in_floats(node) && y && in_floats(y) && one_shape(x, y) &&
           (ggml_get_glu_op(node) == GGML_GLU_OP_SWIGLU || ggml_get_glu_op(node) == GGML_GLU_OP_GEGLU);
  case GGML_OP_ROPE: return in_floats(node) && takes_turn(node);
  case GGML_OP_GET_ROWS: return in_floats(node) && takes_rows(node, GGML_TYPE_F32);
  case GGML_OP_SET_ROWS:
    return node->nb[0] == 2 && (takes_rows(node, GGML_TYPE_F16) || (HAS_WIDE && takes_rows(node, GGML_TYPE_BF16)));
  default: return false;
  }
}

bool step(struct ggml_tensor *node, workspace *at) {
  const float *table = node->op == GGML_OP_ROPE ? angles(node, at) : NULL;
  if (node->op == GGML_OP_ROPE && !table) return false;
  const int64_t count = rows(node->op == GGML_OP_SET_ROWS ? node->src[0] : node);
#if defined(_OPENMP)
#pragma omp parallel for num_threads(at->threads) if (at->threads > 1)
#endif
  for (int64_t i = 0; i < count; i++) {
    switch (node->op) {
    case GGML_OP_RMS_NORM: normalize(node, i); break;
    case GGML_OP_SCALE: scale(node, i); break;
    case GGML_OP_GLU: gate(node, i); break;
    case GGML_OP_ROPE: turn(node, i, table); break;
    case GGML_OP_GET_ROWS: take_row(node, i); break;
    case GGML_OP_SET_ROWS: keep_row(node, i); break;
    default: combine(node, i);
    }
  }
  return true;
}

#else

bool takes_step(const struct ggml_tensor *node) { return (void)node, false; }
bool step(struct ggml_tensor *node, workspace *at) { return (void)node, (void)at, false; }

#endif
