// The verbs by name, for help without loading what they need.
#pragma once

namespace lithe::cli {

struct VerbInfo {
  const char* name;
  const char* summary;
};

inline constexpr VerbInfo kVerbs[] = {
    {"inspect", "show inputs, outputs, operators, parameters, MACs, memory and blocks of a model"},
    {"eval", "measure a model on data: accuracy, loss, PSNR, throughput, agreement with another model"},
    {"verify", "run a model here and in stock ONNX Runtime on the same inputs and compare"},
    {"quantize", "make a model smaller and faster by lower bit-widths"},
    {"train", "train a network, by name or from an ONNX file, on data"},
    {"multibit", "train, measure and export one model that runs at any of several bit-widths"},
    {"sparsify", "make weights sparse, N of every M input channels, by pruning and training"},
    {"sample", "make images with a diffusion model"},
    {"schedule", "search, show, transfer and export sampling schedules of diffusion models"},
    {"deflicker", "take the flicker out of a stylised video, guided by the video it was made from"},
    {"stylize", "paint a video with a Stable Diffusion model, its frames smoothed while they are sampled"},
    {"superpoints", "cut a scene, a mesh or a cloud of points, into small pieces of surface"},
    {"tokens", "thin out the tokens of a vision transformer, by learnt or given counts"},
};

/// The summary of a verb in kVerbs.
constexpr const char* summary_of(const char* name) {
  for (const VerbInfo& verb : kVerbs) {
    const char *a = verb.name, *b = name;
    while (*a && *a == *b) ++a, ++b;
    if (*a == *b) return verb.summary;
  }
  return "";
}

}  // namespace lithe::cli
