#include "cli/quantize_notes.h"

#include <fmt/format.h>

#include <algorithm>

namespace lithe::cli {

std::vector<std::string> notes_on_use(Target target, ReduceRange reduce_range,
                                      const std::vector<LayerResult>& layers, const Graph& graph) {
  std::vector<std::string> notes;
  const bool overflows = std::any_of(layers.begin(), layers.end(), [](const LayerResult& layer) {
    return layer.weight_bits == 8 && layer.activation_bits != kFloatBits;
  });
  if (target != Target::OnnxRuntime && reduce_range != ReduceRange::All && overflows)
    notes.push_back(fmt::format(
        "the file is for {}: stock ONNX Runtime on x86 without VNNI would saturate on its 8-bit weights, and "
        "lithe verify disagree there; --reduce-range all or --target ort makes a file for that",
        target == Target::OpenVino ? "OpenVINO" : "TensorRT"));
  if (graph.outputs.size() > 1) {
    std::string others;
    for (std::size_t i = 1; i < graph.outputs.size(); ++i)
      others += (i > 1 ? ", '" : "'") + graph.outputs[i].name + "'";
    notes.push_back(
        fmt::format("what is measured is the output '{}'; not checked: {}", graph.outputs[0].name, others));
  }
  return notes;
}

std::string nothing_quantized(const std::vector<LayerResult>& layers) {
  const bool any = std::any_of(layers.begin(), layers.end(), [](const LayerResult& layer) {
    return layer.weight_bits != kFloatBits || layer.activation_bits != kFloatBits;
  });
  return any ? ""
             : fmt::format(
                   "nothing is quantised: --weight-bits, --bits-for and --exclude leave all {} layers in "
                   "float",
                   layers.size());
}

}  // namespace lithe::cli
