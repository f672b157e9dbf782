/* What the two ways to compute attention share: over keys and values of 16 bits, `attention_halves.c`, and over
 * those in bfloat16, `attention_wide.c`. Which cells are common to whom is found in `attention.c`.
 */

#pragma once

#include "operations.h"
#include "vectors.h"

enum {
#if defined(__AVX512F__) || !defined(__AVX__)
  PARTS = 4, /* vectors of a head that are summed at once: with HEADS of them they fill the registers */
#else
  PARTS = 2,
#endif
  SPAN = LANES * PARTS, /* of a head's dimensions */
  HEADS = 4,            /* heads that read the same keys and are computed together */
  HANDFUL = 4,          /* own cells of a query that are, in bfloat16: their scores with HEADS of them are a vector */
  CHUNK = 64,           /* queries whose own cells are taken together, at most */
  BAND = 32,            /* queries of a chunk whose common cells are found together, at most */
  BANDS = 4,            /* in a chunk, at most */
  LINES = 96,           /* of one head in a band, where scores are to stay in the first cache */
  CELLS = 8,            /* cells in a tile of the product with common keys */
  WINDOW = 512,         /* cells side by side in memory, of which those that are somebody's stay in the second cache */
  BLOCK = 64,           /* common cells whose values stay in the first cache */
};

typedef uint16_t half; /* or bfloat16 */

typedef struct {
  struct ggml_tensor *out;
  const struct ggml_tensor *queries, *keys, *values, *mask;
  int size, group, cells; /* of a head; heads that share keys; of the cache */
  int band, chunk;        /* queries of each */
  float scale;
} attention;

/* Some own cells of a query; where they are fewer, the first stands for those that are missing. */
typedef struct {
  int query, count, cells[HANDFUL];
} handful;

/* Where a window begins among the own cells of all queries, and among the handfuls of these. */
typedef struct {
  int cell, handful;
} beginning;

/* What the queries of a chunk see: cells that all of their band do, and those that each does beside these. */
typedef struct {
  int count, commons[BANDS], owns[CHUNK]; /* queries; cells */
  bool leans[CHUNK];                      /* whether a mask says more than who sees what */
  int cells[];                            /* see the functions below */
} sight;

/* What one thread computes with, for some heads that have keys of their own. A line is one of the heads
 * that read these, of one query; lines of a query are neighbours. */
typedef struct {
  int head, heads, chunk; /* the first head; how many; which queries */
  int lines, wide, most;  /* lines of a head in a band; rounded up to whole vectors; in a chunk, at most */
  const int *common;      /* cells of a band */
  int commons;            /* how many */
  int own;                /* cells that one query sees beside these, or in bfloat16 handfuls of all, at most */
  size_t stride;          /* of `single` in 16 bits */
  const sight *sees;
  float *query;           /* [head][line][size]; in bfloat16, here and in `across`, two values are one */
  float *single, *sums;   /* of own cells [head][line][cell], in bfloat16 [handful][head][quad]; [head][line][size] */
  float *top, *total;     /* [head][line] */
  float *across, *scores; /* of one head: [size][wide]; [cell][wide], in bfloat16 of a block */
  float *few;             /* keys or values of a few cells */
} scratch;

INLINE const half *mask_of(const attention *a, int query) {
  return (const half *)((const char *)a->mask->data + query * a->mask->nb[1]);
}

/* A head's keys or values of a cell. */
INLINE const half *row_of(const struct ggml_tensor *t, int head, int cell) {
  return (const half *)((const char *)t->data + cell * t->nb[1] + head * t->nb[2]);
}

INLINE const half *key(const attention *a, int head, int cell) { return row_of(a->keys, head, cell); }
INLINE const half *value(const attention *a, int head, int cell) { return row_of(a->values, head, cell); }

/* Own cells lie far apart in memory, where no processor expects them: ask for them in advance. */
INLINE void expect(const half *from, int size) {
  for (int d = 0; d < size; d += 32) __builtin_prefetch(from + d);
}

/* Where a line of one of its heads is in memory, counted in lines. */
INLINE size_t at_line(const scratch *s, int head, int line) { return (size_t)(head - s->head) * s->most + line; }

/* Where a line's query is, and where what comes of it goes. */
INLINE const float *query_at(const attention *a, const scratch *s, int head, int line) {
  return (const float *)((const char *)a->queries->data + (s->chunk * a->chunk + line / a->group) * a->queries->nb[1] +
                         (head * a->group + line % a->group) * a->queries->nb[2]);
}

INLINE float *out_at(const attention *a, const scratch *s, int head, int line) {
  return (float *)((char *)a->out->data + (head * a->group + line % a->group) * a->out->nb[1] +
                   (s->chunk * a->chunk + line / a->group) * a->out->nb[2]);
}

/* What a line's sums are to be divided by: a query may see nothing. */
INLINE float divisor(const scratch *s, int head, int line) {
  const float total = s->total[at_line(s, head, line)];
  return total > 0 ? total : 1;
}

INLINE int bands_of(const attention *a) { return a->chunk / a->band; }
INLINE int windows_of(const attention *a) { return (int)up(a->cells, WINDOW) / WINDOW; }

/* What a chunk's queries see, one after the other: cells that a band's queries all do; own ones of each query, and
 * after the last query those of all, each once; where in these windows begin, and where the last one ends; the
 * handfuls. */
INLINE int *common_cells(const attention *a, const sight *sees, int band) {
  return (int *)sees->cells + (size_t)band * a->cells;
}
INLINE int *own_cells(const attention *a, const sight *sees, int query) {
  return common_cells(a, sees, bands_of(a) + query);
}
INLINE beginning *begins(const attention *a, const sight *sees) {
  return (beginning *)own_cells(a, sees, a->chunk + 1);
}
INLINE handful *handfuls(const attention *a, const sight *sees) {
  return (handful *)(begins(a, sees) + windows_of(a) + 1);
}

/* Let the number of lines be known where a function is compiled. */
#define BY_LINES(lines, does, ...)                \
  switch (lines) {                                \
  case 1: does(1, __VA_ARGS__); break;            \
  case 2: does(2, __VA_ARGS__); break;            \
  case 3: does(3, __VA_ARGS__); break;            \
  default: does(HEADS, __VA_ARGS__);              \
  }

/* SPAN of some lines' `size` sums, taken into registers and put back. */
INLINE void take(int lines, const float *sums, int size, vector total[HEADS][PARTS]) {
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) total[h][part] = load(sums + h * size + part * LANES);
}

INLINE void put(int lines, const vector total[HEADS][PARTS], float *sums, int size) {
  for (int h = 0; h < lines; h++)
    for (int part = 0; part < PARTS; part++) store(sums + h * size + part * LANES, total[h][part]);
}

scratch of_band(const attention *a, const scratch *s, int band);
void lay_across(const scratch *s, int head, int rows);
void attend_halves(const attention *a, const scratch *chunk);
void attend_wide(const attention *a, const scratch *s);
