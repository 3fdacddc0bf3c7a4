#include "lithe/multibit/session_path.h"

#include <optional>
#include <set>
#include <span>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/multibit/arena.h"
#include "lithe/multibit/integer_layers.h"

namespace lithe {
namespace {

[[noreturn]] void refuse(const Node& node) {
  fail("{}: the integer run time does not have this operator in this form; export the model instead",
       describe(node));
}

void require(bool holds, const Node& node) {
  if (!holds) refuse(node);
}

class PathCompiler {
 public:
  PathCompiler(const Graph& graph, const BitPath& path, const std::string& entry, SessionConstants& constants,
               Scratch& scratch)
      : graph_(extract_bits(graph, path.bits)),
        path_(path),
        entry_(entry),
        constants_(constants),
        scratch_(scratch) {
    infer_shapes(graph_, concrete_input_shapes(graph_, {}, 1));
    graph_.sort();
    layers_ = integer_layers(graph_);
  }

  SessionPath compile() {
    const auto inputs = graph_.required_inputs();
    if (inputs.size() != 1)
      fail("the model '{}' has {} inputs; one image is needed", graph_.name, inputs.size());
    const std::string input = inputs[0]->name;
    order();
    count_readers(input);
    out_.input = make(input);
    out_.input_shape = shape_of(input);
    for (const int node : order_) {
      if (node == first_of_body_) out_.body = out_.steps.size();
      if (node == first_of_head_) out_.head = out_.steps.size();
      add(node);
    }
    out_.entry = kept(entry_);
    out_.exit = kept(path_.exit);
    out_.entry_shape = shape_of(entry_);
    out_.exit_shape = shape_of(path_.exit);
    out_.output = kept(path_.output);
    out_.classes = shape_of(path_.output).count();
    scratch_.floats = std::max(scratch_.floats, arena_.size());
    return std::move(out_);
  }

 private:
  const Node& at(int node) const { return graph_.nodes[static_cast<std::size_t>(node)]; }

  /// Stem, body, head, each in the graph's order.
  void order() {
    const std::vector<int> stem = nodes_behind(graph_, entry_), until_exit = nodes_behind(graph_, path_.exit);
    std::vector<int> body, head;
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i) {
      if (std::binary_search(stem.begin(), stem.end(), i)) continue;
      (std::binary_search(until_exit.begin(), until_exit.end(), i) ? body : head).push_back(i);
    }
    if (body.empty() || head.empty())
      fail("the model '{}': no node lies between '{}', '{}' and '{}'", graph_.name, entry_, path_.exit,
           path_.output);
    first_of_body_ = body.front();
    first_of_head_ = head.front();
    for (const std::vector<int>& part : {stem, body, head})
      order_.insert(order_.end(), part.begin(), part.end());
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

  const IntegerLayer* layer_of_norm(int node) const {
    for (const IntegerLayer& layer : layers_)
      if (layer.norm == node) return &layer;
    return nullptr;
  }
  /// Whether the node runs as part of a quantised convolution, at the norm behind it.
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
        for (const std::string& value : reads(node)) {
          ++readers_[value];
          consumers_[value].push_back(node);
        }
    // These stay where they are: a caller may ask for them.
    for (const std::string& value : {input, entry_, path_.exit, path_.output}) ++readers_[value];
  }

  /// Where the codes of the next layers can come straight from a convolution's sums: only quantisers of one
  /// range and of few levels read what it makes, through a Relu or a Clip at most.
  struct Edge {
    std::string value;  // whose codes they are
    int clip = -1;      // the node in between
    const IntegerLayer* next = nullptr;
  };
  std::optional<Edge> inner_edge(const IntegerLayer& layer) const {
    Edge edge{.value = layer.output};
    const auto readers = [&]() -> std::span<const int> {
      const auto found = consumers_.find(edge.value);
      if (found == consumers_.end() || edge.value == entry_ || edge.value == path_.exit ||
          edge.value == path_.output)
        return {};
      return found->second;
    };
    if (readers().size() == 1 && (at(readers()[0]).is("Relu") || at(readers()[0]).is("Clip"))) {
      edge.clip = readers()[0];
      edge.value = at(edge.clip).output(0);
    }
    for (const int reader : readers()) {
      const IntegerLayer* next = layer_of_norm(reader);
      if (!next || (edge.next && (next->bounds.low != edge.next->bounds.low ||
                                  next->bounds.width != edge.next->bounds.width ||
                                  next->bounds.levels != edge.next->bounds.levels)))
        return std::nullopt;
      edge.next = next;
    }
    if (!edge.next || edge.next->bounds.levels > static_cast<float>(kMostThresholds)) return std::nullopt;
    return edge;
  }

  void keep_thresholds(const IntegerLayer& layer, const Edge& edge, Step& step) {
    BetweenLayers between{.scale = layer.affine.scale.data(),
                          .shift = layer.affine.shift.data(),
                          .clipped = edge.clip >= 0,
                          .bounds = edge.next->bounds};
    if (between.clipped) {
      Step clip;
      fill_clip(at(edge.clip), clip);
      between.low = clip.low;
      between.high = clip.high;
    }
    constexpr std::int64_t kMostWeight = 3;
    const std::int64_t terms = step.conv.taps() * (step.depthwise ? 1 : step.conv.inputs);
    const auto most =
        static_cast<std::int32_t>(kMostWeight * static_cast<std::int64_t>(layer.bounds.levels) * terms);
    step.thresholds =
        &constants_.thresholds.emplace(edge.value, make_thresholds(between, step.to.channels, most))
             .first->second;
    if (edge.clip >= 0) replaced_.insert(edge.clip);
    coded_.insert(edge.value);
  }

  std::int64_t make(const std::string& value) {
    const std::int64_t place = arena_.take(shape_of(value).count());
    places_[value] = place;
    kept_[value] = place;
    return place;
  }

  std::int64_t kept(const std::string& value) const {
    const auto found = kept_.find(value);
    if (found == kept_.end()) fail("'{}' is no image that the integer run time makes", value);
    return found->second;
  }

  std::int64_t place(const std::string& value, const Node& node) const {
    const auto found = places_.find(value);
    if (found == places_.end()) fail("{}: '{}' is not an image that was made before", describe(node), value);
    return found->second;
  }

  void release(int node) {
    for (const std::string& value : reads(node))
      if (--readers_[value] == 0) {
        arena_.give_back(place(value, at(node)));
        places_.erase(value);
      }
  }

  // --- nodes

  void add(int index) {
    if (absorbed(index) || replaced_.contains(index)) return;
    const Node& node = at(index);
    Step step;
    const IntegerLayer* layer = layer_of_norm(index);
    const std::string& input = layer ? layer->input : node.input(graph_.is_constant(node.input(0)) ? 1 : 0);
    step.input = place(input, node);
    step.from = shape_of(input);
    step.to = shape_of(node.output(0));
    std::string made = node.output(0);
    if (layer) {
      fill_integer(*layer, step);
      if (const auto edge = inner_edge(*layer)) {
        keep_thresholds(*layer, *edge, step);
        made = edge->value;
      } else {
        keep_affine(layer->output, layer->affine, step);
      }
    } else {
      fill(node, step);
    }
    step.output = make(made);
    out_.steps.push_back(step);
    release(index);
  }

  void fill(const Node& node, Step& step) {
    const std::string& type = node.op_type;
    require(node.domain.empty(), node);
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
      return require(step.to.height * step.to.width == 1 && step.to.count() == step.from.count(), node);
    }
    if (type == "Gemm" || type == "MatMul") return fill_linear(node, step);
    refuse(node);
  }

  WindowShape window_of(const Node& node, const std::vector<std::int64_t>& kernel) const {
    require(node.attr("auto_pad", "NOTSET") == "NOTSET" && node.attr("ceil_mode", std::int64_t{0}) == 0,
            node);
    const auto given = node.attr("kernel_shape", kernel);
    require(kernel.empty() || given == kernel, node);
    const auto strides = node.attr("strides", std::vector<std::int64_t>{1, 1}),
               pads = node.attr("pads", std::vector<std::int64_t>{0, 0, 0, 0}),
               dilations = node.attr("dilations", std::vector<std::int64_t>{1, 1});
    require(given.size() == 2 && strides.size() == 2 && pads.size() == 4 && dilations.size() == 2, node);
    return {given[0], given[1], strides[0], strides[1], pads[0], pads[1], dilations[0], dilations[1]};
  }

  void fill_integer(const IntegerLayer& layer, Step& step) {
    const Node& conv = at(layer.conv);
    const std::vector<std::int64_t>& stored = layer.stored;
    require(stored.size() == 4, conv);
    const std::int64_t groups = conv.attr("group", std::int64_t{1});
    step.kind = StepKind::IntegerConv;
    step.depthwise = groups > 1;
    if (step.depthwise)
      require(stored[1] == 1 && groups == step.from.channels && layer.used[0] == step.from.channels, conv);
    else
      require(groups == 1 && layer.used[1] == step.from.channels, conv);
    require(layer.used[0] == step.to.channels, conv);
    const WindowShape window = window_of(conv, {stored[2], stored[3]});
    const std::int64_t taps = stored[2] * stored[3];
    auto found = constants_.planes.find(layer.codes_name);
    if (found == constants_.planes.end()) {
      const std::vector<std::uint8_t> codes = weight_codes(graph_, layer);
      found = constants_.planes
                  .emplace(layer.codes_name, step.depthwise
                                                 ? pack_depthwise(codes.data(), stored[0], taps)
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
    step.coded = coded_.contains(layer.input);
    scratch_.cover(step.conv);
  }

  void keep_affine(const std::string& name, const ChannelAffine& affine, Step& step) {
    step.scale = constants_.keep(name + " scale", [&] { return affine.scale; });
    step.shift = constants_.keep(name + " shift", [&] { return affine.shift; });
  }

  const TensorData& constant_data(const Node& node, std::size_t input) const {
    const TensorData* data = graph_.constant(node.input(input));
    require(data && is_float(data->dtype()), node);
    return *data;
  }
  std::vector<float> constant(const Node& node, std::size_t input) const {
    return constant_data(node, input).to_floats();
  }
  float number(const Node& node, std::size_t input) const {
    require(constant_data(node, input).count() == 1, node);
    return constant(node, input)[0];
  }
  /// A bias of one number for each output; none if the node has none.
  std::span<const float> bias_of(const Node& node, std::int64_t outputs) {
    if (node.input(2).empty()) return {};
    require(constant_data(node, 2).count() == outputs, node);
    return constants_.keep(node.input(2), [&] { return constant(node, 2); });
  }

  void fill_float(const Node& node, Step& step) {
    const TensorData& data = constant_data(node, 1);
    require(data.rank() == 4, node);
    const std::vector<std::int64_t>& shape = data.shape();
    step.kind = StepKind::FloatConv;
    step.groups = node.attr("group", std::int64_t{1});
    require(step.groups >= 1 && shape[1] * step.groups == step.from.channels &&
                shape[0] == step.to.channels && shape[0] % step.groups == 0,
            node);
    step.window = window_of(node, {shape[2], shape[3]});
    const std::int64_t taps = shape[2] * shape[3];
    step.weights = constants_.keep(node.input(1), [&] {
      const std::vector<float> values = data.to_floats();
      std::vector<float> weights(values.size());
      for (std::int64_t o = 0; o < shape[0]; ++o)
        for (std::int64_t i = 0; i < shape[1]; ++i)
          for (std::int64_t t = 0; t < taps; ++t)
            weights[static_cast<std::size_t>((t * shape[1] + i) * shape[0] + o)] =
                values[static_cast<std::size_t>((o * shape[1] + i) * taps + t)];
      return weights;
    });
    step.shift = bias_of(node, shape[0]);
  }

  /// A norm of the stem or the head has one name at every bit-width: that of its parameters.
  void fill_norm(const Node& node, Step& step) {
    step.kind = StepKind::Affine;
    const ChannelAffine affine = fold_norm(graph_, node);
    require(static_cast<std::int64_t>(affine.scale.size()) == step.to.channels, node);
    std::string name;
    for (std::size_t i = 1; i <= 4; ++i) name += node.input(i) + " ";
    keep_affine(fmt::format("{}{}", name, node.attr("epsilon", 1e-5f)), affine, step);
  }

  void fill_clip(const Node& node, Step& step) const {
    step.kind = StepKind::Clip;
    if (node.is("Relu")) step.low = 0;
    if (!node.is("Clip")) return;
    if (!node.input(1).empty()) step.low = number(node, 1);
    if (!node.input(2).empty()) step.high = number(node, 2);
  }

  /// A sum of two images; or with constants, one for all or one a channel.
  void fill_arithmetic(const Node& node, Step& step) {
    const bool first = graph_.is_constant(node.input(0)), second = graph_.is_constant(node.input(1));
    if (!first && !second) {
      const ImageShape other = shape_of(node.input(1));
      require(node.is("Add") && step.from.count() == step.to.count() && other.count() == step.to.count(),
              node);
      step.kind = StepKind::Add;
      step.other = place(node.input(1), node);
      return;
    }
    require(!(first && second) && !(first && (node.is("Sub") || node.is("Div"))) &&
                step.from.count() == step.to.count(),
            node);
    const std::size_t input = first ? 0 : 1;
    const TensorData& data = constant_data(node, input);
    const std::int64_t rank = data.rank(), channels = step.to.channels;
    const bool image = step.to.height * step.to.width > 1;
    require(data.count() == 1 ||
                (data.count() == channels &&
                 (!image || (rank >= 3 && data.shape()[static_cast<std::size_t>(rank - 3)] == channels))),
            node);
    if (node.is("Div")) {
      step.kind = StepKind::Divide;
      step.scale = constants_.keep(node.input(input), [&] { return constant(node, input); });
      return;
    }
    const std::vector<float> values = constant(node, input);
    step.kind = StepKind::Affine;
    ChannelAffine affine;
    for (std::int64_t c = 0; c < channels; ++c) {
      const float value = values[values.size() == 1 ? 0 : static_cast<std::size_t>(c)];
      affine.scale.push_back(node.is("Mul") ? value : 1);
      affine.shift.push_back(node.is("Add") ? value : node.is("Sub") ? -value : 0);
    }
    keep_affine(fmt::format("{} {} {}", node.input(input), node.op_type, channels), affine, step);
  }

  std::vector<std::int64_t> ints(const Node& node, std::size_t input) const {
    const TensorData* data = graph_.constant(node.input(input));
    require(data && !is_float(data->dtype()), node);
    return data->to_ints();
  }

  void fill_slice(const Node& node, Step& step) const {
    const auto starts = ints(node, 1), axes = ints(node, 3);
    const auto steps = node.input(4).empty() ? std::vector<std::int64_t>(axes.size(), 1) : ints(node, 4);
    require(starts.size() == axes.size() && steps.size() == axes.size(), node);
    step.kind = StepKind::Pick;
    std::int64_t by[2] = {1, 1}, from[2] = {0, 0};
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::int64_t axis = axes[i] < 0 ? axes[i] + 4 : axes[i];
      require(steps[i] >= 1 && starts[i] >= 0 && axis >= 1 && axis <= 3, node);
      if (axis == 1) {
        require(axes.size() == 1 && starts[i] == 0 && steps[i] == 1, node);
        step.kind = StepKind::Channels;
        step.taken = step.to.channels;
        return;
      }
      by[axis - 2] = steps[i];
      from[axis - 2] = starts[i];
    }
    require(from[0] + (step.to.height - 1) * by[0] < step.from.height &&
                from[1] + (step.to.width - 1) * by[1] < step.from.width,
            node);
    step.window.stride_y = by[0];
    step.window.stride_x = by[1];
    step.first_y = from[0];
    step.first_x = from[1];
  }

  void fill_pad(const Node& node, Step& step) const {
    const auto pads = ints(node, 1);
    require(pads.size() == 8 && node.input(3).empty() && node.attr("mode", "constant") == "constant", node);
    for (const std::size_t i : {0u, 2u, 3u, 4u, 6u, 7u}) require(pads[i] == 0, node);
    require(node.input(2).empty() || number(node, 2) == 0, node);
    require(pads[1] >= 0 && pads[5] >= 0 && step.from.channels + pads[1] + pads[5] == step.to.channels, node);
    step.kind = StepKind::Channels;
    step.taken = step.from.channels;
    step.front = pads[1];
  }

  void fill_pool(const Node& node, Step& step) const {
    step.kind = node.is("MaxPool") ? StepKind::MaxPool : StepKind::AveragePool;
    step.window = window_of(node, {});
    step.count_padding = node.attr("count_include_pad", std::int64_t{0}) != 0;
    require(node.outputs.size() == 1, node);
  }

  void fill_mean(const Node& node, Step& step) const {
    auto axes = node.input(1).empty() ? node.attr("axes", std::vector<std::int64_t>{}) : ints(node, 1);
    for (std::int64_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
    std::sort(axes.begin(), axes.end());
    require(axes == std::vector<std::int64_t>{2, 3}, node);
    step.kind = StepKind::GlobalAverage;
  }

  void fill_linear(const Node& node, Step& step) {
    const TensorData& data = constant_data(node, 1);
    const bool transposed = node.attr("transB", std::int64_t{0}) != 0;
    const std::int64_t inputs = step.from.count(), outputs = step.to.count();
    require(data.shape() == (transposed ? std::vector{outputs, inputs} : std::vector{inputs, outputs}) &&
                node.attr("alpha", 1.0f) == 1 && node.attr("beta", 1.0f) == 1 &&
                node.attr("transA", std::int64_t{0}) == 0,
            node);
    step.kind = StepKind::Linear;
    step.taken = inputs;
    step.weights = constants_.keep(node.input(1) + (transposed ? " transposed" : ""), [&] {
      const std::vector<float> values = data.to_floats();
      std::vector<float> weights(values.size());
      for (std::int64_t i = 0; i < inputs; ++i)
        for (std::int64_t o = 0; o < outputs; ++o)
          weights[static_cast<std::size_t>(i * outputs + o)] =
              values[static_cast<std::size_t>(transposed ? o * inputs + i : i * outputs + o)];
      return weights;
    });
    step.shift = bias_of(node, outputs);
  }

  Graph graph_;
  const BitPath& path_;
  const std::string& entry_;
  SessionConstants& constants_;
  Scratch& scratch_;
  std::vector<IntegerLayer> layers_;
  std::vector<int> order_;
  int first_of_body_ = -1, first_of_head_ = -1;
  std::map<std::string, std::int64_t> places_, kept_;
  std::map<std::string, int> readers_;
  std::map<std::string, std::vector<int>> consumers_;  // nodes, as they are run here
  std::set<std::string> coded_;                        // values of which there are only codes
  std::set<int> replaced_;                             // nodes that thresholds stand for
  Arena arena_;
  SessionPath out_;
};

}  // namespace

SessionPath compile_path(const Graph& graph, const BitPath& path, const std::string& entry,
                         SessionConstants& constants, Scratch& scratch) {
  return PathCompiler(graph, path, entry, constants, scratch).compile();
}

}  // namespace lithe
