/* The draws of a pass: what `sampling.draw` does for each row, in one walk over its logits.
 *
 * Knows logits and masks, not models or rows.
 */

#include <math.h>
#include <time.h>

#include "sample.h"
#include "simd.h"

enum { BLOCK = 256, MOST = 1 << 22 }; /* tokens whose weights are one sum; of a vocabulary */

typedef struct {
  const float *logits;
  const uint32_t *allowed; /* a bit for each token */
  int vocabulary;
  float peak, inverse; /* the largest logit so far; one over the temperature */
  vector none;         /* what is as small as this is no weight */
} question;

/* The lanes of x whose tokens, from `first` on, are allowed, and `other` in the others. */
INLINE vector if_allowed(const question *q, int first, vector x, vector other) {
  const uint32_t bits = q->allowed[first / 32] >> first % 32;
#if defined(__AVX512F__)
  return (vector)_mm512_mask_mov_ps((__m512)other, (__mmask16)bits, (__m512)x);
#else
  integers lane, every = {0};
  for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
  every += (int32_t)bits;
  const integers yes = (every & lane) == lane;
  return (vector)(((integers)x & yes) | ((integers)other & ~yes));
#endif
}

INLINE vector only_allowed(const question *q, int first, vector x) { return if_allowed(q, first, x, all(0)); }

/* What the tokens from `first` on weigh, where one with the largest logit weighs 1. */
INLINE vector weights(const question *q, int first) {
  return exponential((load(q->logits + first) - q->peak) * q->inverse) - q->none;
}

/* The end of a block that begins at `first`. */
INLINE int end_of(const question *q, int first) {
  return first + BLOCK < q->vocabulary ? first + BLOCK : q->vocabulary;
}

/* The largest logit of a block, or of its allowed tokens; NaN if one is no number. */
INLINE float summit(const question *q, int first, int whole) {
  vector top = all(-INFINITY);
  integers wrong = {0};
  for (int t = first; t < end_of(q, first); t += LANES) {
    const vector x = whole ? load(q->logits + t) : if_allowed(q, t, load(q->logits + t), all(-INFINITY));
    top = larger(x, top);
    wrong |= x != x;
  }
  for (int i = 1; i < LANES; i++) wrong[0] |= wrong[i];
  return wrong[0] ? NAN : largest(top);
}

/* Whether a block has an allowed token; it begins where a word of the mask does. */
INLINE int is_open(const question *q, int first) {
  uint32_t any = 0;
  for (int word = first / 32; word < (end_of(q, first) + 31) / 32; word++) any |= q->allowed[word];
  return any != 0;
}

/* What allowed tokens weigh at least, where the likeliest token weighs 1: far above what is none. */
#define LEAST 1e-25

/* Draw an allowed token at `uniform` of the weight of all of them.
 *
 * Returns the token, and `log_allowed`, the log of the share of all weight that is allowed; where that
 * is not asked for it is no number, and no logit of another token is looked at. -1 leaves
 * the draw to numpy: allowed tokens weigh less than LEAST, or a logit is no number. Weights are taken
 * against the largest logit so far, and brought down when a larger one comes: so logits are read once,
 * which is what costs where a vocabulary is larger than the processor's cache. */
INLINE int draw(const float *logits, const uint32_t *allowed, int vocabulary, float temperature,
                double uniform, int whole, double *log_allowed) {
  static __thread double until[MOST / BLOCK]; /* weight of allowed tokens up to the end of each block */
  question asked = {logits, allowed, vocabulary, -INFINITY, 1 / temperature, exponential(all(-INFINITY))};
  question *q = &asked;
  double total = 0, mass = 0;
  for (int block = 0; block * BLOCK < vocabulary; block++) {
    const int first = block * BLOCK;
    until[block] = mass;
    if (!whole && !is_open(q, first)) continue;
    const float top = summit(q, first, whole);
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
        if (whole) every += weight;
        open += only_allowed(q, t, weight);
      }
    total += sum(every);
    until[block] = mass += sum(open);
  }
  if (!(mass > LEAST)) return -1;
  *log_allowed = whole ? fmin(0, log(mass / total)) : NAN;

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

INLINE void draw_row(const draws *d, int row, const float *logits) {
  const uint32_t *mask = d->masks + (long)row * d->words;
  const int vocabulary = d->vocabulary;
  const float temperature = d->temperature;
  const double uniform = d->uniforms[row];
  double *share = d->log_allowed + row;
  d->tokens[row] = d->weighed[row] ? draw(logits, mask, vocabulary, temperature, uniform, 1, share)
                                   : draw(logits, mask, vocabulary, temperature, uniform, 0, share);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

__attribute__((visibility("default"))) void synthgen_local_sample(draws *d, const float *const *logits) {
  const double start = now();
  const int fits = d->vocabulary % LANES == 0 && d->vocabulary <= MOST;
#pragma omp parallel for num_threads(d->threads) if (d->threads > 1 && d->rows > d->threads) schedule(dynamic)
  for (int row = 0; row < d->rows; row++)
    if (fits) draw_row(d, row, logits[row]);
    else d->tokens[row] = -1;
  d->seconds = now() - start;
}

/* Return the size of the struct that Python mirrors. */
__attribute__((visibility("default"))) int synthgen_local_sampling_batch_size(void) { return (int)sizeof(draws); }
