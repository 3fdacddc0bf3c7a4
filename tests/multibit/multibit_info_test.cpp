#include "lithe/multibit/multibit_info.h"

#include <gmock/gmock.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "lithe/multibit/account.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/session.h"
#include "multibit/helpers.h"
#include "mutation.h"

namespace lithe {
namespace {

using namespace test;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kEntry = "lithe.multibit";

const Graph& model() {
  static const Graph graph = small_model({2, 3, 4}).branches.graph;
  return graph;
}

Graph with_record(const std::string& text) {
  Graph graph = model();
  graph.header.metadata[kEntry] = text;
  return graph;
}

TEST(MultibitInfo, IsReadBack) {
  const MultibitInfo info = multibit_info(model());
  EXPECT_THAT(info.bits, ElementsAre(2, 3, 4));
  EXPECT_EQ(info.method, "mbquant");
  EXPECT_FALSE(info.slots);
  EXPECT_EQ(info.path(3).branches.partial, 2);
  EXPECT_THAT(message_of([&] { info.path(5); }), HasSubstr("not trained for 5 bits; it has 2,3,4"));
  Graph again = model();
  set_multibit_info(again, info);
  EXPECT_EQ(again.header.metadata.at(kEntry), model().header.metadata.at(kEntry));
}

TEST(MultibitInfo, RefusesModelsWithoutARecord) {
  EXPECT_THAT(message_of([&] { multibit_info(residual_net()); }), HasSubstr("lithe multibit train"));
}

TEST(MultibitInfo, RefusesMalformedRecords) {
  struct Case {
    const char* message;
    std::function<void(json&)> change;
  };
  const Case cases[] = {
      {"schema 2", [](json& all) { all["schema"] = 2; }},
      {"method 'foo' is not known", [](json& all) { all["method"] = "foo"; }},
      {"malformed", [](json& all) { all["method"] = 3; }},
      {"malformed", [](json& all) { all.erase("entry"); }},
      {"it is empty", [](json& all) { all["paths"] = json::array(); }},
      {"bit-width 64", [](json& all) { all["paths"][1]["bits"] = 64; }},
      {"bit-width 1e+300", [](json& all) { all["paths"][1]["bits"] = 1e300; }},
      {"bit-width 18446744073709551615", [](json& all) { all["paths"][1]["bits"] = UINT64_MAX; }},
      {"do not ascend", [](json& all) { all["paths"][1]["bits"] = 2; }},
      {"no branch runs at 3 bits", [](json& all) { all["paths"][1]["branches"] = json::array(); }},
      {"branch 0", [](json& all) { all["paths"][0]["branches"] = {0}; }},
      {"branch 5", [](json& all) { all["paths"][0]["branches"] = {5}; }},
      {"branch 1 is",
       [](json& all) {
         all["paths"][2]["branches"] = {2, 1};
       }},
      {"branch \"a\"", [](json& all) { all["paths"][0]["branches"] = {"a"}; }},
      {"partial branch -1", [](json& all) { all["paths"][0]["partial"] = -1; }},
      {"which it does not make", [](json& all) { all["entry"] = "nothing"; }},
      {"which it does not make", [](json& all) { all["entry"] = "x"; }},
      {"is no output", [](json& all) { all["paths"][0]["output"] = all["paths"][0]["exit"]; }},
      {"from which 'stem.relu' is not made", [](json& all) { all["paths"][0]["exit"] = all["entry"]; }},
      {"is not made", [](json& all) { all["entry"] = all["paths"][0]["output"]; }},
      {"is not made", [](json& all) { all["paths"][0]["exit"] = all["paths"][2]["exit"]; }},
  };
  for (const Case& one : cases) {
    json record = json::parse(model().header.metadata.at(kEntry));
    one.change(record);
    const Graph broken = with_record(record.dump());
    const std::string message = message_of([&] { multibit_info(broken); });
    EXPECT_THAT(message, HasSubstr(one.message)) << record.dump();
    EXPECT_EQ(message_of([&] { bit_storage(broken); }), message);
    EXPECT_EQ(message_of([&] { MultibitSession{broken}; }), message);
  }
}

// Whatever stands in the record: everything that reads it works or says in one line what is wrong.
TEST(MultibitInfo, SurvivesDamagedRecords) {
  const std::string record = model().header.metadata.at(kEntry);
  Rng rng(7);
  int refused = 0;
  for (int i = 0; i < 150; ++i) {
    const Graph graph = with_record(mutate(record, rng));
    const std::string message = message_of([&] {
      const MultibitInfo info = multibit_info(graph);
      bit_storage(graph);
      for (const int bits : info.bits) bit_cost(graph, bits);
      deploy_static(graph, info.bits.back());
      deploy_fast(graph, info.bits.front());
      deploy_selectable(graph, info.bits);
      MultibitSession{graph};
    });
    refused += message.empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 50);
  EXPECT_LT(refused, 150);
}

TEST(NodesBehind, StopAtAValue) {
  const MultibitInfo info = multibit_info(model());
  const auto stem = nodes_behind(model(), info.entry), all = nodes_behind(model(), info.path(2).exit),
             body = nodes_behind(model(), info.path(2).exit, info.entry);
  EXPECT_EQ(stem.size() + body.size(), all.size());
  EXPECT_EQ(model().nodes[static_cast<std::size_t>(stem.front())].name, "stem");
}

}  // namespace
}  // namespace lithe
