// Stock ONNX Runtime as the judge of exported models, run out of process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"

namespace lithe {

struct OnnxRuntimeOptions {
  int threads = 1;
  /// Graph optimisations: "disabled", "basic", "extended" or "all" (what users run).
  std::string optimization = "all";
};

/// A session of the npm package onnxruntime-node in a child process. The package is looked for in the folder
/// that LITHE_ORT names, else where scripts/install-ort.sh puts it (~/.local/share/lithe/onnxruntime).
class OnnxRuntime {
 public:
  /// Throws Error(System) if Node or the package is missing, Error(Input) if ONNX Runtime refuses the model.
  explicit OnnxRuntime(const std::filesystem::path& model, const OnnxRuntimeOptions& options = {});
  ~OnnxRuntime();
  OnnxRuntime(OnnxRuntime&&) noexcept;
  OnnxRuntime& operator=(OnnxRuntime&&) noexcept;

  /// Takes another model, with the same options, into the same process: starting one takes longer than most
  /// models do. Throws Error(Input) if ONNX Runtime refuses it; then none is loaded.
  void load(const std::filesystem::path& model);

  const std::vector<std::string>& inputs() const;
  const std::vector<std::string>& outputs() const;

  /// Returns the outputs asked for (default: all). Float16 comes as at::kHalf; uint16 and wider unsigned
  /// integers are widened to signed types as everywhere in Lithe, and narrowed again where they are inputs.
  Feeds run(const Feeds& feeds, const std::vector<std::string>& fetch = {});

  /// Seconds of each of `repeats` runs after `warmup` runs, measured inside the child.
  std::vector<double> time(const Feeds& feeds, int warmup, int repeats);

  /// Whether Node and the package are there; `reason` then says what is missing and how to get it.
  static bool available(std::string* reason = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lithe
