// Vision transformer of Dosovitskiy et al., ICLR 2021.
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

class VitBuilder : public GraphBuilder {
 public:
  explicit VitBuilder(const VitOptions& options)
      : GraphBuilder("vit", options.seed, options.opset), options_(options) {
    if (options.patch < 1 || options.image_size % options.patch != 0)
      fail("vit: the image size {} is no multiple of the patch size {}", options.image_size, options.patch);
    if (options.heads < 1 || options.dim % options.heads != 0)
      fail("vit: the width {} is no multiple of the {} heads", options.dim, options.heads);
    if (options.layer_norm_operator && options.opset < 17)
      fail("vit: LayerNormalization needs opset 17, not {}", options.opset);
  }

  Graph build() {
    const std::int64_t side = options_.image_size / options_.patch;
    tokens_ = side * side + (options_.class_token ? 1 : 0);
    std::string x = embed(side);
    for (std::int64_t i = 0; i < options_.depth; ++i) x = block(fmt::format("blocks.{}", i), x);
    x = norm("norm", x);
    std::string feature;
    if (options_.class_token) {
      feature =
          node("Gather", "class_token", {x, constant("class_index", TensorData::scalar<std::int64_t>(0))},
               {{"axis", std::int64_t{1}}});
    } else if (opset() >= 18) {
      feature =
          node("ReduceMean", "token_mean", {x, ints("token_axis", {1})}, {{"keepdims", std::int64_t{0}}});
    } else {
      feature = node("ReduceMean", "token_mean", {x},
                     {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
    }
    output("logits", gemm("head", feature, options_.dim, options_.classes),
           {options_.batch, options_.classes});
    return finish();
  }

 private:
  std::string norm(const std::string& name, const std::string& x) {
    return layer_norm(name, x, options_.dim, !options_.layer_norm_operator, 1e-6f);
  }

  /// Reshape that keeps axis 0, by a shape chain where the batch is symbolic.
  std::string reshape_batch(const std::string& name, const std::string& x, std::vector<std::int64_t> tail) {
    if (options_.batch < 0) return reshape_dynamic(name, x, tail);
    tail.insert(tail.begin(), options_.batch);
    return reshape(name, x, tail);
  }

  std::string embed(std::int64_t side) {
    const std::int64_t d = options_.dim;
    const std::string image =
        input("input", {options_.batch, options_.image_channels, options_.image_size, options_.image_size});
    const std::string patches =
        conv("patch_embed.proj", image,
             {.channels = d, .kernel = options_.patch, .stride = options_.patch, .padding = 0});
    std::string x = transpose("patch_embed.transpose",
                              reshape_batch("patch_embed.flatten", patches, {d, side * side}), {0, 2, 1});
    if (options_.class_token) {
      const std::string token = random("cls_token", {1, 1, d}, 0.02);
      x = concat("cls_concat", {expand_token(token, x), x}, 1);
    }
    return add("pos_add", x, random("pos_embed", {1, tokens_, d}, 0.02));
  }

  std::string expand_token(const std::string& token, const std::string& x) {
    const std::int64_t d = options_.dim;
    if (options_.batch >= 0)
      return node("Expand", "cls_expand", {token, ints("cls_shape", {options_.batch, 1, d})});
    const std::string batch =
        node("Gather", "cls_batch",
             {node("Shape", "cls_size", {x}), constant("cls_zero", TensorData::scalar<std::int64_t>(0))},
             {{"axis", std::int64_t{0}}});
    const std::string vector = node("Unsqueeze", "cls_unsqueeze", {batch, ints("cls_axis", {0})});
    const std::string target =
        node("Concat", "cls_target", {vector, ints("cls_tail", {1, d})}, {{"axis", std::int64_t{0}}});
    return node("Expand", "cls_expand", {token, target});
  }

  std::string attention(const std::string& name, const std::string& x) {
    const std::int64_t d = options_.dim, h = options_.heads, size = d / h;
    const std::string qkv = linear(name + ".qkv", x, d, 3 * d);
    const std::string split = transpose(
        name + ".split", reshape_batch(name + ".heads", qkv, {tokens_, 3, h, size}), {2, 0, 3, 1, 4});
    const auto part = [&](const std::string& letter, std::int64_t index) {
      return node("Gather", name + "." + letter,
                  {split, constant(name + "." + letter + "_index", TensorData::scalar<std::int64_t>(index))},
                  {{"axis", std::int64_t{0}}});
    };
    const std::string q = part("q", 0), k = part("k", 1), v = part("v", 2);
    const std::string scores =
        node("MatMul", name + ".scores", {q, transpose(name + ".k_transposed", k, {0, 1, 3, 2})});
    const std::string scaled = node(
        "Mul", name + ".scaled", {scores, scalar(name + ".scale", 1 / std::sqrt(static_cast<float>(size)))});
    const std::string weights = node("Softmax", name + ".softmax", {scaled}, {{"axis", std::int64_t{-1}}});
    const std::string mixed =
        transpose(name + ".merge", node("MatMul", name + ".mixed", {weights, v}), {0, 2, 1, 3});
    return linear(name + ".proj", reshape_batch(name + ".merged", mixed, {tokens_, d}), d, d);
  }

  std::string block(const std::string& name, const std::string& x) {
    const std::int64_t d = options_.dim, hidden = d * options_.mlp_ratio;
    const std::string y = add(name + ".add1", x, attention(name + ".attn", norm(name + ".norm1", x)));
    const std::string wide = gelu(
        name + ".mlp.gelu", linear(name + ".mlp.fc1", norm(name + ".norm2", y), d, hidden, std::sqrt(2.0)));
    return add(name + ".add2", y, linear(name + ".mlp.fc2", wide, hidden, d));
  }

  VitOptions options_;
  std::int64_t tokens_ = 0;
};

}  // namespace

Graph build_vit(const VitOptions& options) {
  return VitBuilder(options).build();
}

}  // namespace lithe
