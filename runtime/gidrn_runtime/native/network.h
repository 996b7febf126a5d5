// The C interface of the native engine: G-IDRN (and IDRN's relatives with eight channels a group)
// in FP32 on the CPU. Nothing here throws.

#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GIDRN_API __declspec(dllexport)
#else
#define GIDRN_API __attribute__((visibility("default")))
#endif

extern "C" {

enum { GIDRN_INTERFACE = 1 };  // raised with each change of what stands below

enum { GIDRN_MOST_POOLS = 16 };

struct GidrnConfig {
  int32_t channels;  // C, a multiple of 8; a group has 8
  int32_t reduced;   // channels inside the contrast attention
  int32_t blocks;    // G-IDBs, all groups together
  int32_t scale;
  int32_t anrb;   // 0 or 1
  int32_t knots;  // of the attention's curve; 0 for the exact attention
  int32_t pools;  // how many pool sizes; 0 keeps all points
  int32_t pool_sizes[GIDRN_MOST_POOLS];
  float slope;  // of LeakyReLU
};

enum GidrnStatus { GIDRN_OK = 0, GIDRN_NO_MEMORY = 1, GIDRN_BAD_ARGUMENT = 2 };

// What runs: float is (N, 3, H, W) RGB in [0, 1]; a frame is uint8 (N, H, W, 3).
enum GidrnKind { GIDRN_FLOAT = 0, GIDRN_RGB = 1, GIDRN_BGR = 2 };

struct GidrnNetwork;

GIDRN_API int32_t gidrn_interface(void);

// Whether this build and this CPU have an instruction set: "portable", "avx2" or "avx512".
GIDRN_API int32_t gidrn_has(const char* instructions);

// How many floats `gidrn_open` wants, 0 for a configuration that it does not know. In order, each
// weight [out][in / group][height][width] before its bias: shallow; coarse; a block's three times
// pointwise and grouped, then grouped, fuse, attention down and up; with an ANRB its query, key and
// value as one [3][C], and expand; fine. Then the dense shortcuts, [blocks][blocks]: input j + 1 is
// block j's output plus the sum over i <= j of shortcut[j][i] times input i.
GIDRN_API uint64_t gidrn_weights(const struct GidrnConfig* config);

// Null without memory, or for a configuration or an instruction set that is not there.
GIDRN_API struct GidrnNetwork* gidrn_open(const struct GidrnConfig* config, const float* weights,
                                          int32_t threads, const char* instructions);

// Bytes of working memory that a run takes for one image; those of a batch follow each other.
GIDRN_API uint64_t gidrn_memory(const struct GidrnNetwork* network, int32_t height, int32_t width);

// May be called by several threads at once, which share the network's threads.
GIDRN_API int32_t gidrn_run(struct GidrnNetwork* network, int32_t kind, const void* in, void* out,
                            int32_t images, int32_t height, int32_t width);

GIDRN_API void gidrn_close(struct GidrnNetwork* network);

}  // extern "C"
