#include "lithe/stylize/controlnet.h"

#include <algorithm>
#include <cctype>

#include "lithe/base/error.h"
#include "lithe/diffusion/network_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/stylize/cross_frame_attention.h"
#include "lithe/stylize/widen_graph.h"

namespace lithe {
namespace {

Graph read_controlnet(const std::filesystem::path& file, std::int64_t sets) {
  if (!std::filesystem::is_regular_file(file))
    fail("{}: there is no such file; a ControlNet was expected", file.string());
  Graph graph = read_onnx(file);
  widen_graph(graph);
  return sets > 1 ? with_cross_frame_attention(graph, sets) : graph;
}

/// The number that a name ends in; -1 if in none.
int trailing_number(const std::string& name) {
  std::size_t digits = name.size();
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
  return digits == name.size() || name.size() - digits > 4 ? -1 : std::stoi(name.substr(digits));
}

/// The outputs in the order of the U-Net's inputs: by the same name, else by kind and number, else as they
/// stand.
std::vector<std::string> match_outputs(const NetworkPart& part, const UnetInputs& unet) {
  std::vector<std::string> wanted = unet.down_residuals, names;
  wanted.push_back(unet.middle_residual);
  for (const ValueInfo& output : part.graph().outputs) names.push_back(output.name);
  if (names.size() != wanted.size())
    fail("{}: gives {} residuals, the U-Net takes {}; the two do not go together", part.origin(),
         names.size(), wanted.size());
  const auto find = [&](const std::string& name) {
    const bool middle = name.find("mid") != std::string::npos;
    const auto same = std::find(names.begin(), names.end(), name);
    if (same != names.end()) return *same;
    const auto alike = std::find_if(names.begin(), names.end(), [&](const std::string& one) {
      if ((one.find("mid") != std::string::npos) != middle) return false;
      return middle || (one.find("down") != std::string::npos && trailing_number(one) >= 0 &&
                        trailing_number(one) == trailing_number(name));
    });
    return alike == names.end() ? std::string() : *alike;
  };
  std::vector<std::string> matched;
  for (const std::string& name : wanted) matched.push_back(find(name));
  std::vector<std::string> sorted = matched;
  std::sort(sorted.begin(), sorted.end());
  const bool each_once =
      sorted.front() != "" && std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  return each_once ? matched : names;
}

}  // namespace

void add_time(NetworkPart::Request& request, const NetworkPart& part, const std::string& input,
              double timestep, std::int64_t rows) {
  const ValueInfo& info = *part.input(input);
  const bool each =
      info.shape && info.shape->size() == 1 && !((*info.shape)[0].known() && (*info.shape)[0].value == 1);
  ValueInfo free = info;
  if (each) (*free.shape)[0] = {};
  at::Tensor value = time_feed(free, timestep, rows, false);
  (each ? request.items : request.shared)[input] = std::move(value);
}

ControlNet::ControlNet(const std::filesystem::path& file, const UnetInputs& unet, std::int64_t sets,
                       const ExecutorOptions& options)
    : part_(read_controlnet(file, sets), file.string(), options), sets_(std::max<std::int64_t>(sets, 1)) {
  for (const ValueInfo* input : part_.graph().required_inputs()) {
    const std::string& name = input->name;
    const std::size_t rank = input->shape ? input->shape->size() : 0;
    const bool coloured = rank == 4 && (*input->shape)[1].known() && (*input->shape)[1].value == 3;
    if (name.find("scale") != std::string::npos && rank < 2)
      scale_ = name;
    else if (rank == 4 && (coloured || name.find("cond") != std::string::npos))
      picture_ = name;
    else if (rank == 4 && sample_.empty())
      sample_ = name;
    else if (rank == 3)
      text_ = name;
    else if (rank < 2 && time_.empty())
      time_ = name;
    else
      fail(
          "{}: what the input '{}' ({}) is for is not known; a ControlNet takes sample, timestep, "
          "encoder_hidden_states and controlnet_cond",
          part_.origin(), name, format_type(*input));
  }
  if (sample_.empty() || time_.empty() || text_.empty() || picture_.empty())
    fail(
        "{}: a ControlNet takes sample, timestep, encoder_hidden_states and controlnet_cond, but the inputs "
        "are {}",
        part_.origin(), part_.list_inputs());
  outputs_ = match_outputs(part_, unet);
}

ControlResiduals ControlNet::residuals(const at::Tensor& x, const at::Tensor& text,
                                       const at::Tensor& pictures, double timestep, std::int64_t most) {
  NetworkPart::Request request{
      .items = {{sample_, x}, {text_, text}, {picture_, pictures}}, .most = most, .multiple = sets_};
  add_time(request, part_, time_, timestep, x.size(0));
  if (!scale_.empty())
    request.shared[scale_] = at::ones({}).reshape(
        part_.input(scale_)->shape->empty() ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{1});
  const Feeds said = part_.run(request);
  ControlResiduals residuals;
  for (const std::string& name : outputs_) {
    residuals.push_back(said.at(name));
    if (residuals.back().dim() != 4 || residuals.back().size(0) != x.size(0))
      fail("{}: the residual '{}' is {}; one [channels, height, width] for each of {} pictures was expected",
           part_.origin(), name, format_shape(residuals.back().sizes()), x.size(0));
  }
  return residuals;
}

}  // namespace lithe
