/* Mirror of the structs in ggml-backend-impl.h, which llama.cpp does not install.
 *
 *   registry ──► device ──► backend (executes graphs)
 *                  └─────► buffer type ──► buffer (holds tensors)
 *
 * Each struct is a table of functions (`iface`), followed by data. Names are ggml's. A member that
 * is not used here is a `void *`. `check_abi.c` compares the mirror with the installed library before
 * llama.cpp loads the backend. Knows ggml's public headers; does not know the kernels.
 */

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ggml-backend.h"
#include "ggml.h"

enum { GGML_BACKEND_API_VERSION = 2 }; /* llama.cpp refuses to load a backend of another version */

struct ggml_backend_buffer_type_i {
  const char *(*get_name)(ggml_backend_buffer_type_t);
  ggml_backend_buffer_t (*alloc_buffer)(ggml_backend_buffer_type_t, size_t);
  size_t (*get_alignment)(ggml_backend_buffer_type_t);
  size_t (*get_max_size)(ggml_backend_buffer_type_t);
  size_t (*get_alloc_size)(ggml_backend_buffer_type_t, const struct ggml_tensor *);
  bool (*is_host)(ggml_backend_buffer_type_t);
};

struct ggml_backend_buffer_type {
  struct ggml_backend_buffer_type_i iface;
  ggml_backend_dev_t device;
  void *context;
};

struct ggml_backend_buffer_i {
  void (*free_buffer)(ggml_backend_buffer_t);
  void *(*get_base)(ggml_backend_buffer_t);
  void *init_tensor;
  void *memset_tensor;
  void (*set_tensor)(ggml_backend_buffer_t, struct ggml_tensor *, const void *, size_t, size_t);
  void *get_tensor;
  void *set_tensor_2d;
  void *get_tensor_2d;
  void *cpy_tensor;
  void (*clear)(ggml_backend_buffer_t, uint8_t);
  void *reset;
};

struct ggml_backend_buffer {
  struct ggml_backend_buffer_i iface;
  ggml_backend_buffer_type_t buft;
  void *context;
  size_t size;
  enum ggml_backend_buffer_usage usage;
};

struct ggml_backend_i {
  const char *(*get_name)(ggml_backend_t);
  void (*free)(ggml_backend_t);
  void *set_tensor_async;
  void (*get_tensor_async)(ggml_backend_t, const struct ggml_tensor *, void *, size_t, size_t);
  void *set_tensor_2d_async;
  void *get_tensor_2d_async;
  void *cpy_tensor_async;
  void *synchronize;
  void *graph_plan_create;
  void *graph_plan_free;
  void *graph_plan_update;
  void *graph_plan_compute;
  enum ggml_status (*graph_compute)(ggml_backend_t, struct ggml_cgraph *);
  void *event_record;
  void *event_wait;
  void *graph_optimize;
};

struct ggml_backend {
  ggml_guid_t guid;
  struct ggml_backend_i iface;
  ggml_backend_dev_t device;
  void *context;
};

struct ggml_backend_device_i {
  const char *(*get_name)(ggml_backend_dev_t);
  const char *(*get_description)(ggml_backend_dev_t);
  void (*get_memory)(ggml_backend_dev_t, size_t *, size_t *);
  enum ggml_backend_dev_type (*get_type)(ggml_backend_dev_t);
  void (*get_props)(ggml_backend_dev_t, struct ggml_backend_dev_props *);
  ggml_backend_t (*init_backend)(ggml_backend_dev_t, const char *);
  ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t);
  void *get_host_buffer_type;
  void *buffer_from_host_ptr;
  bool (*supports_op)(ggml_backend_dev_t, const struct ggml_tensor *);
  bool (*supports_buft)(ggml_backend_dev_t, ggml_backend_buffer_type_t);
  void *offload_op;
  void *event_new;
  void *event_free;
  void *event_synchronize;
};

struct ggml_backend_device {
  struct ggml_backend_device_i iface;
  ggml_backend_reg_t reg;
  void *context;
};

struct ggml_backend_reg_i {
  const char *(*get_name)(ggml_backend_reg_t);
  size_t (*get_device_count)(ggml_backend_reg_t);
  ggml_backend_dev_t (*get_device)(ggml_backend_reg_t, size_t);
  void *(*get_proc_address)(ggml_backend_reg_t, const char *);
};

struct ggml_backend_reg {
  int api_version;
  struct ggml_backend_reg_i iface;
  void *context;
};

ggml_backend_buffer_t ggml_backend_buffer_init(ggml_backend_buffer_type_t, struct ggml_backend_buffer_i, void *,
                                               size_t);
