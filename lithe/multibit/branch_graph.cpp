#include "lithe/multibit/branch_graph.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/base/random.h"
#include "lithe/graph/dataflow.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

constexpr std::int64_t kWeightLevels = 3;  // of 2 bits
constexpr int kSingleBranch = 1;

/// The first `sizes[i]` elements along each axis of a float constant.
TensorData first_part(const TensorData& data, const std::vector<std::int64_t>& sizes) {
  if (sizes == data.shape()) return data;
  const std::vector<float> from = data.to_floats();
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  std::vector<float> out(static_cast<std::size_t>(count));
  std::vector<std::int64_t> place(sizes.size(), 0);
  for (float& value : out) {
    std::int64_t index = 0;
    for (std::size_t axis = 0; axis < sizes.size(); ++axis) index = index * data.shape()[axis] + place[axis];
    value = from[static_cast<std::size_t>(index)];
    for (std::size_t axis = sizes.size(); axis-- > 0 && ++place[axis] == sizes[axis];) place[axis] = 0;
  }
  return TensorData::from<float>(sizes, std::move(out));
}

class Writer {
 public:
  Writer(const Graph& graph, const Body& body, const BranchOptions& options)
      : source_(graph), flow_(graph), body_(body), quantisers_(out_.graph) {
    out_.body = body;
    out_.options = options;
    out_.entry = body.entry;
  }

  BranchGraph write() {
    const BranchOptions& options = out_.options;
    check_bits(options.bits);
    if (source_.outputs.size() != 1)
      fail("the model '{}' has {} outputs; a classifier with one is needed", source_.name,
           source_.outputs.size());
    if (options.method == MultibitMethod::Lsq && options.bits.size() != 1)
      fail("method lsq trains one bit-width at a time, not {}; give one", fmt::join(options.bits, ","));
    branches_ = branched() ? branch_count(options.bits.back()) : kSingleBranch;
    prepare_partial();
    start();
    for (const int bits : options.bits) write_path(bits);
    finish();
    return std::move(out_);
  }

 private:
  bool branched() const { return out_.options.method == MultibitMethod::MbQuant; }
  Graph& graph() { return out_.graph; }
  const Node& source(int index) const { return source_.nodes[static_cast<std::size_t>(index)]; }

  BranchSelection selection(int bits) const {
    if (!branched()) return {{kSingleBranch}, 0};
    return select_branches(bits, branches_, out_.options.amortise);
  }

  void prepare_partial() {
    std::vector<int> odd;
    for (const int bits : out_.options.bits)
      if (branched() && bits % 2 != 0) odd.push_back(bits);
    for (const int bits : out_.options.bits)
      for (const int branch : selection(bits).full) whole_.insert(branch);
    const NarrowWidths& wanted = out_.options.widths;
    if (odd.empty()) {
      if (!wanted.empty())
        fail(
            "widths of parts of branches are given, but no odd bit-width that would run one; leave them out");
      return;
    }
    if (!wanted.empty()) check_narrow_widths(body_, wanted);
    try {
      out_.widths = wanted.empty() ? choose_narrow_widths(source_, body_) : wanted;
      channels_ = partial_channels(source_, body_, out_.widths);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{} (of {})", error.what(), fmt::join(odd, ",")));
    }
    out_.partial_share = lithe::partial_share(body_, channels_);
  }

  /// The stem, and everything that neither the body nor the head makes.
  void start() {
    Graph& g = graph();
    g = source_;
    const int last = flow_.index.producer(body_.exit);
    const std::set<int> body(body_.nodes.begin(), body_.nodes.end());
    std::set<std::string> reached{body_.exit};
    g.nodes.clear();
    for (int i = 0; i < static_cast<int>(source_.nodes.size()); ++i) {
      const Node& node = source(i);
      const std::vector<std::string> reads = all_reads(node);
      const bool head = i > last && std::any_of(reads.begin(), reads.end(), [&](const std::string& value) {
                          return reached.contains(value);
                        });
      if (head) {
        head_.push_back(i);
        reached.insert(node.outputs.begin(), node.outputs.end());
      } else if (!body.contains(i)) {
        g.nodes.push_back(node);
      }
    }
    g.outputs.clear();
    g.values.clear();
    const std::vector<int>& bits = out_.options.bits;
    for (auto it = bits.rbegin(); it != bits.rend(); ++it) {
      ValueInfo output = source_.outputs[0];
      output.name = fmt::format("{}@{}", output.name, *it);
      g.outputs.push_back(std::move(output));
    }
  }

  void finish() {
    Graph& g = graph();
    for (const BodyConvolution& conv : body_.convolutions) g.constants.erase(conv.weight);
    quantisers_.finish();
    out_.bounds = std::move(quantisers_.bounds);
    out_.scales = std::move(quantisers_.scales);
    set_multibit_info(g, {.method = std::string(multibit_method_name(out_.options.method)),
                          .entry = out_.entry,
                          .slots = out_.options.slots,
                          .paths = out_.paths});
    g.sort();
    g.remove_dead();
    g.validate();
    infer_shapes(g);
  }

  // --- one bit-width

  struct Place {
    int bits = 0, branch = 0, slot = 0;
    bool partial = false;
    std::string prefix;                          // of names
    std::map<std::string, std::string> renamed;  // of the source's data values
  };

  void write_path(int bits) {
    BitPath path{.bits = bits,
                 .output = fmt::format("{}@{}", source_.outputs[0].name, bits),
                 .branches = selection(bits)};
    std::vector<int> branches = path.branches.full;
    if (path.branches.partial > 0) branches.push_back(path.branches.partial);
    std::vector<std::string> exits;
    for (std::size_t slot = 0; slot < branches.size(); ++slot) {
      Place place{.bits = bits,
                  .branch = branches[slot],
                  .slot = static_cast<int>(slot),
                  .partial = branches[slot] == path.branches.partial,
                  .prefix = branch_prefix(bits, branches[slot])};
      exits.push_back(write_branch(place));
    }
    path.exit = mean(exits, fmt::format("b{}/mean", bits));
    write_head(path);
    out_.paths.push_back(std::move(path));
  }

  std::string add(Node node) {
    std::string output = node.outputs[0];
    graph().nodes.push_back(std::move(node));
    return output;
  }

  std::string mean(const std::vector<std::string>& values, const std::string& name) {
    std::string sum = values[0];
    for (std::size_t i = 1; i < values.size(); ++i) {
      const std::string step = fmt::format("{}/sum{}", name, i);
      sum = add({.name = step, .op_type = "Add", .inputs = {sum, values[i]}, .outputs = {step}});
    }
    if (values.size() == 1) return sum;
    const std::string count = fmt::format("branches/{}", values.size());
    if (!graph().is_constant(count))
      graph().constants[count] = TensorData::scalar(static_cast<float>(values.size()));
    return add({.name = name, .op_type = "Div", .inputs = {sum, count}, .outputs = {name}});
  }

  void write_head(const BitPath& path) {
    std::map<std::string, std::string> renamed{{body_.exit, path.exit}};
    const std::string prefix = fmt::format("b{}/", path.bits);
    for (const int i : head_) {
      Node node = source(i);
      node.name = prefix + (node.name.empty() ? node.output(0) : node.name);
      for (std::string& input : node.inputs)
        if (const auto found = renamed.find(input); found != renamed.end()) input = found->second;
      for (std::string& output : node.outputs) {
        if (output.empty()) continue;
        const bool score = output == source_.outputs[0].name;
        output = renamed[output] = score ? path.output : prefix + output;
      }
      graph().nodes.push_back(std::move(node));
    }
    if (!renamed.contains(source_.outputs[0].name))  // the exit is the output
      add({.name = path.output, .op_type = "Identity", .inputs = {path.exit}, .outputs = {path.output}});
  }

  std::string write_branch(Place& place) {
    place.renamed[body_.entry] = body_.entry;
    for (const int i : body_.nodes) {
      const Node& node = source(i);
      if (!flow_.is_data(i))
        write_helper(node, place);
      else if (const BodyConvolution* conv = convolution(i))
        write_convolution(node, *conv, place);
      else
        write_other(node, i, place);
    }
    return place.renamed.at(body_.exit);
  }

  const BodyConvolution* convolution(int node) const {
    for (const BodyConvolution& conv : body_.convolutions)
      if (conv.node == node) return &conv;
    return nullptr;
  }

  /// Sizes and the like may depend on data values: each branch has its own.
  void write_helper(const Node& source, Place& place) { graph().nodes.push_back(clone(source, place)); }

  Node clone(const Node& source, Place& place) {
    Node node = source;
    node.name = place.prefix + (source.name.empty() ? source.output(0) : source.name);
    for (std::string& input : node.inputs)
      if (const auto found = place.renamed.find(input); found != place.renamed.end()) input = found->second;
    for (std::string& output : node.outputs)
      if (!output.empty()) output = place.renamed[output] = place.prefix + output;
    return node;
  }

  Channels channels(const std::string& value, const Place& place) const {
    const auto found = channels_.find(value);
    if (!place.partial || found == channels_.end()) return {0, 0};
    return found->second;
  }

  // --- layers

  void write_convolution(const Node& source, const BodyConvolution& conv, Place& place) {
    const std::string input = place.renamed.at(conv.input);
    const std::string weight = quantised_weight(conv, place);
    const std::string activation = quantised_activation(conv, input, place);
    Node node = source;
    node.name = place.prefix + conv.name;
    node.inputs = {activation, weight};  // the norm behind it has the bias
    node.outputs = {place.renamed[conv.output] = place.prefix + conv.output};
    if (place.partial && conv.groups > 1) node.attributes["group"] = channels(conv.output, place).narrow;
    graph().nodes.push_back(std::move(node));
  }

  std::vector<std::int64_t> weight_shape(const BodyConvolution& conv, bool partial) const {
    std::vector<std::int64_t> shape = conv.shape;
    if (!partial) return shape;
    shape[0] = channels_.at(conv.output).narrow;
    if (conv.groups == 1) shape[1] = channels_.at(conv.input).narrow;
    return shape;
  }

  /// The float weight of a branch: of the whole branch if any bit-width runs it whole.
  std::string branch_weight(const BodyConvolution& conv, int branch) {
    std::string name = branched() ? fmt::format("{}@{}", conv.weight, branch) : conv.weight + "@1";
    if (graph().is_constant(name)) return name;
    TensorData data =
        first_part(source_.constants.at(conv.weight), weight_shape(conv, !whole_.contains(branch)));
    const double share = out_.options.branch_noise;
    if (branched() && share > 0) data = shaken(data, share, name);
    graph().constants[name] = std::move(data);
    out_.weights.push_back(name);
    return name;
  }

  /// Copies that are equal would learn the same for ever.
  TensorData shaken(const TensorData& data, double share, const std::string& name) const {
    std::vector<float> values = data.to_floats();
    double sum = 0, squares = 0;
    for (const float v : values) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const auto count = static_cast<double>(values.size());
    const double deviation = std::sqrt(std::max(0.0, squares / count - sum / count * (sum / count)));
    Rng rng(out_.options.seed, fnv1a(std::as_bytes(std::span(name))));
    for (float& v : values) v += static_cast<float>(share * deviation * rng.normal());
    return TensorData::from<float>(data.shape(), std::move(values));
  }

  std::string quantised_weight(const BodyConvolution& conv, const Place& place) {
    const std::string weight = branch_weight(conv, place.branch);
    switch (out_.options.method) {
      case MultibitMethod::MbQuant: {
        const std::string owner =
            out_.options.slots ? fmt::format("{}@slot{}", conv.weight, place.slot) : weight;
        const std::string name = out_.options.slots ? fmt::format("{}/slot{}", weight, place.slot) : weight;
        std::string whole = quantisers_.bounded(weight, name + "/quantised", owner, kWeightLevels, true, 0);
        if (!place.partial || !whole_.contains(place.branch)) return whole;
        const std::vector<std::int64_t> shape = weight_shape(conv, true);
        return quantisers_.part(whole, shape[0], shape[1]);
      }
      case MultibitMethod::Shared:
        return quantisers_.bounded(weight, fmt::format("{}/b{}/quantised", weight, place.bits),
                                   fmt::format("{}/b{}", weight, place.bits), levels_of(place.bits), true,
                                   place.bits);
      case MultibitMethod::AnyPrecision:
        return quantisers_.dorefa_weight(weight, place.bits);
      case MultibitMethod::AdaBits:
        return quantisers_.nested_weight(weight, place.bits);
      case MultibitMethod::Lsq:
        break;
    }
    const std::int64_t half = std::int64_t{1} << (place.bits - 1);
    return quantisers_.stepped(weight, weight + "/quantised", weight, -half, half - 1, true);
  }

  std::string quantised_activation(const BodyConvolution& conv, const std::string& input,
                                   const Place& place) {
    const std::string base = place.prefix + conv.name;
    const std::string name = base + "/quantised";
    if (out_.options.method == MultibitMethod::AnyPrecision)
      return quantisers_.dorefa_activation(input, name, place.bits);
    if (out_.options.method == MultibitMethod::Lsq) {
      const std::int64_t top = levels_of(place.bits);
      const bool positive = not_negative(conv.input);
      return quantisers_.stepped(input, name, base + "/input", positive ? 0 : -(top + 1) / 2,
                                 positive ? top : (top + 1) / 2 - 1, false);
    }
    const std::string owner = out_.options.slots
                                  ? fmt::format("b{}.slot{}/{}/input", place.bits, place.slot, conv.name)
                                  : base + "/input";
    return quantisers_.bounded(input, name, owner, levels_of(place.bits), false, place.bits);
  }

  bool not_negative(const std::string& value) const {
    const int maker = flow_.index.producer(value);
    if (maker < 0) return false;
    const Node& node = source(maker);
    if (node.is("Relu") || node.is("Sigmoid")) return true;
    if (node.is("MaxPool") || node.is("AveragePool")) return not_negative(node.input(0));
    const TensorData* least = node.is("Clip") ? source_.constant(node.input(1)) : nullptr;
    return least && least->count() == 1 && least->to_floats()[0] >= 0;
  }

  // --- everything else of the body

  void write_other(const Node& source, int index, Place& place) {
    Node node = clone(source, place);
    if (source.is("BatchNormalization")) {
      for (std::size_t i = 1; i <= 4; ++i) node.inputs[i] = norm_constant(source, i, place);
      graph().nodes.push_back(std::move(node));
      return;
    }
    if (flow_.is_join(index) && place.partial) join_parts(source, node, place);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const TensorData* data = source_.constant(source.input(i));
      if (!data || !is_float(data->dtype())) continue;
      node.inputs[i] = own_constant(source, *data, source.input(i), place);
    }
    if (source.is("Pad") && place.partial) pad_part(source, node, place);
    graph().nodes.push_back(std::move(node));
  }

  /// A norm's parameter for one branch and bit-width. Convolutions have no bias here: the mean is less by it.
  std::string norm_constant(const Node& norm, std::size_t input, const Place& place) {
    const auto constant_of = [&](const Node& node, std::size_t at) -> const TensorData& {
      const TensorData* data = source_.constant(node.input(at));
      if (!data || !is_float(data->dtype()))
        fail("{}: '{}' is no float constant; every bit-width needs norms and biases of its own",
             describe(node), node.input(at));
      return *data;
    };
    const Channels width = channels(norm.output(0), place);
    std::string name = fmt::format("{}@{}.{}", norm.input(input), place.bits, place.branch);
    std::vector<float> values = constant_of(norm, input).to_floats();
    if (width.narrow > 0 && width.narrow < static_cast<std::int64_t>(values.size())) {
      values.resize(static_cast<std::size_t>(width.narrow));
      name += fmt::format("/first{}", width.narrow);  // another norm of the same constants may be wider
    }
    const int maker = flow_.index.producer(norm.input(0));
    if (constexpr std::size_t kMean = 3; input == kMean && maker >= 0 && convolution(maker)) {
      const Node& conv = this->source(maker);
      if (!conv.input(2).empty()) {
        const std::vector<float> bias = constant_of(conv, 2).to_floats();
        if (bias.size() < values.size())
          fail("{}: its bias has {} numbers for {} channels", describe(conv), bias.size(), values.size());
        for (std::size_t c = 0; c < values.size(); ++c) values[c] -= bias[c];
        name += "/" + conv.input(2);
      }
    }
    const auto count = static_cast<std::int64_t>(values.size());
    graph().constants[name] = TensorData::from<float>({count}, std::move(values));
    return name;
  }

  /// Float constants with several elements learn (slopes, weights of layers that stay in float): each branch
  /// has its own.
  std::string own_constant(const Node& source, const TensorData& data, const std::string& name,
                           const Place& place) {
    if (data.count() <= 1) return name;
    const Channels width = channels(source.output(0), place);
    std::vector<std::int64_t> shape = data.shape();
    if (width.narrow != width.full) {
      const std::size_t axis = shape.size() >= 3 ? shape.size() - 3 : shape.size();
      const bool follows = axis < shape.size() && shape[axis] == width.full && !source.is("Conv");
      if (!follows)
        fail("{}: its constant '{}' cannot be taken in part; leave odd bit-widths out", describe(source),
             name);
      shape[axis] = width.narrow;
    }
    std::string own = fmt::format("{}@{}", name, place.branch);
    if (width.narrow != width.full) own += fmt::format("/first{}", width.narrow);
    if (!graph().is_constant(own)) graph().constants[own] = first_part(data, shape);
    return own;
  }

  /// Brings the inputs of a sum to one width.
  void join_parts(const Node& source, Node& node, const Place& place) {
    const std::int64_t wanted = channels(source.output(0), place).narrow;
    for (std::size_t i = 0; i < source.inputs.size(); ++i) {
      if (!channels_.contains(source.input(i))) continue;
      const std::int64_t have = channels(source.input(i), place).narrow;
      if (have == wanted) continue;
      const std::string name = fmt::format("{}/input{}", node.name, i);
      node.inputs[i] = have > wanted ? take_channels(node.inputs[i], name, wanted)
                                     : fill_channels(node.inputs[i], name, wanted - have);
    }
  }

  std::string take_channels(const std::string& value, const std::string& name, std::int64_t count) {
    const auto one = [&](const char* what, std::int64_t number) {
      std::string constant = fmt::format("{}/{}", name, what);
      graph().constants[constant] = TensorData::from<std::int64_t>({1}, {number});
      return constant;
    };
    return add({.name = name,
                .op_type = "Slice",
                .inputs = {value, one("starts", 0), one("ends", count), one("axes", 1)},
                .outputs = {name}});
  }

  std::string fill_channels(const std::string& value, const std::string& name, std::int64_t count) {
    const std::string pads = name + "/pads";
    graph().constants[pads] = TensorData::from<std::int64_t>({8}, {0, 0, 0, 0, 0, count, 0, 0});
    return add({.name = name, .op_type = "Pad", .inputs = {value, pads, zero()}, .outputs = {name}});
  }

  std::string zero() {
    graph().constants["parts/zero"] = TensorData::scalar(0.0f);
    return "parts/zero";
  }

  /// The new channels of a shortcut, shared out in front and behind as in the whole branch.
  void pad_part(const Node& source, Node& node, const Place& place) {
    std::vector<std::int64_t> pads = source_.constants.at(source.input(1)).to_ints();
    const std::int64_t all = pads[1] + pads[5];
    if (all == 0) return;
    const std::int64_t wanted =
        channels(source.output(0), place).narrow - channels(source.input(0), place).narrow;
    pads[1] = wanted * pads[1] / all;
    pads[5] = wanted - pads[1];
    node.inputs[1] = node.name + "/pads";
    graph().constants[node.inputs[1]] = TensorData::from<std::int64_t>({8}, std::move(pads));
  }

  const Graph& source_;
  DataFlow flow_;
  const Body& body_;
  BranchGraph out_;
  int branches_ = 0;
  std::set<int> whole_;  // branches that some bit-width runs whole
  std::vector<int> head_;
  std::map<std::string, Channels> channels_;  // in a part
  QuantiserWriter quantisers_;
};

}  // namespace

BranchGraph insert_branches(const Graph& graph, const Body& body, const BranchOptions& options) {
  return Writer(graph, body, options).write();
}

}  // namespace lithe
