#include "cli/network_for.h"

#include <algorithm>
#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/models/models.h"
#include "lithe/models/registry.h"
#include "lithe/train/initialise.h"

namespace lithe::cli {
namespace {

/// Labels are counted where the data do not name their classes.
std::int64_t count_classes(const Dataset& data) {
  if (const auto names = data.class_names(); !names.empty()) return static_cast<std::int64_t>(names.size());
  std::int64_t most = -1;
  for (std::int64_t i = 0; i < data.size(); ++i) most = std::max(most, data.get(i).label);
  return most + 1;
}

}  // namespace

bool names_network(const std::string& name) {
  const bool file = std::filesystem::exists(name);
  if (!file && !find_network(name) && !name.ends_with(".onnx"))
    build_network(name);  // throws what lists them
  return !file && find_network(name).has_value();
}

Preprocess network_preprocess(const std::string& name) {
  Preprocess preprocess;
  switch (find_network(name)->kind) {
    case NetworkKind::Classifier:
      preprocess.mean = {0.5};
      preprocess.std = {0.25};
      break;
    case NetworkKind::Denoiser:  // from -1 to 1, beside noise of variance 1
      preprocess.mean = {0.5};
      preprocess.std = {0.5};
      break;
    case NetworkKind::Upscaler:
      break;
  }
  return preprocess;
}

Graph network_for(const NetworkRequest& request, const Dataset& data, const Preprocess& preprocess) {
  const std::string& name = request.name;
  const Sample sample = data.get(0);
  const NetworkInfo network = *find_network(name);
  if (preprocess.layout != ImageLayout::Nchw) fail("{}: built networks take --layout nchw", name);
  if (sample.inputs.size() != 1 || sample.inputs.begin()->second.dim() != 3)
    fail("{}: needs one image a sample, {} is none", name, sample.name);
  const auto sizes = sample.inputs.begin()->second.sizes();
  NetworkOptions options{
      .image_size = sizes[1], .image_channels = sizes[0], .scale = request.scale, .seed = request.seed};
  const bool denoises = network.kind == NetworkKind::Denoiser;
  options.labels = denoises && request.labels;
  if (network.kind == NetworkKind::Upscaler) {
    if (sample.target.defined()) options.scale = std::max<std::int64_t>(1, sample.target.size(1) / sizes[1]);
  } else if (sizes[1] != sizes[2]) {
    fail("{}: needs square images, {} has {}x{}; give --resize or --crop", name, sample.name, sizes[1],
         sizes[2]);
  }
  if (network.kind == NetworkKind::Classifier || options.labels) {
    if (!data.labelled()) fail("{}: the data have no labels; see docs/data.md", request.data_spec);
    options.classes = request.classes > 0 ? request.classes : count_classes(data);
  }
  Graph graph = build_network(name, options);
  initialise(graph, request.seed);
  if (denoises) zero_branch_ends(graph);
  return graph;
}

}  // namespace lithe::cli
