/* What the parts of this backend share: the memory that they compute with, and what each takes.
 *
 * An operation is computed by the part that takes it; false tells that there is no memory left.
 */

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "ggml-backend.h"
#include "ggml.h"

enum { MAX_THREADS = 64, ROPE_CACHES = 4, MAX_VISIBILITIES = 2 };

/* What a thread is offered: nothing; attention alone; everything, and while they are loaded the
 * buffer for its weights, in one format or the other. */
enum device_mode { DEVICE_OFF, DEVICE_ATTENTION, DEVICE_ALL, LOAD_INT8, LOAD_BF16 };

/* Memory that grows to what is asked of it. */
typedef struct {
  void *bytes;
  size_t size;
} scratch_buffer;

static inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static inline void *ensure_capacity(scratch_buffer *from, size_t size) {
  if (size > from->size) {
    free(from->bytes);
    from->bytes = aligned_alloc(64, round_up(size, 64));
    from->size = from->bytes ? size : 0;
  }
  return from->bytes;
}

/* Angles by which positions turn a head's pairs, the same in all layers but for their base. */
typedef struct {
  const struct ggml_tensor *positions;
  int pairs;
  float parameters[3];
  scratch_buffer table; /* [position][pair][cosine, sine] */
} rope_cache;

/* What is wanted of a pass's logits: of each output those of the tokens in its mask, a bit for each, or
 * all where it has none. Filled in for a pass; `logits` is where they are, if they were computed here. */
typedef struct {
  int outputs;
  const uint32_t *const *masks;
  const float *logits;
} logits_request;

/* Where the logits of this thread's last pass are, until its context's next one: what is not wanted is
 * anything there. NULL if they were computed elsewhere. */
const float *get_computed_logits(void);

/* Which cells each query sees, the same in all layers but for those with a window. */
typedef struct {
  const struct ggml_tensor *mask;
  int64_t queries, cells;
  int chunk;             /* queries that are looked at together */
  scratch_buffer chunks; /* see attention.c */
  int max_private;       /* cells that one query sees beside common ones, at most */
} kv_visibility;

typedef struct {
  int threads;
  const logits_request *wanted;                  /* NULL for all */
  scratch_buffer attention_scratch[MAX_THREADS]; /* attention's, for each thread */
  const struct ggml_tensor *activations;         /* which tensor `halves` are of, in this pass */
  scratch_buffer packed_activations;             /* of activations, see matmul.c */
  scratch_buffer token_order;                    /* of rows for the logits, likewise */
  rope_cache rope_caches[ROPE_CACHES];
  int next_rope_cache;
  kv_visibility visibilities[MAX_VISIBILITIES];
  int next_visibility;
} workspace;

bool supports_attention(const struct ggml_tensor *node);
bool compute_attention(struct ggml_tensor *node, workspace *at);

/* Weights as they are multiplied here: a buffer of their own, NULL where this processor cannot. */
ggml_backend_buffer_type_t get_repack_buffer_type(ggml_backend_dev_t device, enum device_mode format);
enum device_mode get_preferred_format(void); /* the faster one, if this processor can do both */
const char *take_set_tensor_error(void);
bool is_repacked(const struct ggml_tensor *t); /* in that buffer */
bool supports_mul_mat(const struct ggml_tensor *node);
bool compute_mul_mat(struct ggml_tensor *node, workspace *at);
bool is_logits(const struct ggml_tensor *node);

bool supports_elementwise(const struct ggml_tensor *node);
bool compute_elementwise(struct ggml_tensor *node, workspace *at);
