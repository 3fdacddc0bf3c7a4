#include "lithe/multibit/session.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/kernels/bound_quantize.h"
#include "lithe/kernels/plain_layers.h"
#include "lithe/multibit/branch_graph.h"
#include "lithe/multibit/integer_layers.h"

namespace lithe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

enum class StepKind {
  IntegerConv,
  FloatConv,
  Affine,
  Clip,
  Add,
  Divide,
  Channels,
  Pick,
  MaxPool,
  AveragePool,
  GlobalAverage,
  Linear,
  Flatten,
};

/// One node at work. Values are places in the arena.
struct Step {
  StepKind kind = StepKind::Add;
  std::int64_t input = 0, other = 0, output = 0;
  ImageShape from, to;
  WindowShape window;
  TwoBitConv conv;
  bool depthwise = false, count_padding = false;
  BoundQuantizeSpec bounds;
  std::int64_t groups = 1, taken = 0, front = 0, first_y = 0, first_x = 0;
  float low = -kInfinity, high = kInfinity;
  std::vector<float> weights, scale, shift;  // shift: of convolutions and products, the bias
};

struct Path {
  std::vector<Step> steps;
  std::size_t body = 0, head = 0;  // first steps of the body and behind it
  std::int64_t input = 0, entry = 0, exit = 0, output = 0;
  ImageShape input_shape, entry_shape, exit_shape;
  std::int64_t classes = 0;
};

/// Bytes of scratch memory that the convolutions of all bit-widths share.
struct Scratch {
  std::int64_t codes = 0, sums = 0, patches = 0, weights = 0, floats = 0;

  void cover(const TwoBitConv& conv) {
    codes = std::max(codes, conv.height * conv.width * conv.input_stride());
    sums = std::max(sums, conv.out_height * conv.out_width * conv.output_stride());
    patches = std::max(patches, conv.patch_bytes());
    weights = std::max(weights, conv.weight_bytes());
  }
};

/// Places for values whose lifetimes do not overlap share memory.
class Arena {
 public:
  std::int64_t take(std::int64_t count) {
    constexpr std::int64_t kAlign = 16;
    count = (count + kAlign - 1) / kAlign * kAlign;
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap)
      if (gap->second >= count) {
        const std::int64_t at = gap->first, rest = gap->second - count;
        gaps_.erase(gap);
        if (rest > 0) gaps_[at + count] = rest;
        return remember(at, count);
      }
    const std::int64_t at = size_;
    size_ += count;
    return remember(at, count);
  }
  void give_back(std::int64_t at) {
    std::int64_t count = taken_.at(at);
    taken_.erase(at);
    auto next = gaps_.lower_bound(at);
    if (next != gaps_.end() && next->first == at + count) {
      count += next->second;
      next = gaps_.erase(next);
    }
    if (next != gaps_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == at) {
        before->second += count;
        return;
      }
    }
    gaps_[at] = count;
  }
  std::int64_t size() const { return size_; }

 private:
  std::int64_t remember(std::int64_t at, std::int64_t count) {
    taken_[at] = count;
    return at;
  }
  std::map<std::int64_t, std::int64_t> gaps_, taken_;
  std::int64_t size_ = 0;
};

class PathCompiler {
 public:
  PathCompiler(const Graph& graph, const BitPath& path, const std::string& entry,
               std::map<std::string, TwoBitPlane>& planes, Scratch& scratch)
      : graph_(extract_bits(graph, path.bits)),
        path_(path),
        entry_(entry),
        planes_(planes),
        scratch_(scratch) {
    infer_shapes(graph_, concrete_input_shapes(graph_, {}, 1));
    graph_.sort();
    layers_ = integer_layers(graph_);
  }

  Path compile() {
    const auto inputs = graph_.required_inputs();
    if (inputs.size() != 1)
      fail("the model '{}' has {} inputs; one image is needed", graph_.name, inputs.size());
    order();
    count_readers(inputs[0]->name);
    out_.input = make(inputs[0]->name);
    out_.input_shape = shape_of(inputs[0]->name);
    for (const int node : order_) {
      if (node == first_of_body_) out_.body = out_.steps.size();
      if (node == first_of_head_) out_.head = out_.steps.size();
      add(node);
    }
    out_.entry = kept_.at(entry_);
    out_.exit = kept_.at(path_.exit);
    out_.entry_shape = shape_of(entry_);
    out_.exit_shape = shape_of(path_.exit);
    out_.output = kept_.at(path_.output);
    out_.classes = shape_of(path_.output).count();
    scratch_.floats = std::max(scratch_.floats, arena_.size());
    return std::move(out_);
  }

 private:
  const Node& at(int node) const { return graph_.nodes[static_cast<std::size_t>(node)]; }

  /// Stem, body, head, each in the graph's order.
  void order() {
    const GraphIndex index(graph_);
    const auto behind = [&](const std::string& value) {
      std::set<int> nodes;
      std::vector<std::string> open{value};
      while (!open.empty()) {
        const int node = index.producer(open.back());
        open.pop_back();
        if (node < 0 || !nodes.insert(node).second) continue;
        for (const std::string& read : all_reads(at(node))) open.push_back(read);
      }
      return nodes;
    };
    const std::set<int> stem = behind(entry_), body = behind(path_.exit);
    std::vector<int> parts[3];
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i)
      parts[stem.contains(i) ? 0 : body.contains(i) ? 1 : 2].push_back(i);
    for (const auto& part : parts) order_.insert(order_.end(), part.begin(), part.end());
    first_of_body_ = parts[1].empty() ? -1 : parts[1].front();
    first_of_head_ = parts[2].empty() ? -1 : parts[2].front();
  }

  ImageShape shape_of(const std::string& value) const {
    const ValueInfo* info = graph_.info(value);
    if (!info || !info->shape) fail("the shape of '{}' is not known", value);
    std::vector<std::int64_t> dims;
    for (const Dim& dim : *info->shape) {
      if (!dim.known()) fail("the shape of '{}' is not known", value);
      dims.push_back(dim.value);
    }
    if (dims.size() == 4 && dims[0] == 1) return {dims[2], dims[3], dims[1]};
    if (dims.size() == 2 && dims[0] == 1) return {1, 1, dims[1]};
    fail("'{}' has the shape {}; images [1, channels, height, width] and vectors [1, n] are run", value,
         format_shape(dims));
  }

  // --- values
  // -----------------------------------------------------------------------------------------------

  const IntegerLayer* layer_of_norm(int node) const {
    for (const IntegerLayer& layer : layers_)
      if (layer.norm == node) return &layer;
    return nullptr;
  }
  bool absorbed(int node) const {
    const std::string& output = at(node).output(0);
    for (const IntegerLayer& layer : layers_)
      if (layer.conv == node || layer.activation == node || layer.codes_name == output ||
          at(layer.conv).input(1) == output)
        return true;
    return false;
  }
  /// What a node reads as it is run here.
  std::vector<std::string> reads(int node) const {
    if (const IntegerLayer* layer = layer_of_norm(node)) return {layer->input};
    std::vector<std::string> values;
    for (const std::string& input : at(node).inputs)
      if (!input.empty() && !graph_.is_constant(input)) values.push_back(input);
    return values;
  }

  void count_readers(const std::string& input) {
    for (const int node : order_)
      if (!absorbed(node))
        for (const std::string& value : reads(node)) ++readers_[value];
    // These stay where they are: a caller may ask for them.
    for (const std::string& value : {input, entry_, path_.exit, path_.output}) ++readers_[value];
  }

  std::int64_t make(const std::string& value) {
    const std::int64_t place = arena_.take(shape_of(value).count());
    places_[value] = place;
    kept_[value] = place;
    return place;
  }

  std::int64_t place(const std::string& value, const Node& node) const {
    const auto found = places_.find(value);
    if (found == places_.end()) fail("{}: '{}' is not an image that was made before", describe(node), value);
    return found->second;
  }

  void release(int node) {
    for (const std::string& value : reads(node))
      if (--readers_[value] == 0) {
        arena_.give_back(places_.at(value));
        places_.erase(value);
      }
  }

  // --- nodes
  // ------------------------------------------------------------------------------------------------

  void add(int index) {
    if (absorbed(index)) return;
    const Node& node = at(index);
    Step step;
    const IntegerLayer* layer = layer_of_norm(index);
    const std::string& input = layer ? layer->input : node.input(graph_.is_constant(node.input(0)) ? 1 : 0);
    step.input = place(input, node);
    step.from = shape_of(input);
    step.to = shape_of(node.output(0));
    if (layer)
      fill_integer(*layer, step);
    else
      fill(node, step);
    step.output = make(node.output(0));
    out_.steps.push_back(std::move(step));
    release(index);
  }

  void fill(const Node& node, Step& step) {
    const std::string& type = node.op_type;
    if (!node.domain.empty()) refuse(node);
    if (type == "Conv") return fill_float(node, step);
    if (type == "BatchNormalization") return fill_norm(node, step);
    if (type == "Relu" || type == "Clip" || type == "Identity" || type == "Dropout")
      return fill_clip(node, step);
    if (type == "Add" || type == "Sub" || type == "Mul" || type == "Div") return fill_arithmetic(node, step);
    if (type == "Slice") return fill_slice(node, step);
    if (type == "Pad") return fill_pad(node, step);
    if (type == "MaxPool" || type == "AveragePool") return fill_pool(node, step);
    if (type == "GlobalAveragePool") {
      step.kind = StepKind::GlobalAverage;
      return;
    }
    if (type == "ReduceMean") return fill_mean(node, step);
    if (type == "Flatten" || type == "Reshape" || type == "Squeeze") {
      step.kind = StepKind::Flatten;
      if (step.to.height * step.to.width != 1) refuse(node);
      return;
    }
    if (type == "Gemm" || type == "MatMul") return fill_linear(node, step);
    refuse(node);
  }

  [[noreturn]] static void refuse(const Node& node) {
    fail("{}: the integer run time does not have this operator in this form; export the model instead",
         describe(node));
  }

  WindowShape window_of(const Node& node, std::vector<std::int64_t> kernel) const {
    if (node.attr("auto_pad", "NOTSET") != "NOTSET" || node.attr("ceil_mode", std::int64_t{0}) != 0)
      refuse(node);
    kernel = node.attr("kernel_shape", std::move(kernel));
    const auto strides = node.attr("strides", std::vector<std::int64_t>{1, 1}),
               pads = node.attr("pads", std::vector<std::int64_t>{0, 0, 0, 0}),
               dilations = node.attr("dilations", std::vector<std::int64_t>{1, 1});
    if (kernel.size() != 2 || strides.size() != 2 || pads.size() != 4 || dilations.size() != 2) refuse(node);
    return {kernel[0], kernel[1], strides[0], strides[1], pads[0], pads[1], dilations[0], dilations[1]};
  }

  void fill_integer(const IntegerLayer& layer, Step& step) {
    const Node& conv = at(layer.conv);
    const std::vector<std::int64_t>& stored = layer.stored;
    if (stored.size() != 4) refuse(conv);
    const std::int64_t groups = conv.attr("group", std::int64_t{1});
    step.kind = StepKind::IntegerConv;
    step.depthwise = groups > 1;
    if (step.depthwise && (stored[1] != 1 || layer.used[0] != step.from.channels)) refuse(conv);
    const WindowShape window = window_of(conv, {stored[2], stored[3]});
    const std::int64_t taps = stored[2] * stored[3];
    auto found = planes_.find(layer.codes_name);
    if (found == planes_.end()) {
      const std::vector<std::uint8_t> codes = weight_codes(graph_, layer);
      found = planes_
                  .emplace(layer.codes_name, step.depthwise
                                                 ? pack_plane(codes.data(), 1, stored[0], taps)
                                                 : pack_plane(codes.data(), stored[0], stored[1], taps))
                  .first;
    }
    step.conv = {.plane = &found->second,
                 .outputs = layer.used[0],
                 .inputs = step.from.channels,
                 .height = step.from.height,
                 .width = step.from.width,
                 .out_height = step.to.height,
                 .out_width = step.to.width,
                 .kernel_height = window.height,
                 .kernel_width = window.width,
                 .stride_y = window.stride_y,
                 .stride_x = window.stride_x,
                 .pad_top = window.pad_top,
                 .pad_left = window.pad_left,
                 .dilation_y = window.dilation_y,
                 .dilation_x = window.dilation_x};
    step.bounds = layer.bounds;
    step.scale = layer.scale;
    step.shift = layer.shift;
    scratch_.cover(step.conv);
  }

  std::vector<float> constant(const Node& node, const std::string& name) const {
    const TensorData* data = graph_.constant(name);
    if (!data || !is_float(data->dtype())) refuse(node);
    return data->to_floats();
  }

  void fill_float(const Node& node, Step& step) {
    const TensorData* data = graph_.constant(node.input(1));
    if (!data || data->rank() != 4) refuse(node);
    const auto& shape = data->shape();
    step.kind = StepKind::FloatConv;
    step.groups = node.attr("group", std::int64_t{1});
    step.window = window_of(node, {shape[2], shape[3]});
    const std::vector<float> values = data->to_floats();
    const std::int64_t taps = shape[2] * shape[3];
    step.weights.resize(values.size());
    for (std::int64_t o = 0; o < shape[0]; ++o)
      for (std::int64_t i = 0; i < shape[1]; ++i)
        for (std::int64_t t = 0; t < taps; ++t)
          step.weights[static_cast<std::size_t>((t * shape[1] + i) * shape[0] + o)] =
              values[static_cast<std::size_t>((o * shape[1] + i) * taps + t)];
    if (!node.input(2).empty()) step.shift = constant(node, node.input(2));
  }

  void fill_norm(const Node& node, Step& step) const {
    step.kind = StepKind::Affine;
    const auto gamma = constant(node, node.input(1)), beta = constant(node, node.input(2)),
               mean = constant(node, node.input(3)), variance = constant(node, node.input(4));
    const double epsilon = static_cast<double>(node.attr("epsilon", 1e-5f));
    for (std::size_t c = 0; c < gamma.size(); ++c) {
      const double slope =
          static_cast<double>(gamma[c]) / std::sqrt(static_cast<double>(variance[c]) + epsilon);
      step.scale.push_back(static_cast<float>(slope));
      step.shift.push_back(
          static_cast<float>(static_cast<double>(beta[c]) - static_cast<double>(mean[c]) * slope));
    }
  }

  void fill_clip(const Node& node, Step& step) const {
    step.kind = StepKind::Clip;
    if (node.is("Relu")) step.low = 0;
    if (!node.is("Clip")) return;
    if (!node.input(1).empty()) step.low = constant(node, node.input(1)).at(0);
    if (!node.input(2).empty()) step.high = constant(node, node.input(2)).at(0);
  }

  /// A sum of two images; or with constants, one for all or one a channel.
  void fill_arithmetic(const Node& node, Step& step) const {
    const bool first = graph_.is_constant(node.input(0)), second = graph_.is_constant(node.input(1));
    if (!first && !second) {
      if (!node.is("Add") || shape_of(node.input(0)).count() != shape_of(node.input(1)).count()) refuse(node);
      step.kind = StepKind::Add;
      step.other = place(node.input(1), node);
      return;
    }
    if (first && (node.is("Sub") || node.is("Div"))) refuse(node);
    const TensorData& data = graph_.constants.at(node.input(first ? 0 : 1));
    const std::vector<float> values = constant(node, node.input(first ? 0 : 1));
    const auto channels = static_cast<std::size_t>(step.to.channels);
    const std::int64_t rank = data.rank();
    const bool by_channel =
        values.size() == channels && step.to.height * step.to.width > 1
            ? rank >= 3 && data.shape()[static_cast<std::size_t>(rank - 3)] == step.to.channels
            : values.size() == channels;
    if (values.size() != 1 && !by_channel) refuse(node);
    if (node.is("Div") && values.size() == 1) {
      step.kind = StepKind::Divide;
      step.low = values[0];
      return;
    }
    step.kind = StepKind::Affine;
    for (std::size_t c = 0; c < channels; ++c) {
      const float value = values[values.size() == 1 ? 0 : c];
      step.scale.push_back(node.is("Mul") ? value : node.is("Div") ? 1 / value : 1);
      step.shift.push_back(node.is("Add") ? value : node.is("Sub") ? -value : 0);
    }
  }

  std::vector<std::int64_t> ints(const Node& node, std::size_t input) const {
    const TensorData* data = graph_.constant(node.input(input));
    if (!data) refuse(node);
    return data->to_ints();
  }

  void fill_slice(const Node& node, Step& step) const {
    const auto starts = ints(node, 1), axes = ints(node, 3);
    const auto steps = node.input(4).empty() ? std::vector<std::int64_t>(axes.size(), 1) : ints(node, 4);
    step.kind = StepKind::Pick;
    std::int64_t by[2] = {1, 1}, from[2] = {0, 0};
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::int64_t axis = axes[i] < 0 ? axes[i] + 4 : axes[i];
      if (steps[i] < 1 || starts[i] < 0) refuse(node);
      if (axis == 1) {
        if (axes.size() != 1 || starts[i] != 0 || steps[i] != 1) refuse(node);
        step.kind = StepKind::Channels;
        step.taken = step.to.channels;
        return;
      }
      if (axis != 2 && axis != 3) refuse(node);
      by[axis - 2] = steps[i];
      from[axis - 2] = starts[i];
    }
    step.window.stride_y = by[0];
    step.window.stride_x = by[1];
    step.first_y = from[0];
    step.first_x = from[1];
  }

  void fill_pad(const Node& node, Step& step) const {
    const auto pads = ints(node, 1);
    if (pads.size() != 8 || !node.input(3).empty() || node.attr("mode", "constant") != "constant")
      refuse(node);
    for (const std::size_t i : {0u, 2u, 3u, 4u, 6u, 7u})
      if (pads[i] != 0) refuse(node);
    if (!node.input(2).empty() && constant(node, node.input(2)).at(0) != 0) refuse(node);
    if (pads[1] < 0 || pads[5] < 0) refuse(node);
    step.kind = StepKind::Channels;
    step.taken = step.from.channels;
    step.front = pads[1];
  }

  void fill_pool(const Node& node, Step& step) const {
    step.kind = node.is("MaxPool") ? StepKind::MaxPool : StepKind::AveragePool;
    step.window = window_of(node, {});
    step.count_padding = node.attr("count_include_pad", std::int64_t{0}) != 0;
    if (node.outputs.size() > 1) refuse(node);
  }

  void fill_mean(const Node& node, Step& step) const {
    auto axes = node.input(1).empty() ? node.attr("axes", std::vector<std::int64_t>{}) : ints(node, 1);
    for (std::int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
    std::sort(axes.begin(), axes.end());
    if (axes != std::vector<std::int64_t>{2, 3}) refuse(node);
    step.kind = StepKind::GlobalAverage;
  }

  void fill_linear(const Node& node, Step& step) const {
    const TensorData* data = graph_.constant(node.input(1));
    if (!data || data->rank() != 2 || node.attr("alpha", 1.0f) != 1 || node.attr("beta", 1.0f) != 1 ||
        node.attr("transA", std::int64_t{0}) != 0)
      refuse(node);
    step.kind = StepKind::Linear;
    const bool transposed = node.attr("transB", std::int64_t{0}) != 0;
    const std::vector<float> values = data->to_floats();
    const std::int64_t outputs = step.to.channels,
                       inputs = data->count() / std::max<std::int64_t>(1, outputs);
    step.taken = inputs;
    step.weights.resize(values.size());
    for (std::int64_t i = 0; i < inputs; ++i)
      for (std::int64_t o = 0; o < outputs; ++o)
        step.weights[static_cast<std::size_t>(i * outputs + o)] =
            values[static_cast<std::size_t>(transposed ? o * inputs + i : i * outputs + o)];
    if (!node.input(2).empty()) {
      step.shift = constant(node, node.input(2));
      if (static_cast<std::int64_t>(step.shift.size()) != outputs) refuse(node);
    }
  }

  Graph graph_;
  const BitPath& path_;
  const std::string& entry_;
  std::map<std::string, TwoBitPlane>& planes_;
  Scratch& scratch_;
  std::vector<IntegerLayer> layers_;
  std::vector<int> order_;
  int first_of_body_ = -1, first_of_head_ = -1;
  std::map<std::string, std::int64_t> places_, kept_;
  std::map<std::string, int> readers_;
  Arena arena_;
  Path out_;
};

}  // namespace

struct MultibitSession::Impl {
  std::vector<int> bits;
  std::vector<Path> paths;
  std::array<int, kMostBits + 1> path_of{};  // by bits; -1: none
  const Path* now = nullptr;
  std::map<std::string, TwoBitPlane> planes;  // by the value that quantises the weight; addresses stay
  TwoBitTarget target = TwoBitTarget::Portable;
  std::vector<float> floats, image;
  std::vector<std::uint8_t> codes, patches;
  std::vector<std::int32_t> sums;
  std::vector<std::int8_t> weights;

  void convolve(const Step& step, const float* x, float* y) {
    const std::int64_t positions = step.from.height * step.from.width, stride = step.conv.input_stride();
    if (stride == step.from.channels) {
      bound_codes(x, codes.data(), positions * stride, step.bounds);
    } else {
      for (std::int64_t p = 0; p < positions; ++p) {
        std::uint8_t* to = codes.data() + p * stride;
        bound_codes(x + p * step.from.channels, to, step.from.channels, step.bounds);
        std::fill(to + step.from.channels, to + stride, std::uint8_t{0});
      }
    }
    if (step.depthwise)
      two_bit_depthwise(step.conv, codes.data(), sums.data(), weights.data());
    else
      two_bit_conv(step.conv, codes.data(), sums.data(), patches.data(), weights.data(), target);
    plain_affine(sums.data(), step.conv.output_stride(), step.scale.data(), step.shift.data(), y, step.to);
  }

  void run(const Step& step) {
    const float* x = floats.data() + step.input;
    float* y = floats.data() + step.output;
    const float* bias = step.shift.empty() ? nullptr : step.shift.data();
    const std::int64_t count = step.to.count();
    switch (step.kind) {
      case StepKind::IntegerConv:
        return convolve(step, x, y);
      case StepKind::FloatConv:
        return plain_conv(x, step.from, step.window, step.groups, step.weights.data(), bias, y, step.to);
      case StepKind::Affine:
        return plain_affine(x, step.scale.data(), step.shift.data(), y, step.to);
      case StepKind::Clip:
        return plain_clip(x, step.low, step.high, y, count);
      case StepKind::Add:
        return plain_add(x, floats.data() + step.other, y, count);
      case StepKind::Divide:
        return plain_divide(x, step.low, y, count);
      case StepKind::Channels:
        return plain_channels(x, step.from, step.taken, step.front, y, step.to.channels);
      case StepKind::Pick:
        return plain_pick(x, step.from, step.first_y, step.first_x, step.window.stride_y,
                          step.window.stride_x, y, step.to);
      case StepKind::MaxPool:
        return plain_max_pool(x, step.from, step.window, y, step.to);
      case StepKind::AveragePool:
        return plain_average_pool(x, step.from, step.window, step.count_padding, y, step.to);
      case StepKind::GlobalAverage:
        return plain_global_average(x, step.from, y);
      case StepKind::Linear:
        return plain_linear(x, step.taken, step.weights.data(), bias, step.to.channels, y);
      case StepKind::Flatten:
        return from_channels_last(x, step.from, y);
    }
  }

  void run(std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) run(now->steps[i]);
  }
};

MultibitSession::MultibitSession(const Graph& graph, TwoBitTarget target) : impl_(std::make_unique<Impl>()) {
  if (!two_bit_target_supported(target)) fail("this processor does not have {}", two_bit_target_name(target));
  const MultibitInfo info = multibit_info(graph);
  impl_->bits = info.bits;
  impl_->target = target;
  impl_->path_of.fill(-1);
  Scratch scratch;
  for (const BitPath& path : info.paths) {
    if (path.bits < kLeastBits || path.bits > kMostBits) fail("{} bits are not from 2 to 8", path.bits);
    impl_->path_of[static_cast<std::size_t>(path.bits)] = static_cast<int>(impl_->paths.size());
    impl_->paths.push_back(PathCompiler(graph, path, info.entry, impl_->planes, scratch).compile());
  }
  impl_->floats.resize(static_cast<std::size_t>(scratch.floats));
  impl_->codes.resize(static_cast<std::size_t>(scratch.codes));
  impl_->sums.resize(static_cast<std::size_t>(scratch.sums));
  impl_->patches.resize(static_cast<std::size_t>(scratch.patches));
  impl_->weights.resize(static_cast<std::size_t>(scratch.weights));
  impl_->image.resize(static_cast<std::size_t>(impl_->paths[0].input_shape.count()));
  impl_->now = &impl_->paths.back();
}

MultibitSession::~MultibitSession() = default;
MultibitSession::MultibitSession(MultibitSession&&) noexcept = default;
MultibitSession& MultibitSession::operator=(MultibitSession&&) noexcept = default;

void MultibitSession::set_bits(int bits) {
  const int path = bits >= 0 && bits <= kMostBits ? impl_->path_of[static_cast<std::size_t>(bits)] : -1;
  if (path < 0) {
    std::string list;
    for (const int one : impl_->bits) list += fmt::format("{}{}", list.empty() ? "" : ",", one);
    fail("the model was not trained for {} bits; it has {}", bits, list);
  }
  impl_->now = &impl_->paths[static_cast<std::size_t>(path)];
}

int MultibitSession::bits() const {
  return impl_->bits[static_cast<std::size_t>(impl_->now - impl_->paths.data())];
}
const std::vector<int>& MultibitSession::all_bits() const {
  return impl_->bits;
}
std::int64_t MultibitSession::classes() const {
  return impl_->now->classes;
}
std::int64_t MultibitSession::input_count() const {
  return impl_->now->input_shape.count();
}
std::int64_t MultibitSession::entry_count() const {
  return impl_->now->entry_shape.count();
}
std::int64_t MultibitSession::exit_count() const {
  return impl_->now->exit_shape.count();
}
TwoBitTarget MultibitSession::target() const {
  return impl_->target;
}

void MultibitSession::run(const float* image, float* scores) {
  const Path& path = *impl_->now;
  to_channels_last(image, path.input_shape, impl_->floats.data() + path.input);
  impl_->run(0, path.steps.size());
  std::copy_n(impl_->floats.data() + path.output, path.classes, scores);
}

void MultibitSession::run_body(const float* entry, float* exit) {
  const Path& path = *impl_->now;
  to_channels_last(entry, path.entry_shape, impl_->floats.data() + path.entry);
  impl_->run(path.body, path.head);
  from_channels_last(impl_->floats.data() + path.exit, path.exit_shape, exit);
}

double MultibitSession::seconds_an_image(std::int64_t repeats) {
  using Clock = std::chrono::steady_clock;
  std::vector<float> scores(static_cast<std::size_t>(classes()));
  std::vector<double> seconds;
  for (std::int64_t i = 0; i <= repeats; ++i) {
    const auto start = Clock::now();
    run(impl_->image.data(), scores.data());
    if (i > 0)
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());  // the first warms up
  }
  return *std::min_element(seconds.begin(), seconds.end());
}

std::int64_t MultibitSession::packed_weight_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, plane] : impl_->planes) bytes += static_cast<std::int64_t>(plane.bytes.size());
  return bytes;
}

}  // namespace lithe
