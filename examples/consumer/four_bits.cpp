// A program outside of Lithe that quantises a model to 4 bits: four_bits <model.onnx> <data as in --data>
// <out.onnx>
#include <cstdio>
#include <string>

#include "lithe/base/error.h"
#include "lithe/data/dataset.h"
#include "lithe/data/preprocess.h"
#include "lithe/graph/onnx.h"
#include "lithe/quantize/quantize.h"

int main(int argc, char** argv) try {
  if (argc != 4) lithe::fail("four_bits: expected a model, data and a name for the result");
  const std::string path = argv[1];
  const lithe::Graph model = lithe::read_onnx(path);
  const lithe::Preprocess preprocess = lithe::preprocess_for(path, model);
  const auto data = lithe::seeded_subset(lithe::open_dataset(argv[2], preprocess), 64, 0);
  lithe::Progress silent;
  lithe::Quantized result = lithe::quantize(model, data, {.weight_bits = 4, .activation_bits = 4}, silent);
  lithe::keep_preprocess(result.graph, preprocess);
  for (const lithe::LayerResult& layer : result.layers)
    std::printf("%-24s %d bits, %lld bytes\n", layer.name.c_str(), layer.weight_bits,
                static_cast<long long>(layer.bytes));
  lithe::write_onnx(result.graph, argv[3]);
} catch (const lithe::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
