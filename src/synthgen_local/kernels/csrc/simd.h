/* Vectors of floats as wide as this processor's registers, and e to the x for all of their lanes.
 *
 * Written in the vector extensions of GCC and clang, which fuse products and sums. Knows numbers.
 */

#pragma once

#include <stdint.h>

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum {
#if defined(__AVX512F__)
  LANES = 16,
#elif defined(__AVX__)
  LANES = 8,
#else
  LANES = 4,
#endif
};

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if defined(__AVX512BF16__)
#define HAS_BF16 1
#else
#define HAS_BF16 0
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE vector load(const float *from) { return *(const vector *)from; }
INLINE void store(float *to, vector x) { *(vector *)to = x; }
INLINE vector broadcast(float x) { return x - (vector){0}; }

/* The larger of two; the second where the first is no number. */
INLINE vector max_vector(vector x, vector y) {
#if defined(__AVX512F__)
  return (vector)_mm512_max_ps((__m512)x, (__m512)y);
#elif defined(__AVX__)
  return (vector)_mm256_max_ps((__m256)x, (__m256)y);
#else
  const ivector first = x > y;
  return (vector)(((ivector)x & first) | ((ivector)y & ~first));
#endif
}

INLINE float reduce_add(vector x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  float total = 0;
  for (int i = 0; i < LANES; i++) total += x[i];
  return total;
#endif
}

INLINE float reduce_max(vector x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#endif
  float most = x[0];
  for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
  return most;
}

/* e to the x for x of at most 0, where what is below -87 counts as that. x is n ln 2 + r, and the
 * series of e^r to its sixth power is within 2e-7 of it for |r| of at most ln 2 / 2. */
INLINE vector exp_nonpositive(vector x) {
  x = max_vector(broadcast(-87), x); /* what is no number stays none */
  const vector round = broadcast(0x1.8p23f), shifted = x * 0x1.715476p0f + round, n = shifted - round;
  const vector r = x - n * 0x1.62e4p-1f + n * -0x1.7f7d1cp-20f;
  vector series = broadcast(1.0f / 720);
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1;
  series = series * r + 1;
  return (vector)((ivector)series + ((ivector)shifted << 23));
}
