// The forward pass: see gidrn/networks/gidrn.py for the network and kernels.h for the layout.
//
// A residual block (LSRB) goes four rows at a time: as many rows of its 1x1 convolution as these want
// go into a ring and are read by the grouped convolution, whose epilogue adds the block's input and
// applies LeakyReLU. The blocks of a G-IDB follow each other in one pass where that pays (see
// `Layout::together`): each is a tile of rows behind the one before, whose output it takes from a ring
// of rows too, so that their maps are never stored. The fusion convolution of the four distilled maps
// takes the blocks' inputs instead (see `fold`), which are there anyhow. What a value is does not
// depend on the number of threads: border rows and columns of a strip or a thread's share are computed
// twice, by the same operations.

#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"
#include "threads.h"

namespace gidrn {
namespace {

constexpr int kSteps = 3;          // LSRBs in a G-IDB
constexpr int kStages = kSteps + 1;  // and the grouped convolution with the fusion
constexpr int kSpan = 128;         // most columns that all rows of a tile take before the next ones
constexpr int kStripSpans = 4;     // most of them in a strip
constexpr int kRing = kTile + 2;   // rows of a ring of a 1x1 convolution's output
constexpr int kFewestTiles = 64;   // rows of tiles a thread, for all stages to go in one pass
constexpr int kRows = 3 * kTile;   // and of a residual block's: the fusion takes it two tiles later
constexpr int kPadding = 2;        // zeros around the input image, for the 5x5 convolution
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{1} << 21;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
int blocks_of(int channels) { return (channels + kLanes - 1) / kLanes; }

struct Free {
  void operator()(float* at) const { free(at); }
};
using Floats = std::unique_ptr<float[], Free>;

// Throws std::bad_alloc. Large ones stand on large pages where the system has them.
Floats allocate(size_t floats) {
  size_t bytes = std::max<size_t>(floats, 1) * sizeof(float);
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  float* at = static_cast<float*>(aligned_alloc(alignment, bytes));
  if (!at) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (alignment == kHugePage) madvise(at, bytes, MADV_HUGEPAGE);
#endif
  return Floats(at);
}

// A convolution as `Product` wants it.
struct Dense {
  Floats weights, bias;
  int out_blocks = 0;

  // `weight(o, k)` is that of output o and place k; the outputs are padded to whole blocks.
  template <typename Weight, typename Bias>
  void pack(int outputs, int places, const Weight& weight, const Bias& of_bias) {
    out_blocks = blocks_of(outputs);
    weights = allocate(static_cast<size_t>(out_blocks) * kLanes * places);
    bias = allocate(static_cast<size_t>(out_blocks) * kLanes);
    float* to = weights.get();
    for (int first = 0; first < out_blocks; first += kPanel) {
      const int width = std::min(kPanel, out_blocks - first) * kLanes;
      for (int k = 0; k < places; ++k)
        for (int o = first * kLanes; o < first * kLanes + width; ++o)
          *to++ = o < outputs ? weight(o, k) : 0.f;
    }
    for (int o = 0; o < out_blocks * kLanes; ++o) bias[o] = o < outputs ? of_bias(o) : 0.f;
  }
};

// G w G^T of F(4, 3), in double: `put(f, value)` for each of the 36 points.
template <typename Put>
void transform_taps(const float* taps, const Put& put) {
  static const double g[6][3] = {{1. / 4, 0, 0},           {-1. / 6, -1. / 6, -1. / 6},
                                 {-1. / 6, 1. / 6, -1. / 6}, {1. / 24, 1. / 12, 1. / 6},
                                 {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};
  for (int r = 0; r < 6; ++r)
    for (int c = 0; c < 6; ++c) {
      double sum = 0;
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x) sum += g[r][y] * taps[y * 3 + x] * g[c][x];
      put(r * 6 + c, static_cast<float>(sum));
    }
}

// A grouped 3x3 convolution, transformed.
struct Winograd {
  Floats weights, bias;

  void pack(int channels, const float* weight, const float* of_bias) {
    weights = allocate(static_cast<size_t>(channels) * kLanes * kPoints);
    bias = allocate(static_cast<size_t>(channels));
    memcpy(bias.get(), of_bias, channels * sizeof(float));
    for (int o = 0; o < channels; ++o)
      for (int i = 0; i < kLanes; ++i) {
        const float* taps = weight + (static_cast<ptrdiff_t>(o) * kLanes + i) * 9;
        transform_taps(taps, [&](int f, float value) {
          const ptrdiff_t at = ((o / kLanes * kPoints + f) * kLanes + i) * kLanes;
          weights[at + o % kLanes] = value;
        });
      }
  }
};

struct Taken {  // a convolution as the file has it
  const float *weights, *bias;
};

struct Step {
  Dense pointwise;
  Winograd grouped;
};

struct Block {
  Step steps[kSteps];
  Winograd grouped;
  Dense fuse[2];  // see `fold`
  std::vector<float> down, down_bias, up, up_bias;
  std::vector<float> shortcut;  // of the inputs up to this block's own
};

// Where rows of tiles, or rows, and strips begin: the same for each number of threads but `rows`.
struct Cut {
  int parts, length, align;
  int begin(int i) const {
    const int units = (length + align - 1) / align;
    return std::min(length, static_cast<int>(static_cast<int64_t>(units) * i / parts) * align);
  }
};

Cut cut(int length, int align, int parts) {
  const int units = (length + align - 1) / align;
  return {std::max(1, std::min(parts, units)), length, align};
}

// The working memory of a run, for one size.
struct Scratch {
  int height, width, columns;
  Cut spans, strips;
  bool together;  // see Layout
  int ring_columns;
  ptrdiff_t block_stride, row_stride, map_size, ring_stride, image_stride;
  Floats floats, zeros, ones, image, rings, rows, planes, statistics;
  std::vector<float*> maps;
  std::vector<double> sums;
  size_t ring_size, row_size;

  float* row(int map, int y) const { return maps[map] + y * row_stride; }
  float* pixel(int map, int y, int x) const { return row(map, y) + (x + 1) * kLanes; }
};

// The rows of a map, or a ring of so many of them.
struct Rows {
  float* at;
  int count;
  ptrdiff_t row_stride, block_stride;
  int origin;  // the pixel that stands in column 1

  float* pixel(int y, int x) const {
    return at + y % count * row_stride + static_cast<ptrdiff_t>(x - origin + 1) * kLanes;
  }
};

struct Area {  // of pixels, the ends excluded
  int y0, y1, x0, x1;
};

struct Layout {
  int height, width, channels, kept, threads, out_blocks, windows;  // kept: maps between blocks

  int columns() const { return round_up(width, kTile) + 2; }
  Cut spans() const { return cut(width, kTile, (width + kSpan - 1) / kSpan); }
  Cut strips() const {  // of spans
    const int all = spans().parts;
    return cut(all, 1, (all + kStripSpans - 1) / kStripSpans);
  }
  int ring_columns() const {
    const Cut spans = this->spans(), strips = this->strips();
    int most = 0;
    for (int i = 0; i < strips.parts; ++i)
      most = std::max(most, spans.begin(strips.begin(i + 1)) - spans.begin(strips.begin(i)));
    return round_up(most, kTile) + 2 * kTile * kSteps + 2;
  }
  // Whether a block's stages go in one pass: then a thread computes up to twelve of its neighbours'
  // rows again, on either side.
  bool together() const { return threads == 1 || height / kTile >= kFewestTiles * threads; }
  int maps() const { return kept + (together() ? 0 : 2); }
  size_t map_size() const {
    return static_cast<size_t>(height) * blocks_of(channels) * columns() * kLanes;
  }
  size_t ring_size() const {
    const int rows = together() ? kSteps * (kRing + kRows) + kTile : kRing;
    const size_t ring = static_cast<size_t>(rows) * blocks_of(channels) * ring_columns() * kLanes;
    return std::max<size_t>(ring + kGroupedScratch,
                            ungrouped_scratch(blocks_of(channels), out_blocks));
  }
  size_t row_size() const { return static_cast<size_t>(out_blocks) * width * kLanes; }
  size_t zeros_size() const {
    return static_cast<size_t>(blocks_of(channels)) *
           (std::max(columns(), ring_columns()) + kTile) * kLanes;
  }
  size_t image_size() const {
    return static_cast<size_t>(height + 2 * kPadding) * (width + 2 * kPadding) * 3;
  }
  size_t planes_size() const { return static_cast<size_t>(height) * width * 3; }
  size_t statistics_size() const {
    return static_cast<size_t>(height) * spans().parts * channels * 2;
  }
  size_t sums_size() const { return static_cast<size_t>(height) * windows * 2; }
  uint64_t bytes() const {
    const size_t floats = maps() * map_size() + zeros_size() + image_size() + planes_size() +
                          threads * (ring_size() + kTile * row_size()) + statistics_size();
    return static_cast<uint64_t>(floats) * sizeof(float) + sums_size() * sizeof(double);
  }
};

std::unique_ptr<Scratch> make_scratch(const Layout& layout) {
  auto scratch = std::make_unique<Scratch>();
  Scratch& s = *scratch;
  const int blocks = blocks_of(layout.channels);
  s.height = layout.height;
  s.width = layout.width;
  s.columns = layout.columns();
  s.spans = layout.spans();
  s.strips = layout.strips();
  s.together = layout.together();
  s.ring_columns = layout.ring_columns();
  s.block_stride = static_cast<ptrdiff_t>(s.columns) * kLanes;
  s.row_stride = s.block_stride * blocks;
  s.map_size = static_cast<ptrdiff_t>(layout.map_size());
  s.ring_stride = static_cast<ptrdiff_t>(s.ring_columns) * kLanes;
  s.image_stride = static_cast<ptrdiff_t>(s.width + 2 * kPadding) * 3;
  s.ring_size = layout.ring_size();
  s.row_size = layout.row_size();
  s.floats = allocate(layout.maps() * layout.map_size());
  s.zeros = allocate(layout.zeros_size());
  s.image = allocate(layout.image_size());
  s.planes = allocate(layout.planes_size());
  s.rings = allocate(layout.threads * s.ring_size);
  s.rows = allocate(layout.threads * kTile * s.row_size);
  s.statistics = allocate(layout.statistics_size());
  for (int i = 0; i < layout.maps(); ++i) s.maps.push_back(s.floats.get() + i * s.map_size);
  std::fill_n(s.zeros.get(), layout.zeros_size(), 0.f);
  s.ones = allocate(layout.channels);
  std::fill_n(s.ones.get(), layout.channels, 1.f);
  std::fill_n(s.image.get(), layout.image_size(), 0.f);
  // Nothing writes to the columns beside the image after this.
  const ptrdiff_t beyond = (s.width + 1) * kLanes;
  for (ptrdiff_t row = 0; row < static_cast<ptrdiff_t>(layout.maps()) * s.height * blocks; ++row) {
    float* at = s.floats.get() + row * s.block_stride;
    std::fill_n(at, kLanes, 0.f);
    std::fill(at + beyond, at + s.block_stride, 0.f);
  }
  return scratch;
}

// Reads the flat weights one after the other.
class Reader {
 public:
  explicit Reader(const float* at) : at_(at) {}
  const float* take(size_t count) {
    const float* from = at_;
    at_ += count;
    return from;
  }

 private:
  const float* at_;
};

size_t convolution(size_t out, size_t in, size_t side) { return out * in * side * side + out; }

bool known(const GidrnConfig& c) {
  if (c.channels < kLanes || c.channels % kLanes || c.channels > 4096) return false;
  if (c.reduced < 1 || c.reduced > c.channels || c.blocks < 1 || c.blocks > 256) return false;
  if (c.scale < 1 || c.scale > 8 || c.knots < 0 || c.knots == 1 || c.knots > (1 << 20))
    return false;
  if (c.pools < 0 || c.pools > GIDRN_MOST_POOLS) return false;
  for (int i = 0; i < c.pools; ++i)
    if (c.pool_sizes[i] < 1 || c.pool_sizes[i] > 1024) return false;
  return true;
}

uint64_t weights_of(const GidrnConfig& c) {
  const size_t C = c.channels, outputs = 3 * c.scale * c.scale;
  const size_t grouped = convolution(C, kLanes, 3);
  const size_t block = kSteps * (convolution(C, C, 1) + grouped) + grouped +
                       convolution(C, 4 * C, 1) + convolution(c.reduced, C, 1) +
                       convolution(C, c.reduced, 1);
  const size_t anrb = c.anrb ? convolution(3, C, 1) + convolution(C, 1, 1) : 0;
  return convolution(C, 3, 3) + convolution(outputs, 3, 5) + c.blocks * block + anrb +
         convolution(outputs, C, 3) + static_cast<size_t>(c.blocks) * c.blocks;
}

// Of one axis: where each window of each pool size begins and ends, by PyTorch's adaptive rule.
struct Windows {
  std::vector<int> begin, end;
  Windows(const GidrnConfig& c, int length) {
    for (int level = 0; level < c.pools; ++level) {
      const int64_t size = c.pool_sizes[level];
      for (int64_t i = 0; i < size; ++i) {
        begin.push_back(static_cast<int>(i * length / size));
        end.push_back(static_cast<int>(((i + 1) * length + size - 1) / size));
      }
    }
  }
  int count() const { return static_cast<int>(begin.size()); }
};

}  // namespace
}  // namespace gidrn

using namespace gidrn;

struct GidrnNetwork {
  GidrnNetwork(const GidrnConfig& config, const float* weights, int threads,
               const Kernels& kernels);
  Layout layout(int height, int width) const;
  void run(GidrnKind kind, const void* in, void* out, int images, int height, int width);

 private:
  std::unique_ptr<Scratch> borrow(int height, int width);
  void give_back(std::unique_ptr<Scratch> scratch);
  void read_image(Scratch& s, GidrnKind kind, const void* in);
  void shallow(Scratch& s, int to);
  void stages(Scratch& s, const Block& block, int first, int last, const int maps[kStages],
              int fused);
  Grouped grouped(const Scratch& s, const Winograd& weights, const Rows& in, int y, int x0,
                  int x1) const;
  void residual(const Scratch& s, const Step& of, const Area& area, const Rows& from, const Rows& p,
                int& ready, const Rows& to, float* scratch) const;
  void fuse(const Dense& half, bool add, const Area& area, const Rows& one, const Rows& other,
            const Rows& to) const;
  void last(Scratch& s, const Block& block, const Area& area, int span0, int span1,
            const Rows& before, const Rows& from, const Rows& found, const Rows& fused,
            float* scratch) const;
  void gate(const Scratch& s, const Block& block, float* to) const;
  void attend(Scratch& s, int map);
  void pixels(Scratch& s, int map, GidrnKind kind, void* out);
  void shuffle(const Scratch& s, float* row, int y, GidrnKind kind, void* out) const;
  void product(Form form, const float* in, ptrdiff_t stride, int segments,
               const Dense& dense, bool add, float* out, ptrdiff_t out_stride, int count,
               const float* more = nullptr, ptrdiff_t more_stride = 0) const;
  template <typename Task>
  void in_rows(int height, const Task& task, int align = 1);
  int kept() const;
  void fold(Block& block, const std::vector<Taken>& points, const float* fuse,
            const float* bias) const;

  const GidrnConfig config_;
  const Kernels& kernels_;
  const int blocks_;  // of channels
  Pool pool_;
  Dense shallow_, coarse_, project_, fine_;
  std::vector<Block> body_;
  std::vector<int> last_use_;  // of each input, the block whose output it is last added to
  Floats expand_, expand_bias_;
  std::mutex idle_mutex_;
  std::unique_ptr<Scratch> idle_;
};

GidrnNetwork::GidrnNetwork(const GidrnConfig& config, const float* weights, int threads,
                           const Kernels& kernels)
    : config_(config),
      kernels_(kernels),
      blocks_(config.channels / kLanes),
      pool_(threads),
      body_(config.blocks) {
  const int C = config.channels, outputs = 3 * config.scale * config.scale;
  Reader reader(weights);
  {
    const float* w = reader.take(C * 27);
    const float* b = reader.take(C);
    shallow_.pack(
        C, 27, [&](int o, int k) { return w[(o * 3 + k % 3) * 9 + k / 3]; },
        [&](int o) { return b[o]; });
  }
  const float* coarse_weights = reader.take(outputs * 75);
  const float* coarse_bias = reader.take(outputs);
  for (Block& block : body_) {
    std::vector<Taken> points;
    for (Step& step : block.steps) {
      const float* w = reader.take(C * C);
      const float* b = reader.take(C);
      points.push_back({w, b});
      step.pointwise.pack(
          C, C, [&](int o, int k) { return w[o * C + k]; }, [&](int o) { return b[o]; });
      w = reader.take(C * kLanes * 9);
      step.grouped.pack(C, w, reader.take(C));
    }
    const float* w = reader.take(C * kLanes * 9);
    block.grouped.pack(C, w, reader.take(C));
    w = reader.take(C * 4 * C);
    const float* b = reader.take(C);
    fold(block, points, w, b);
    const auto vector = [&](size_t count) {
      const float* from = reader.take(count);
      return std::vector<float>(from, from + count);
    };
    block.down = vector(config.reduced * C);
    block.down_bias = vector(config.reduced);
    block.up = vector(C * config.reduced);
    block.up_bias = vector(C);
  }
  if (config.anrb) {
    const float* w = reader.take(3 * C);
    const float* b = reader.take(3);
    project_.pack(
        3, C, [&](int o, int k) { return w[o * C + k]; }, [&](int o) { return b[o]; });
    expand_ = allocate(C);
    expand_bias_ = allocate(C);
    memcpy(expand_.get(), reader.take(C), C * sizeof(float));
    memcpy(expand_bias_.get(), reader.take(C), C * sizeof(float));
  }
  const float* fine_weights = reader.take(outputs * C * 9);
  const float* fine_bias = reader.take(outputs);
  fine_.out_blocks = blocks_of(outputs);
  const size_t plane = static_cast<size_t>(fine_.out_blocks) * kLanes * C;
  fine_.weights = allocate(plane * kPoints);
  std::vector<float> transformed(static_cast<size_t>(outputs) * C * kPoints);
  for (int i = 0; i < outputs * C; ++i)
    transform_taps(fine_weights + static_cast<ptrdiff_t>(i) * 9, [&](int f, float value) {
      transformed[static_cast<size_t>(i) * kPoints + f] = value;
    });
  for (int f = 0; f < kPoints; ++f) {  // each a 1x1 convolution's
    Dense point;
    point.pack(
        outputs, C,
        [&](int o, int k) { return transformed[(static_cast<size_t>(o) * C + k) * kPoints + f]; },
        [](int) { return 0.f; });
    memcpy(fine_.weights.get() + f * plane, point.weights.get(), plane * sizeof(float));
  }
  coarse_.pack(
      outputs, 75, [&](int o, int k) { return coarse_weights[(o * 3 + k % 3) * 25 + k / 3]; },
      [&](int o) { return coarse_bias[o] + fine_bias[o]; });
  last_use_.assign(config.blocks + 1, -1);
  for (int j = 0; j < config.blocks; ++j) {
    const float* row = reader.take(config.blocks);
    body_[j].shortcut.assign(row, row + j + 1);
    last_use_[j] = std::max(last_use_[j], j);
    for (int i = 0; i <= j; ++i)
      if (row[i] != 0) last_use_[i] = j;
  }
  last_use_[config.blocks] = config.blocks;
}

// The fusion convolution is F_1 p_1 + ... + F_4 p_4 with p = pointwise(x) in the first three, which
// are folded, in double: F p = (F W) x + F b. So its four parts take two and two, as products twice
// as long, the inputs x of the first two residual blocks, and that of the third one with p_4.
void GidrnNetwork::fold(Block& block, const std::vector<Taken>& points, const float* fuse,
                        const float* bias) const {
  const int C = config_.channels, parts = kSteps + 1;
  std::vector<double> whole_bias(bias, bias + C), row(C);
  std::vector<float> folded(fuse, fuse + static_cast<ptrdiff_t>(C) * C * parts);  // [o][part][in]
  for (int o = 0; o < C; ++o)
    for (int part = 0; part < kSteps; ++part) {
      float* to = folded.data() + (static_cast<ptrdiff_t>(o) * parts + part) * C;
      std::fill(row.begin(), row.end(), 0.);
      for (int m = 0; m < C; ++m) {
        const double f = to[m];
        whole_bias[o] += f * points[part].bias[m];
        for (int k = 0; k < C; ++k) row[k] += f * points[part].weights[m * C + k];
      }
      std::copy(row.begin(), row.end(), to);
    }
  for (int half = 0; half < 2; ++half)
    block.fuse[half].pack(
        C, 2 * C, [&](int o, int k) { return folded[(o * 2 + half) * 2 * C + k]; },
        [&](int o) { return static_cast<float>(whole_bias[o]); });
}

// One for the fusion's sum, and the inputs that a later block still wants.
int GidrnNetwork::kept() const {
  int most = 0;
  for (int j = 0; j < config_.blocks; ++j) {
    int inputs = 0;
    for (int i = 0; i <= j; ++i) inputs += last_use_[i] >= j;
    most = std::max(most, inputs);
  }
  return most + 1;
}

Layout GidrnNetwork::layout(int height, int width) const {
  int windows = 0;
  for (int i = 0; config_.anrb && i < config_.pools; ++i) windows += config_.pool_sizes[i];
  return {height, width, config_.channels, kept(), pool_.size(), fine_.out_blocks, windows};
}

std::unique_ptr<Scratch> GidrnNetwork::borrow(int height, int width) {
  std::unique_ptr<Scratch> found;
  {
    const std::lock_guard<std::mutex> lock(idle_mutex_);
    found = std::move(idle_);
  }
  if (found && found->height == height && found->width == width) return found;
  found.reset();  // before the new one is made: both may not fit
  return make_scratch(layout(height, width));
}

void GidrnNetwork::give_back(std::unique_ptr<Scratch> scratch) {
  const std::lock_guard<std::mutex> lock(idle_mutex_);
  if (!idle_) idle_ = std::move(scratch);
}

template <typename Task>
void GidrnNetwork::in_rows(int height, const Task& task, int align) {
  // A few parts a thread, so that one that is held up holds up little.
  const Cut rows = cut(height, align, pool_.size() == 1 ? 1 : 4 * pool_.size());
  pool_.run(rows.parts, [&](int i, int slot) {
    for (int y = rows.begin(i); y < rows.begin(i + 1); y += align) task(y, slot);
  });
}

void GidrnNetwork::product(Form form, const float* in, ptrdiff_t stride,
                           int segments, const Dense& dense, bool add, float* out,
                           ptrdiff_t out_stride, int count, const float* more,
                           ptrdiff_t more_stride) const {
  kernels_.product(form, {in, stride, segments, dense.weights.get(),
                          add ? nullptr : dense.bias.get(), out, out_stride, dense.out_blocks,
                          count, more, more_stride});
}

void GidrnNetwork::read_image(Scratch& s, GidrnKind kind, const void* in) {
  const ptrdiff_t plane = static_cast<ptrdiff_t>(s.height) * s.width;
  in_rows(s.height, [&](int y, int) {
    float* to = s.image.get() + (y + kPadding) * s.image_stride + kPadding * 3;
    if (kind == GIDRN_FLOAT) {
      const float* from = static_cast<const float*>(in) + static_cast<ptrdiff_t>(y) * s.width;
      for (int x = 0; x < s.width; ++x)
        for (int c = 0; c < 3; ++c) to[x * 3 + c] = from[c * plane + x];
    } else {
      const uint8_t* from =
          static_cast<const uint8_t*>(in) + static_cast<ptrdiff_t>(y) * s.width * 3;
      for (int x = 0; x < s.width; ++x)
        for (int c = 0; c < 3; ++c)
          to[x * 3 + c] = static_cast<float>(from[x * 3 + (kind == GIDRN_BGR ? 2 - c : c)]) / 255.f;
    }
  });
}

void GidrnNetwork::shallow(Scratch& s, int to) {
  in_rows(s.height, [&](int y, int) {
    const float* in = s.image.get() + (y + kPadding - 1) * s.image_stride + (kPadding - 1) * 3;
    product(kImage3, in, s.image_stride, 3, shallow_, false, s.pixel(to, y, 0), s.block_stride,
            s.width);
  });
}

// The stages `first` to `last` of a block in one pass: three LSRBs, and the last grouped convolution.
// `maps` are the stages' inputs, of which those between the first and the last stage stay unused; the
// output of the last one, where it is an LSRB, is the next one's input. The second stage and the fourth
// also compute their halves of the fusion convolution, into `fused`.
void GidrnNetwork::stages(Scratch& s, const Block& block, int first, int last,
                          const int maps[kStages], int fused) {
  const Cut parts = cut(s.height, kTile, pool_.size());
  const int tiles = (s.height + kTile - 1) / kTile;
  pool_.run(parts.parts * s.strips.parts, [&](int task, int slot) {
    const int part = task / s.strips.parts, strip = task % s.strips.parts;
    const int y0 = parts.begin(part) / kTile, y1 = (parts.begin(part + 1) + kTile - 1) / kTile;
    const int span0 = s.strips.begin(strip), span1 = s.strips.begin(strip + 1);
    const int x0 = s.spans.begin(span0), x1 = s.spans.begin(span1);
    const int origin = std::max(0, x0 - kTile * kSteps), beyond = s.width - origin + 1;
    float* free = s.rings.get() + slot * s.ring_size;
    const auto ring = [&](int rows) {
      const Rows made = {free, rows, blocks_ * s.ring_stride, s.ring_stride, origin};
      for (int i = 0; i < rows * blocks_; ++i, free += s.ring_stride) {
        // No stage fills the columns beside the image.
        if (origin == 0) std::fill_n(free, kLanes, 0.f);
        if (beyond < s.ring_columns) std::fill(free + beyond * kLanes, free + s.ring_stride, 0.f);
      }
      return made;
    };
    const auto map = [&](int i) {
      return Rows{s.maps[i], s.height, s.row_stride, s.block_stride, 0};
    };
    Rows inputs[kStages], points[kStages];
    int ready[kStages];
    for (int i = 0; i < kStages; ++i) {
      inputs[i] = i > first && i <= last ? ring(kRows) : map(maps[i]);
      if (i >= first && i <= last) points[i] = ring(i < kSteps ? kRing : kTile);
      ready[i] = std::max(0, (y0 - (last - i)) * kTile - 1);
    }
    for (int y = std::max(0, y0 - (last - first)); y < y1 + last - first; ++y)
      for (int i = first; i <= last; ++i) {
        const int row = y - (i - first), more = last - i;  // so many tiles more on every side
        if (row < std::max(0, y0 - more) || row >= std::min(tiles, y1 + more)) continue;
        const Area inside = {row * kTile, std::min((row + 1) * kTile, s.height), x0, x1};
        const bool wanted = row >= y0 && row < y1;
        if (i == kSteps) {
          this->last(s, block, inside, span0, span1, inputs[i - 1], inputs[i], points[i],
                     map(fused), free);
          continue;
        }
        Area area = inside;
        area.x0 = std::max(0, x0 - more * kTile);
        area.x1 = std::min(s.width, x1 + more * kTile);
        residual(s, block.steps[i], area, inputs[i], points[i], ready[i], inputs[i + 1], free);
        if (i == 1 && wanted)
          fuse(block.fuse[0], false, inside, inputs[i - 1], inputs[i], map(fused));
      }
  });
}

// A grouped convolution of columns x0 to x1 of `in`; what becomes of them is left open.
Grouped GidrnNetwork::grouped(const Scratch& s, const Winograd& weights, const Rows& in, int y,
                              int x0, int x1) const {
  Grouped made = {};
  for (int r = 0; r < kTile + 2; ++r) {
    const int at = y + r - 1;
    made.rows[r] = at < 0 || at >= s.height ? s.zeros.get() : in.pixel(at, x0 - 1);
  }
  made.in_stride = in.block_stride;
  made.blocks = blocks_;
  made.pixels = x1 - x0;
  made.weights = weights.weights.get();
  made.bias = weights.bias.get();
  return made;
}

// One LSRB: `to` = LeakyReLU(grouped(p) + `from`) where p = pointwise(`from`), whose rows before
// `ready` are there.
void GidrnNetwork::residual(const Scratch& s, const Step& of, const Area& area, const Rows& from,
                            const Rows& p, int& ready, const Rows& to, float* scratch) const {
  const int end = std::min(area.y1 + 1, s.height), right = std::min(area.x1 + 1, s.width);
  const Cut spans = cut(area.x1 - area.x0, kTile, (area.x1 - area.x0 + kSpan - 1) / kSpan);
  int done = std::max(0, area.x0 - 1);
  for (int i = 0; i < spans.parts; ++i) {
    const int x0 = area.x0 + spans.begin(i), x1 = area.x0 + spans.begin(i + 1);
    const int columns = (x1 == area.x1 ? right : std::min(right, x1 + kTile)) - done;
    for (int y = ready; y < end; ++y)
      product(kPointwise, from.pixel(y, done), from.block_stride, blocks_, of.pointwise, false,
              p.pixel(y, done), p.block_stride, columns);
    done += columns;
    Grouped conv = grouped(s, of.grouped, p, area.y0, x0, x1);
    for (int y = area.y0; y < area.y1; ++y) {
      conv.residual[y - area.y0] = from.pixel(y, x0);
      conv.out[y - area.y0] = to.pixel(y, x0);
    }
    conv.residual_stride = from.block_stride;
    conv.out_stride = to.block_stride;
    conv.slope = config_.slope;
    kernels_.grouped(conv, scratch);
  }
  ready = end;
}

// A half of the fusion convolution, of two maps; the second is added to the first.
void GidrnNetwork::fuse(const Dense& half, bool add, const Area& area, const Rows& one,
                        const Rows& other, const Rows& to) const {
  for (int y = area.y0; y < area.y1; ++y)
    product(kPointwise, one.pixel(y, area.x0), one.block_stride, blocks_, half, add,
            to.pixel(y, area.x0), to.block_stride, area.x1 - area.x0, other.pixel(y, area.x0),
            other.block_stride);
}

// The last grouped convolution, the fusion's half of it and of the map `before`, and the statistics
// of each row's spans of the sum.
void GidrnNetwork::last(Scratch& s, const Block& block, const Area& area, int span0, int span1,
                        const Rows& before, const Rows& from, const Rows& found,
                        const Rows& fused, float* scratch) const {
  for (int span = span0; span < span1; ++span) {
    const Area part = {area.y0, area.y1, s.spans.begin(span), s.spans.begin(span + 1)};
    Grouped conv = grouped(s, block.grouped, from, part.y0, part.x0, part.x1);
    for (int y = part.y0; y < part.y1; ++y) conv.out[y - part.y0] = found.pixel(y, part.x0);
    conv.out_stride = found.block_stride;
    kernels_.grouped(conv, scratch);
    fuse(block.fuse[1], true, part, before, found, fused);
    for (int y = part.y0; y < part.y1; ++y) {
      float* to = s.statistics.get() +
                  static_cast<ptrdiff_t>(y * s.spans.parts + span) * config_.channels * 2;
      kernels_.statistics(fused.pixel(y, part.x0), fused.block_stride, blocks_, part.x1 - part.x0,
                          to, to + config_.channels);
    }
  }
}

// Contrast-aware channel attention: what each channel is multiplied by. The parts' means and squares
// are joined in double (Chan, Golub and LeVeque, 1979).
void GidrnNetwork::gate(const Scratch& s, const Block& block, float* to) const {
  const int C = config_.channels;
  std::vector<float> contrast(C), hidden(config_.reduced);
  for (int c = 0; c < C; ++c) {
    double count = 0, mean = 0, squares = 0;
    const float* part = s.statistics.get() + c;
    for (int y = 0; y < s.height; ++y)
      for (int span = 0; span < s.spans.parts; ++span, part += 2 * C) {
        const double more = s.spans.begin(span + 1) - s.spans.begin(span);
        const double difference = part[0] - mean, all = count + more;
        mean += difference * more / all;
        squares += part[C] + difference * difference * count * more / all;
        count = all;
      }
    contrast[c] = static_cast<float>(sqrt(std::max(squares / count, 1e-12)) + mean);
  }
  for (int r = 0; r < config_.reduced; ++r) {
    float sum = block.down_bias[r];
    for (int c = 0; c < C; ++c) sum += block.down[r * C + c] * contrast[c];
    hidden[r] = std::max(0.f, sum);
  }
  for (int c = 0; c < C; ++c) {
    float sum = block.up_bias[c];
    for (int r = 0; r < config_.reduced; ++r) sum += block.up[c * config_.reduced + r] * hidden[r];
    to[c] = static_cast<float>(1 / (1 + exp(-static_cast<double>(sum))));
  }
}

// The asymmetric non-local block, added to `map`: exact, or as the curve that the export writes
// (export/rewrites/attention.py): read off `knots` points by linear interpolation.
void GidrnNetwork::attend(Scratch& s, int map) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(s.height) * s.width;
  float* query = s.planes.get();
  float* keys = query + size;
  float* values = keys + size;
  const Windows across(config_, s.width), down(config_, s.height);
  s.sums.assign(static_cast<size_t>(s.height) * across.count() * 2, 0.);
  in_rows(s.height, [&](int y, int slot) {
    float* row = s.rows.get() + slot * kTile * s.row_size;
    product(kPointwise, s.pixel(map, y, 0), s.block_stride, blocks_, project_, false, row,
            static_cast<ptrdiff_t>(s.width) * kLanes, s.width);
    float* const to[3] = {query + static_cast<ptrdiff_t>(y) * s.width,
                          keys + static_cast<ptrdiff_t>(y) * s.width,
                          values + static_cast<ptrdiff_t>(y) * s.width};
    for (int x = 0; x < s.width; ++x)
      for (int i = 0; i < 3; ++i) to[i][x] = row[x * kLanes + i];
    double* sums = s.sums.data() + static_cast<ptrdiff_t>(y) * across.count() * 2;
    for (int i = 0; i < across.count(); ++i)
      for (int x = across.begin[i]; x < across.end[i]; ++x) {
        sums[2 * i] += to[1][x];
        sums[2 * i + 1] += to[2][x];
      }
  });
  std::vector<float> pooled_keys, pooled_values;
  for (int level = 0, first = 0; level < config_.pools; first += config_.pool_sizes[level++])
    for (int i = first; i < first + config_.pool_sizes[level]; ++i)
      for (int j = first; j < first + config_.pool_sizes[level]; ++j) {
        double sums[2] = {};
        for (int y = down.begin[i]; y < down.end[i]; ++y)
          for (int k = 0; k < 2; ++k)
            sums[k] += s.sums[(static_cast<size_t>(y) * across.count() + j) * 2 + k];
        const double area = static_cast<double>(down.end[i] - down.begin[i]) *
                            (across.end[j] - across.begin[j]);
        pooled_keys.push_back(static_cast<float>(sums[0] / area));
        pooled_values.push_back(static_cast<float>(sums[1] / area));
      }
  const ptrdiff_t points = config_.pools ? static_cast<ptrdiff_t>(pooled_keys.size()) : size;
  const float* const key = config_.pools ? pooled_keys.data() : keys;
  const float* const value = config_.pools ? pooled_values.data() : values;
  const float least_key = *std::min_element(key, key + points);
  const float most_key = *std::max_element(key, key + points);
  const auto exact = [&](float q) {
    const float most = std::max(q * least_key, q * most_key);
    double weights = 0, sum = 0;  // of a frame's points, of which float would lose the last
    for (ptrdiff_t j = 0; j < points; ++j) {
      const float weight = expf(q * key[j] - most);
      weights += weight;
      sum += weight * value[j];
    }
    return static_cast<float>(sum / weights);
  };
  const float slope = std::max((most_key - least_key) / 4.f, 1e-6f);
  const auto warp = [&](float q) { return copysignf(logf(1 + fabsf(q) * slope), q); };
  std::vector<float> table(config_.knots);
  float low = 0, width = 0;
  if (config_.knots) {
    low = warp(*std::min_element(query, query + size));
    width = warp(*std::max_element(query, query + size)) - low;
    for (int i = 0; i < config_.knots; ++i) {
      const double u = low + width * (static_cast<double>(i) / (config_.knots - 1));
      table[i] = exact(static_cast<float>(copysign(expm1(fabs(u)) / slope, u)));
    }
  }
  const float spread = static_cast<float>(config_.knots - 1) / std::max(width, 1e-20f);
  in_rows(s.height, [&](int y, int) {
    float* row = query + static_cast<ptrdiff_t>(y) * s.width;
    for (int x = 0; x < s.width; ++x) {
      if (!config_.knots) {
        row[x] = exact(row[x]);
        continue;
      }
      const float position = (warp(row[x]) - low) * spread;
      // The comparison also catches what is no number, which would be no index.
      const int last = config_.knots - 2;
      const int at = position >= 0 ? static_cast<int>(std::min<float>(position, last)) : 0;
      row[x] = table[at] + (position - static_cast<float>(at)) * (table[at + 1] - table[at]);
    }
    kernels_.expand(s.pixel(map, y, 0), s.block_stride, blocks_, s.width, expand_.get(),
                    expand_bias_.get(), row);
  });
}

// Fine and coarse branch and pixel shuffle, four rows at a time.
void GidrnNetwork::pixels(Scratch& s, int map, GidrnKind kind, void* out) {
  const ptrdiff_t stride = static_cast<ptrdiff_t>(s.width) * kLanes;
  in_rows(
      s.height,
      [&](int y, int slot) {
        float* rows = s.rows.get() + slot * kTile * s.row_size;
        const int count = std::min(kTile, s.height - y);
        for (int r = 0; r < count; ++r)
          product(kImage5, s.image.get() + (y + r) * s.image_stride, s.image_stride, 5, coarse_,
                  false, rows + r * s.row_size, stride, s.width);
        Ungrouped fine = {};
        for (int r = 0; r < kTile + 2; ++r) {
          const int at = y + r - 1;
          fine.rows[r] = at < 0 || at >= s.height ? s.zeros.get() : s.row(map, at);
        }
        for (int r = 0; r < count; ++r) fine.out[r] = rows + r * s.row_size;
        fine.in_stride = s.block_stride;
        fine.blocks = blocks_;
        fine.pixels = s.width;
        fine.weights = fine_.weights.get();
        fine.out_stride = stride;
        fine.out_blocks = fine_.out_blocks;
        kernels_.ungrouped(fine, s.rings.get() + slot * s.ring_size);
        for (int r = 0; r < count; ++r)
          shuffle(s, rows + r * s.row_size, y + r, kind, out);
      },
      kTile);
}

// One row of the convolutions' output as `scale` lines of pixels.
void GidrnNetwork::shuffle(const Scratch& s, float* row, int y, GidrnKind kind, void* out) const {
  const int scale = config_.scale;
  const ptrdiff_t wide = static_cast<ptrdiff_t>(s.width) * scale;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(s.width) * kLanes;
  const uint8_t* bytes = nullptr;
  if (kind != GIDRN_FLOAT) {
    kernels_.to_bytes(row, s.row_size);
    bytes = reinterpret_cast<const uint8_t*>(row);
  }
  for (int c = 0; c < 3; ++c)
    for (int dy = 0; dy < scale; ++dy) {
      const ptrdiff_t line = static_cast<ptrdiff_t>(y) * scale + dy;
      for (int dx = 0; dx < scale; ++dx) {
        const int channel = (c * scale + dy) * scale + dx;
        const ptrdiff_t from = channel / kLanes * stride + channel % kLanes;
        if (kind == GIDRN_FLOAT) {
          float* to = static_cast<float*>(out) +
                      (static_cast<ptrdiff_t>(c) * s.height * scale + line) * wide + dx;
          for (int x = 0; x < s.width; ++x)
            to[static_cast<ptrdiff_t>(x) * scale] = row[from + x * kLanes];
        } else {
          uint8_t* to = static_cast<uint8_t*>(out) + (line * wide + dx) * 3 +
                        (kind == GIDRN_BGR ? 2 - c : c);
          for (int x = 0; x < s.width; ++x)
            to[static_cast<ptrdiff_t>(x) * scale * 3] = bytes[from + x * kLanes];
        }
      }
    }
}

void GidrnNetwork::run(GidrnKind kind, const void* in, void* out, int images, int height,
                       int width) {
  std::unique_ptr<Scratch> scratch = borrow(height, width);
  Scratch& s = *scratch;
  const size_t size = kind == GIDRN_FLOAT ? sizeof(float) : 1;
  const size_t in_bytes = static_cast<size_t>(height) * width * 3 * size;
  const size_t out_bytes = in_bytes * config_.scale * config_.scale;
  Floats gates = allocate(config_.channels);
  for (int image = 0; image < images; ++image) {
    read_image(s, kind, static_cast<const char*>(in) + image * in_bytes);
    std::vector<int> free_maps, inputs;
    for (int i = static_cast<int>(s.maps.size()); i-- > 0;) free_maps.push_back(i);
    const auto take = [&] {
      const int map = free_maps.back();
      free_maps.pop_back();
      return map;
    };
    // Of residual blocks, where they go one by one.
    const int here = s.together ? -1 : take(), there = s.together ? -1 : take();
    const int step = s.together ? kStages : 1;
    inputs.push_back(take());
    shallow(s, inputs[0]);
    for (int j = 0; j < config_.blocks; ++j) {
      const Block& block = body_[j];
      const int fused = take();
      const int maps[kStages] = {inputs[j], here, there, here};
      for (int first = 0; first < kStages; first += step)
        stages(s, block, first, first + step - 1, maps, fused);
      gate(s, block, gates.get());
      in_rows(s.height, [&](int y, int) {
        Blend blend = {};
        blend.in = blend.out = s.pixel(fused, y, 0);
        blend.gate = gates.get();
        blend.stride = s.block_stride;
        blend.blocks = blocks_;
        blend.pixels = s.width;
        for (int i = 0; i <= j; ++i) {
          if (block.shortcut[i] == 0) continue;
          if (blend.terms == kMostTerms) {  // the rest in another go
            kernels_.blend(blend);
            blend.terms = 0;
            blend.gate = s.ones.get();
          }
          blend.term[blend.terms] = s.pixel(inputs[i], y, 0);
          blend.scale[blend.terms++] = block.shortcut[i];
        }
        kernels_.blend(blend);
      });
      inputs.push_back(fused);
      for (int i = 0; i <= j; ++i)
        if (last_use_[i] == j) free_maps.push_back(inputs[i]);
    }
    if (config_.anrb) attend(s, inputs.back());
    pixels(s, inputs.back(), kind, static_cast<char*>(out) + image * out_bytes);
  }
  give_back(std::move(scratch));
}

namespace {

const Kernels* find_kernels(const char* name) {
#if defined(__x86_64__)
  if (!strcmp(name, kAvx512.name))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
               ? &kAvx512
               : nullptr;
  if (!strcmp(name, kAvx2.name))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kAvx2 : nullptr;
#endif
  return strcmp(name, kPortable.name) ? nullptr : &kPortable;
}

}  // namespace

extern "C" {

int32_t gidrn_interface(void) { return GIDRN_INTERFACE; }

int32_t gidrn_has(const char* instructions) { return find_kernels(instructions) != nullptr; }

uint64_t gidrn_weights(const GidrnConfig* config) { return known(*config) ? weights_of(*config) : 0; }

GidrnNetwork* gidrn_open(const GidrnConfig* config, const float* weights, int32_t threads,
                         const char* instructions) {
  const Kernels* kernels = find_kernels(instructions);
  if (!kernels || !known(*config) || threads < 1) return nullptr;
  try {
    return new GidrnNetwork(*config, weights, threads, *kernels);
  } catch (...) {
    return nullptr;
  }
}

uint64_t gidrn_memory(const GidrnNetwork* network, int32_t height, int32_t width) {
  return network->layout(height, width).bytes();
}

int32_t gidrn_run(GidrnNetwork* network, int32_t kind, const void* in, void* out, int32_t images,
                  int32_t height, int32_t width) {
  if (images < 1 || height < 1 || width < 1 || kind < GIDRN_FLOAT || kind > GIDRN_BGR)
    return GIDRN_BAD_ARGUMENT;
  try {
    network->run(static_cast<GidrnKind>(kind), in, out, images, height, width);
  } catch (const std::bad_alloc&) {
    return GIDRN_NO_MEMORY;
  }
  return GIDRN_OK;
}

void gidrn_close(GidrnNetwork* network) { delete network; }

}  // extern "C"
