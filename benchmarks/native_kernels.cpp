// Times the native engine's inner loops on rows that stay in the caches, on one core, and prints
// JSON. `native_kernels.py` compiles it together with kernels.cpp, for one set of instructions.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "kernels.h"

namespace {

using namespace gidrn;

constexpr int kRepeats = 40;  // samples of a kernel
constexpr int kCalls = 20;    // in each sample
constexpr int kChannels = 72, kFine = 48;

struct Free {
  void operator()(float* at) const { free(at); }
};
using Floats = std::unique_ptr<float[], Free>;

Floats made_up(size_t floats) {
  const size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
  Floats found(static_cast<float*>(aligned_alloc(64, bytes)));
  uint32_t state = 1;
  for (size_t i = 0; i < bytes / sizeof(float); ++i) {
    state = state * 1664525u + 1013904223u;
    found[i] = static_cast<float>(state >> 8) / 16777216.f - 0.5f;
  }
  return found;
}

template <typename Call>
void timed(const char* name, double multiply_adds, bool last, const Call& call) {
  call();
  printf("{\"name\": \"%s\", \"multiply_adds\": %.0f, \"us\": [", name, multiply_adds);
  for (int r = 0; r < kRepeats; ++r) {
    const auto began = std::chrono::steady_clock::now();
    for (int c = 0; c < kCalls; ++c) call();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    printf("%s%.4f", r ? ", " : "", took.count() / kCalls);
  }
  printf("]}%s\n", last ? "" : ",");
}

}  // namespace

int main(int count, char** arguments) {
  const int pixels = count == 2 ? atoi(arguments[1]) : 0;
  if (pixels < 1) {
    fprintf(stderr, "wants the pixels of a row\n");
    return 2;
  }
  const Kernels& kernels = GIDRN_KERNELS;
  const int blocks = kChannels / kLanes, fine = kFine / kLanes;
  const ptrdiff_t stride = ((pixels + kTile - 1) / kTile * kTile + 2) * kLanes;
  const Floats in = made_up((kTile + 2) * blocks * stride), out = made_up(kTile * blocks * stride);
  const Floats weights = made_up(static_cast<size_t>(kChannels) * kChannels * kPoints);
  const Floats bias = made_up(kChannels), scratch = made_up(ungrouped_scratch(blocks, fine));
  const Floats mean = made_up(kChannels), squares = made_up(kChannels);

  Product pointwise = {in.get() + kLanes, stride, blocks, weights.get(), bias.get(),
                       out.get() + kLanes, stride, blocks, pixels};
  Grouped grouped = {};
  for (int r = 0; r < kTile + 2; ++r) grouped.rows[r] = in.get() + r * blocks * stride;
  for (int r = 0; r < kTile; ++r) {
    grouped.residual[r] = in.get() + r * blocks * stride + kLanes;
    grouped.out[r] = out.get() + r * blocks * stride + kLanes;
  }
  grouped.in_stride = grouped.residual_stride = grouped.out_stride = stride;
  grouped.blocks = blocks;
  grouped.pixels = pixels;
  grouped.weights = weights.get();
  grouped.bias = bias.get();
  grouped.slope = 0.05f;
  Ungrouped ungrouped = {};
  std::copy_n(grouped.rows, kTile + 2, ungrouped.rows);
  std::copy_n(grouped.out, kTile, ungrouped.out);
  ungrouped.in_stride = ungrouped.out_stride = stride;
  ungrouped.blocks = blocks;
  ungrouped.pixels = pixels;
  ungrouped.weights = weights.get();
  ungrouped.out_blocks = fine;
  Blend blend = {};
  blend.in = in.get() + kLanes;
  blend.gate = bias.get();
  blend.terms = 2;
  for (int i = 0; i < blend.terms; ++i) {
    blend.term[i] = in.get() + (i + 1) * blocks * stride + kLanes;
    blend.scale[i] = 0.5f;
  }
  blend.out = out.get() + kLanes;
  blend.stride = stride;
  blend.blocks = blocks;
  blend.pixels = pixels;

  printf("{\"instructions\": \"%s\", \"kernels\": [\n", kernels.name);
  const double p = pixels;
  timed("1x1, 72 to 72, a row", p * kChannels * kChannels, false,
        [&] { kernels.product(kPointwise, pointwise); });
  timed("fine, 3x3, 72 to 48, four rows", kTile * p * kChannels * 9 * kFine, false,
        [&] { kernels.ungrouped(ungrouped, scratch.get()); });
  timed("grouped 3x3 with bias, input, LeakyReLU, four rows",
        kTile * p * kChannels * kLanes * 9, false,
        [&] { kernels.grouped(grouped, scratch.get()); });
  timed("CCA's statistics, a row", 0, false, [&] {
    kernels.statistics(in.get() + kLanes, stride, blocks, pixels, mean.get(), squares.get());
  });
  timed("gate and two shortcuts, a row", 0, true, [&] { kernels.blend(blend); });
  printf("]}\n");
  return 0;
}
