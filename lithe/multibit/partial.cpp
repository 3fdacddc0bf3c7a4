#include "lithe/multibit/partial.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

constexpr double kLargestShare = 0.5;

[[noreturn]] void refuse(const Node& node, const char* reason) {
  fail("{}: {}, so that no part of a branch can be taken; leave odd bit-widths out", describe(node), reason);
}

const BodyConvolution* convolution_at(const Body& body, int node) {
  for (const BodyConvolution& conv : body.convolutions)
    if (conv.node == node) return &conv;
  return nullptr;
}

bool keeps_channels(const Node& node) {
  static const std::set<std::string_view> kTable{"BatchNormalization",
                                                 "MaxPool",
                                                 "AveragePool",
                                                 "GlobalAveragePool",
                                                 "GlobalMaxPool",
                                                 "Abs",
                                                 "Neg",
                                                 "Exp",
                                                 "Sqrt",
                                                 "Erf",
                                                 "Cast"};
  return follows_elementwise(node) || (node.domain.empty() && kTable.contains(node.op_type));
}

bool joins_elementwise(const Node& node) {
  return node.is("Add") || node.is("Sub") || node.is("Mul") || node.is("Div") || node.is("Sum") ||
         node.is("Max") || node.is("Min");
}

std::int64_t channels_of(const Graph& graph, const std::string& value) {
  const ValueInfo* info = graph.info(value);
  if (!info || !info->shape || info->shape->size() < 2 || !(*info->shape)[1].known())
    fail("the channels of '{}' are not known; leave odd bit-widths out", value);
  return (*info->shape)[1].value;
}

/// A Slice along the channels, or with bounds that are not constant, takes channels apart.
void require_no_channels(const Graph& graph, const Node& node) {
  const TensorData* axes = graph.constant(node.input(3));
  if (!axes) refuse(node, "its axes are no constant");
  for (const std::int64_t axis : axes->to_ints())
    if (axis == 1 || axis == -3) refuse(node, "it selects channels");
}

/// Zeros in front of and behind the channels.
std::pair<std::int64_t, std::int64_t> channel_pads(const Graph& graph, const Node& node) {
  const TensorData* pads = graph.constant(node.input(1));
  if (!pads || pads->count() != 8 || !node.input(3).empty()) refuse(node, "its pads are no eight constants");
  const std::vector<std::int64_t> values = pads->to_ints();
  if (values[1] < 0 || values[5] < 0) refuse(node, "it takes channels away");
  return {values[1], values[5]};
}

/// Widths that a part can narrow, as they are.
NarrowWidths whole_widths(const Body& body) {
  NarrowWidths widths;
  for (const BodyConvolution& conv : body.convolutions)
    if (!conv.last && conv.groups == 1) widths[conv.shape[0]] = conv.shape[0];
  return widths;
}

class Propagation {
 public:
  Propagation(const Graph& graph, const Body& body, const NarrowWidths& widths)
      : graph_(graph), flow_(graph), body_(body), widths_(widths) {
    behind_last_ = behind_last_convolutions(graph, body);
  }

  std::map<std::string, Channels> run() {
    const std::int64_t entry = channels_of(graph_, body_.entry);
    channels_[body_.entry] = {entry, entry};
    for (const int i : body_.nodes)
      if (flow_.is_data(i)) visit(i);
    if (const Channels exit = channels_.at(body_.exit); exit.full != exit.narrow)
      refuse(graph_.nodes[static_cast<std::size_t>(flow_.index.producer(body_.exit))],
             "it gives fewer channels in a part");
    return std::move(channels_);
  }

 private:
  std::int64_t narrow(std::int64_t full) const {
    const auto found = widths_.find(full);
    return found == widths_.end() ? full : found->second;
  }

  void visit(int index) {
    const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
    const std::string& output = node.output(0);
    const std::vector<std::string>& inputs = flow_.data_inputs(index);
    const Channels in = channels_.at(inputs[0]);
    const std::int64_t full = channels_of(graph_, output);
    if (const BodyConvolution* conv = convolution_at(body_, index)) {
      channels_[output] = convolve(node, *conv, in);
    } else if (inputs.size() == 1 && keeps_channels(node)) {
      channels_[output] = in;
    } else if (joins_elementwise(node)) {
      std::int64_t least = in.narrow, most = in.narrow;
      for (const std::string& input : inputs) {
        const Channels one = channels_.at(input);
        if (one.full != full) refuse(node, "it stretches channels");
        least = std::min(least, one.narrow);
        most = std::max(most, one.narrow);
      }
      const bool additive = node.is("Add") || node.is("Sum");
      if (least != most && !additive) refuse(node, "it joins paths of other widths than by a sum");
      channels_[output] = {full, behind_last_.contains(output) ? most : least};
    } else if (node.is("Slice")) {
      require_no_channels(graph_, node);
      channels_[output] = in;
    } else if (node.is("Pad")) {
      const auto [front, back] = channel_pads(graph_, node);
      const std::int64_t out = front + back == 0 ? in.narrow : narrow(full);
      if (out < in.narrow) refuse(node, "fewer channels than it has would be left");
      channels_[output] = {full, out};
    } else {
      refuse(node, "the operator is not understood by channels");
    }
  }

  Channels convolve(const Node& node, const BodyConvolution& conv, const Channels& in) const {
    const std::int64_t outputs = conv.shape[0];
    if (conv.groups == 1) return {outputs, conv.last ? outputs : narrow(outputs)};
    if (!conv.depthwise() || outputs != in.full) refuse(node, "it is a grouped convolution");
    if (conv.last && in.narrow != in.full) refuse(node, "the last convolution is depthwise");
    return in;
  }

  const Graph& graph_;
  DataFlow flow_;
  const Body& body_;
  const NarrowWidths& widths_;
  std::set<std::string> behind_last_;
  std::map<std::string, Channels> channels_;
};

}  // namespace

void check_narrow_widths(const Body& body, const NarrowWidths& widths) {
  const NarrowWidths all = whole_widths(body);
  std::string list;
  for (const auto& [full, same] : all) list += fmt::format("{}{}", list.empty() ? "" : ", ", full);
  for (const auto& [full, narrow] : widths) {
    if (!all.contains(full))
      fail("no convolution that a part could narrow has {} channels; there are {}", full, list);
    if (narrow < 1 || narrow > full) fail("a part of {} channels cannot have {}", full, narrow);
  }
  for (const auto& [full, same] : all)
    if (!widths.contains(full))
      fail("widths of parts are given, but none for {} channels; name all of {}, or none", full, list);
}

std::map<std::string, Channels> partial_channels(const Graph& graph, const Body& body,
                                                 const NarrowWidths& widths) {
  return Propagation(graph, body, widths).run();
}

std::set<std::string> behind_last_convolutions(const Graph& graph, const Body& body) {
  const DataFlow flow(graph);
  std::set<std::string> values;
  for (const BodyConvolution& conv : body.convolutions)
    if (conv.last) values.insert(conv.output);
  for (const int i : body.nodes)
    for (const std::string& input : flow.data_inputs(i))
      if (values.contains(input)) values.insert(graph.nodes[static_cast<std::size_t>(i)].output(0));
  return values;
}

double partial_share(const Body& body, const std::map<std::string, Channels>& channels) {
  double all = 0, part = 0;
  for (const BodyConvolution& conv : body.convolutions) {
    const auto ratio = [&](const std::string& value) {
      const Channels& one = channels.at(value);
      return static_cast<double>(one.narrow) / static_cast<double>(one.full);
    };
    const auto macs = static_cast<double>(conv.macs);
    all += macs;
    part += macs * ratio(conv.output) * (conv.groups == 1 ? ratio(conv.input) : 1);
  }
  return all > 0 ? part / all : 1;
}

NarrowWidths choose_narrow_widths(const Graph& graph, const Body& body) {
  const NarrowWidths widths = whole_widths(body);
  const std::int64_t widest = widths.empty() ? 1 : widths.rbegin()->first;
  const auto share = [&](const NarrowWidths& of) {
    return partial_share(body, partial_channels(graph, body, of));
  };
  const auto scaled = [&](std::int64_t numerator) {
    NarrowWidths of;
    for (const auto& [full, same] : widths) of[full] = std::max<std::int64_t>(1, full * numerator / widest);
    return of;
  };
  // The share grows with the ratio.
  std::int64_t low = 0, high = widest + 1;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (share(scaled(middle)) <= kLargestShare ? low : high) = middle;
  }
  NarrowWidths best = scaled(low);
  if (share(best) > kLargestShare)
    fail(
        "the model '{}': its first and last convolutions alone are {:.0f} % of a branch, and a part may have "
        "50 %; leave odd bit-widths out",
        graph.name, 100 * share(best));
  for (bool grew = true; grew;) {
    grew = false;
    for (const auto& [full, same] : widths) {
      if (best.at(full) == full) continue;
      NarrowWidths more = best;
      ++more.at(full);
      if (share(more) > kLargestShare) continue;
      best = std::move(more);
      grew = true;
    }
  }
  return best;
}

}  // namespace lithe
