// A network whose output anyone can compute.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/models/builder.h"

namespace lithe::test {

struct ToyDenoiser {
  std::string time = "t";
  DType time_type = DType::Int64;
  std::vector<std::int64_t> time_shape{-1};
  std::string label;        // "": none
  std::int64_t batch = -1;  // -1: free
  bool twice = false;       // with as many channels again, of x / 2
  float shift = 0;
};

/// out = picture + time + shift, plus 10, 20 or 30 for the labels 0, 1 and 2; picture is [n, 1, 2, 2].
inline GraphPtr toy_denoiser(const ToyDenoiser& toy = {}) {
  GraphBuilder net("toy", 1);
  std::string y = net.input("picture", {toy.batch, 1, 2, 2});
  const std::string t = net.input(toy.time, toy.time_shape, toy.time_type);
  if (toy.twice) y = net.concat("both", {y, net.node("Mul", "half", {y, net.scalar("factor", 0.5f)})});
  const auto add = [&](const std::string& name, const std::string& per_image) {
    y = net.node(
        "Add", name,
        {y, net.node("Reshape", name + ".column", {per_image, net.ints(name + ".shape", {-1, 1, 1, 1})})});
  };
  add("add_time", net.node("Cast", "cast", {t}, {{"to", std::int64_t{1}}}));
  y = net.node("Add", "add_shift", {y, net.scalar("shift", toy.shift)});
  if (!toy.label.empty()) {
    const std::string label = net.input(toy.label, {toy.batch}, DType::Int64);
    const std::string table = net.constant("table", TensorData::from<float>({3, 1}, {10, 20, 30}));
    add("add_label", net.node("Gather", "row", {table, label}));
  }
  net.output("out", y, {toy.batch, toy.twice ? 2 : 1, 2, 2});
  return std::make_shared<const Graph>(net.finish());
}

}  // namespace lithe::test
