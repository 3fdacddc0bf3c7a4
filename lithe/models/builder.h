// Writes graphs down layer by layer, with random weights.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/graph/graph.h"

namespace lithe {

using Attributes = std::map<std::string, Attribute, std::less<>>;

/// A square convolution with symmetric padding.
struct ConvOptions {
  std::int64_t channels = 0;  // of the output
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t groups = 1;
  std::int64_t padding = -1;  // -1: kernel / 2, which keeps the size at stride 1
  bool bias = true;
  double gain = 1;  // factor on the initial weights
};

/// Every layer is a node of the given name whose output has the same name; its constants are called
/// `name.weight`, `name.bias` and so on. Weights are uniform with He's variance 2 / fan-in (He et al., ICCV
/// 2015), so that activations keep their magnitude through ReLU layers. The builder remembers the channels
/// (axis 1) of image values.
class GraphBuilder {
 public:
  GraphBuilder(std::string name, std::uint64_t seed, std::int64_t opset = 17);

  /// A dimension of -1 becomes the symbol "batch".
  std::string input(const std::string& name, const std::vector<std::int64_t>& shape,
                    DType dtype = DType::Float32);
  /// Makes `value` a graph output called `name`.
  void output(const std::string& name, const std::string& value, const std::vector<std::int64_t>& shape,
              DType dtype = DType::Float32);

  std::string constant(const std::string& name, TensorData value);
  std::string ints(const std::string& name, std::vector<std::int64_t> values);  // a vector
  std::string scalar(const std::string& name, float value);
  /// Uniform in [center - radius, center + radius).
  std::string random(const std::string& name, const std::vector<std::int64_t>& shape, double radius,
                     double center = 0);

  std::string node(const std::string& op, const std::string& name, std::vector<std::string> inputs,
                   Attributes attributes = {});
  std::vector<std::string> node_outputs(const std::string& op, const std::string& name,
                                        std::vector<std::string> inputs, std::vector<std::string> outputs,
                                        Attributes attributes = {}, const std::string& domain = "");

  std::string conv(const std::string& name, const std::string& x, const ConvOptions& options);
  std::string batch_norm(const std::string& name, const std::string& x, double gain = 1);
  std::string relu(const std::string& name, const std::string& x) { return like(x, node("Relu", name, {x})); }
  std::string relu6(const std::string& name, const std::string& x);
  std::string silu(const std::string& name, const std::string& x);  // Sigmoid and Mul
  std::string gelu(const std::string& name, const std::string& x);  // by Erf, in five nodes
  std::string add(const std::string& name, const std::string& a, const std::string& b) {
    return like(a, node("Add", name, {a, b}));
  }
  std::string concat(const std::string& name, const std::vector<std::string>& parts, std::int64_t axis = 1);
  std::string max_pool(const std::string& name, const std::string& x, std::int64_t kernel,
                       std::int64_t stride, std::int64_t padding);
  std::string global_average_pool(const std::string& name, const std::string& x) {
    return like(x, node("GlobalAveragePool", name, {x}));
  }
  std::string flatten(const std::string& name, const std::string& x) { return node("Flatten", name, {x}); }
  /// x W^T + b on [n, in].
  std::string gemm(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out);
  /// x W + b on [..., in], as MatMul and Add; the MatMul node is called name.matmul.
  std::string linear(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out,
                     double gain = 1);
  /// Over the last axis: one node from opset 17 on, or the nine that older exporters write.
  std::string layer_norm(const std::string& name, const std::string& x, std::int64_t size, bool decomposed,
                         float epsilon = 1e-5f);
  /// As PyTorch exports it: Reshape, InstanceNormalization, Reshape, Mul, Add.
  std::string group_norm(const std::string& name, const std::string& x, std::int64_t groups);
  std::string transpose(const std::string& name, const std::string& x,
                        std::vector<std::int64_t> permutation) {
    return node("Transpose", name, {x}, {{"perm", std::move(permutation)}});
  }
  std::string reshape(const std::string& name, const std::string& x, std::vector<std::int64_t> shape) {
    return node("Reshape", name, {x, ints(name + ".shape", std::move(shape))});
  }
  /// Reshape to [size of x along axis 0, tail...] by the Shape, Gather, Concat chain that exporters write.
  std::string reshape_dynamic(const std::string& name, const std::string& x,
                              const std::vector<std::int64_t>& tail);

  std::int64_t channels(const std::string& value) const;
  void set_channels(const std::string& value, std::int64_t channels) { channels_[value] = channels; }
  std::int64_t opset() const { return graph_.opset(); }
  Rng& rng() { return rng_; }

  /// Hands over the graph; throws Error(Input) if it is not valid.
  Graph finish();

 private:
  const std::string& like(const std::string& model, const std::string& value);
  std::string reduce_mean(const std::string& name, const std::string& x);

  Graph graph_;
  Rng rng_;
  std::unordered_map<std::string, std::int64_t> channels_;
};

}  // namespace lithe
