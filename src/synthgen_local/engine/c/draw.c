/* The draws of a pass: what `sampling.draw` does for each row, in one walk over its logits.
 *
 * Knows logits and masks, not models or rows.
 */

#include <math.h>

#include "vectors.h"

enum { BLOCK = 256, MOST = 1 << 22 }; /* tokens whose weights are one sum; of a vocabulary */

typedef struct {
  const float *logits;
  const uint32_t *allowed; /* a bit for each token */
  int vocabulary;
  float peak, inverse; /* the largest logit so far; one over the temperature */
  vector none;         /* what is as small as this is no weight */
} question;

/* The lanes of x whose tokens, from `first` on, are allowed, and 0 in the others. */
INLINE vector only_allowed(const question *q, int first, vector x) {
  const uint32_t bits = q->allowed[first / 32] >> first % 32;
#if defined(__AVX512F__)
  return (vector)_mm512_maskz_mov_ps((__mmask16)bits, (__m512)x);
#else
  integers lane, every = {0};
  for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
  every += (int32_t)bits;
  return (vector)((integers)x & ((every & lane) == lane));
#endif
}

/* What the tokens from `first` on weigh, where one with the largest logit weighs 1. */
INLINE vector weights(const question *q, int first) {
  return exponential((load(q->logits + first) - q->peak) * q->inverse) - q->none;
}

/* The end of a block that begins at `first`. */
INLINE int end_of(const question *q, int first) {
  return first + BLOCK < q->vocabulary ? first + BLOCK : q->vocabulary;
}

/* The largest logit of a block; NaN if one is no number. */
INLINE float summit(const question *q, int first) {
  vector top = all(-INFINITY);
  integers wrong = {0};
  for (int t = first; t < end_of(q, first); t += LANES) {
    const vector x = load(q->logits + t);
    top = larger(x, top);
    wrong |= x != x;
  }
  for (int i = 1; i < LANES; i++) wrong[0] |= wrong[i];
  return wrong[0] ? NAN : largest(top);
}

/* What allowed tokens weigh at least, where the likeliest token weighs 1: far above what is none. */
#define LEAST 1e-25

/* Draw an allowed token at `uniform` of the weight of all of them.
 *
 * Returns the token, and `log_allowed`, the log of the share of all weight that is allowed. -1 leaves
 * the draw to numpy: allowed tokens weigh less than LEAST, or a logit is no number. Weights are taken
 * against the largest logit so far, and brought down when a larger one comes: so logits are read once,
 * which is what costs where a vocabulary is larger than the processor's cache. */
static int draw(const float *logits, const uint32_t *allowed, int vocabulary, float temperature,
                double uniform, double *log_allowed) {
  static __thread double until[MOST / BLOCK]; /* weight of allowed tokens up to the end of each block */
  question asked = {logits, allowed, vocabulary, -INFINITY, 1 / temperature, exponential(all(-INFINITY))};
  question *q = &asked;
  double total = 0, mass = 0;
  for (int block = 0; block * BLOCK < vocabulary; block++) {
    const int first = block * BLOCK;
    const float top = summit(q, first);
    if (!(top < INFINITY)) return -1;
    if (top > q->peak) {
      const double lower = exp(((double)q->peak - top) * q->inverse);
      for (int i = 0; i < block; i++) until[i] *= lower;
      total *= lower;
      mass *= lower;
      q->peak = top;
    }
    vector every = {0}, open = {0};
    if (q->peak > -INFINITY)
      for (int t = first; t < end_of(q, first); t += LANES) {
        const vector weight = weights(q, t);
        every += weight;
        open += only_allowed(q, t, weight);
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
  for (int t = block * BLOCK; t < end_of(q, block * BLOCK); t += LANES) {
    const vector weight = only_allowed(q, t, weights(q, t));
    for (int i = 0; i < LANES; i++)
      if (weight[i] > 0) {
        drawn = t + i;
        before += weight[i];
        if (before > target) return drawn;
      }
  }
  return drawn; /* the sums of a block and of its tokens round differently */
}

/* Draw a token for each of `rows`, by so many threads. `masks` has `words` of 32 bits a row. A token of -1
 * leaves a row's draw to numpy. */
__attribute__((visibility("default"))) void synthgen_draw(int rows, const float *const *logits,
                                                          const uint32_t *masks, int words, int vocabulary,
                                                          float temperature, const double *uniforms,
                                                          int32_t *tokens, double *log_allowed, int threads) {
  const int fits = vocabulary % LANES == 0 && vocabulary <= MOST;
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows > threads) schedule(dynamic)
  for (int row = 0; row < rows; row++)
    tokens[row] = !fits ? -1
                        : draw(logits[row], masks + (long)row * words, vocabulary, temperature, uniforms[row],
                               log_allowed + row);
}
