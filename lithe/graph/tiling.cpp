#include "lithe/graph/tiling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/graph/dataflow.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/subset_function.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

/// Where a value's pixels lie: `up` / `down` of them for one of the input, and how far what they depend on
/// reaches in pixels of the input.
struct Field {
  std::int64_t up = 1, down = 1;
  double reach = 0;
  double pixel() const { return static_cast<double>(down) / static_cast<double>(up); }  // in the input's
};

bool any_of(const Node& node, std::initializer_list<const char*> types) {
  return std::any_of(types.begin(), types.end(), [&](const char* type) { return node.is(type); });
}

class Finder {
 public:
  explicit Finder(const Graph& graph) : graph_(graph), flow_(graph) {}

  Tiling run(const std::string& wanted) {
    const auto inputs = graph_.required_inputs();
    if (inputs.size() != 1 || graph_.outputs.empty() || !inputs[0]->shape || inputs[0]->shape->size() != 4)
      fail("tiles need a model of one image [n, c, h, w]");
    for (const std::size_t axis : {2u, 3u})
      if ((*inputs[0]->shape)[axis].known())
        fail("the model fixes the size of its input '{}': {}; tiles need an open one", inputs[0]->name,
             format_type(*inputs[0]));
    const std::string& first = graph_.outputs[0].name;
    const std::string& output = wanted.empty() ? first : wanted;
    if (std::none_of(graph_.outputs.begin(), graph_.outputs.end(),
                     [&](const ValueInfo& one) { return one.name == output; }))
      fail("the model has no output '{}'; the first is '{}'", output, first);
    fields_[inputs[0]->name] = {};
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i)
      if (flow_.is_data(i)) visit(i);
    const auto found = fields_.find(output);
    if (found == fields_.end()) fail("the output '{}' does not depend on the image", output);
    if (found->second.down != 1)
      fail("the output '{}' has fewer pixels than the input; tiles are for models that keep or enlarge them",
           output);
    const auto overlap = static_cast<std::int64_t>(std::ceil(found->second.reach - 1e-9));
    return {.overlap = (overlap + alignment_ - 1) / alignment_ * alignment_,
            .alignment = alignment_,
            .scale = found->second.up};
  }

 private:
  [[noreturn]] static void refuse(const Node& node, const std::string& reason) {
    fail("the image cannot be cut into tiles: {} {}", describe(node), reason);
  }

  static void reduce(Field& field) {
    const std::int64_t common = std::gcd(field.up, field.down);
    field.up /= common;
    field.down /= common;
  }

  /// What the window reaches beyond its own pixel on the wider side, in pixels of its input.
  static std::int64_t window_reach(const Node& node, const Ints& kernel) {
    const Ints dilations = node.attr("dilations", Ints(2, 1)), strides = node.attr("strides", Ints(2, 1));
    const std::string automatic = node.attr("auto_pad", "NOTSET");
    Ints pads = node.attr("pads", Ints(4, 0));
    std::int64_t reach = 0;
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t span = (kernel[axis] - 1) * dilations[axis];
      if (strides[axis] != strides[0]) refuse(node, "has strides that differ between the axes");
      if (automatic != "NOTSET") {
        if (automatic == "VALID" && span > 0) refuse(node, "shrinks the image");
        if (strides[axis] != 1) refuse(node, "pads by the size of the image");
        reach = std::max(reach, span);
        continue;
      }
      const std::int64_t before = pads[axis], after = pads[axis + 2];
      if (strides[axis] == 1 && before + after != span) refuse(node, "changes the size of the image");
      reach = std::max({reach, before, span - before, after});
    }
    return reach;
  }

  Ints kernel_of(const Node& node) const {
    Ints kernel = node.attr("kernel_shape", Ints{});
    if (kernel.empty())
      if (const TensorData* weight = graph_.constant(node.input(1)); weight && weight->rank() == 4)
        kernel = {weight->shape()[2], weight->shape()[3]};
    if (kernel.size() != 2) refuse(node, "is no window over an image");
    return kernel;
  }

  void shrink(Field& field, std::int64_t by) {
    field.down *= by;
    reduce(field);
    alignment_ = std::lcm(alignment_, field.down);
  }

  void visit(int i) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(i)];
    Field field;
    bool first = true;
    for (const std::string& name : flow_.data_inputs(i)) {
      const auto found = fields_.find(name);
      if (found == fields_.end()) refuse(node, "reads a value that is no image");
      if (!first && (found->second.up != field.up || found->second.down != field.down))
        refuse(node, "joins images of different size");
      field.reach = std::max(field.reach, found->second.reach);
      field.up = found->second.up;
      field.down = found->second.down;
      first = false;
    }
    transform(node, field);
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      if (!is_index(node, k) && !flow_.is_data_value(node.inputs[k]) && !from_constants(node.inputs[k]))
        refuse(node, fmt::format("reads '{}', which hangs on the size of the image or on another input",
                                 node.inputs[k]));
    for (const std::string& output : node.outputs)
      if (!output.empty()) fields_[output] = field;
  }

  /// Inputs that say what a node takes from the other one, where `transform` looks at that itself.
  static bool is_index(const Node& node, std::size_t input) {
    return input > 0 && (any_of(node, {"Slice", "Split", "Gather", "Resize", "Upsample"}) ||
                         node.op_type.starts_with("Reduce"));
  }

  /// Whether the value is a constant or computed from constants alone.
  bool from_constants(const std::string& value) {
    if (value.empty() || graph_.constant(value)) return true;
    const int maker = flow_.index.producer(value);
    if (maker < 0) return false;
    if (const auto found = from_constants_.find(value); found != from_constants_.end()) return found->second;
    const Node& node = graph_.nodes[static_cast<std::size_t>(maker)];
    const bool closed = !any_of(node, {"If", "Loop", "Scan"}) && !node.op_type.starts_with("Random") &&
                        std::all_of(node.inputs.begin(), node.inputs.end(),
                                    [&](const std::string& input) { return from_constants(input); });
    return from_constants_[value] = closed;
  }

  /// The shape of a constant, or of what is computed from constants; nothing if it is not known.
  std::optional<Ints> constant_shape(const std::string& value) {
    if (const TensorData* constant = graph_.constant(value)) return constant->shape();
    if (!inferred_) {
      inferred_ = graph_;
      infer_shapes(*inferred_);
    }
    const ValueInfo* info = inferred_->info(value);
    if (!info || !info->shape) return std::nullopt;
    Ints shape;
    for (const Dim& dim : *info->shape) shape.push_back(dim.known() ? dim.value : -1);
    return shape;
  }

  void transform(const Node& node, Field& field) {
    if (is_dynamic_subset(node))
      refuse(node, "normalises channels by statistics of the whole image; quantise with --statistics static");
    if (any_of(node, {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization",
                      "GroupNormalization", "MeanVarianceNormalization"}))
      refuse(node, "reads the whole image");
    if (node.op_type.starts_with("Reduce") && node.domain.empty()) {
      if (!reduces_channels_only(node)) refuse(node, "reads the whole image");
      return;
    }
    if (any_of(node, {"Gemm", "MatMul", "Flatten", "Einsum", "GridSample", "NonZero", "TopK", "CumSum"}))
      refuse(node, "does not work pixel by pixel");
    if (any_of(node, {"Conv", "ConvTranspose"}) && flow_.is_data_value(node.input(1)))
      refuse(node, "has weights that are made from the image");
    if (any_of(node, {"Conv", "MaxPool", "AveragePool"})) {
      if (node.attr("ceil_mode", std::int64_t{0}) != 0) refuse(node, "rounds the size of the image up");
      field.reach += static_cast<double>(window_reach(node, kernel_of(node))) * field.pixel();
      const std::int64_t stride = node.attr("strides", Ints(2, 1))[0];
      if (stride > 1) shrink(field, stride);
      return;
    }
    if (node.is("ConvTranspose")) {
      const Ints kernel = kernel_of(node), strides = node.attr("strides", Ints(2, 1));
      const Ints pads = node.attr("pads", Ints(4, 0)), extra = node.attr("output_padding", Ints(2, 0));
      for (std::size_t axis = 0; axis < 2; ++axis)
        if (strides[axis] != strides[0] || node.attr("auto_pad", "NOTSET") != std::string("NOTSET") ||
            kernel[axis] - pads[axis] - pads[axis + 2] + extra[axis] != strides[axis])
          refuse(node, "does not enlarge the image by its stride");
      const std::int64_t taps = (std::max(kernel[0], kernel[1]) + strides[0] - 1) / strides[0];
      field.reach += static_cast<double>(taps) * field.pixel();
      field.up *= strides[0];
      reduce(field);
      return;
    }
    if (node.is("DepthToSpace")) {
      field.up *= node.attr("blocksize", std::int64_t{1});
      reduce(field);
      return;
    }
    if (node.is("SpaceToDepth")) return shrink(field, node.attr("blocksize", std::int64_t{1}));
    if (node.is("Resize") || node.is("Upsample")) return resize(node, field);
    if (any_of(node, {"Slice", "Split", "Concat", "Gather", "Softmax", "LogSoftmax"}))
      return along_axis(node);
    if (any_of(node,
               {"Reshape", "Transpose", "Pad", "Squeeze", "Unsqueeze", "Expand", "Tile", "SpaceToBatch"}))
      refuse(node, "moves pixels in a way that is not followed here");
    if (!per_pixel(node)) refuse(node, "is not known to work pixel by pixel");
  }

  void resize(const Node& node, Field& field) {
    const TensorData* scales = graph_.constant(node.is("Resize") ? node.input(2) : node.input(1));
    const std::string mode = node.attr("mode", "nearest");
    if (!scales || scales->count() != 4) refuse(node, "resizes to a size, not by a constant factor");
    const std::vector<double> factors = scales->to_doubles();
    const auto factor = static_cast<std::int64_t>(std::lround(factors[2]));
    if (factors[0] != 1 || factors[1] != 1 || factors[2] != factors[3] || factor < 1 ||
        std::abs(factors[2] - static_cast<double>(factor)) > 0)
      refuse(node, "does not enlarge the image by a whole factor");
    if (node.attr("coordinate_transformation_mode", "half_pixel") == std::string("align_corners"))
      refuse(node, "aligns corners, so that every pixel depends on the size of the image");
    field.reach += (mode == "cubic" ? 3 : 2) * field.pixel();
    field.up *= factor;
    reduce(field);
  }

  /// Axes of images that are no rows or columns.
  static bool is_apart(std::int64_t axis) { return axis == 0 || axis == 1 || axis == -3 || axis == -4; }

  void along_axis(const Node& node) const {
    if (node.is("Slice")) {
      const TensorData* axes = graph_.constant(node.input(3));
      Ints list = axes ? axes->to_ints() : node.attr("axes", Ints{});
      if (list.empty() || !std::all_of(list.begin(), list.end(), is_apart))
        refuse(node, "cuts rows or columns");
      return;
    }
    const std::int64_t fallback = node.is("Split") || node.is("Gather") ? 0 : node.is("Concat") ? 1 : -1;
    if (!is_apart(node.attr("axis", fallback))) refuse(node, "works along rows or columns");
  }

  bool reduces_channels_only(const Node& node) const {
    const TensorData* given = graph_.constant(node.input(1));
    const Ints axes = given ? given->to_ints() : node.attr("axes", Ints{});
    return !axes.empty() && std::all_of(axes.begin(), axes.end(), is_apart) &&
           node.attr("keepdims", std::int64_t{1}) == 1;
  }

  /// Element by element; constants may differ between channels, not between pixels.
  bool per_pixel(const Node& node) {
    if (is_static_subset(node)) return true;
    static constexpr std::array kKnown{"Relu",
                                       "LeakyRelu",
                                       "PRelu",
                                       "Clip",
                                       "Sigmoid",
                                       "Tanh",
                                       "HardSigmoid",
                                       "HardSwish",
                                       "Elu",
                                       "Selu",
                                       "Softplus",
                                       "Gelu",
                                       "Swish",
                                       "Mish",
                                       "Add",
                                       "Sub",
                                       "Mul",
                                       "Div",
                                       "Pow",
                                       "Abs",
                                       "Neg",
                                       "Exp",
                                       "Log",
                                       "Sqrt",
                                       "Min",
                                       "Max",
                                       "Identity",
                                       "Dropout",
                                       "Cast",
                                       "Floor",
                                       "Round",
                                       "Erf",
                                       "QuantizeLinear",
                                       "DequantizeLinear",
                                       "BatchNormalization",
                                       "Celu",
                                       "Reciprocal",
                                       "Sign"};
    const bool known =
        node.domain.empty() &&
        std::any_of(kKnown.begin(), kKnown.end(), [&](const char* type) { return node.op_type == type; });
    if (!known) return false;
    if (node.is("BatchNormalization")) return true;
    if (node.is("QuantizeLinear") || node.is("DequantizeLinear"))
      return is_apart(node.attr("axis", std::int64_t{1}));
    for (const std::string& name : node.inputs) {
      if (name.empty() || flow_.is_data_value(name) || !from_constants(name)) continue;
      const std::optional<Ints> shape = constant_shape(name);
      if (!shape) return false;
      if (shape->empty()) continue;
      const bool wide = shape->back() != 1 || (shape->size() > 1 && (*shape)[shape->size() - 2] != 1);
      if (wide) return false;
    }
    return true;
  }

  const Graph& graph_;
  const DataFlow flow_;
  std::map<std::string, Field> fields_;
  std::map<std::string, bool> from_constants_;
  std::optional<Graph> inferred_;
  std::int64_t alignment_ = 1;
};

}  // namespace

Tiling find_tiling(const Graph& graph, const std::string& output) {
  return Finder(graph).run(output);
}

}  // namespace lithe
