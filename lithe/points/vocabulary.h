// Words as numbers, for the text encoder of a grounding network.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace lithe {

/// One token a word, between kStart and kEnd, with ". not mentioned" after the last word: what no object
/// answers to is aligned with these.
struct SentenceTokens {
  std::vector<std::int64_t> ids;
  std::vector<std::vector<std::int64_t>>
      trigrams;                 // of each token, rows of the table of hashed trigrams from 1; none for marks
  std::int64_t first_word = 1;  // the token of the first word
  std::vector<std::string> unknown;  // words that the vocabulary lacks, in order
};

/// The words that a network knows. A word that it lacks is kUnknown, and told from others by its hashed
/// trigrams.
class Vocabulary {
 public:
  static constexpr std::int64_t kPadding = 0, kStart = 1, kEnd = 2, kUnknown = 3;

  /// Of all words that occur at least `least` times, in the order of the alphabet.
  static Vocabulary of(std::span<const std::vector<std::string>> sentences, std::int64_t least = 1,
                       std::int64_t trigrams = 2048);

  std::int64_t size() const;      // with the marks
  std::int64_t trigrams() const;  // rows of the table, row 0 among them
  /// Words as `normalised_words` gives them. Throws Error(Input) if there is none.
  SentenceTokens tokens(std::span<const std::string> words) const;

  nlohmann::json to_json() const;
  /// Throws Error(Input) on what to_json cannot have written; bounded.
  static Vocabulary from_json(const nlohmann::json& json);

 private:
  std::vector<std::string> words_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::int64_t trigrams_ = 2048;
};

}  // namespace lithe
