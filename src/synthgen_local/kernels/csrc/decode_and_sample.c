/* A forward pass and the draws after it, in one call from Python.
 *
 * Between two calls a thread waits for the interpreter's lock, which others may hold.
 * Knows llama.cpp's interface, whose functions it is given: it is not linked to it.
 */

#include "sample.h"
#include "llama.h"
#include "operators.h"

/* Evaluate a batch, and draw a token for each row from the logits of its output.
 *
 * `decode` and `find` are llama_decode and llama_get_logits. Returns the status of the first; if that is
 * not 0, nothing was drawn. */
__attribute__((visibility("default"))) int synthgen_local_decode_and_sample(typeof(llama_decode) *decode,
                                                                            typeof(llama_get_logits) *find,
                                                                            struct llama_context *context,
                                                                            const struct llama_batch *batch,
                                                                            const int32_t *outputs, sampling_batch *d) {
  const int status = decode(context, *batch);
  if (status) return status;
  const float *here = get_computed_logits(), *logits = here ? here : find(context), *of_rows[d->rows];
  for (int row = 0; row < d->rows; row++) of_rows[row] = logits + (size_t)outputs[row] * d->vocabulary;
  synthgen_local_sample(d, of_rows);
  return 0;
}
