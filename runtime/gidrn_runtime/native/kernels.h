// The inner loops of the native engine, compiled once for each instruction set.
//
// A feature map is rows of channel blocks: [H][C / 8][columns][8], float. Column 0 is a column of
// zeros, pixel x stands in column x + 1, and zeros follow up to a whole number of tiles, so that
// convolutions need no case for the left and right border. A row beyond the image is a row of zeros.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gidrn {

constexpr int kLanes = 8;        // channels in a block: one vector
constexpr int kTile = 4;         // output pixels a side of a Winograd tile, F(4x4, 3x3)
constexpr int kPoints = 36;      // (kTile + 2)^2 products a tile and pair of channels
constexpr int kPanel = 3;        // output blocks whose weights stand side by side
constexpr int kMostTerms = 16;   // terms of a dense shortcut

// out[q][p] = bias[q] + sum over segments s and places k of in[p][s][k] * weights[s][k][q], or,
// without a bias, added to what is in `out`. A 1x1 convolution has a segment a block; the row of a
// wider one has longer segments that overlap from pixel to pixel.
struct Product {
  const float* in;
  ptrdiff_t segment_stride;  // floats from a segment to the next
  int segments;
  const float* weights;  // [panel][segments * length][blocks of the panel][8]
  const float* bias;     // [blocks][8], or null to add
  float* out;
  ptrdiff_t out_stride;  // floats from an output block to the next
  int out_blocks;
  int pixels;
  const float* more;  // a second input of as many segments, whose weights follow, or null
  ptrdiff_t more_stride;
};

// Which forms of `Product` there are: length of a segment and floats from a pixel to the next.
enum Form { kPointwise /* 8, 8 */, kImage3 /* 9, 3 */, kImage5 /* 15, 3 */ };

// A grouped 3x3 convolution with eight channels a group over one row of tiles, 4 output rows.
struct Grouped {
  const float* rows[kTile + 2];  // the six input rows, at the column left of the first output
  ptrdiff_t in_stride;           // floats from a block to the next
  int blocks;
  int pixels;            // columns of the output that are wanted; tiles may reach beyond
  const float* weights;  // [block][36][8 in][8 out], transformed
  const float* bias;     // [block][8]
  const float* residual[kTile];  // added before LeakyReLU(slope); null: neither
  ptrdiff_t residual_stride;
  float slope;
  float* out[kTile];  // null for a row beyond the image
  ptrdiff_t out_stride;
};

// A 3x3 convolution over all channels, added to what is in `out`; the rows as in `Grouped`.
struct Ungrouped {
  const float* rows[kTile + 2];
  ptrdiff_t in_stride;
  int blocks;
  int pixels;
  const float* weights;  // [36] of a 1x1 convolution's, transformed
  float* out[kTile];
  ptrdiff_t out_stride;
  int out_blocks;
};

// One row of a dense shortcut: out = gate * in + sum of scale[i] * term[i].
struct Blend {
  const float* in;
  const float* gate;  // [block][8]
  int terms;
  const float* term[kMostTerms];
  float scale[kMostTerms];
  float* out;
  ptrdiff_t stride;  // floats from a block to the next, the same in all
  int blocks;
  int pixels;
};

struct Kernels {
  const char* name;
  void (*product)(Form form, const Product&);
  void (*grouped)(const Grouped&, float* scratch);  // of kGroupedScratch floats
  void (*ungrouped)(const Ungrouped&, float* scratch);  // of ungrouped_scratch(...) floats
  // Means and sums of squared distances from them over `pixels` columns: [blocks][8] each.
  void (*statistics)(const float* in, ptrdiff_t stride, int blocks, int pixels, float* mean,
                     float* squares);
  void (*blend)(const Blend&);
  // in[block][p][lane] += bias + weight * value[p], weight and bias [block][8].
  void (*expand)(float* in, ptrdiff_t stride, int blocks, int pixels, const float* weight,
                 const float* bias, const float* value);
  // In place: floats of [0, 1] as bytes, the i-th float's at byte i; halves go to even, what is no
  // number becomes 0.
  void (*to_bytes)(float* values, size_t count);
};

constexpr int kMostTiles = 12;       // tiles in one batch of a grouped convolution's product
constexpr int kUngroupedTiles = 16;  // and of the other one's
constexpr int kMostOutBlocks = 24;   // of the other one
constexpr int kDownScratch = (kTile + 2) * (kUngroupedTiles * kTile + 2) * kLanes;
constexpr int kGroupedScratch = kDownScratch + kPoints * kMostTiles * kLanes;
constexpr int ungrouped_scratch(int blocks, int out_blocks) {
  return kDownScratch + kPoints * kUngroupedTiles * kLanes * (blocks + out_blocks);
}

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace gidrn
