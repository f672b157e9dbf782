/* The draws of a pass: what `sampling.draw` does for each row, in one walk over its logits.
 *
 * Knows logits and masks, not models or rows.
 */

#include <math.h>
#include <time.h>

#include "sample.h"
#include "simd.h"

enum { BLOCK = 256, MAX_VOCABULARY = 1 << 22 }; /* tokens whose weights are one sum; of a vocabulary */

typedef struct {
  const float *logits;
  const uint32_t *allowed; /* a bit for each token */
  int vocabulary;
  float peak, inverse; /* the largest logit so far; one over the temperature */
  vector none;         /* what is as small as this is no weight */
} distribution;

/* The lanes of x whose tokens, from `first` on, are allowed, and `other` in the others. */
INLINE vector select_allowed(const distribution *q, int first, vector x, vector other) {
  const uint32_t bits = q->allowed[first / 32] >> first % 32;
#if defined(__AVX512F__)
  return (vector)_mm512_mask_mov_ps((__m512)other, (__mmask16)bits, (__m512)x);
#else
  ivector lane, every = {0};
  for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
  every += (int32_t)bits;
  const ivector yes = (every & lane) == lane;
  return (vector)(((ivector)x & yes) | ((ivector)other & ~yes));
#endif
}

INLINE vector zero_forbidden(const distribution *q, int first, vector x) {
  return select_allowed(q, first, x, broadcast(0));
}

/* What the tokens from `first` on weigh, where one with the largest logit weighs 1. */
INLINE vector exp_logits(const distribution *q, int first) {
  return exp_nonpositive((load(q->logits + first) - q->peak) * q->inverse) - q->none;
}

/* The end of a block that begins at `first`. */
INLINE int block_end(const distribution *q, int first) {
  return first + BLOCK < q->vocabulary ? first + BLOCK : q->vocabulary;
}

/* The largest logit of a block, or of its allowed tokens; NaN if one is no number. */
INLINE float max_logit(const distribution *q, int first, int weighed) {
  vector top = broadcast(-INFINITY);
  ivector wrong = {0};
  for (int t = first; t < block_end(q, first); t += LANES) {
    const vector x = weighed ? load(q->logits + t) : select_allowed(q, t, load(q->logits + t), broadcast(-INFINITY));
    top = max_vector(x, top);
    wrong |= x != x;
  }
  for (int i = 1; i < LANES; i++) wrong[0] |= wrong[i];
  return wrong[0] ? NAN : reduce_max(top);
}

/* Whether a block has an allowed token; it begins where a word of the mask does. */
INLINE int has_allowed(const distribution *q, int first) {
  uint32_t any = 0;
  for (int word = first / 32; word < (block_end(q, first) + 31) / 32; word++) any |= q->allowed[word];
  return any != 0;
}

/* What allowed tokens weigh at least, where the likeliest token weighs 1: far above what is none. */
#define MIN_MASS 1e-25

/* Draw an allowed token at `uniform` of the weight of all of them.
 *
 * Returns the token, and `log_allowed`, the log of the share of all weight that is allowed; where that
 * is not asked for it is no number, and no logit of another token is looked at. -1 leaves
 * the draw to numpy: allowed tokens weigh less than LEAST, or a logit is no number. Weights are taken
 * against the largest logit so far, and brought down when a larger one comes: so logits are read once,
 * which is what costs where a vocabulary is larger than the processor's cache. */
INLINE int sample_token(const float *logits, const uint32_t *allowed, int vocabulary, float temperature, double uniform,
                        int weighed, double *log_allowed) {
  static __thread double cumulative[MAX_VOCABULARY / BLOCK]; /* weight of allowed tokens up to the end of each block */
  distribution asked = {logits, allowed, vocabulary, -INFINITY, 1 / temperature, exp_nonpositive(broadcast(-INFINITY))};
  distribution *q = &asked;
  double total = 0, mass = 0;
  for (int block = 0; block * BLOCK < vocabulary; block++) {
    const int first = block * BLOCK;
    cumulative[block] = mass;
    if (!weighed && !has_allowed(q, first)) continue;
    const float top = max_logit(q, first, weighed);
    if (!(top < INFINITY)) return -1;
    if (top > q->peak) {
      const double lower = exp(((double)q->peak - top) * q->inverse);
      for (int i = 0; i < block; i++) cumulative[i] *= lower;
      total *= lower;
      mass *= lower;
      q->peak = top;
    }
    vector every = {0}, open = {0};
    if (q->peak > -INFINITY)
      for (int t = first; t < block_end(q, first); t += LANES) {
        const vector weight = exp_logits(q, t);
        if (weighed) every += weight;
        open += zero_forbidden(q, t, weight);
      }
    total += reduce_add(every);
    cumulative[block] = mass += reduce_add(open);
  }
  if (!(mass > MIN_MASS)) return -1;
  *log_allowed = weighed ? fmin(0, log(mass / total)) : NAN;

  const double target = uniform * mass;
  int block = 0, drawn = -1;
  while (cumulative[block] <= target && cumulative[block] < mass) block++;
  double before = block ? cumulative[block - 1] : 0;
  for (int t = block * BLOCK; t < block_end(q, block * BLOCK); t += LANES) {
    const vector weight = zero_forbidden(q, t, exp_logits(q, t));
    for (int i = 0; i < LANES; i++)
      if (weight[i] > 0) {
        drawn = t + i;
        before += weight[i];
        if (before > target) return drawn;
      }
  }
  return drawn; /* the sums of a block and of its tokens round differently */
}

INLINE void sample_row(const sampling_batch *d, int row, const float *logits) {
  const uint32_t *mask = d->masks + (long)row * d->words;
  const int vocabulary = d->vocabulary;
  const float temperature = d->temperature;
  const double uniform = d->uniforms[row];
  double *share = d->log_allowed + row;
  d->tokens[row] = d->weighed[row] ? sample_token(logits, mask, vocabulary, temperature, uniform, 1, share)
                                   : sample_token(logits, mask, vocabulary, temperature, uniform, 0, share);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

__attribute__((visibility("default"))) void synthgen_local_sample(sampling_batch *d, const float *const *logits) {
  const double start = now();
  const int fits = d->vocabulary % LANES == 0 && d->vocabulary <= MAX_VOCABULARY;
#pragma omp parallel for num_threads(d->threads) if (d->threads > 1 && d->rows > d->threads) schedule(dynamic)
  for (int row = 0; row < d->rows; row++)
    if (fits) sample_row(d, row, logits[row]);
    else d->tokens[row] = -1;
  d->seconds = now() - start;
}

/* Return the size of the struct that Python mirrors. */
__attribute__((visibility("default"))) int synthgen_local_sampling_batch_size(void) {
  return (int)sizeof(sampling_batch);
}
