#include "lithe/stylize/network_part.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/ops/registry.h"
#include "lithe/stylize/widen_graph.h"

namespace lithe {
namespace {

Graph read_part(const std::filesystem::path& file) {
  if (!std::filesystem::is_regular_file(file))
    fail("{}: there is no such file; the folder of a Stable Diffusion model exported to ONNX was expected",
         file.string());
  Graph graph = read_onnx(file);
  widen_graph(graph);
  return graph;
}

}  // namespace

NetworkPart::NetworkPart(const std::filesystem::path& file, const ExecutorOptions& options)
    : NetworkPart(read_part(file), file.string(), options) {}

NetworkPart::NetworkPart(const Graph& graph, std::string origin, const ExecutorOptions& options)
    : origin_(std::move(origin)), executor_(graph, options) {}

const ValueInfo* NetworkPart::input(std::string_view name) const {
  for (const ValueInfo* input : graph().required_inputs())
    if (input->name == name) return input;
  return nullptr;
}

std::string NetworkPart::list_inputs() const {
  std::string text;
  for (const ValueInfo* input : graph().required_inputs())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", input->name, format_type(*input));
  return text;
}

std::int64_t NetworkPart::fixed_rows(const Request& request) const {
  for (const auto& [name, value] : request.items) {
    const ValueInfo* declared = input(name);
    const auto found = request.axes.find(name);
    const auto axis = static_cast<std::size_t>(found == request.axes.end() ? 0 : found->second);
    if (declared && declared->shape && axis < declared->shape->size() && (*declared->shape)[axis].known())
      return (*declared->shape)[axis].value;
  }
  return 0;
}

at::Tensor NetworkPart::typed(const std::string& name, const at::Tensor& value) const {
  const ValueInfo* declared = input(name);
  const at::Tensor own = declared ? value.to(scalar_type_of(declared->dtype)) : value;
  return own.to(executor_.options().device).contiguous();
}

Feeds NetworkPart::run(const Request& request) {
  const at::NoGradGuard no_grad;
  const auto axis_of = [&](const std::string& name) {
    const auto found = request.axes.find(name);
    return found == request.axes.end() ? std::int64_t{0} : found->second;
  };
  const auto& first = *request.items.begin();
  const std::int64_t rows = first.second.size(axis_of(first.first));
  const std::int64_t fixed = fixed_rows(request);
  const std::int64_t free = std::max(request.most / request.multiple, std::int64_t{1}) * request.multiple;
  const std::int64_t piece = fixed > 0 ? fixed : std::min(free, rows);
  if (piece % request.multiple != 0)
    fail("{}: takes {} pictures at a time, but {} must stay together; export it with a free batch", origin_,
         piece, request.multiple);
  std::map<std::string, std::vector<at::Tensor>, std::less<>> outputs;
  for (std::int64_t from = 0; from < rows; from += piece) {
    const std::int64_t count = std::min(piece, rows - from);
    Feeds feeds;
    for (const auto& [name, value] : request.shared) feeds[name] = typed(name, value);
    for (const auto& [name, value] : request.items) {
      at::Tensor part = value.narrow(axis_of(name), from, count);
      if (count < piece && fixed > 0) {  // copies of the last fill the batch
        std::vector<std::int64_t> repeats(static_cast<std::size_t>(part.dim()), 1);
        repeats[static_cast<std::size_t>(axis_of(name))] = piece - count;
        part = at::cat({part, part.narrow(axis_of(name), count - 1, 1).repeat(repeats)}, axis_of(name));
      }
      feeds[name] = typed(name, part);
    }
    try {
      for (auto& [name, value] : executor_.run(feeds))
        outputs[name].push_back(value.dim() > 0 ? value.narrow(0, 0, std::min(count, value.size(0))).cpu()
                                                : value.cpu());
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}", origin_, error.what()));
    }
  }
  Feeds joined;
  for (const auto& [name, parts] : outputs) joined[name] = parts[0].dim() > 0 ? at::cat(parts) : parts[0];
  return joined;
}

}  // namespace lithe
