// docs/operators.md says what the registry holds, and what the exports of each model family need.
#include <fstream>
#include <sstream>

#include "lithe/engine/program.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

/// The rows of the table under a heading, as trimmed cells without back-quotes; the two header rows are left
/// out.
std::vector<std::vector<std::string>> table_under(const std::string& heading) {
  std::ifstream file(LITHE_SOURCE_DIR "/docs/operators.md");
  EXPECT_TRUE(file.good()) << "docs/operators.md cannot be read";
  std::vector<std::vector<std::string>> rows;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) inside = line == heading;
    if (!inside || !line.starts_with("|")) continue;
    std::vector<std::string> cells;
    std::stringstream rest(line.substr(1));
    for (std::string cell; std::getline(rest, cell, '|');) {
      std::erase(cell, '`');
      const auto first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    rows.push_back(cells);
  }
  if (rows.size() < 3) {
    ADD_FAILURE() << "no table under '" << heading << "'";
    return {};
  }
  return {rows.begin() + 2, rows.end()};
}

TEST(OperatorsDocument, ListsTheRegistry) {
  std::vector<std::vector<std::string>> expected;
  for (const auto& [key, entry] : op_registry().entries())
    expected.push_back({key.second, key.first.empty() ? "ai.onnx" : key.first, std::to_string(entry.since),
                        std::to_string(entry.until)});
  const auto documented = table_under("## Operators");
  if (documented == expected) return;
  std::string table;
  for (const auto& row : expected)
    table += fmt::format("| `{}` | {} | {} | {} |\n", row[0], row[1], row[2], row[3]);
  ADD_FAILURE() << "the table under '## Operators' of docs/operators.md must be\n" << table;
}

TEST(OperatorsDocument, EveryFamilyIsServed) {
  const auto families = table_under("## Model families");
  EXPECT_GE(families.size(), 20u);
  for (const auto& row : families) {
    ASSERT_EQ(row.size(), 2u);
    int count = 0;
    std::stringstream list(row[1]);
    for (std::string name; list >> name; ++count) {
      if (name.ends_with(',')) name.pop_back();
      const bool runs = op_registry().find("", name) || is_control_flow(Node{.op_type = name});
      EXPECT_TRUE(runs) << row[0] << " needs " << name;
    }
    EXPECT_GE(count, 5) << row[0];
  }
}

}  // namespace
}  // namespace lithe
