// Small transformers in the forms in which exporters and model families write attention.
#pragma once

#include <cmath>
#include <string>

#include "lithe/models/builder.h"

namespace lithe {

struct VitForm {
  enum class Projection { Fused, Split, Separate };
  enum class Scale { After, Before, Both, Divided };
  Projection projection = Projection::Fused;
  Scale scale = Scale::After;
  std::int64_t specials = 1;
  std::int64_t batch = -1;
  bool flat = false;       // batch and heads share an axis, as in older exports of CLIP
  bool attention = false;  // the operator Attention of opset 23
  bool layer_scale = false;
  bool quick_gelu = false;
  bool norm_in_front = false;    // a norm ahead of the blocks
  bool mean_of_patches = false;  // behind the class token, as MAE's classifiers
  // What is not thinned out:
  enum class Between { Nothing, Mean, Gate, Sum, Shift, Convolution, Pooled, Einsum, Rotary, Grid };
  Between between = Between::Nothing;  // works across the tokens of the second block (Gate: of every block)
  bool bias_first = false, quantised = false;
  bool post_norm = false, parallel = false, windows = false, bias = false, masked = false,
       shows_tokens = false, narrowed_keys = false;
};

class VitFormBuilder : GraphBuilder {
 public:
  explicit VitFormBuilder(const VitForm& form)
      : GraphBuilder("form", 7, form.attention ? 23 : 17), form_(form) {}

  Graph build() {
    const std::string image = input("input", {form_.batch, 3, 16, 16});
    const std::string patches =
        conv("patches", image, {.channels = kWidth, .kernel = 4, .stride = 4, .padding = 0});
    std::string x = transpose(
        "rows", node("Reshape", "flat_patches", {patches, ints("flat_shape", {0, kWidth, -1})}), {0, 2, 1});
    if (form_.specials > 0) {
      const std::string tokens = random("class_tokens", {1, form_.specials, kWidth}, 0.5);
      const std::string batch =
          node("Slice", "batch", {node("Shape", "rows_shape", {x}), ints("zero", {0}), ints("one", {1})});
      const std::string shape =
          node("Concat", "tokens_shape", {batch, ints("tokens_tail", {form_.specials, kWidth})},
               {{"axis", std::int64_t{0}}});
      x = concat("all_tokens", {node("Expand", "tokens", {tokens, shape}), x}, 1);
    }
    count_ = 16 + form_.specials;
    x = add("placed", x, random("places", {1, count_, kWidth}, 0.5));
    if (form_.norm_in_front) x = layer_norm("front_norm", x, kWidth, true);
    for (int l = 0; l < 3; ++l) x = block("layers." + std::to_string(l), x);
    x = layer_norm("last_norm", x, kWidth, form_.specials % 2 == 1);
    if (form_.shows_tokens) {
      output("hidden", x, {form_.batch, count_, kWidth});
      x = "hidden";
    }
    std::string feature;
    if (form_.specials == 0 || form_.mean_of_patches) {
      if (form_.mean_of_patches)
        x = node("Slice", "patches_only",
                 {x, ints("from", {form_.specials}), ints("to", {count_}), ints("token_axis", {1})});
      if (opset() >= 18)
        feature = node("ReduceMean", "mean", {x, ints("mean_axis", {1})}, {{"keepdims", std::int64_t{0}}});
      else
        feature = node("ReduceMean", "mean", {x},
                       {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
    } else {
      feature = node("Gather", "class", {x, constant("class_index", TensorData::scalar<std::int64_t>(0))},
                     {{"axis", std::int64_t{1}}});
      if (form_.specials == 2)  // DeiT's second head
        feature = add(
            "both", feature,
            node("Gather", "distilled", {x, constant("distilled_index", TensorData::scalar<std::int64_t>(1))},
                 {{"axis", std::int64_t{1}}}));
    }
    output("logits", gemm("head", feature, kWidth, 5), {form_.batch, 5});
    return finish();
  }

 private:
  static constexpr std::int64_t kWidth = 24, kHeads = 3, kSize = 8;

  std::string batch_axis(const std::string& name, const std::string& x, std::vector<std::int64_t> tail) {
    if (form_.batch < 0) return reshape_dynamic(name, x, tail);
    tail.insert(tail.begin(), form_.batch);
    return reshape(name, x, tail);
  }

  /// [b, heads, n, d]
  std::string heads(const std::string& name, const std::string& x, std::int64_t tokens) {
    return transpose(name + ".t", batch_axis(name + ".v", x, {tokens, kHeads, kSize}), {0, 2, 1, 3});
  }

  std::string attention(const std::string& name, const std::string& x) {
    std::string q, k, v;
    std::int64_t keys = count_;
    if (form_.projection == VitForm::Projection::Separate || form_.narrowed_keys) {
      std::string source = x;
      if (form_.narrowed_keys) {
        keys = count_ / 2;
        source = node("Slice", name + ".narrow",
                      {x, ints(name + ".n0", {0}), ints(name + ".n1", {keys}), ints(name + ".n2", {1})});
      }
      q = linear(name + ".query", x, kWidth, kWidth);
      k = linear(name + ".key", source, kWidth, kWidth);
      v = linear(name + ".value", source, kWidth, kWidth);
      if (form_.attention) {
        const std::string y = node("Attention", name + ".attention", {q, k, v},
                                   {{"q_num_heads", kHeads}, {"kv_num_heads", kHeads}});
        return linear(name + ".proj", y, kWidth, kWidth);
      }
      q = heads(name + ".q", q, count_);
      k = heads(name + ".k", k, keys);
      v = heads(name + ".v", v, keys);
      if (form_.between == VitForm::Between::Rotary)
        q = node("Mul", name + ".turned", {q, random(name + ".turns", {count_, kSize}, 1)});
    } else {
      const std::string joined = linear(name + ".qkv", x, kWidth, 3 * kWidth);
      const std::string split = transpose(
          name + ".split", batch_axis(name + ".heads", joined, {count_, 3, kHeads, kSize}), {2, 0, 3, 1, 4});
      if (form_.projection == VitForm::Projection::Split) {
        const auto parts =
            node_outputs("Split", name + ".parts", {split, ints(name + ".sizes", {1, 1, 1})},
                         {name + ".p0", name + ".p1", name + ".p2"}, {{"axis", std::int64_t{0}}});
        const std::string axes = ints(name + ".axes", {0});
        q = node("Squeeze", name + ".q", {parts[0], axes});
        k = node("Squeeze", name + ".k", {parts[1], axes});
        v = node("Squeeze", name + ".v", {parts[2], axes});
      } else {
        const auto part = [&](const std::string& letter, std::int64_t i) {
          return node("Gather", name + "." + letter,
                      {split, constant(name + "." + letter + "_at", TensorData::scalar(i))},
                      {{"axis", std::int64_t{0}}});
        };
        q = part("q", 0);
        k = part("k", 1);
        v = part("v", 2);
      }
      if (form_.attention) {
        const std::string y = node("Attention", name + ".attention", {q, k, v});
        return linear(
            name + ".proj",
            batch_axis(name + ".merged", transpose(name + ".merge", y, {0, 2, 1, 3}), {count_, kWidth}),
            kWidth, kWidth);
      }
    }
    std::int64_t tokens = count_;
    if (form_.windows) {  // halves of the tokens by themselves
      tokens = count_ / 2;
      const auto window = [&](const std::string& letter, const std::string& value) {
        return reshape(name + ".window_" + letter, value, {-1, kHeads, tokens, kSize});
      };
      q = window("q", q);
      k = window("k", k);
      v = window("v", v);
    }
    if (form_.flat) {
      const auto flat = [&](const std::string& letter, const std::string& value) {
        return reshape(name + ".flat_" + letter, value,
                       {form_.batch < 0 ? -1 : form_.batch * kHeads, count_, kSize});
      };
      q = flat("q", q);
      k = flat("k", k);
      v = flat("v", v);
    }
    const auto scale = 1 / std::sqrt(static_cast<float>(kSize));
    if (form_.scale == VitForm::Scale::Before)
      q = node("Mul", name + ".q_scaled", {q, scalar(name + ".scale", scale)});
    std::string kt =
        transpose(name + ".kt", k,
                  form_.flat ? std::vector<std::int64_t>{0, 2, 1} : std::vector<std::int64_t>{0, 1, 3, 2});
    if (form_.scale == VitForm::Scale::Both) {  // as scaled_dot_product_attention is exported
      const std::string root = node("Sqrt", name + ".root", {scalar(name + ".scale", scale)});
      q = node("Mul", name + ".q_scaled", {q, root});
      kt = node("Mul", name + ".k_scaled", {kt, root});
    }
    std::string scores = node("MatMul", name + ".scores", {q, kt});
    if (form_.quantised) {
      const std::vector<std::string> to{scores, scalar(name + ".step", 0.1f)};
      scores = node("DequantizeLinear", name + ".low", {node("QuantizeLinear", name + ".high", to), to[1]});
    }
    if (form_.scale == VitForm::Scale::After)
      scores = node("Mul", name + ".scaled", {scores, scalar(name + ".scale", scale)});
    if (form_.scale == VitForm::Scale::Divided)
      scores = node("Div", name + ".scaled", {scores, scalar(name + ".scale", 1 / scale)});
    if (form_.bias)
      scores = node("Add", name + ".biased",
                    {scores, random(name + ".bias_table", {1, kHeads, count_, count_}, 1)});
    if (form_.bias_first)
      scores = node("Add", name + ".biased",
                    {random(name + ".bias_table", {1, kHeads, count_, count_}, 1), scores});
    if (form_.masked) {
      std::vector<std::uint8_t> bits(static_cast<std::size_t>(count_ * count_), 1);
      auto owner = std::make_shared<const std::vector<std::uint8_t>>(std::move(bits));
      const auto bytes = std::as_bytes(std::span<const std::uint8_t>(*owner));
      const std::string mask =
          constant(name + ".mask", TensorData(DType::Bool, {count_, count_}, bytes, owner));
      scores = node("Where", name + ".where", {mask, scores, scalar(name + ".low", -1e9f)});
    }
    const std::string weights = node("Softmax", name + ".softmax", {scores}, {{"axis", std::int64_t{-1}}});
    const bool einsum = form_.between == VitForm::Between::Einsum && name == "layers.1.attn";
    std::string mixed =
        einsum ? node("Einsum", name + ".mixed", {weights, v}, {{"equation", std::string("bhij,bhjd->bhid")}})
               : node("MatMul", name + ".mixed", {weights, v});
    if (form_.windows) mixed = reshape(name + ".unwindow", mixed, {-1, kHeads, count_, kSize});
    if (form_.flat)
      mixed = reshape(name + ".unflat", mixed, {form_.batch < 0 ? -1 : form_.batch, kHeads, count_, kSize});
    return linear(
        name + ".proj",
        batch_axis(name + ".merged", transpose(name + ".merge", mixed, {0, 2, 1, 3}), {count_, kWidth}),
        kWidth, kWidth);
  }

  std::string mlp(const std::string& name, const std::string& x) {
    const std::string wide = linear(name + ".fc1", x, kWidth, 2 * kWidth);
    const std::string active =
        form_.quick_gelu
            ? node("Mul", name + ".act",
                   {wide, node("Sigmoid", name + ".gate",
                               {node("Mul", name + ".steep", {wide, scalar(name + ".slope", 1.702f)})})})
            : gelu(name + ".act", wide);
    return linear(name + ".fc2", active, 2 * kWidth, kWidth);
  }

  std::string token_mean(const std::string& name, const std::string& x) {
    return node("ReduceMean", name, {x}, {{"axes", std::vector<std::int64_t>{1}}});
  }

  /// The input of an MLP, with what works across tokens.
  std::string across(const std::string& name, const std::string& x) {
    using Between = VitForm::Between;
    if (form_.between == Between::Gate)
      return node("Mul", name + ".gated",
                  {x, node("Sigmoid", name + ".open",
                           {linear(name + ".squeeze", token_mean(name + ".mean", x), kWidth, kWidth)})});
    if (name != "layers.1.across") return x;
    switch (form_.between) {
      case Between::Mean:
        return node("Sub", name + ".centred", {x, token_mean(name + ".mean", x)});
      case Between::Pooled:
        output("aux",
               gemm("aux_head", node("Flatten", name + ".flat", {token_mean(name + ".mean", x)}), kWidth, 2),
               {form_.batch, 2});
        return x;
      case Between::Sum:
        return node("CumSum", name + ".sums",
                    {x, constant(name + ".axis", TensorData::scalar<std::int64_t>(1))});
      case Between::Shift: {
        const auto part = [&](const char* which, std::int64_t from, std::int64_t to) {
          return node("Slice", name + "." + which,
                      {x, ints(name + "." + which + "_from", {from}), ints(name + "." + which + "_to", {to}),
                       ints(name + "." + which + "_axis", {1})});
        };
        return concat(name + ".shifted", {part("rest", 1, count_), part("first", 0, 1)}, 1);
      }
      case Between::Convolution:
        return transpose(name + ".back",
                         node("Conv", name + ".conv",
                              {transpose(name + ".channels", x, {0, 2, 1}),
                               random(name + ".kernel", {kWidth, kWidth, 3}, 0.1)},
                              {{"pads", std::vector<std::int64_t>{1, 1}}}),
                         {0, 2, 1});
      case Between::Grid:
        return reshape(name + ".rows", reshape(name + ".grid", x, {-1, 4, 4, kWidth}), {-1, 16, kWidth});
      default:
        return x;
    }
  }

  std::string scaled(const std::string& name, const std::string& x) {
    return form_.layer_scale ? node("Mul", name, {x, random(name + ".gamma", {kWidth}, 0.1, 1)}) : x;
  }

  std::string block(const std::string& name, const std::string& x) {
    if (form_.post_norm) {
      const std::string y =
          layer_norm(name + ".norm1", add(name + ".sum1", x, attention(name + ".attn", x)), kWidth, true);
      return layer_norm(name + ".norm2", add(name + ".sum2", y, mlp(name + ".mlp", y)), kWidth, true);
    }
    const std::string normed = layer_norm(name + ".norm1", x, kWidth, true);
    const std::string y = add(name + ".sum1", x, scaled(name + ".ls1", attention(name + ".attn", normed)));
    const std::string from =
        form_.parallel ? normed : across(name + ".across", layer_norm(name + ".norm2", y, kWidth, true));
    return add(name + ".sum2", y, scaled(name + ".ls2", mlp(name + ".mlp", from)));
  }

  VitForm form_;
  std::int64_t count_ = 0;
};

inline Graph vit_form(const VitForm& form) {
  return VitFormBuilder(form).build();
}

}  // namespace lithe
