/* The draws of a pass: what is asked of each row, and what was drawn. Knows logits and masks, not models. */

#pragma once

#include <stdint.h>

typedef struct {
  int32_t rows, words, vocabulary, threads;
  float temperature;
  const uint32_t *masks;  /* [row][word]: a bit for each token */
  const double *uniforms; /* of each row: at which share of the weight of its allowed tokens it draws, */
  const uint8_t *weighed; /* and whether these are weighed among all */
  int32_t *tokens;        /* what was drawn; -1 leaves a row's draw to numpy */
  double *log_allowed;    /* the log of what allowed tokens weigh among all, where it is asked for */
  double seconds;         /* what all of it took */
} sampling_batch;

/* Draw a token for each row from its logits. */
void synthgen_local_sample(sampling_batch *d, const float *const *logits);
