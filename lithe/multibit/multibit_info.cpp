#include "lithe/multibit/multibit_info.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/json.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr const char* kMetadata = "lithe.multibit";
constexpr int kSchema = 1;

/// Reads the record of a file that may be hostile.
class Record {
 public:
  Record(const Graph& graph, const std::string& text) : graph_(graph) {
    const auto found = try_parse_json(text);
    if (!found) malformed("it is not valid JSON, or nested too deeply");
    try {
      read(*found);
    } catch (const json::exception& error) {
      malformed(error.what());
    }
  }

  MultibitInfo take() { return std::move(info_); }

 private:
  [[noreturn]] void malformed(const std::string& reason) const {
    fail("the model '{}': its record of bit-widths is malformed ({}); train it again", graph_.name, reason);
  }

  int number(const json& value, const char* what, int least, int most) const {
    // Larger unsigned numbers become negative ones.
    const std::int64_t found = value.is_number_integer() ? value.get<std::int64_t>() : least - 1;
    if (found < least || found > most)
      malformed(fmt::format("{} {:.40} is no whole number from {} to {}", what, value.dump(), least, most));
    return static_cast<int>(found);
  }

  void read(const json& all) {
    number(all.at("schema"), "schema", kSchema, kSchema);
    info_.method = all.at("method");
    constexpr MultibitMethod kMethods[] = {MultibitMethod::MbQuant, MultibitMethod::Shared,
                                           MultibitMethod::AnyPrecision, MultibitMethod::AdaBits,
                                           MultibitMethod::Lsq};
    if (std::none_of(std::begin(kMethods), std::end(kMethods),
                     [&](MultibitMethod method) { return info_.method == multibit_method_name(method); }))
      malformed(fmt::format("method '{}' is not known", info_.method));
    info_.entry = all.at("entry");
    info_.slots = all.value("slots", false);
    for (const json& one : all.at("paths")) read_path(one);
    if (info_.paths.empty()) malformed("it is empty");
  }

  void read_path(const json& one) {
    const int most = branch_count(kMostBits);
    BitPath path{.bits = number(one.at("bits"), "bit-width", kLeastBits, kMostBits),
                 .output = one.at("output"),
                 .exit = one.at("exit")};
    if (!info_.bits.empty() && path.bits <= info_.bits.back()) malformed("bit-widths do not ascend");
    for (const json& branch : one.at("branches")) {
      const int last = path.branches.full.empty() ? 0 : path.branches.full.back();
      path.branches.full.push_back(number(branch, "branch", last + 1, most));
    }
    if (path.branches.full.empty()) malformed(fmt::format("no branch runs at {} bits", path.bits));
    path.branches.partial = number(one.at("partial"), "partial branch", 0, most);
    info_.bits.push_back(path.bits);
    info_.paths.push_back(std::move(path));
  }

  const Graph& graph_;
  MultibitInfo info_;
};

std::vector<int> nodes_behind(const Graph& graph, const GraphIndex& index, const std::string& to,
                              const std::string& from) {
  std::set<int> needed;
  std::vector<std::string> open{to};
  while (!open.empty()) {
    const std::string value = std::move(open.back());
    open.pop_back();
    const int node = index.producer(value);
    if (node < 0 || value == from || !needed.insert(node).second) continue;
    for (std::string& read : all_reads(graph.nodes[static_cast<std::size_t>(node)]))
      open.push_back(std::move(read));
  }
  return {needed.begin(), needed.end()};
}

/// Whether the later value is made from the earlier one.
void require_order(const Graph& graph, const GraphIndex& index, const std::string& earlier,
                   const std::string& later) {
  const std::vector<int> behind = nodes_behind(graph, index, later, "");
  if (earlier == later || !std::binary_search(behind.begin(), behind.end(), index.producer(earlier)))
    fail("the model '{}': its record of bit-widths names '{}', from which '{}' is not made", graph.name,
         earlier, later);
}

}  // namespace

std::string_view multibit_method_name(MultibitMethod method) {
  switch (method) {
    case MultibitMethod::MbQuant:
      return "mbquant";
    case MultibitMethod::Shared:
      return "shared";
    case MultibitMethod::AnyPrecision:
      return "anyprecision";
    case MultibitMethod::AdaBits:
      return "adabits";
    case MultibitMethod::Lsq:
      break;
  }
  return "lsq";
}

const BitPath& MultibitInfo::path(int wanted) const {
  for (const BitPath& one : paths)
    if (one.bits == wanted) return one;
  fail("the model was not trained for {} bits; it has {}", wanted, fmt::join(bits, ","));
}

bool has_multibit_info(const Graph& graph) {
  return graph.header.metadata.contains(kMetadata);
}

MultibitInfo multibit_info(const Graph& graph) {
  const auto found = graph.header.metadata.find(kMetadata);
  if (found == graph.header.metadata.end())
    fail("the model '{}' has no bit-widths to choose from; make one with lithe multibit train", graph.name);
  MultibitInfo info = Record(graph, found->second).take();
  const GraphIndex index(graph);
  for (const BitPath& path : info.paths) {
    for (const std::string& value : {path.output, path.exit, info.entry})
      if (index.producer(value) < 0)
        fail("the model '{}': its record of bit-widths names '{}', which it does not make", graph.name,
             value);
    if (!index.is_output(path.output))
      fail("the model '{}': its record of bit-widths names '{}', which is no output", graph.name,
           path.output);
    require_order(graph, index, info.entry, path.exit);
    require_order(graph, index, path.exit, path.output);
  }
  return info;
}

void set_multibit_info(Graph& graph, const MultibitInfo& info) {
  json paths = json::array();
  for (const BitPath& path : info.paths)
    paths.push_back({{"bits", path.bits},
                     {"output", path.output},
                     {"exit", path.exit},
                     {"branches", path.branches.full},
                     {"partial", path.branches.partial}});
  const json record{{"schema", kSchema},
                    {"method", info.method},
                    {"entry", info.entry},
                    {"slots", info.slots},
                    {"paths", std::move(paths)}};
  graph.header.metadata[kMetadata] = record.dump();
}

std::string branch_prefix(int bits, int branch) {
  return fmt::format("b{}.{}/", bits, branch);
}

Graph extract_bits(const Graph& graph, int bits) {
  const BitPath path = multibit_info(graph).path(bits);
  Graph out = graph;
  std::erase_if(out.outputs, [&](const ValueInfo& output) { return output.name != path.output; });
  out.header.metadata.erase(kMetadata);
  out.remove_dead();
  return out;
}

std::vector<int> nodes_behind(const Graph& graph, const std::string& to, const std::string& from) {
  return nodes_behind(graph, GraphIndex(graph), to, from);
}

}  // namespace lithe
