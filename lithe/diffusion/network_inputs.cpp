#include "lithe/diffusion/network_inputs.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <set>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

constexpr std::array<std::string_view, 10> kTimeNames{
    "t", "timestep", "timesteps", "time", "times", "time_step", "time_steps", "step", "ts", "steps"};
constexpr std::array<std::string_view, 11> kLabelNames{
    "y",        "class",     "classes", "label", "labels", "class_label", "class_labels",
    "class_id", "class_ids", "cls",     "c"};
constexpr std::array<std::string_view, 8> kImageNames{"x",     "x_t",         "xt",           "sample",
                                                      "input", "noisy_image", "noisy_sample", "image"};

template <std::size_t Count>
bool is_called(const std::string& name, const std::array<std::string_view, Count>& names) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(names.begin(), names.end(), lower) != names.end();
}

bool is_image(const ValueInfo& input) {
  return is_float(input.dtype) && input.shape && input.shape->size() == 4;
}

/// A number for each image, or one for all.
bool is_per_image(const ValueInfo& input) {
  if (!is_float(input.dtype) && !is_integer(input.dtype)) return false;
  if (!input.shape) return true;
  const DimVector& shape = *input.shape;
  return shape.size() < 2 || (shape.size() == 2 && (!shape[1].known() || shape[1].value == 1));
}

bool is_label(const ValueInfo& input) {
  return is_integer(input.dtype) && is_per_image(input) && (!input.shape || !input.shape->empty());
}

std::string list(const std::vector<ValueInfo>& inputs) {
  std::string text;
  for (const ValueInfo& input : inputs)
    text += fmt::format("{}'{}' ({})", text.empty() ? "" : ", ", input.name, format_type(input));
  return text;
}

/// Takes inputs out of those that are left.
class Search {
 public:
  explicit Search(const Graph& graph) {
    for (const ValueInfo* input : graph.required_inputs()) left_.push_back(*input);
  }

  const std::vector<ValueInfo>& left() const { return left_; }

  ValueInfo take_named(const std::string& name, std::string_view what, bool (*fits)(const ValueInfo&),
                       std::string_view form) {
    const auto found =
        std::find_if(left_.begin(), left_.end(), [&](const ValueInfo& one) { return one.name == name; });
    if (found == left_.end())
      fail("the model has no free input '{}' for the {}; its inputs are {}", name, what, list(left_));
    if (!fits(*found))
      fail("the input '{}' ({}) cannot be the {}, which is {}; name another one", name, format_type(*found),
           what, form);
    return take(found);
  }

  /// The only one that holds the condition.
  template <typename Condition>
  std::optional<ValueInfo> take_only(const Condition& holds) {
    if (std::count_if(left_.begin(), left_.end(), holds) != 1) return std::nullopt;
    return take(std::find_if(left_.begin(), left_.end(), holds));
  }

 private:
  ValueInfo take(std::vector<ValueInfo>::iterator place) {
    ValueInfo input = std::move(*place);
    left_.erase(place);
    return input;
  }

  std::vector<ValueInfo> left_;
};

ValueInfo find_image(Search& search, const std::string& name) {
  if (!name.empty())
    return search.take_named(name, "image", is_image, "a float tensor [n, channels, height, width]");
  auto image = search.take_only(is_image);
  if (!image)
    image = search.take_only(
        [](const ValueInfo& one) { return is_image(one) && is_called(one.name, kImageNames); });
  if (!image)
    fail(
        "the model's input of noisy images (float [n, channels, height, width]) cannot be told among {}; "
        "name it as the image input",
        search.left().empty() ? "no inputs" : list(search.left()));
  return *std::move(image);
}

/// The number of images that the shapes fix; 0: any.
std::int64_t batch_of(const NetworkInputs& inputs) {
  std::int64_t batch = 0;
  const auto look = [&](const ValueInfo& input, bool one_for_all) {
    if (!input.shape || input.shape->empty() || !(*input.shape)[0].known()) return;
    const std::int64_t value = (*input.shape)[0].value;
    if (one_for_all && value == 1) return;
    if (value < 1 || (batch > 0 && batch != value))
      fail(
          "the input '{}' is {}, which fits no batch of the other inputs; export the model with a free batch",
          input.name, format_type(input));
    batch = value;
  };
  look(inputs.image, false);
  if (inputs.time) look(*inputs.time, true);
  if (inputs.label) look(*inputs.label, false);
  return batch;
}

bool only_reshapes(const Node& node) {
  static const std::set<std::string_view> kinds{"Cast",      "Identity", "Reshape", "Squeeze",
                                                "Unsqueeze", "Flatten",  "Clip",    "Expand"};
  return node.domain.empty() && kinds.contains(node.op_type);
}

/// What the node tells of the number of values that its input `index` chooses between.
std::optional<std::int64_t> choices(const Graph& graph, const Node& node, const std::string& value) {
  if (node.is("Gather") && node.input(1) == value && node.attr("axis", std::int64_t{0}) == 0) {
    const TensorData* table = graph.constant(node.input(0));
    if (table && table->rank() == 2) return table->shape()[0];
  }
  if (node.is("OneHot") && node.input(0) == value) {
    const TensorData* depth = graph.constant(node.input(1));
    if (depth && depth->count() == 1) return depth->to_ints()[0];
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::int64_t> NetworkInputs::image_shape() const {
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 1; i < image.shape->size(); ++i) sizes.push_back((*image.shape)[i].value);
  return sizes;
}

NetworkInputs find_network_inputs(const Graph& graph, const InputNames& names) {
  Search search(graph);
  NetworkInputs inputs;
  inputs.image = find_image(search, names.image);
  if (!names.time.empty())
    inputs.time = search.take_named(names.time, "time", is_per_image, "a number, [n] or [n, 1]");
  if (!names.label.empty())
    inputs.label = search.take_named(names.label, "label", is_label, "an integer [n] or [n, 1]");
  if (!inputs.time)
    inputs.time = search.take_only(
        [](const ValueInfo& one) { return is_per_image(one) && is_called(one.name, kTimeNames); });
  if (!inputs.label)
    inputs.label = search.take_only(
        [](const ValueInfo& one) { return is_label(one) && is_called(one.name, kLabelNames); });
  // A noise level is not a training step: a model that takes it would be fed wrong numbers in silence.
  const auto may_be_time = [](const ValueInfo& one) {
    return is_per_image(one) && one.name.find("sigma") == std::string::npos;
  };
  if (!inputs.time && search.left().size() == 1) inputs.time = search.take_only(may_be_time);
  if (!search.left().empty())
    fail(
        "the model has inputs that are neither noisy image, training step (a number, [n] or [n, 1]) nor "
        "label "
        "(integer [n]) as far as names and shapes tell: {}; name the image, time and label inputs, or export "
        "the "
        "model without the others",
        list(search.left()));
  inputs.batch = batch_of(inputs);
  return inputs;
}

at::Tensor time_feed(const ValueInfo& input, double timestep, std::int64_t count, bool round) {
  if (is_integer(input.dtype) && timestep != std::floor(timestep)) {
    if (!round)
      fail(
          "the time {} is no whole number, but the input '{}' takes {}; round the times, take a sampler of "
          "whole steps, or export the model with a float time",
          timestep, input.name, dtype_name(input.dtype));
    timestep = std::nearbyint(timestep);
  }
  std::vector<std::int64_t> shape{count};
  if (input.shape) {
    shape.assign(input.shape->size(), 1);
    if (!shape.empty()) shape[0] = (*input.shape)[0].known() ? (*input.shape)[0].value : count;
  }
  return at::full(shape, timestep, at::TensorOptions(at::kDouble)).to(scalar_type_of(input.dtype));
}

at::Tensor label_feed(const ValueInfo& input, const at::Tensor& labels) {
  const at::Tensor typed = labels.to(scalar_type_of(input.dtype));
  return input.shape && input.shape->size() == 2 ? typed.unsqueeze(1) : typed;
}

std::optional<std::int64_t> class_count(const Graph& graph, const std::string& label) {
  std::set<std::string> reached{label};
  for (const Node& node : graph.nodes)  // in topological order
    for (const std::string& read : node.inputs) {
      if (!reached.contains(read)) continue;
      if (const auto count = choices(graph, node, read)) return count;
      if (only_reshapes(node) && read == node.input(0)) reached.insert(node.output(0));
    }
  return std::nullopt;
}

}  // namespace lithe
