// A program outside of Lithe that reads a model: prints the operators of an ONNX file and counts its
// parameters.
#include <cstdio>
#include <map>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"

int main(int argc, char** argv) try {
  const lithe::Graph graph = lithe::read_onnx(argc > 1 ? argv[1] : "model.onnx");
  std::map<std::string, int> operators;
  for (const lithe::Node& node : graph.nodes) ++operators[node.op_type];
  for (const auto& [name, count] : operators) std::printf("%5d %s\n", count, name.c_str());
  long long parameters = 0;
  for (const auto& [name, constant] : graph.constants)
    if (lithe::is_float(constant.dtype())) parameters += constant.count();
  std::printf("%lld parameters\n", parameters);
} catch (const lithe::Error& error) {
  std::fprintf(stderr, "operators: %s\n", error.what());
  return 2;
}
