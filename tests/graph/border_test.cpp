#include "lithe/graph/border.h"

#include <gmock/gmock.h>

#include "lithe/models/builder.h"

namespace lithe {
namespace {

using testing::ElementsAre;

std::vector<std::string> named(const Graph& graph, const std::vector<bool>& chosen) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    if (chosen[i]) names.push_back(graph.nodes[i].name);
  return names;
}

TEST(Border, FirstAndLastLayers) {
  GraphBuilder net("net", 1);
  const std::string image = net.input("image", {-1, 3, 8, 8});
  const std::string stem = net.relu("relu", net.conv("stem", image, {.channels = 4}));
  // A path around the stem: what joins both has a layer before it, and is not first.
  const std::string joined = net.concat("join", {stem, image});
  const std::string body = net.conv("body", joined, {.channels = 4});
  net.output("map", net.conv("head", body, {.channels = 2}), {-1, 2, 8, 8});
  // Read by the head and put out as well: a layer lies behind it.
  net.output("features", body, {-1, 4, 8, 8});
  // Of a constant alone: no input reaches it.
  const std::string embedding = net.random("embedding", {1, 2, 8, 8}, 1);
  net.set_channels(embedding, 2);
  net.output("bias", net.conv("table", embedding, {.channels = 2}), {1, 2, 8, 8});
  const Graph graph = net.finish();
  std::vector<bool> layer;
  for (const Node& node : graph.nodes) layer.push_back(node.is("Conv"));
  const Border border = find_border(graph, layer);
  EXPECT_THAT(named(graph, border.first), ElementsAre("stem"));
  EXPECT_THAT(named(graph, border.last), ElementsAre("head", "table"));
}

}  // namespace
}  // namespace lithe
