#include "lithe/quantize/dfsq/universal_set.h"

#include <array>
#include <set>
#include <span>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using Word = std::array<int, 4>;

std::set<int> sums(std::span<const Word> words, std::size_t values) {
  std::set<int> all{0};
  for (const Word& word : words) {
    std::set<int> next;
    for (const int sum : all)
      for (std::size_t i = 0; i < values; ++i) next.insert(sum + word[i]);
    all = std::move(next);
  }
  return all;
}

}  // namespace

std::vector<std::int16_t> universal_set(int values) {
  if (values < 1 || values > 4) fail("a word of the universal set has 1 to 4 values, not {}", values);
  // In units of 1/1024, a quarter of each value.
  static constexpr std::array<Word, 4> kWords{
      {{256, 128, 8, 0}, {256, 64, 4, 0}, {256, 32, 2, 0}, {256, 16, 1, 0}}};
  std::set<int> all;
  for (const int sum : sums(kWords, static_cast<std::size_t>(values))) {
    all.insert(sum);
    all.insert(-sum);
  }
  return {all.begin(), all.end()};
}

std::vector<std::int16_t> subset_quantization_set() {
  static constexpr std::array<Word, 2> kWords{{{16, 8, 2, 0}, {16, 4, 1, 0}}};
  const std::set<int> all = sums(kWords, 4);
  return {all.begin(), all.end()};
}

}  // namespace lithe
