/* A backend of ggml that llama.cpp loads: which operations are computed here, and with what.
 *
 * Its device is there for the thread that has been offered it, and for no other, so that a process
 * can use it for one model and leave it for another. Knows the interface of ggml's backends.
 */

#include <string.h>

#include "ggml_backend_abi.h"
#include "operators.h"

static _Thread_local enum offer offered;
static _Thread_local wish wanted;
static struct ggml_backend_device attention, everything;
static struct ggml_backend_reg registry;
static ggml_backend_buffer_type_t for_weights[2];

/* False if this processor cannot do it. */
__attribute__((visibility("default"))) bool synthgen_local_enable_device(int offer) {
  offered = offer;
  if (offer == EVERYTHING) return for_weights[0] || for_weights[1];
  return offer < EVERYTHING || for_weights[offer - INT8];
}

__attribute__((visibility("default"))) int synthgen_local_preferred_format(void) { return likely_format(); }

/* Return why weights that this thread loaded cannot be used, NULL if they can. */
__attribute__((visibility("default"))) const char *synthgen_local_take_error(void) { return take_set_tensor_error(); }

/* Say what is wanted of the logits of this thread's next pass, as far as they are computed here. */
__attribute__((visibility("default"))) void synthgen_local_set_logits_mask(int outputs, const uint32_t *const *masks) {
  wanted = (wish){outputs, masks, NULL};
}

const float *logits_here(void) { return wanted.logits; }

/* The same, after the pass; from now on all are wanted again. */
__attribute__((visibility("default"))) const float *synthgen_local_take_logits(void) {
  const float *logits = logits_here();
  wanted = (wish){0};
  return logits;
}

static const char *title(ggml_backend_dev_t device) {
  return device == &everything ? "synthgen-local" : "synthgen-local attention";
}

static const char *name(ggml_backend_t backend) { return title(backend->device); }

static void set_threads(ggml_backend_t backend, int threads) {
  ((workspace *)backend->context)->threads = threads < MOST_THREADS ? threads : MOST_THREADS;
}

static void free_backend(ggml_backend_t backend) {
  workspace *at = backend->context;
  for (int t = 0; t < MOST_THREADS; t++) free(at->lines[t].bytes);
  for (int t = 0; t < TURNS; t++) free(at->turned[t].table.bytes);
  for (int v = 0; v < MASKS; v++) free(at->seen[v].chunks.bytes);
  free(at->halves.bytes);
  free(at->choice.bytes);
  free(at);
  free(backend);
}

/* Whether a node is another look at what is there, and nothing is to be computed. */
static bool is_view(const struct ggml_tensor *node) {
  switch (node->op) {
  case GGML_OP_NONE:
  case GGML_OP_RESHAPE:
  case GGML_OP_VIEW:
  case GGML_OP_PERMUTE:
  case GGML_OP_TRANSPOSE: return true;
  default: return false;
  }
}

static bool calculate(struct ggml_tensor *node, workspace *at) {
  if (is_view(node)) return true;
  switch (node->op) {
  case GGML_OP_FLASH_ATTN_EXT: return attend(node, at);
  case GGML_OP_MUL_MAT: return multiply(node, at);
  default: return step(node, at);
  }
}

/* What was computed from tensors of another pass is of no use: they may be others at one address. */
static enum ggml_status compute(ggml_backend_t backend, struct ggml_cgraph *graph) {
  workspace *at = backend->context;
  at->activations = NULL;
  at->wanted = wanted.masks ? &wanted : NULL;
  for (int t = 0; t < TURNS; t++) at->turned[t].positions = NULL;
  for (int v = 0; v < MASKS; v++) at->seen[v].mask = NULL;
  for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
    struct ggml_tensor *node = ggml_graph_node(graph, i);
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) && !calculate(node, at)) return GGML_STATUS_ALLOC_FAILED;
  }
  return GGML_STATUS_SUCCESS;
}

/* Logits that are asked for by a wish stay where they are: they are many, and read once. */
static void read(ggml_backend_t backend, const struct ggml_tensor *t, void *to, size_t offset, size_t size) {
  (void)backend;
  if (wanted.masks && are_logits(t) && wanted.outputs == ggml_nrows(t)) wanted.logits = t->data;
  else ggml_backend_tensor_get(t, to, offset, size);
}

static ggml_backend_t open_backend(ggml_backend_dev_t from, const char *parameters) {
  static ggml_guid guid = "synthgen-local-a";
  struct ggml_backend *backend = calloc(1, sizeof *backend);
  workspace *at = calloc(1, sizeof *at);
  (void)parameters;
  if (!backend || !at) return free(backend), free(at), NULL;
  at->threads = 1;
  backend->guid = &guid;
  backend->iface.get_name = name;
  backend->iface.free = free_backend;
  backend->iface.graph_compute = compute;
  backend->iface.get_tensor_async = read;
  backend->device = from;
  backend->context = at;
  return backend;
}

/* Of two devices the first takes attention, the second whatever it can. */
static bool takes(ggml_backend_dev_t from, const struct ggml_tensor *node) {
  if (node->op == GGML_OP_MUL_MAT) return from == &everything && takes_product(node);
  for (int i = 0; i < GGML_MAX_SRC && node->src[i]; i++)
    if (are_weights(node->src[i])) return false;
  return is_view(node) || takes_attention(node) || (from == &everything && takes_step(node));
}

static void memory(ggml_backend_dev_t from, size_t *left, size_t *total) { (void)from, *left = *total = 0; }

static enum ggml_backend_dev_type type(ggml_backend_dev_t from) {
  const bool is_offered = from == &everything ? offered >= EVERYTHING : offered == ATTENTION;
  return is_offered ? GGML_BACKEND_DEVICE_TYPE_ACCEL : GGML_BACKEND_DEVICE_TYPE_CPU;
}

static void properties(ggml_backend_dev_t from, struct ggml_backend_dev_props *to) {
  memset(to, 0, sizeof *to);
  to->name = to->description = title(from);
  to->type = type(from);
}

static ggml_backend_buffer_type_t buffers(ggml_backend_dev_t from) {
  return from == &everything && offered > EVERYTHING ? for_weights[offered - INT8] : ggml_backend_cpu_buffer_type();
}

static bool reads(ggml_backend_dev_t from, ggml_backend_buffer_type_t buffer) {
  return (void)from, buffer == for_weights[0] || buffer == for_weights[1] || ggml_backend_buft_is_host(buffer);
}

static const char *registry_name(ggml_backend_reg_t from) { return (void)from, "synthgen-local"; }
static size_t devices(ggml_backend_reg_t from) { return (void)from, 2; }
static ggml_backend_dev_t get_device(ggml_backend_reg_t from, size_t i) { return (void)from, i ? &everything : &attention; }

static void *function(ggml_backend_reg_t from, const char *sought) {
  (void)from;
  return strcmp(sought, "ggml_backend_set_n_threads") == 0 ? (void *)set_threads : NULL;
}

__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
  attention.iface.get_name = attention.iface.get_description = title;
  attention.iface.get_memory = memory;
  attention.iface.get_type = type;
  attention.iface.get_props = properties;
  attention.iface.init_backend = open_backend;
  attention.iface.get_buffer_type = buffers;
  attention.iface.supports_op = takes;
  attention.iface.supports_buft = reads;
  attention.reg = &registry;
  everything = attention;
  for (enum offer format = INT8; format <= BF16; format++)
    for_weights[format - INT8] = weights_buffer(&everything, format);
  registry.api_version = GGML_BACKEND_API_VERSION;
  registry.iface.get_name = registry_name;
  registry.iface.get_device_count = devices;
  registry.iface.get_device = get_device;
  registry.iface.get_proc_address = function;
  return &registry;
}
