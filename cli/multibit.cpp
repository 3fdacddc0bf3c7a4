// `lithe multibit`: one model that runs at any of several bit-widths.
#include "cli/multibit.h"

#include <sstream>

#include "cli/verb.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/multibit/branches.h"

namespace lithe::cli {

std::vector<int> parse_bits(const std::string& text) {
  std::vector<int> bits;
  std::stringstream parts(text);
  const auto number = [&](const std::string& part) {
    if (part.size() != 1 || part[0] < '0' || part[0] > '9')
      fail("--bits {}: give bit-widths from {} to {} such as 2,4,6,8 or 2-8", text, kLeastBits, kMostBits);
    return part[0] - '0';
  };
  for (std::string part; std::getline(parts, part, ',');) {
    const auto dash = part.find('-');
    const int first = number(part.substr(0, dash));
    const int last = dash == std::string::npos ? first : number(part.substr(dash + 1));
    if (last < first) fail("--bits {}: {}-{} runs backwards; write {}-{}", text, first, last, last, first);
    for (int one = first; one <= last; ++one) bits.push_back(one);
  }
  check_bits(bits);
  return bits;
}

std::optional<MultibitSession> integer_session(const Graph& graph, std::vector<std::string>& notes) {
  try {
    return std::optional<MultibitSession>(std::in_place, graph);
  } catch (const Error& error) {
    notes.push_back(fmt::format("no integer run time: {}", error.what()));
    return std::nullopt;
  }
}

void add_multibit(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("multibit", summary_of("multibit"));
  verb->require_subcommand(1);
  add_multibit_train(*verb);
  add_multibit_eval(*verb);
  add_multibit_export(*verb);
}

}  // namespace lithe::cli
