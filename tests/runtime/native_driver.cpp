// Runs the native engine on made-up weights, for the sanitizers: sizes, kinds, batches, numbers of
// threads, several callers at once. Prints how many runs differed from the same on one thread. With
// two files it runs what the first one holds instead, where there is no Python to do it: a
// GidrnConfig, images, height and width as int32, weights, float images; and writes the second one.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <thread>
#include <vector>

#include "kernels.h"
#include "network.h"

#if defined(__x86_64__)  // one set of kernels is enough here, and compiles in a third of the time
namespace gidrn {
extern const Kernels kPortable = {"not here"};
extern const Kernels kAvx512 = {"neither"};
}  // namespace gidrn
#endif

namespace {

uint32_t state = 1;

float next_value() {  // of [-0.5, 0.5)
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 16777216.f - 0.5f;
}

int run_file(const char* instructions, const char* from, const char* to) {
  FILE* file = fopen(from, "rb");
  GidrnConfig config;
  int32_t shape[3];
  if (!file || fread(&config, sizeof config, 1, file) != 1 ||
      fread(shape, sizeof shape, 1, file) != 1)
    return 2;
  std::vector<float> weights(gidrn_weights(&config));
  std::vector<float> in(static_cast<size_t>(shape[0]) * 3 * shape[1] * shape[2]);
  std::vector<float> out(in.size() * config.scale * config.scale);
  if (fread(weights.data(), sizeof(float), weights.size(), file) != weights.size() ||
      fread(in.data(), sizeof(float), in.size(), file) != in.size() || fgetc(file) != EOF)
    return 2;
  fclose(file);
  GidrnNetwork* network = gidrn_open(&config, weights.data(), 2, instructions);
  if (!network ||
      gidrn_run(network, GIDRN_FLOAT, in.data(), out.data(), shape[0], shape[1], shape[2]))
    return 2;
  gidrn_close(network);
  file = fopen(to, "wb");
  if (!file || fwrite(out.data(), sizeof(float), out.size(), file) != out.size() || fclose(file))
    return 2;
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 4) return run_file(arguments[1], arguments[2], arguments[3]);
  if (count != 2 || !gidrn_has(arguments[1])) {
    fprintf(stderr, "wants a set of instructions that is here\n");
    return 2;
  }
  std::atomic<int> wrong{0};
  int runs = 0;
  const int pools[][4] = {{3, 1, 2, 5}, {0, 0, 0, 0}};
  const int sizes[][2] = {{1, 1}, {1, 9}, {7, 1}, {5, 6}, {9, 131}};
  for (int form = 0; form < 2; ++form) {
    GidrnConfig config = {};
    config.channels = form ? 24 : 16;
    config.reduced = 4;
    config.blocks = 2 + form;
    config.scale = 2 + form;
    config.anrb = 1;
    config.knots = form ? 0 : 64;
    config.pools = pools[form][0];
    memcpy(config.pool_sizes, pools[form] + 1, config.pools * sizeof(int));
    config.slope = 0.05f;
    std::vector<float> weights(gidrn_weights(&config));
    for (float& weight : weights) weight = 0.2f * next_value();
    GidrnNetwork* alone = gidrn_open(&config, weights.data(), 1, arguments[1]);
    GidrnNetwork* shared = gidrn_open(&config, weights.data(), 3, arguments[1]);
    if (!alone || !shared) return 2;
    for (const int* size : sizes)
      for (const int kind : {GIDRN_FLOAT, GIDRN_BGR}) {
        const size_t values = 2 * 3 * size[0] * size[1];
        const size_t bytes = kind == GIDRN_FLOAT ? sizeof(float) : 1;
        const size_t larger = values * config.scale * config.scale * bytes;
        std::vector<unsigned char> in(values * bytes), wanted(larger);
        if (kind == GIDRN_FLOAT) {
          for (size_t i = 0; i < values; ++i) {
            const float value = next_value() + 0.5f;
            memcpy(in.data() + i * sizeof value, &value, sizeof value);
          }
        } else {
          for (unsigned char& value : in) value = static_cast<unsigned char>(state = state * 5 + 1);
        }
        if (gidrn_run(alone, kind, in.data(), wanted.data(), 2, size[0], size[1])) return 2;
        std::vector<std::thread> callers;
        for (int i = 0; i < 2; ++i)
          callers.emplace_back([&] {
            std::vector<unsigned char> out(larger);
            const int status = gidrn_run(shared, kind, in.data(), out.data(), 2, size[0], size[1]);
            wrong += status || out != wanted;
          });
        for (std::thread& caller : callers) caller.join();
        runs += 2;
      }
    gidrn_close(alone);
    gidrn_close(shared);
  }
  printf("%d runs, %d wrong\n", runs, wrong.load());
  return wrong ? 1 : 0;
}
