/* Check of `ggml_backend_abi.h` against the installed llama.cpp, before it loads the backend.
 *
 *   1. data        a live CPU backend and buffer: each data member, read through the mirror, equals
 *                  what ggml's public function returns. This finds inserted and removed members;
 *                  nothing is called through the mirror.
 *   2. functions   objects made from the mirror whose functions are all recorders: each public
 *                  function has to call the member of its name. This finds reordered members.
 *
 * Knows ggml's public functions and the mirror; does not know the kernels.
 */

#include <string.h>

#include "ggml_backend_abi.h"

enum { SLOTS = 16 }; /* functions of the largest interface */

static _Thread_local int called;

#define RECORDER(n)                                                                                                    \
  static uintptr_t recorder_##n(void) { return called = n, 4097; } /* a true bool and no null pointer */
RECORDER(0)
RECORDER(1)
RECORDER(2)
RECORDER(3)
RECORDER(4)
RECORDER(5)
RECORDER(6)
RECORDER(7)
RECORDER(8)
RECORDER(9)
RECORDER(10)
RECORDER(11)
RECORDER(12)
RECORDER(13)
RECORDER(14)
RECORDER(15)

typedef uintptr_t recorder(void);
static recorder *const recorders[SLOTS] = {recorder_0,  recorder_1,  recorder_2,  recorder_3, recorder_4,  recorder_5,
                                           recorder_6,  recorder_7,  recorder_8,  recorder_9, recorder_10, recorder_11,
                                           recorder_12, recorder_13, recorder_14, recorder_15};

#define RECORD(iface)             memcpy(&(iface), recorders, sizeof(iface))
#define SLOT(type, member)        ((int)(offsetof(struct type, member) / sizeof(void *)))
#define CALLS(type, member, call) (called = -1, (void)(call), called == SLOT(type, member))

_Static_assert(sizeof(struct ggml_backend_i) == SLOTS * sizeof(void *), "16 functions of a backend");
_Static_assert(sizeof(struct ggml_backend_device_i) == 15 * sizeof(void *), "15 functions of a device");
_Static_assert(sizeof(struct ggml_backend_buffer_i) == 11 * sizeof(void *), "11 functions of a buffer");
_Static_assert(sizeof(struct ggml_backend_buffer_type_i) == 6 * sizeof(void *), "6 functions of a buffer type");
_Static_assert(sizeof(struct ggml_backend_reg_i) == 4 * sizeof(void *), "4 functions of a registry");

static const char *check_data(ggml_backend_dev_t device, ggml_backend_t backend, ggml_backend_buffer_t buffer) {
  if (device->reg != ggml_backend_dev_backend_reg(device)) return "ggml_backend_device";
  if (device->reg->api_version != GGML_BACKEND_API_VERSION) return "GGML_BACKEND_API_VERSION";
  if (backend->device != ggml_backend_get_device(backend) || backend->guid != ggml_backend_guid(backend))
    return "ggml_backend";
  ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_COMPUTE);
  if (buffer->buft != ggml_backend_buffer_get_type(buffer) || buffer->size != ggml_backend_buffer_get_size(buffer) ||
      buffer->usage != GGML_BACKEND_BUFFER_USAGE_COMPUTE)
    return "ggml_backend_buffer";
  ggml_backend_buffer_type_t buft = ggml_backend_dev_buffer_type(device);
  if (buft->device != ggml_backend_buft_get_device(buft)) return "ggml_backend_buffer_type";
  return NULL;
}

static bool check_device(ggml_backend_dev_t device) {
  struct ggml_backend_device probe = {0};
  struct ggml_tensor tensor = {0};
  struct ggml_backend_dev_props props;
  size_t free_bytes, total_bytes;
  RECORD(probe.iface);
  probe.reg = device->reg;
  return ggml_backend_dev_backend_reg(&probe) == device->reg &&
         CALLS(ggml_backend_device_i, get_name, ggml_backend_dev_name(&probe)) &&
         CALLS(ggml_backend_device_i, get_description, ggml_backend_dev_description(&probe)) &&
         CALLS(ggml_backend_device_i, get_memory, ggml_backend_dev_memory(&probe, &free_bytes, &total_bytes)) &&
         CALLS(ggml_backend_device_i, get_type, ggml_backend_dev_type(&probe)) &&
         CALLS(ggml_backend_device_i, get_props, ggml_backend_dev_get_props(&probe, &props)) &&
         CALLS(ggml_backend_device_i, init_backend, ggml_backend_dev_init(&probe, NULL)) &&
         CALLS(ggml_backend_device_i, get_buffer_type, ggml_backend_dev_buffer_type(&probe)) &&
         CALLS(ggml_backend_device_i, supports_op, ggml_backend_dev_supports_op(&probe, &tensor)) &&
         CALLS(ggml_backend_device_i, supports_buft, ggml_backend_dev_supports_buft(&probe, NULL));
}

static bool check_backend(ggml_backend_dev_t device, struct ggml_cgraph *graph) {
  struct ggml_backend probe = {0};
  float value;
  struct ggml_tensor tensor = {.type = GGML_TYPE_F32, .ne = {1, 1, 1, 1}, .nb = {4, 4, 4, 4}, .data = &value};
  RECORD(probe.iface);
  probe.device = device;
  return ggml_backend_get_device(&probe) == device && CALLS(ggml_backend_i, get_name, ggml_backend_name(&probe)) &&
         CALLS(ggml_backend_i, get_tensor_async, ggml_backend_tensor_get_async(&probe, &tensor, &value, 0, 4)) &&
         CALLS(ggml_backend_i, synchronize, ggml_backend_synchronize(&probe)) &&
         CALLS(ggml_backend_i, graph_compute, ggml_backend_graph_compute_async(&probe, graph)) &&
         CALLS(ggml_backend_i, free, ggml_backend_free(&probe));
}

static bool check_registry(void) {
  struct ggml_backend_reg probe = {.api_version = GGML_BACKEND_API_VERSION};
  RECORD(probe.iface);
  return CALLS(ggml_backend_reg_i, get_name, ggml_backend_reg_name(&probe)) &&
         CALLS(ggml_backend_reg_i, get_device_count, ggml_backend_reg_dev_count(&probe)) &&
         CALLS(ggml_backend_reg_i, get_device, ggml_backend_reg_dev_get(&probe, 0)) &&
         CALLS(ggml_backend_reg_i, get_proc_address, ggml_backend_reg_get_proc_address(&probe, ""));
}

static bool check_buffer_type(ggml_backend_dev_t device) {
  struct ggml_backend_buffer_type probe = {0};
  const struct ggml_tensor tensor = {.type = GGML_TYPE_F32, .ne = {1, 1, 1, 1}, .nb = {4, 4, 4, 4}};
  RECORD(probe.iface);
  probe.device = device;
  return ggml_backend_buft_get_device(&probe) == device &&
         CALLS(ggml_backend_buffer_type_i, get_name, ggml_backend_buft_name(&probe)) &&
         CALLS(ggml_backend_buffer_type_i, alloc_buffer, ggml_backend_buft_alloc_buffer(&probe, 64)) &&
         CALLS(ggml_backend_buffer_type_i, get_alignment, ggml_backend_buft_get_alignment(&probe)) &&
         CALLS(ggml_backend_buffer_type_i, get_max_size, ggml_backend_buft_get_max_size(&probe)) &&
         CALLS(ggml_backend_buffer_type_i, get_alloc_size, ggml_backend_buft_get_alloc_size(&probe, &tensor)) &&
         CALLS(ggml_backend_buffer_type_i, is_host, ggml_backend_buft_is_host(&probe));
}

static bool check_buffer(void) {
  struct ggml_backend_buffer_type buft = {0};
  struct ggml_backend_buffer_i iface;
  RECORD(buft.iface);
  RECORD(iface);
  ggml_backend_buffer_t probe = ggml_backend_buffer_init(&buft, iface, NULL, 64);
  float value = 0;
  struct ggml_tensor tensor = {
      .type = GGML_TYPE_F32, .buffer = probe, .ne = {1, 1, 1, 1}, .nb = {4, 4, 4, 4}, .data = &value};
  const bool same = CALLS(ggml_backend_buffer_i, get_base, ggml_backend_buffer_get_base(probe)) &&
                    CALLS(ggml_backend_buffer_i, set_tensor, ggml_backend_tensor_set(&tensor, &value, 0, 4)) &&
                    CALLS(ggml_backend_buffer_i, get_tensor, ggml_backend_tensor_get(&tensor, &value, 0, 4)) &&
                    CALLS(ggml_backend_buffer_i, clear, ggml_backend_buffer_clear(probe, 0)) &&
                    CALLS(ggml_backend_buffer_i, reset, ggml_backend_buffer_reset(probe));
  return CALLS(ggml_backend_buffer_i, free_buffer, ggml_backend_buffer_free(probe)) && same;
}

static const char *check_functions(ggml_backend_dev_t device) {
  struct ggml_init_params params = {ggml_graph_overhead() + 1024, NULL, true};
  struct ggml_context *context = ggml_init(params);
  if (!context) return "ggml_context";
  const char *differing = NULL;
  if (!check_registry()) differing = "ggml_backend_reg_i";
  else if (!check_device(device)) differing = "ggml_backend_device_i";
  else if (!check_backend(device, ggml_new_graph(context))) differing = "ggml_backend_i";
  else if (!check_buffer_type(device)) differing = "ggml_backend_buffer_type_i";
  else if (!check_buffer()) differing = "ggml_backend_buffer_i";
  ggml_free(context);
  return differing;
}

/* Return the name of a ggml struct whose layout differs from the mirror, NULL if there is none.
 *
 * `device` is llama.cpp's CPU device. */
__attribute__((visibility("default"))) const char *synthgen_local_check_abi(ggml_backend_dev_t device) {
  ggml_backend_t backend = ggml_backend_dev_init(device, NULL);
  ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_dev_buffer_type(device), 64);
  const char *differing = "a CPU backend";
  if (backend && buffer) differing = check_data(device, backend, buffer);
  if (buffer) ggml_backend_buffer_free(buffer);
  if (backend) ggml_backend_free(backend);
  return differing ? differing : check_functions(device);
}
