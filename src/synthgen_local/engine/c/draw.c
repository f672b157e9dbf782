/* The draw of one token: what `sampling.draw` does, in one pass over the vocabulary.
 *
 * Knows logits and masks, not models or rows.
 */

#include <math.h>

#include "vectors.h"

enum { BLOCK = 256, MOST = 1 << 22 }; /* tokens whose weights are one sum; of a vocabulary */

typedef struct {
  const float *logits;
  const uint8_t *allowed;
  int vocabulary;
  float peak, inverse; /* the largest logit; one over the temperature */
  vector none;         /* what is as small as this is no weight */
} question;

/* 1 and 0 for bytes that are 1 and 0. */
INLINE vector flags(const uint8_t *from) {
#if defined(__AVX512F__)
  return (vector)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
#elif defined(__AVX2__)
  return (vector)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#else
  vector x;
  for (int i = 0; i < LANES; i++) x[i] = from[i];
  return x;
#endif
}

/* Weights of the tokens from `first` on, and which of them are allowed. */
INLINE vector weights(const question *q, int first, vector *allowed) {
  const vector x = (load(q->logits + first) - q->peak) * q->inverse;
  *allowed = flags(q->allowed + first);
  return exponential(x) - q->none;
}

/* What allowed tokens weigh at least, where the likeliest token weighs 1: far above what is none. */
#define LEAST 1e-25

/* Draw an allowed token at `uniform` of the weight of all of them; allowed bytes are 0 or 1.
 *
 * Returns the token, and `log_allowed`, the log of the share of all weight that is allowed. -1 leaves
 * the draw to numpy: allowed tokens weigh less than LEAST, or the vocabulary does not fit these vectors.
 * -2 if a logit is no number. */
__attribute__((visibility("default"))) int synthgen_draw(const float *logits, const uint8_t *allowed,
                                                         int vocabulary, float temperature,
                                                         double uniform, double *log_allowed) {
  static __thread double until[MOST / BLOCK]; /* weight of allowed tokens up to the end of each block */
  if (vocabulary % LANES || vocabulary > MOST) return -1;
  question asked = {logits, allowed, vocabulary, 0, 1 / temperature, exponential(all(-INFINITY))}, *q = &asked;
  vector top = all(-INFINITY), flag;
  integers wrong = {0};
  for (int t = 0; t < q->vocabulary; t += LANES) {
    const vector x = load(q->logits + t);
    top = larger(x, top);
    wrong |= x != x;
  }
  for (int i = 1; i < LANES; i++) wrong[0] |= wrong[i];
  q->peak = largest(top);
  if (wrong[0] || !(q->peak < INFINITY && q->peak > -INFINITY)) return -2;

  double total = 0, mass = 0;
  for (int block = 0; block * BLOCK < q->vocabulary; block++) {
    vector every = {0}, open = {0};
    for (int t = block * BLOCK; t < (block + 1) * BLOCK && t < q->vocabulary; t += LANES) {
      const vector weight = weights(q, t, &flag);
      every += weight;
      open += weight * flag;
    }
    total += sum(every);
    until[block] = mass += sum(open);
  }
  if (!(mass > LEAST)) return -1;
  *log_allowed = fmin(0, log(mass / total));

  const double target = uniform * mass;
  int block = 0, drawn = -1;
  while (until[block] <= target && until[block] < mass) block++;
  double before = block ? until[block - 1] : 0;
  for (int t = block * BLOCK; t < (block + 1) * BLOCK && t < q->vocabulary; t += LANES) {
    const vector weight = weights(q, t, &flag) * flag;
    for (int i = 0; i < LANES; i++)
      if (weight[i] > 0) {
        drawn = t + i;
        before += weight[i];
        if (before > target) return drawn;
      }
  }
  return drawn; /* the sums of a block and of its tokens round differently */
}
