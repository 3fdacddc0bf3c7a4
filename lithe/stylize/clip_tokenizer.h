// Text prompts as the token numbers that CLIP's text encoder takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lithe {

/// Byte-level byte-pair encoding with an end-of-word mark (Sennrich et al., ACL 2016; Radford et al.,
/// "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 2.4). Text is
/// composed (see `compose`), white space collapsed and letters lowered first; the repairs of the ftfy library
/// and HTML entities are left to the caller.
class ClipTokenizer {
 public:
  static constexpr std::int64_t kContext = 77;  // tokens of one row

  /// The folder `tokenizer` of a Stable Diffusion model: vocab.json, merges.txt, and the padding token of
  /// special_tokens_map.json or tokenizer_config.json where they are. Throws Error(Input) that names the file
  /// and the entry that does not fit.
  static ClipTokenizer open(const std::filesystem::path& folder);
  /// A list of merges alone, as OpenAI ships it (gzip or plain); token numbers follow from their order.
  static ClipTokenizer from_merges(const std::filesystem::path& file);

  /// Tokens of the text without start, end and padding. Throws Error(Input) for text of more than 16 KiB.
  std::vector<std::int64_t> encode(std::string_view text) const;
  /// With start and end, padded to rows of kContext: one row for what fits, else as many as it takes (the
  /// start stands in the first row only, the end behind the last token). With `truncate` always one row, cut
  /// short in front of the end.
  std::vector<std::vector<std::int64_t>> rows(std::string_view text, bool truncate = false) const;

  std::int64_t start() const { return start_; }
  std::int64_t end() const { return end_; }
  std::int64_t padding() const { return padding_; }
  /// One more than the largest token number.
  std::int64_t size() const { return size_; }

 private:
  struct Merge {
    std::int32_t rank = 0, token = 0;
  };
  using Vocabulary = std::unordered_map<std::string, std::int32_t>;

  ClipTokenizer(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges,
                const std::string& vocabulary_name, const std::string& merges_name);
  void append_word(const std::string& utf8, std::vector<std::int64_t>& out) const;

  std::unordered_map<std::uint64_t, Merge> merges_;  // by both tokens
  std::vector<std::int32_t> inner_, last_;           // of the 256 bytes, inside and at the end of a word
  std::int64_t start_ = 0, end_ = 0, padding_ = 0, size_ = 0;
};

}  // namespace lithe
