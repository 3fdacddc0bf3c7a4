// The noise predictor of Dhariwal and Nichol, NeurIPS 2021.
#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

enum class Resampling { None, Down, Up };

class AdmUnetBuilder : public GraphBuilder {
 public:
  explicit AdmUnetBuilder(const AdmUnetOptions& options)
      : GraphBuilder("adm_unet", options.seed, options.opset), options_(options) {
    if (options.multipliers.empty() || options.residual_blocks < 1 || options.heads < 1)
      fail("unet: it needs a level, a residual block a level and an attention head");
    if (options.base < 2 || options.groups < 1 || options.base % options.groups != 0)
      fail("unet: the base width {} is no multiple of the groups ({})", options.base, options.groups);
    if (options.image_size % (std::int64_t{1} << (options.multipliers.size() - 1)) != 0)
      fail("unet: the image size {} cannot be halved {} times; resize the images (--resize)",
           options.image_size, options.multipliers.size() - 1);
  }

  Graph build() {
    const std::int64_t size = options_.image_size, channels = options_.image_channels;
    const std::string image = input("x", {options_.batch, channels, size, size});
    embed();
    std::string x = encode(conv("conv_in", image, {.channels = options_.base}));
    x = residual("mid.block1", x, width(levels() - 1));
    x = attention("mid.attention", x, size_at(levels() - 1));
    x = decode(residual("mid.block2", x, width(levels() - 1)));
    x = silu("out.silu", group_norm("out.norm", x, options_.groups));
    const std::int64_t out = (options_.learned_sigma ? 2 : 1) * channels;
    output("prediction", conv("out.conv", x, {.channels = out}), {options_.batch, out, size, size});
    Graph graph = finish();
    zero_branch_ends(graph);
    return graph;
  }

 private:
  std::int64_t levels() const { return static_cast<std::int64_t>(options_.multipliers.size()); }
  std::int64_t width(std::int64_t level) const {
    return options_.base * options_.multipliers[static_cast<std::size_t>(level)];
  }
  std::int64_t size_at(std::int64_t level) const { return options_.image_size >> level; }
  std::int64_t embedding_size() const { return 4 * options_.base; }

  std::string encode(std::string x) {
    skips_ = {x};
    for (std::int64_t level = 0; level < levels(); ++level) {
      for (std::int64_t i = 0; i < options_.residual_blocks; ++i)
        skips_.push_back(x = layer(fmt::format("down.{}.{}", level, i), x, level));
      if (level + 1 < levels())
        skips_.push_back(
            x = residual(fmt::format("down.{}.downsample", level), x, width(level), Resampling::Down));
    }
    return x;
  }

  std::string decode(std::string x) {
    for (std::int64_t level = levels(); level-- > 0;) {
      for (std::int64_t i = 0; i <= options_.residual_blocks; ++i) {
        const std::string name = fmt::format("up.{}.{}", level, i);
        x = layer(name, concat(name + ".concat", {x, skips_.back()}), level);
        skips_.pop_back();
      }
      if (level > 0) x = residual(fmt::format("up.{}.upsample", level), x, width(level), Resampling::Up);
    }
    return x;
  }

  /// Cosines and sines of geometrically spaced frequencies through two fully connected layers; the label adds
  /// a row of a table.
  void embed() {
    const std::string t = input("t", {options_.batch}, DType::Int64);
    const std::int64_t half = options_.base / 2;
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < half; ++i)
      frequencies.push_back(
          static_cast<float>(std::exp(-std::log(1e4) * static_cast<double>(i) / static_cast<double>(half))));
    const std::string steps =
        node("Cast", "time.cast", {t}, {{"to", static_cast<std::int64_t>(DType::Float32)}});
    const std::string angles =
        node("Mul", "time.angles",
             {node("Unsqueeze", "time.column", {steps, ints("time.axis", {1})}),
              constant("time.frequencies", TensorData::from<float>({1, half}, std::move(frequencies)))});
    const std::string waves =
        concat("time.waves", {node("Cos", "time.cos", {angles}), node("Sin", "time.sin", {angles})}, 1);
    const std::string hidden = silu("time.silu1", gemm("time.dense1", waves, 2 * half, embedding_size()));
    std::string embedding = gemm("time.dense2", hidden, embedding_size(), embedding_size());
    if (options_.classes > 0) {
      const std::string y = input("y", {options_.batch}, DType::Int64);
      const std::string table = random("label.table", {options_.classes, embedding_size()}, 1);
      embedding =
          add("label.add", embedding, node("Gather", "label.row", {table, y}, {{"axis", std::int64_t{0}}}));
    }
    embedding_ = silu("time.silu2", embedding);  // ahead of every block's own layer
  }

  /// What the embedding makes of a block's inner channels, [batch, count * channels, 1, 1].
  std::string conditions(const std::string& name, std::int64_t channels) {
    const std::string dense = gemm(name + ".embedding", embedding_, embedding_size(), channels);
    return node("Unsqueeze", name + ".embedding_map", {dense, ints(name + ".embedding_axes", {2, 3})});
  }

  std::string normalise_conditioned(const std::string& name, const std::string& x) {
    const std::int64_t c = channels(x);
    if (!options_.scale_shift)
      return group_norm(name + ".norm2", add(name + ".shift", x, conditions(name, c)), options_.groups);
    const auto parts =
        node_outputs("Split", name + ".split", {conditions(name, 2 * c), ints(name + ".split_sizes", {c, c})},
                     {name + ".embedding_scale", name + ".embedding_shift"}, {{"axis", std::int64_t{1}}});
    const std::string factor = node("Add", name + ".factor", {parts[0], scalar(name + ".one", 1)});
    const std::string scaled =
        node("Mul", name + ".scaled", {group_norm(name + ".norm2", x, options_.groups), factor});
    const std::string shifted = node("Add", name + ".shift", {scaled, parts[1]});
    set_channels(shifted, c);
    return shifted;
  }

  std::string resample(const std::string& name, const std::string& x, Resampling how) {
    if (how == Resampling::None) return x;
    std::string out;
    if (how == Resampling::Down) {
      out = node(
          "AveragePool", name, {x},
          {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"strides", std::vector<std::int64_t>{2, 2}}});
    } else {
      const std::string scales = constant(name + ".scales", TensorData::from<float>({4}, {1, 1, 2, 2}));
      out = node("Resize", name, {x, "", scales},
                 {{"mode", std::string("nearest")},
                  {"coordinate_transformation_mode", std::string("asymmetric")},
                  {"nearest_mode", std::string("floor")}});
    }
    set_channels(out, channels(x));
    return out;
  }

  std::string residual(const std::string& name, const std::string& x, std::int64_t out,
                       Resampling how = Resampling::None) {
    std::string y = silu(name + ".silu1", group_norm(name + ".norm1", x, options_.groups));
    y = conv(name + ".conv1", resample(name + ".resample", y, how), {.channels = out});
    y = silu(name + ".silu2", normalise_conditioned(name, y));
    y = conv(name + ".conv2", y, {.channels = out});
    std::string shortcut = resample(name + ".skip_resample", x, how);
    if (channels(shortcut) != out) shortcut = conv(name + ".skip", shortcut, {.channels = out, .kernel = 1});
    return add(name + ".add", shortcut, y);
  }

  std::string attention(const std::string& name, const std::string& x, std::int64_t size) {
    const std::int64_t c = channels(x), heads = options_.heads, tokens = size * size;
    if (c % heads != 0) fail("unet: {} channels cannot be parted among {} attention heads", c, heads);
    const std::string qkv =
        conv(name + ".qkv", group_norm(name + ".norm", x, options_.groups), {.channels = 3 * c, .kernel = 1});
    const std::string flat = reshape(name + ".flat", qkv, {0, 3 * heads, c / heads, tokens});
    const auto parts =
        node_outputs("Split", name + ".split", {flat, ints(name + ".sizes", {heads, heads, heads})},
                     {name + ".q", name + ".k", name + ".v"}, {{"axis", std::int64_t{1}}});
    const std::vector<std::int64_t> swapped{0, 1, 3, 2};
    const std::string scores =
        node("MatMul", name + ".scores", {transpose(name + ".q_transposed", parts[0], swapped), parts[1]});
    const float scale = 1 / std::sqrt(static_cast<float>(c / heads));
    const std::string scaled = node("Mul", name + ".scaled", {scores, scalar(name + ".scale", scale)});
    const std::string weights = node("Softmax", name + ".softmax", {scaled}, {{"axis", std::int64_t{-1}}});
    const std::string mixed =
        node("MatMul", name + ".mixed", {weights, transpose(name + ".v_transposed", parts[2], swapped)});
    const std::string image =
        reshape(name + ".image", transpose(name + ".mixed_transposed", mixed, swapped), {0, c, size, size});
    set_channels(image, c);
    return add(name + ".add", x, conv(name + ".proj", image, {.channels = c, .kernel = 1}));
  }

  std::string layer(const std::string& name, const std::string& x, std::int64_t level) {
    const std::string y = residual(name + ".block", x, width(level));
    const auto& sizes = options_.attention_sizes;
    const bool attends = std::find(sizes.begin(), sizes.end(), size_at(level)) != sizes.end();
    return attends ? attention(name + ".attention", y, size_at(level)) : y;
  }

  AdmUnetOptions options_;
  std::string embedding_;
  std::vector<std::string> skips_;
};

}  // namespace

Graph build_adm_unet(const AdmUnetOptions& options) {
  return AdmUnetBuilder(options).build();
}

void zero_branch_ends(Graph& graph) {
  constexpr std::array<std::string_view, 3> kEnds{"conv2", "proj", "out.conv"};
  for (auto& [name, data] : graph.constants) {
    const std::string_view layer = std::string_view(name).substr(0, name.rfind('.'));
    const bool ends = std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) {
      return layer == end || layer.ends_with("." + std::string(end));
    });
    if (ends)
      data =
          TensorData::from<float>(data.shape(), std::vector<float>(static_cast<std::size_t>(data.count())));
  }
}

}  // namespace lithe
