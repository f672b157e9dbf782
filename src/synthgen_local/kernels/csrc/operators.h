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

enum { MOST_THREADS = 64, TURNS = 4, MASKS = 2 };

/* What a thread is offered: nothing; attention alone; everything, and while they are loaded the
 * buffer for its weights, in one format or the other. */
enum offer { NOTHING, ATTENTION, EVERYTHING, INT8, BF16 };

/* Memory that grows to what is asked of it. */
typedef struct {
  void *bytes;
  size_t size;
} room;

static inline size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static inline void *at_least(room *from, size_t size) {
  if (size > from->size) {
    free(from->bytes);
    from->bytes = aligned_alloc(64, up(size, 64));
    from->size = from->bytes ? size : 0;
  }
  return from->bytes;
}

/* Angles by which positions turn a head's pairs, the same in all layers but for their base. */
typedef struct {
  const struct ggml_tensor *positions;
  int pairs;
  float parameters[3];
  room table; /* [position][pair][cosine, sine] */
} turns;

/* What is wanted of a pass's logits: of each output those of the tokens in its mask, a bit for each, or
 * all where it has none. Filled in for a pass; `logits` is where they are, if they were computed here. */
typedef struct {
  int outputs;
  const uint32_t *const *masks;
  const float *logits;
} wish;

/* Where the logits of this thread's last pass are, until its context's next one: what is not wanted is
 * anything there. NULL if they were computed elsewhere. */
const float *logits_here(void);

/* Which cells each query sees, the same in all layers but for those with a window. */
typedef struct {
  const struct ggml_tensor *mask;
  int64_t queries, cells;
  int chunk;   /* queries that are looked at together */
  room chunks; /* see attention.c */
  int own;     /* cells that one query sees beside common ones, at most */
} visibility;

typedef struct {
  int threads;
  const wish *wanted; /* NULL for all */
  room lines[MOST_THREADS];              /* attention's, for each thread */
  const struct ggml_tensor *activations; /* which tensor `halves` are of, in this pass */
  room halves;                           /* of activations, see matmul.c */
  room choice;                           /* of rows for the logits, likewise */
  turns turned[TURNS];
  int next_turn;
  visibility seen[MASKS];
  int next_seen;
} workspace;

bool takes_attention(const struct ggml_tensor *node);
bool attend(struct ggml_tensor *node, workspace *at);

/* Weights as they are multiplied here: a buffer of their own, NULL where this processor cannot. */
ggml_backend_buffer_type_t weights_buffer(ggml_backend_dev_t device, enum offer format);
enum offer likely_format(void); /* the faster one, if this processor can do both */
const char *take_set_tensor_error(void);
bool are_weights(const struct ggml_tensor *t); /* in that buffer */
bool takes_product(const struct ggml_tensor *node);
bool multiply(struct ggml_tensor *node, workspace *at);
bool are_logits(const struct ggml_tensor *node);

bool takes_step(const struct ggml_tensor *node);
bool step(struct ggml_tensor *node, workspace *at);
