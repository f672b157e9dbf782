/* A backend of ggml that llama.cpp loads: which operations are computed here, and with what.
 *
 * Its device is there for the thread that has been offered it, and for no other, so that a process
 * can use it for one model and leave it for another. Knows the interface of ggml's backends.
 */

#include <string.h>

#include "ggml_backend_abi.h"
#include "operators.h"

static _Thread_local enum device_mode device_mode;
static _Thread_local logits_request request;
static struct ggml_backend_device attention_device, all_device;
static struct ggml_backend_reg registry;
static ggml_backend_buffer_type_t repack_types[2];

/* False if this processor cannot do it. */
__attribute__((visibility("default"))) bool synthgen_local_enable_device(int mode) {
  device_mode = mode;
  if (mode == DEVICE_ALL) return repack_types[0] || repack_types[1];
  return mode < DEVICE_ALL || repack_types[mode - LOAD_INT8];
}

__attribute__((visibility("default"))) int synthgen_local_preferred_format(void) { return get_preferred_format(); }

/* Return why weights that this thread loaded cannot be used, NULL if they can. */
__attribute__((visibility("default"))) const char *synthgen_local_take_error(void) { return take_set_tensor_error(); }

/* Say what is wanted of the logits of this thread's next pass, as far as they are computed here. */
__attribute__((visibility("default"))) void synthgen_local_set_logits_mask(int outputs, const uint32_t *const *masks) {
  request = (logits_request){outputs, masks, NULL};
}

const float *get_computed_logits(void) { return request.logits; }

/* The same, after the pass; from now on all are wanted again. */
__attribute__((visibility("default"))) const float *synthgen_local_take_logits(void) {
  const float *logits = get_computed_logits();
  request = (logits_request){0};
  return logits;
}

static const char *device_name(ggml_backend_dev_t device) {
  return device == &all_device ? "synthgen-local" : "synthgen-local attention";
}

static const char *backend_name(ggml_backend_t backend) { return device_name(backend->device); }

static void set_threads(ggml_backend_t backend, int threads) {
  ((workspace *)backend->context)->threads = threads < MAX_THREADS ? threads : MAX_THREADS;
}

static void free_backend(ggml_backend_t backend) {
  workspace *at = backend->context;
  for (int t = 0; t < MAX_THREADS; t++) free(at->attention_scratch[t].bytes);
  for (int t = 0; t < ROPE_CACHES; t++) free(at->rope_caches[t].table.bytes);
  for (int v = 0; v < MAX_VISIBILITIES; v++) free(at->visibilities[v].chunks.bytes);
  free(at->packed_activations.bytes);
  free(at->token_order.bytes);
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

static bool compute_node(struct ggml_tensor *node, workspace *at) {
  if (is_view(node)) return true;
  switch (node->op) {
  case GGML_OP_FLASH_ATTN_EXT: return compute_attention(node, at);
  case GGML_OP_MUL_MAT: return compute_mul_mat(node, at);
  default: return compute_elementwise(node, at);
  }
}

/* What was computed from tensors of another pass is of no use: they may be others at one address. */
static enum ggml_status graph_compute(ggml_backend_t backend, struct ggml_cgraph *graph) {
  workspace *at = backend->context;
  at->activations = NULL;
  at->wanted = request.masks ? &request : NULL;
  for (int t = 0; t < ROPE_CACHES; t++) at->rope_caches[t].positions = NULL;
  for (int v = 0; v < MAX_VISIBILITIES; v++) at->visibilities[v].mask = NULL;
  for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
    struct ggml_tensor *node = ggml_graph_node(graph, i);
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) && !compute_node(node, at)) return GGML_STATUS_ALLOC_FAILED;
  }
  return GGML_STATUS_SUCCESS;
}

/* Logits that are asked for by a wish stay where they are: they are many, and read once. */
static void get_tensor_async(ggml_backend_t backend, const struct ggml_tensor *t, void *to, size_t offset,
                             size_t size) {
  (void)backend;
  if (request.masks && is_logits(t) && request.outputs == ggml_nrows(t)) request.logits = t->data;
  else ggml_backend_tensor_get(t, to, offset, size);
}

static ggml_backend_t init_backend(ggml_backend_dev_t from, const char *parameters) {
  static ggml_guid guid = "synthgen-local-a";
  struct ggml_backend *backend = calloc(1, sizeof *backend);
  workspace *at = calloc(1, sizeof *at);
  (void)parameters;
  if (!backend || !at) return free(backend), free(at), NULL;
  at->threads = 1;
  backend->guid = &guid;
  backend->iface.get_name = backend_name;
  backend->iface.free = free_backend;
  backend->iface.graph_compute = graph_compute;
  backend->iface.get_tensor_async = get_tensor_async;
  backend->device = from;
  backend->context = at;
  return backend;
}

/* Of two devices the first takes attention, the second whatever it can. */
static bool supports_op(ggml_backend_dev_t from, const struct ggml_tensor *node) {
  if (node->op == GGML_OP_MUL_MAT) return from == &all_device && supports_mul_mat(node);
  for (int i = 0; i < GGML_MAX_SRC && node->src[i]; i++)
    if (is_repacked(node->src[i])) return false;
  return is_view(node) || supports_attention(node) || (from == &all_device && supports_elementwise(node));
}

static void get_memory(ggml_backend_dev_t from, size_t *left, size_t *total) { (void)from, *left = *total = 0; }

static enum ggml_backend_dev_type get_type(ggml_backend_dev_t from) {
  const bool is_enabled = from == &all_device ? device_mode >= DEVICE_ALL : device_mode == DEVICE_ATTENTION;
  return is_enabled ? GGML_BACKEND_DEVICE_TYPE_ACCEL : GGML_BACKEND_DEVICE_TYPE_CPU;
}

static void get_props(ggml_backend_dev_t from, struct ggml_backend_dev_props *to) {
  memset(to, 0, sizeof *to);
  to->name = to->description = device_name(from);
  to->type = get_type(from);
}

static ggml_backend_buffer_type_t get_buffer_type(ggml_backend_dev_t from) {
  return from == &all_device && device_mode > DEVICE_ALL ? repack_types[device_mode - LOAD_INT8]
                                                         : ggml_backend_cpu_buffer_type();
}

static bool supports_buft(ggml_backend_dev_t from, ggml_backend_buffer_type_t buffer) {
  return (void)from, buffer == repack_types[0] || buffer == repack_types[1] || ggml_backend_buft_is_host(buffer);
}

static const char *get_reg_name(ggml_backend_reg_t from) { return (void)from, "synthgen-local"; }
static size_t get_device_count(ggml_backend_reg_t from) { return (void)from, 2; }
static ggml_backend_dev_t get_device(ggml_backend_reg_t from, size_t i) {
  return (void)from, i ? &all_device : &attention_device;
}

static void *get_proc_address(ggml_backend_reg_t from, const char *sought) {
  (void)from;
  return strcmp(sought, "ggml_backend_set_n_threads") == 0 ? (void *)set_threads : NULL;
}

__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
  attention_device.iface.get_name = attention_device.iface.get_description = device_name;
  attention_device.iface.get_memory = get_memory;
  attention_device.iface.get_type = get_type;
  attention_device.iface.get_props = get_props;
  attention_device.iface.init_backend = init_backend;
  attention_device.iface.get_buffer_type = get_buffer_type;
  attention_device.iface.supports_op = supports_op;
  attention_device.iface.supports_buft = supports_buft;
  attention_device.reg = &registry;
  all_device = attention_device;
  for (enum device_mode format = LOAD_INT8; format <= LOAD_BF16; format++)
    repack_types[format - LOAD_INT8] = get_repack_buffer_type(&all_device, format);
  registry.api_version = GGML_BACKEND_API_VERSION;
  registry.iface.get_name = get_reg_name;
  registry.iface.get_device_count = get_device_count;
  registry.iface.get_device = get_device;
  registry.iface.get_proc_address = get_proc_address;
  return &registry;
}
