#include "lithe/graph/einsum.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::size_t kNoLabel = static_cast<std::size_t>(-1);

struct Term {
  std::string before, after;  // letters before and after the ellipsis
  bool ellipsis = false;
  std::size_t letters() const { return before.size() + after.size(); }
};

Term parse_term(const Node& node, const std::string& text) {
  Term term;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 3, "...") == 0 && !term.ellipsis) {
      term.ellipsis = true;
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(text[i]))) {
      (term.ellipsis ? term.after : term.before) += text[i];
    } else {
      fail("{}: the equation has '{}' where a letter should be", describe(node), text[i]);
    }
  }
  return term;
}

}  // namespace

EinsumPlan parse_einsum(const Node& node, std::span<const std::size_t> ranks) {
  std::string equation = node.attr("equation", "");
  std::erase_if(equation, [](unsigned char c) { return std::isspace(c); });
  const std::size_t arrow = equation.find("->");
  const std::string left = equation.substr(0, arrow);
  std::vector<Term> terms;
  for (std::size_t begin = 0; begin <= left.size();) {
    const std::size_t comma = std::min(left.find(',', begin), left.size());
    terms.push_back(parse_term(node, left.substr(begin, comma - begin)));
    begin = comma + 1;
  }
  if (terms.size() != ranks.size())
    fail("{}: the equation '{}' has {} terms for {} inputs", describe(node), equation, terms.size(),
         ranks.size());

  std::size_t wide = 0;  // axes under the widest ellipsis
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const bool fits = terms[i].ellipsis ? ranks[i] >= terms[i].letters() : ranks[i] == terms[i].letters();
    if (!fits) fail("{}: input {} of rank {} does not fit '{}'", describe(node), i, ranks[i], equation);
    if (terms[i].ellipsis) wide = std::max(wide, ranks[i] - terms[i].letters());
  }
  EinsumPlan plan;
  plan.labels = wide;  // the ellipsis axes come first
  std::array<std::size_t, 256> label_of;
  label_of.fill(kNoLabel);
  std::array<int, 256> uses{};
  const auto label = [&](char letter) {
    std::size_t& known = label_of[static_cast<unsigned char>(letter)];
    if (known == kNoLabel) known = plan.labels++;
    return known;
  };
  const auto spell = [&](const Term& term, std::size_t rank) {
    std::vector<std::size_t> labels;
    for (const char letter : term.before) labels.push_back(label(letter));
    if (term.ellipsis)
      for (std::size_t i = wide - (rank - term.letters()); i < wide; ++i) labels.push_back(i);
    for (const char letter : term.after) labels.push_back(label(letter));
    return labels;
  };
  for (std::size_t i = 0; i < terms.size(); ++i) {
    plan.inputs.push_back(spell(terms[i], ranks[i]));
    for (const char letter : terms[i].before + terms[i].after) ++uses[static_cast<unsigned char>(letter)];
  }
  if (arrow != std::string::npos) {
    const Term out = parse_term(node, equation.substr(arrow + 2));
    for (const char letter : out.before + out.after)
      if (label_of[static_cast<unsigned char>(letter)] == kNoLabel)
        fail("{}: the output index '{}' is in no input", describe(node), letter);
    plan.output = spell(out, out.letters() + (out.ellipsis ? wide : 0));
  } else {  // the ellipsis, then every letter that occurs once, in alphabetical order
    for (std::size_t i = 0; i < wide; ++i) plan.output.push_back(i);
    for (std::size_t letter = 0; letter < uses.size(); ++letter)
      if (uses[letter] == 1) plan.output.push_back(label_of[letter]);
  }
  return plan;
}

}  // namespace lithe
