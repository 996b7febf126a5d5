// See kernels.h. Everything here has internal linkage, so that no other file can be given code of an
// instruction set that the machine lacks. GIDRN_KERNELS names the table and GIDRN_NAME the set.

#include "kernels.h"

namespace gidrn {
namespace {

typedef float Vec __attribute__((vector_size(32)));
typedef float VecAnywhere __attribute__((vector_size(32), aligned(4), may_alias));

inline Vec load(const float* at) { return *reinterpret_cast<const VecAnywhere*>(at); }
inline void store(float* at, Vec value) { *reinterpret_cast<VecAnywhere*>(at) = value; }
inline Vec splat(float value) { return Vec{} + value; }

// Output pixels by output blocks whose sums are kept in registers, and tiles in a batch: 16
// registers of eight floats (AVX2), 32 (AVX-512), 32 of four (NEON) or 16 of four.
#if defined(__AVX512VL__)
constexpr int kPixels = 8, kBlocks = 3, kBatch = 12;
#elif defined(__AVX2__)
constexpr int kPixels = 4, kBlocks = 3, kBatch = 12;
#elif defined(__aarch64__)
constexpr int kPixels = 4, kBlocks = 3, kBatch = 12;
#else
constexpr int kPixels = 4, kBlocks = 1, kBatch = 4;
#endif
static_assert(kBatch <= kMostTiles, "the scratch is too small");

constexpr int kChunk = 48;  // pixels whose input stays in the first-level cache

// P pixels by Q blocks of a panel of `Width` blocks.
template <int P, int Q, int Width, int Length, int Step>
inline void tile(const Product& product, const float* in, const float* weights, const float* bias,
                 float* out) {
  Vec sum[P][Q];
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q)
      sum[p][q] = bias ? load(bias + q * kLanes) : load(out + q * product.out_stride + p * kLanes);
  for (int s = 0; s < product.segments; ++s, in += product.segment_stride) {
#pragma GCC unroll 8
    for (int k = 0; k < Length; ++k, weights += Width * kLanes) {
      Vec weight[Q];
      for (int q = 0; q < Q; ++q) weight[q] = load(weights + q * kLanes);
      for (int p = 0; p < P; ++p) {
        const float value = in[p * Step + k];
        for (int q = 0; q < Q; ++q) sum[p][q] += weight[q] * value;
      }
    }
  }
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q) store(out + q * product.out_stride + p * kLanes, sum[p][q]);
}

template <int Q, int Width, int Length, int Step>
inline void tiles(const Product& product, int first, int count, const float* weights,
                  const float* bias, float* out) {
  const float* in = product.in + static_cast<ptrdiff_t>(first) * Step;
  out += static_cast<ptrdiff_t>(first) * kLanes;
  int p = 0;
  for (; p + kPixels <= count; p += kPixels)
    tile<kPixels, Q, Width, Length, Step>(product, in + p * Step, weights, bias, out + p * kLanes);
  for (; p + 2 <= count; p += 2)
    tile<2, Q, Width, Length, Step>(product, in + p * Step, weights, bias, out + p * kLanes);
  for (; p < count; ++p)
    tile<1, Q, Width, Length, Step>(product, in + p * Step, weights, bias, out + p * kLanes);
}

template <int Width, int Length, int Step>
inline void panel(const Product& product, int first, int count, const float* weights,
                  const float* bias, float* out) {
  constexpr int Q = Width < kBlocks ? Width : kBlocks;
  static_assert(Width % Q == 0, "a panel is a whole number of tiles");
  for (int q = 0; q < Width; q += Q)
    tiles<Q, Width, Length, Step>(product, first, count, weights + q * kLanes,
                                  bias ? bias + q * kLanes : nullptr,
                                  out + q * product.out_stride);
}

template <int Length, int Step>
void panels(const Product& product) {
  const ptrdiff_t rows = static_cast<ptrdiff_t>(product.segments) * Length * kLanes;
  for (int first = 0; first < product.pixels; first += kChunk) {
    const int count = product.pixels - first < kChunk ? product.pixels - first : kChunk;
    for (int block = 0; block < product.out_blocks; block += kPanel) {
      const float* weights = product.weights + block * rows;
      const float* bias = product.bias ? product.bias + block * kLanes : nullptr;
      float* out = product.out + block * product.out_stride;
      switch (product.out_blocks - block) {
        case 1: panel<1, Length, Step>(product, first, count, weights, bias, out); break;
        case 2: panel<2, Length, Step>(product, first, count, weights, bias, out); break;
        default: panel<kPanel, Length, Step>(product, first, count, weights, bias, out);
      }
    }
  }
}

void product(Form form, const Product& product) {
  switch (form) {
    case kPointwise: return panels<8, 8>(product);
    case kThreeTaps: return panels<24, 8>(product);
    case kImage3: return panels<9, 3>(product);
    case kImage5: return panels<15, 3>(product);
  }
}

// B^T d and A^T m of F(4, 3) with the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, "Fast
// algorithms for convolutional neural networks", CVPR 2016).
inline void transform_in(const Vec d[6], Vec t[6]) {
  const Vec even = d[4] - 4.f * d[2], odd = d[3] - 4.f * d[1];
  const Vec wide = d[4] - d[2], twice = 2.f * (d[3] - d[1]);
  t[0] = 4.f * d[0] - 5.f * d[2] + d[4];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = wide + twice;
  t[4] = wide - twice;
  t[5] = 4.f * d[1] - 5.f * d[3] + d[5];
}

inline void transform_out(const Vec m[6], Vec o[4]) {
  const Vec near_sum = m[1] + m[2], near_difference = m[1] - m[2];
  const Vec far_sum = m[3] + m[4], far_difference = m[3] - m[4];
  o[0] = m[0] + near_sum + far_sum;
  o[1] = near_difference + 2.f * far_difference;
  o[2] = near_sum + 4.f * far_sum;
  o[3] = near_difference + 8.f * far_difference + m[5];
}

// The 36 products of T tiles, in place: [36][T][8 in] becomes [36][T][8 out].
template <int T>
void multiply(float* points, const float* weights) {
  for (int f = 0; f < kPoints; ++f, points += T * kLanes, weights += kLanes * kLanes) {
    Vec sum[T] = {};
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) {
      const Vec weight = load(weights + k * kLanes);
      for (int t = 0; t < T; ++t) sum[t] += weight * points[t * kLanes + k];
    }
    for (int t = 0; t < T; ++t) store(points + t * kLanes, sum[t]);
  }
}

template <int T>
void multiply_any(int count, float* points, const float* weights) {
  if (count == T) return multiply<T>(points, weights);
  if constexpr (T > 1) multiply_any<T - 1>(count, points, weights);
}

// `count` tiles of one block, from pixel `first` on.
void tile_batch(const Grouped& grouped, int block, int first, int count, float* scratch) {
  const int columns = count * kTile + 2;
  float* down = scratch;  // [6][columns][8]: transformed along columns
  float* points = scratch + (kTile + 2) * (kMostTiles * kTile + 2) * kLanes;  // [36][count][8]
  const ptrdiff_t at = block * grouped.in_stride + static_cast<ptrdiff_t>(first) * kLanes;
  for (int c = 0; c < columns; ++c) {
    Vec d[6], t[6];
    for (int r = 0; r < 6; ++r) d[r] = load(grouped.rows[r] + at + c * kLanes);
    transform_in(d, t);
    for (int r = 0; r < 6; ++r) store(down + (r * columns + c) * kLanes, t[r]);
  }
  for (int r = 0; r < 6; ++r)
    for (int tile = 0; tile < count; ++tile) {
      Vec d[6], t[6];
      const float* from = down + (r * columns + tile * kTile) * kLanes;
      for (int c = 0; c < 6; ++c) d[c] = load(from + c * kLanes);
      transform_in(d, t);
      for (int c = 0; c < 6; ++c) store(points + ((r * 6 + c) * count + tile) * kLanes, t[c]);
    }
  multiply_any<kBatch>(count, points, grouped.weights + block * kPoints * kLanes * kLanes);
  const Vec bias = load(grouped.bias + block * kLanes);
  for (int tile = 0; tile < count; ++tile) {
    Vec across[4][6];
    for (int c = 0; c < 6; ++c) {
      Vec m[6], o[4];
      for (int r = 0; r < 6; ++r) m[r] = load(points + ((r * 6 + c) * count + tile) * kLanes);
      transform_out(m, o);
      for (int r = 0; r < 4; ++r) across[r][c] = o[r];
    }
    const int x = first + tile * kTile;
    const int wanted = grouped.pixels - x < kTile ? grouped.pixels - x : kTile;
    for (int r = 0; r < kTile; ++r) {
      if (!grouped.out[r]) continue;
      Vec o[4];
      transform_out(across[r], o);
      float* to = grouped.out[r] + block * grouped.out_stride + static_cast<ptrdiff_t>(x) * kLanes;
      const float* residual =
          grouped.residual[r] ? grouped.residual[r] + block * grouped.residual_stride +
                                    static_cast<ptrdiff_t>(x) * kLanes
                              : nullptr;
      for (int c = 0; c < wanted; ++c) {
        Vec value = o[c] + bias;
        if (residual) {
          value += load(residual + c * kLanes);
          const Vec leak = value * grouped.slope;
          value = value > leak ? value : leak;
        }
        store(to + c * kLanes, value);
      }
    }
  }
}

void grouped(const Grouped& grouped, float* scratch) {
  const int all = (grouped.pixels + kTile - 1) / kTile;
  const int batches = (all + kBatch - 1) / kBatch;
  for (int block = 0; block < grouped.blocks; ++block)
    for (int i = 0; i < batches; ++i) {  // of nearly one size
      const int from = all * i / batches, to = all * (i + 1) / batches;
      tile_batch(grouped, block, from * kTile, to - from, scratch);
    }
}

void statistics(const float* in, ptrdiff_t stride, int blocks, int pixels, float* mean,
                float* squares) {
  for (int block = 0; block < blocks; ++block, in += stride) {
    Vec sums[4] = {};
    for (int p = 0; p < pixels; ++p) sums[p & 3] += load(in + p * kLanes);
    const Vec middle =
        (sums[0] + sums[1] + sums[2] + sums[3]) * (1.f / static_cast<float>(pixels));
    Vec second[4] = {};
    for (int p = 0; p < pixels; ++p) {
      const Vec distance = load(in + p * kLanes) - middle;
      second[p & 3] += distance * distance;
    }
    store(mean + block * kLanes, middle);
    store(squares + block * kLanes, second[0] + second[1] + second[2] + second[3]);
  }
}

template <int Terms>
void blend_row(const Blend& blend, int terms) {
  const int count = Terms < 0 ? terms : Terms;
  for (int block = 0; block < blend.blocks; ++block) {
    const Vec gate = load(blend.gate + block * kLanes);
    const ptrdiff_t from = block * blend.stride;
    for (int p = 0; p < blend.pixels; ++p) {
      const ptrdiff_t at = from + static_cast<ptrdiff_t>(p) * kLanes;
      Vec value = load(blend.in + at) * gate;
      for (int i = 0; i < count; ++i) value += load(blend.term[i] + at) * blend.scale[i];
      store(blend.out + at, value);
    }
  }
}

void blend(const Blend& blend) {
  switch (blend.terms) {
    case 1: return blend_row<1>(blend, 1);
    case 2: return blend_row<2>(blend, 2);
    case 3: return blend_row<3>(blend, 3);
    default: return blend_row<-1>(blend, blend.terms);
  }
}

void expand(float* in, ptrdiff_t stride, int blocks, int pixels, const float* weight,
            const float* bias, const float* value) {
  for (int block = 0; block < blocks; ++block, in += stride) {
    const Vec w = load(weight + block * kLanes), b = load(bias + block * kLanes);
    for (int p = 0; p < pixels; ++p)
      store(in + p * kLanes, load(in + p * kLanes) + (b + w * value[p]));
  }
}

}  // namespace

extern const Kernels GIDRN_KERNELS = {GIDRN_NAME, product, grouped, statistics, blend, expand};

}  // namespace gidrn
