// See kernels.h. Everything here has internal linkage, so that no other file can be given code of an
// instruction set that the machine lacks. GIDRN_KERNELS names the table and GIDRN_NAME the set.

#include "kernels.h"

#include <string.h>

namespace gidrn {
namespace {

#if defined(__AVX2__)
typedef float Vec __attribute__((vector_size(32)));
typedef float VecAnywhere __attribute__((vector_size(32), aligned(4), may_alias));

inline Vec load(const float* at) { return *reinterpret_cast<const VecAnywhere*>(at); }
inline void store(float* at, Vec value) { *reinterpret_cast<VecAnywhere*>(at) = value; }
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
#else
// Two of four floats: GCC keeps a vector that is wider than the registers in memory.
typedef float Half __attribute__((vector_size(16)));
typedef float HalfAnywhere __attribute__((vector_size(16), aligned(4), may_alias));
struct Vec {
  Half a, b;
};

inline Vec load(const float* at) {
  return {reinterpret_cast<const HalfAnywhere*>(at)[0], reinterpret_cast<const HalfAnywhere*>(at)[1]};
}
inline void store(float* at, Vec value) {
  reinterpret_cast<HalfAnywhere*>(at)[0] = value.a;
  reinterpret_cast<HalfAnywhere*>(at)[1] = value.b;
}
inline Vec operator+(Vec x, Vec y) { return {x.a + y.a, x.b + y.b}; }
inline Vec operator-(Vec x, Vec y) { return {x.a - y.a, x.b - y.b}; }
inline Vec operator*(Vec x, Vec y) { return {x.a * y.a, x.b * y.b}; }
inline Vec operator+(Vec x, float y) { return {x.a + y, x.b + y}; }
inline Vec operator*(Vec x, float y) { return {x.a * y, x.b * y}; }
inline Vec operator*(float x, Vec y) { return y * x; }
inline Vec& operator+=(Vec& x, Vec y) { return x = x + y; }
inline Vec larger(Vec x, Vec y) { return {x.a > y.a ? x.a : y.a, x.b > y.b ? x.b : y.b}; }
inline Vec smaller(Vec x, Vec y) { return {x.a < y.a ? x.a : y.a, x.b < y.b ? x.b : y.b}; }
#endif
inline Vec splat(float value) { return Vec{} + value; }

// Output pixels by output blocks whose sums are kept in registers, and tiles in a batch: 16
// registers of eight floats (AVX2), 32 (AVX-512), 32 of four (NEON) or 16 of four.
#if defined(__AVX512VL__)
constexpr int kPixels = 8, kBlocks = 3, kBatch = 12;
#elif defined(__AVX2__)
constexpr int kPixels = 4, kBlocks = 3, kBatch = 6;
#elif defined(__aarch64__)  // GCC sends a fourth pixel's sums through memory
constexpr int kPixels = 3, kBlocks = 3, kBatch = 8;
#else
constexpr int kPixels = 4, kBlocks = 1, kBatch = 4;
#endif
static_assert(kBatch <= kMostTiles, "the scratch is too small");

constexpr int kChunk = 48;  // pixels whose input stays in the first-level cache

// sum[p][q] of P pixels by Q blocks of a panel of `Width` blocks.
template <int P, int Q, int Width, int Length, int Step>
inline void dot(const Product& product, ptrdiff_t at, const float* weights, Vec sum[P][Q]) {
#if defined(__AVX2__) && !defined(__AVX512VL__) && !defined(GIDRN_NO_ASSEMBLER)
  // Twelve sums, three weights and a broadcast are all of the sixteen registers. GCC moves them
  // about, which costs half as many instructions as there are multiplications.
  if constexpr (P == 4 && Q == 3 && Width == 3) {
    Vec s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;
    const float* from = product.in + at;
    const float* more = product.more ? product.more + at : nullptr;
    ptrdiff_t segments = product.segments, stride = product.segment_stride * 4;
    __asm__ volatile(
#define GIDRN_ZERO(i) "vxorps %[s" #i "], %[s" #i "], %[s" #i "]\n\t"
#define GIDRN_PIXEL(p, a, b, c)                              \
  "vbroadcastss .Lk*4+" #p "*%c[step](%[from]), %%ymm15\n\t" \
  "vfmadd231ps %%ymm12, %%ymm15, %[s" #a "]\n\t"             \
  "vfmadd231ps %%ymm13, %%ymm15, %[s" #b "]\n\t"             \
  "vfmadd231ps %%ymm14, %%ymm15, %[s" #c "]\n\t"
        GIDRN_ZERO(0) GIDRN_ZERO(1) GIDRN_ZERO(2) GIDRN_ZERO(3) GIDRN_ZERO(4) GIDRN_ZERO(5)
        GIDRN_ZERO(6) GIDRN_ZERO(7) GIDRN_ZERO(8) GIDRN_ZERO(9) GIDRN_ZERO(10) GIDRN_ZERO(11)
        "1:\n\t"  // a segment; the assembler repeats a place `length` times
        ".set .Lk, 0\n\t"
        ".rept %c[length]\n\t"
        "vmovups .Lk*96(%[weights]), %%ymm12\n\t"
        "vmovups .Lk*96+32(%[weights]), %%ymm13\n\t"
        "vmovups .Lk*96+64(%[weights]), %%ymm14\n\t"
        GIDRN_PIXEL(0, 0, 1, 2) GIDRN_PIXEL(1, 3, 4, 5) GIDRN_PIXEL(2, 6, 7, 8)
        GIDRN_PIXEL(3, 9, 10, 11)
        ".set .Lk, .Lk+1\n\t"
        ".endr\n\t"
        "add %[stride], %[from]\n\t"
        "add $96*%c[length], %[weights]\n\t"
        "dec %[segments]\n\t"
        "jnz 1b\n\t"
        "mov %[more], %[from]\n\t"  // the second input, if there is one
        "mov %[more_stride], %[stride]\n\t"
        "mov %[count], %[segments]\n\t"
        "xor %[more], %[more]\n\t"
        "test %[from], %[from]\n\t"
        "jnz 1b\n\t"
#undef GIDRN_PIXEL
#undef GIDRN_ZERO
        : [s0] "=&x"(s0), [s1] "=&x"(s1), [s2] "=&x"(s2), [s3] "=&x"(s3), [s4] "=&x"(s4),
          [s5] "=&x"(s5), [s6] "=&x"(s6), [s7] "=&x"(s7), [s8] "=&x"(s8), [s9] "=&x"(s9),
          [s10] "=&x"(s10), [s11] "=&x"(s11), [from] "+&r"(from), [weights] "+&r"(weights),
          [segments] "+&r"(segments), [stride] "+&r"(stride), [more] "+&r"(more)
        : [more_stride] "rm"(product.more_stride * 4),
          [count] "rm"(static_cast<ptrdiff_t>(product.segments)),
          [step] "i"(Step * sizeof(float)), [length] "i"(Length)
        : "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
    const Vec found[P][Q] = {{s0, s1, s2}, {s3, s4, s5}, {s6, s7, s8}, {s9, s10, s11}};
    for (int p = 0; p < P; ++p)
      for (int q = 0; q < Q; ++q) sum[p][q] = found[p][q];
    return;
  }
#endif
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q) sum[p][q] = Vec{};
  const auto add = [&](const float* in, ptrdiff_t stride) {
    for (int s = 0; s < product.segments; ++s, in += stride) {
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
  };
  add(product.in + at, product.segment_stride);
  if (product.more) add(product.more + at, product.more_stride);
}

template <int P, int Q, int Width, int Length, int Step>
inline void tile(const Product& product, ptrdiff_t at, const float* weights, const float* bias,
                 float* out) {
  Vec sum[P][Q];
  dot<P, Q, Width, Length, Step>(product, at, weights, sum);
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q) {
      float* to = out + q * product.out_stride + p * kLanes;
      store(to, sum[p][q] + load(bias ? bias + q * kLanes : to));
    }
}

template <int Q, int Width, int Length, int Step>
inline void tiles(const Product& product, int first, int count, const float* weights,
                  const float* bias, float* out) {
  const ptrdiff_t at = static_cast<ptrdiff_t>(first) * Step;
  out += static_cast<ptrdiff_t>(first) * kLanes;
  int p = 0;
  for (; p + kPixels <= count; p += kPixels)
    tile<kPixels, Q, Width, Length, Step>(product, at + p * Step, weights, bias, out + p * kLanes);
  for (; p + 2 <= count; p += 2)
    tile<2, Q, Width, Length, Step>(product, at + p * Step, weights, bias, out + p * kLanes);
  for (; p < count; ++p)
    tile<1, Q, Width, Length, Step>(product, at + p * Step, weights, bias, out + p * kLanes);
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
  const int segments = product.segments * (product.more ? 2 : 1);
  const ptrdiff_t rows = static_cast<ptrdiff_t>(segments) * Length * kLanes;
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
    case kImage3: return panels<9, 3>(product);
    case kImage5: return panels<15, 3>(product);
  }
}

// B^T d and A^T m of F(4, 3) with the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, "Fast
// algorithms for convolutional neural networks", CVPR 2016).
inline void transform_in(const Vec d[6], Vec t[6]) {
  const Vec even = d[4] - 4.f * d[2], odd = d[3] - 4.f * d[1];
  const Vec wide = d[4] - d[2], narrow = d[3] - d[1];
  t[0] = 4.f * d[0] - 5.f * d[2] + d[4];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = wide + 2.f * narrow;
  t[4] = wide - 2.f * narrow;
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

// B^T d B of `count` tiles: columns first, into `down`, and then rows; point f of tile t goes to
// points + f * stride + t * kLanes. Pointers are the caller's own, not those of a struct, which the
// compiler would read again after each store.
inline void transform_tiles(const float* const in[6], int count, float* down, float* points,
                            ptrdiff_t stride) {
  const float* const from[6] = {in[0], in[1], in[2], in[3], in[4], in[5]};
  const ptrdiff_t row = (count * kTile + 2) * kLanes;
  for (ptrdiff_t c = 0; c < row; c += kLanes) {
    Vec d[6], t[6];
    for (int r = 0; r < 6; ++r) d[r] = load(from[r] + c);
    transform_in(d, t);
    for (int r = 0; r < 6; ++r) store(down + r * row + c, t[r]);
  }
  for (int r = 0; r < 6; ++r)
    for (int tile = 0; tile < count; ++tile) {
      Vec d[6], t[6];
      const float* at = down + r * row + tile * kTile * kLanes;
      for (int c = 0; c < 6; ++c) d[c] = load(at + c * kLanes);
      transform_in(d, t);
      float* to = points + r * 6 * stride + tile * kLanes;
      for (int c = 0; c < 6; ++c) store(to + c * stride, t[c]);
    }
}

// A^T m A of one tile; `put(r, o)` takes its rows of four pixels.
template <typename Put>
inline void restore_tile(const float* points, ptrdiff_t stride, const Put& put) {
  Vec across[kTile][6];
  for (int c = 0; c < 6; ++c) {
    Vec m[6], o[kTile];
    for (int r = 0; r < 6; ++r) m[r] = load(points + (r * 6 + c) * stride);
    transform_out(m, o);
    for (int r = 0; r < kTile; ++r) across[r][c] = o[r];
  }
  for (int r = 0; r < kTile; ++r) {
    Vec o[kTile];
    transform_out(across[r], o);
    put(r, o);
  }
}

// Calls take(c, o[c]) for the `wanted` first of four pixels; no index stays a variable, which would
// send the vectors through memory.
template <typename Take>
inline void each(const Vec o[kTile], int wanted, const Take& take) {
  take(0, o[0]);
  if (wanted > 1) take(1, o[1]);
  if (wanted > 2) take(2, o[2]);
  if (wanted > 3) take(3, o[3]);
}

// A^T m A of 1 at this one of the points and 0 at the others is 1 at all 16 outputs.
constexpr int kUnit = 7;

// The 36 products of T tiles, in place: [36][T][8 in] becomes [36][T][8 out].
template <int T>
void multiply(float* points, const float* weights, Vec bias) {
  for (int f = 0; f < kPoints; ++f, points += T * kLanes, weights += kLanes * kLanes) {
    Vec sum[T];
    for (int t = 0; t < T; ++t) sum[t] = f == kUnit ? bias : Vec{};
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) {
      const Vec weight = load(weights + k * kLanes);
      for (int t = 0; t < T; ++t) sum[t] += weight * points[t * kLanes + k];
    }
    for (int t = 0; t < T; ++t) store(points + t * kLanes, sum[t]);
  }
}

// T tiles of one block, from pixel `first` on.
template <int T, bool Residual>
void tile_batch(const Grouped& grouped, int block, int first, float* scratch) {
  float* points = scratch + kDownScratch;
  const float* in[kTile + 2];
  const ptrdiff_t start = static_cast<ptrdiff_t>(first) * kLanes;
  for (int r = 0; r < kTile + 2; ++r) in[r] = grouped.rows[r] + block * grouped.in_stride + start;
  float* out[kTile];
  const float* residual[kTile];
  for (int r = 0; r < kTile; ++r) {
    out[r] = grouped.out[r] ? grouped.out[r] + block * grouped.out_stride + start : nullptr;
    if (Residual && out[r])
      residual[r] = grouped.residual[r] + block * grouped.residual_stride + start;
  }
  const Vec slope = splat(grouped.slope);
  const int pixels = grouped.pixels - first;
  transform_tiles(in, T, scratch, points, T * kLanes);
  multiply<T>(points, grouped.weights + block * kPoints * kLanes * kLanes,
              load(grouped.bias + block * kLanes));
  for (int tile = 0; tile < T; ++tile) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(tile) * kTile * kLanes;
    restore_tile(points + tile * kLanes, T * kLanes, [&](int r, const Vec* o) {
      if (!out[r]) return;
      float* const to = out[r] + at;
      const float* const more = Residual ? residual[r] + at : nullptr;
      each(o, pixels - tile * kTile, [&](int c, Vec value) {
        if (Residual) {
          value += load(more + c * kLanes);
          value = larger(value, value * slope);
        }
        store(to + c * kLanes, value);
      });
    });
  }
}

template <int T, bool Residual>
void tile_batches(int count, const Grouped& grouped, int block, int first, float* scratch) {
  if (count == T) return tile_batch<T, Residual>(grouped, block, first, scratch);
  if constexpr (T > 1) tile_batches<T - 1, Residual>(count, grouped, block, first, scratch);
}

void grouped(const Grouped& grouped, float* scratch) {
  const int all = (grouped.pixels + kTile - 1) / kTile;
  const int batches = (all + kBatch - 1) / kBatch;
  const auto batch = grouped.residual[0] ? tile_batches<kBatch, true> : tile_batches<kBatch, false>;
  for (int block = 0; block < grouped.blocks; ++block)
    for (int i = 0; i < batches; ++i) {  // of nearly one size
      const int from = all * i / batches, to = all * (i + 1) / batches;
      batch(to - from, grouped, block, from * kTile, scratch);
    }
}

void ungrouped(const Ungrouped& conv, float* scratch) {
  static const float zeros[kMostOutBlocks * kLanes] = {};
  const int all = (conv.pixels + kTile - 1) / kTile;
  for (int first = 0; first < all; first += kUngroupedTiles) {
    const int count = all - first < kUngroupedTiles ? all - first : kUngroupedTiles;
    const ptrdiff_t start = static_cast<ptrdiff_t>(first) * kTile * kLanes;
    const ptrdiff_t plane = count * kLanes;
    float* points = scratch + kDownScratch;  // [36][block][count][8]
    float* sums = points + kPoints * conv.blocks * plane;
    for (int block = 0; block < conv.blocks; ++block) {
      const float* in[kTile + 2];
      for (int r = 0; r < kTile + 2; ++r) in[r] = conv.rows[r] + block * conv.in_stride + start;
      transform_tiles(in, count, scratch, points + block * plane, conv.blocks * plane);
    }
    for (int f = 0; f < kPoints; ++f)
      panels<8, 8>({points + f * conv.blocks * plane, plane, conv.blocks,
                    conv.weights + static_cast<ptrdiff_t>(f) * conv.blocks * conv.out_blocks *
                                       kLanes * kLanes,
                    zeros, sums + f * conv.out_blocks * plane, plane, conv.out_blocks, count, nullptr,
                    0});
    for (int block = 0; block < conv.out_blocks; ++block)
      for (int tile = 0; tile < count; ++tile) {
        const int x = tile * kTile;
        restore_tile(sums + block * plane + tile * kLanes, conv.out_blocks * plane,
                     [&](int r, const Vec* o) {
                       if (!conv.out[r]) return;
                       float* to = conv.out[r] + block * conv.out_stride + start + x * kLanes;
                       each(o, conv.pixels - first * kTile - x, [&](int c, Vec value) {
                         store(to + c * kLanes, load(to + c * kLanes) + value);
                       });
                     });
      }
  }
}

void statistics(const float* in, ptrdiff_t stride, int blocks, int pixels, float* mean,
                float* squares) {
  for (int block = 0; block < blocks; ++block, in += stride) {
    Vec sums[4] = {}, second[4] = {};
    int p = 0;
    for (; p + 4 <= pixels; p += 4)
      for (int i = 0; i < 4; ++i) sums[i] += load(in + (p + i) * kLanes);
    for (; p < pixels; ++p) sums[0] += load(in + p * kLanes);
    const Vec middle =
        (sums[0] + sums[1] + sums[2] + sums[3]) * (1.f / static_cast<float>(pixels));
    const auto square = [&](int p) {
      const Vec distance = load(in + p * kLanes) - middle;
      return distance * distance;
    };
    for (p = 0; p + 4 <= pixels; p += 4)
      for (int i = 0; i < 4; ++i) second[i] += square(p + i);
    for (; p < pixels; ++p) second[0] += square(p);
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

void to_bytes(float* values, size_t count) {
  uint8_t* bytes = reinterpret_cast<uint8_t*>(values);
  const Vec zero = {}, one = splat(1.f);
  for (size_t i = 0; i + kLanes <= count; i += kLanes) {  // rows are whole blocks
    // 1.5 * 2^23 rounds.
    const Vec value = smaller(larger(load(values + i), zero), one) * 255.f + 12582912.f;
    uint32_t bits[kLanes];
    memcpy(bits, &value, sizeof bits);
    for (int lane = 0; lane < kLanes; ++lane) bytes[i + lane] = static_cast<uint8_t>(bits[lane]);
  }
}

}  // namespace

extern const Kernels GIDRN_KERNELS = {GIDRN_NAME, product, grouped, ungrouped, statistics, blend, expand,
                               to_bytes};

}  // namespace gidrn
