// A model in the engine against the same file in stock ONNX Runtime.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"
#include "lithe/metrics/metrics.h"

namespace lithe {

struct VerifyOptions {
  int threads = 1;  // of ONNX Runtime
  std::string optimization = "all";
  /// Largest difference allowed, relative to the output's largest value.
  double tolerance = 1e-3;
  /// Share of the codes of a quantised value that may differ, each by one step; means of few codes, which lie
  /// between two codes all the time, may differ everywhere.
  double code_tolerance = 1e-2;
};

struct OutputComparison {
  std::string name;
  Difference end_to_end;
  double argmax_agreement = 1;  // end to end
  /// With the same codes fed to both (`end_to_end` for models that do not quantise): what is judged.
  Difference judged;
  bool pass = false;
};

/// How the integer codes compare that QuantizeLinear nodes make, and the points of SubsetQuantize nodes.
struct CodeComparison {
  std::int64_t values = 0, codes = 0, differing = 0;
  std::int64_t largest_step = 0;
  double largest_share = 0;  // of differing codes in one value
  std::string worst;         // that value
  bool pass = true;
};

struct Verification {
  std::vector<OutputComparison> outputs;
  CodeComparison codes;
  bool pass = false;
};

/// Whether `quantized`, the output of a QuantizeLinear, holds the codes of an average (AveragePool,
/// GlobalAveragePool, ReduceMean), with or without Relu or Clip behind it. Means of few codes lie exactly
/// between two codes all the time, and kernels round such ties differently.
bool holds_means(const Graph& graph, const GraphIndex& index, const std::string& quantized);

/// Runs both on `feeds` and compares every output.
///
/// Two exact implementations of a quantised net do not agree end to end: where a float lies on the edge
/// between two codes, the order of summation decides, and the step of one code travels on through the net. So
/// the codes that ONNX Runtime computed are fed to the engine, each quantised value and each output is
/// recomputed from the codes before it, and these are judged: codes may differ by one step and rarely,
/// outputs within the tolerance. Throws Error(Input) if a shape differs or ONNX Runtime refuses the model.
Verification verify(Executor& executor, const std::filesystem::path& model, const Feeds& feeds,
                    const VerifyOptions& options = {});

}  // namespace lithe
