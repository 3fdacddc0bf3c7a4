// The noise predictor of Ho et al., NeurIPS 2020.
#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

class UnetBuilder : public GraphBuilder {
 public:
  explicit UnetBuilder(const UnetOptions& options)
      : GraphBuilder("unet", options.seed, options.opset), options_(options) {
    if (options.base < 2 || options.base % options.groups != 0 || options.multipliers.empty())
      fail("unet: base ({}) must be a multiple of groups ({}), and there must be a multiplier", options.base,
           options.groups);
    if (options.image_size % (std::int64_t{1} << (options.multipliers.size() - 1)) != 0)
      fail("unet: the image size {} cannot be halved {} times", options.image_size,
           options.multipliers.size() - 1);
  }

  Graph build() {
    const std::string image =
        input("x", {options_.batch, options_.image_channels, options_.image_size, options_.image_size});
    embedding_ = time_embedding(input("t", {options_.batch}, DType::Int64));
    std::int64_t size = options_.image_size;
    std::string x = conv("conv_in", image, {.channels = options_.base});
    std::vector<std::string> skips{x};
    const auto levels = static_cast<std::int64_t>(options_.multipliers.size());
    for (std::int64_t level = 0; level < levels; ++level) {
      for (std::int64_t i = 0; i < options_.residual_blocks; ++i)
        skips.push_back(x = layer(fmt::format("down.{}.{}", level, i), x, width(level), size));
      if (level + 1 == levels) break;
      x = conv(fmt::format("down.{}.downsample", level), x, {.channels = width(level), .stride = 2});
      skips.push_back(x);
      size /= 2;
    }
    x = residual("mid.block1", x, width(levels - 1));
    x = attention("mid.attention", x, size);
    x = residual("mid.block2", x, width(levels - 1));
    for (std::int64_t level = levels; level-- > 0;) {
      for (std::int64_t i = 0; i <= options_.residual_blocks; ++i) {
        const std::string name = fmt::format("up.{}.{}", level, i);
        x = concat(name + ".concat", {x, skips.back()});
        skips.pop_back();
        x = layer(name, x, width(level), size);
      }
      if (level == 0) break;
      x = upsample(fmt::format("up.{}.upsample", level), x);
      size *= 2;
    }
    x = silu("out.silu", group_norm("out.norm", x, options_.groups));
    output("epsilon", conv("conv_out", x, {.channels = options_.image_channels, .gain = 0.5}),
           {options_.batch, options_.image_channels, options_.image_size, options_.image_size});
    return finish();
  }

 private:
  std::int64_t width(std::int64_t level) const {
    return options_.base * options_.multipliers[static_cast<std::size_t>(level)];
  }
  std::int64_t embedding_size() const { return 4 * options_.base; }

  /// Sines and cosines of geometrically spaced frequencies, then two fully connected layers.
  std::string time_embedding(const std::string& t) {
    const std::int64_t half = options_.base / 2;
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < half; ++i)
      frequencies.push_back(
          static_cast<float>(std::exp(-std::log(1e4) * static_cast<double>(i) / static_cast<double>(half))));
    const std::string steps =
        node("Cast", "time.cast", {t}, {{"to", static_cast<std::int64_t>(DType::Float32)}});
    const std::string column = node("Unsqueeze", "time.column", {steps, ints("time.axis", {1})});
    const std::string angles = node(
        "Mul", "time.angles",
        {column, constant("time.frequencies", TensorData::from<float>({1, half}, std::move(frequencies)))});
    const std::string waves =
        concat("time.waves", {node("Sin", "time.sin", {angles}), node("Cos", "time.cos", {angles})}, 1);
    const std::string hidden = silu("time.silu", gemm("time.dense1", waves, 2 * half, embedding_size()));
    return silu("time.out", gemm("time.dense2", hidden, embedding_size(), embedding_size()));
  }

  std::string residual(const std::string& name, const std::string& x, std::int64_t out) {
    std::string y = silu(name + ".silu1", group_norm(name + ".norm1", x, options_.groups));
    y = conv(name + ".conv1", y, {.channels = out});
    const std::string shift = gemm(name + ".time", embedding_, embedding_size(), out);
    y = add(name + ".shift", y,
            node("Unsqueeze", name + ".time_map", {shift, ints(name + ".time_axes", {2, 3})}));
    y = silu(name + ".silu2", group_norm(name + ".norm2", y, options_.groups));
    y = conv(name + ".conv2", y, {.channels = out, .gain = 0.5});
    return add(name + ".add", y,
               channels(x) == out ? x : conv(name + ".skip", x, {.channels = out, .kernel = 1}));
  }

  std::string attention(const std::string& name, const std::string& x, std::int64_t size) {
    const std::int64_t c = channels(x), tokens = size * size;
    const std::string normed = group_norm(name + ".norm", x, options_.groups);
    const std::string qkv = conv(name + ".qkv", normed, {.channels = 3 * c, .kernel = 1});
    const std::string flat = reshape(name + ".flat", qkv, {0, 3 * c, tokens});
    const auto parts = node_outputs("Split", name + ".split", {flat, ints(name + ".sizes", {c, c, c})},
                                    {name + ".q", name + ".k", name + ".v"}, {{"axis", std::int64_t{1}}});
    const std::string q = transpose(name + ".q_transposed", parts[0], {0, 2, 1});
    const std::string scores = node("MatMul", name + ".scores", {q, parts[1]});
    const std::string scaled = node("Mul", name + ".scaled",
                                    {scores, scalar(name + ".scale", 1 / std::sqrt(static_cast<float>(c)))});
    const std::string weights = node("Softmax", name + ".softmax", {scaled}, {{"axis", std::int64_t{-1}}});
    const std::string v = transpose(name + ".v_transposed", parts[2], {0, 2, 1});
    const std::string mixed =
        transpose(name + ".mixed_transposed", node("MatMul", name + ".mixed", {weights, v}), {0, 2, 1});
    const std::string image = reshape(name + ".image", mixed, {0, c, size, size});
    set_channels(image, c);
    return add(name + ".add", conv(name + ".proj", image, {.channels = c, .kernel = 1, .gain = 0.5}), x);
  }

  std::string layer(const std::string& name, const std::string& x, std::int64_t out, std::int64_t size) {
    const std::string y = residual(name + ".block", x, out);
    const auto& sizes = options_.attention_sizes;
    const bool attends = std::find(sizes.begin(), sizes.end(), size) != sizes.end();
    return attends ? attention(name + ".attention", y, size) : y;
  }

  std::string upsample(const std::string& name, const std::string& x) {
    const std::string scales = constant(name + ".scales", TensorData::from<float>({4}, {1, 1, 2, 2}));
    const std::string large = node("Resize", name + ".resize", {x, "", scales},
                                   {{"mode", std::string("nearest")},
                                    {"coordinate_transformation_mode", std::string("asymmetric")},
                                    {"nearest_mode", std::string("floor")}});
    set_channels(large, channels(x));
    return conv(name + ".conv", large, {.channels = channels(x)});
  }

  UnetOptions options_;
  std::string embedding_;
};

}  // namespace

Graph build_unet(const UnetOptions& options) {
  return UnetBuilder(options).build();
}

}  // namespace lithe
