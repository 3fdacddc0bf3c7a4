// A model, quantised on random data, written, and compared with stock ONNX Runtime.
#pragma once

#include "lithe/base/file.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/verify.h"
#include "lithe/quantize/quantize.h"

namespace lithe {

inline Verification export_and_verify(const Graph& graph, const QuantizeOptions& options) {
  Progress silent;
  const at::NoGradGuard no_grad;
  const Feeds feeds = random_inputs(graph, 11, {}, 4);
  const Quantized quantized =
      quantize(graph, tensor_dataset(random_inputs(graph, 12, {}, 16)), options, silent);
  const TemporaryFolder folder;
  write_onnx(quantized.graph, folder.path() / "q.onnx");
  Executor executor(read_onnx(folder.path() / "q.onnx"));
  return verify(executor, folder.path() / "q.onnx", feeds);
}

}  // namespace lithe
