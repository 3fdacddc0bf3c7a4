#include "lithe/stylize/clip_tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"
#include "lithe/stylize/gzip.h"
#include "lithe/stylize/unicode_text.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = 16 << 20;  // of a vocabulary file
constexpr std::size_t kMostTokens = 1 << 20;
constexpr std::size_t kMostText = 16 << 10;
constexpr std::size_t kClipMerges = 48894;  // what OpenAI's list holds beyond is not used
constexpr std::string_view kStart = "<|startoftext|>", kEnd = "<|endoftext|>", kWordEnd = "</w>";
constexpr std::int32_t kNoToken = -1, kNoRank = std::numeric_limits<std::int32_t>::max();

/// The visible characters that stand for bytes in GPT-2's and CLIP's vocabularies: visible Latin-1 characters
/// for themselves, the other bytes for U+0100 and up in order. `order` lists bytes as the vocabulary does.
struct ByteNames {
  std::array<std::string, 256> names;
  std::vector<int> order;

  ByteNames() {
    const auto visible = [](int byte) {
      return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    };
    for (const bool wanted : {true, false})
      for (int byte = 0; byte < 256; ++byte)
        if (visible(byte) == wanted) order.push_back(byte);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte)
      append_utf8(names[static_cast<std::size_t>(byte)],
                  visible(byte) ? static_cast<char32_t>(byte) : next++);
  }
};

const ByteNames& byte_names() {
  static const ByteNames names;
  return names;
}

/// Lines "left right" behind the line of the version.
std::vector<std::string_view> merge_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (bool first = true; !text.empty() && lines.size() < kClipMerges; first = false) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    // OpenAI's file begins with a stray quote and its own name.
    if (line.empty() || (first && line.find("#version") != std::string_view::npos)) continue;
    lines.push_back(line);
  }
  return lines;
}

std::uint64_t key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

/// The text of a special token, which stands as a string or as an object with its content.
std::string special_token(const fs::path& file, const std::string& name) {
  if (!fs::exists(file)) return "";
  const nlohmann::json json = parse_json(read_text_file(file, kMostBytes), file.string());
  if (!json.is_object() || !json.contains(name)) return "";
  const nlohmann::json& token = json.at(name);
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token.at("content").is_string())
    return token.at("content").get<std::string>();
  if (token.is_null()) return "";
  fail("{}: '{}' is neither a token nor an object with its content", file.string(), name);
}

/// Length of the piece that begins at `from` in lowered text; the alternatives are tried in this order.
std::size_t piece_length(const std::u32string& text, std::size_t from) {
  static constexpr std::array<std::u32string_view, 9> kFixed{
      U"<|startoftext|>", U"<|endoftext|>", U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};
  const std::u32string_view rest = std::u32string_view(text).substr(from);
  for (const std::u32string_view fixed : kFixed)
    if (rest.starts_with(fixed)) return fixed.size();
  const auto run = [&](auto holds) {
    return static_cast<std::size_t>(std::find_if_not(rest.begin(), rest.end(), holds) - rest.begin());
  };
  if (is_unicode_letter(rest[0])) return run(is_unicode_letter);
  if (is_unicode_number(rest[0])) return 1;
  return run([](char32_t code) {
    return !is_unicode_letter(code) && !is_unicode_number(code) && !is_unicode_space(code);
  });
}

}  // namespace

ClipTokenizer::ClipTokenizer(const Vocabulary& vocabulary, const std::vector<std::string_view>& merges,
                             const std::string& vocabulary_name, const std::string& merges_name) {
  const auto find = [&](const std::string& symbol) {
    const auto found = vocabulary.find(symbol);
    return found == vocabulary.end() ? kNoToken : found->second;
  };
  const auto need = [&](std::string_view token) {
    const std::int32_t number = find(std::string(token));
    if (number == kNoToken) fail("{}: there is no token '{}', which CLIP needs", vocabulary_name, token);
    return number;
  };
  start_ = need(kStart);
  end_ = padding_ = need(kEnd);
  for (const auto& [symbol, number] : vocabulary) size_ = std::max<std::int64_t>(size_, number + 1);
  for (const std::string& name : byte_names().names) {
    inner_.push_back(find(name));
    last_.push_back(find(name + std::string(kWordEnd)));
  }
  merges_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view line = merges[i];
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos)
      fail("{}: merge {} is '{}'; two symbols with a blank between were expected", merges_name, i + 1,
           line.substr(0, 80));
    const std::string left(line.substr(0, blank)), right(line.substr(blank + 1));
    const std::int32_t numbers[] = {find(left), find(right), find(left + right)};
    if (std::find(std::begin(numbers), std::end(numbers), kNoToken) != std::end(numbers))
      fail("{}: merge {}, '{}', speaks of symbols that {} does not have; the two files do not go together",
           merges_name, i + 1, line.substr(0, 80), vocabulary_name);
    merges_.try_emplace(key(numbers[0], numbers[1]), Merge{static_cast<std::int32_t>(i), numbers[2]});
  }
}

ClipTokenizer ClipTokenizer::open(const fs::path& folder) {
  const fs::path vocabulary_file = folder / "vocab.json", merges_file = folder / "merges.txt";
  const nlohmann::json json =
      parse_json(read_text_file(vocabulary_file, kMostBytes), vocabulary_file.string());
  if (!json.is_object() || json.empty() || json.size() > kMostTokens)
    fail("{}: an object of 1 to {} tokens and their numbers was expected", vocabulary_file.string(),
         kMostTokens);
  Vocabulary vocabulary;
  for (const auto& [token, number] : json.items()) {
    if (!number.is_number_integer() || number < 0 || number >= kMostTokens)
      fail("{}: the token '{}' has no number from 0 to {}", vocabulary_file.string(), token, kMostTokens - 1);
    vocabulary.emplace(token, number.get<std::int32_t>());
  }
  const std::string merges = read_text_file(merges_file, kMostBytes);
  ClipTokenizer tokenizer(vocabulary, merge_lines(merges), vocabulary_file.string(), merges_file.string());
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const std::string padding = special_token(folder / name, "pad_token");
    if (padding.empty()) continue;
    const auto found = vocabulary.find(padding);
    if (found == vocabulary.end())
      fail("{}: the padding token '{}' is not in {}", (folder / name).string(), padding,
           vocabulary_file.string());
    tokenizer.padding_ = found->second;
    break;
  }
  return tokenizer;
}

ClipTokenizer ClipTokenizer::from_merges(const fs::path& file) {
  const std::string text = read_maybe_gzip(file, kMostBytes);
  const std::vector<std::string_view> merges = merge_lines(text);
  Vocabulary vocabulary;
  const auto add = [&](std::string symbol) {
    vocabulary.emplace(std::move(symbol), static_cast<std::int32_t>(vocabulary.size()));
  };
  for (const std::string_view ending : {std::string_view(), kWordEnd})
    for (const int byte : byte_names().order)
      add(byte_names().names[static_cast<std::size_t>(byte)] + std::string(ending));
  for (const std::string_view line : merges) {
    std::string joined(line);
    joined.erase(std::remove(joined.begin(), joined.end(), ' '), joined.end());
    const std::size_t before = vocabulary.size();
    add(joined);
    if (vocabulary.size() == before)
      fail(
          "{}: the merge '{}' makes a symbol that is there already, so that numbers do not follow from order",
          file.string(), line.substr(0, 80));
  }
  add(std::string(kStart));
  add(std::string(kEnd));
  return ClipTokenizer(vocabulary, merges, file.string(), file.string());
}

void ClipTokenizer::append_word(const std::string& utf8, std::vector<std::int64_t>& out) const {
  if (utf8 == kStart || utf8 == kEnd) {
    out.push_back(utf8 == kStart ? start_ : end_);
    return;
  }
  std::vector<std::int32_t> symbols;
  for (std::size_t i = 0; i < utf8.size(); ++i)
    symbols.push_back((i + 1 < utf8.size() ? inner_ : last_)[static_cast<unsigned char>(utf8[i])]);
  const auto merge_at = [&](std::size_t i) {
    const auto found = merges_.find(key(symbols[i], symbols[i + 1]));
    return found == merges_.end() ? Merge{kNoRank, kNoToken} : found->second;
  };
  std::vector<Merge> pairs;  // of a symbol and the one behind it
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) pairs.push_back(merge_at(i));
  while (!pairs.empty()) {
    const Merge best = *std::min_element(pairs.begin(), pairs.end(),
                                         [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best.rank == kNoRank) break;
    // All occurrences from left to right; only pairs beside a merged symbol are looked up again.
    std::vector<std::int32_t> merged;
    std::vector<Merge> kept;
    std::vector<bool> changed;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool here = i < pairs.size() && pairs[i].rank == best.rank;
      if (here) ++i;
      merged.push_back(here ? best.token : symbols[i]);
      changed.push_back(here);
      kept.push_back(i < pairs.size() ? pairs[i] : Merge{});
    }
    symbols = std::move(merged);
    kept.pop_back();
    pairs = std::move(kept);
    for (std::size_t i = 0; i < pairs.size(); ++i)
      if (changed[i] || changed[i + 1]) pairs[i] = merge_at(i);
  }
  for (const std::int32_t symbol : symbols) out.push_back(symbol == kNoToken ? end_ : symbol);
}

std::vector<std::int64_t> ClipTokenizer::encode(std::string_view text) const {
  if (text.size() > kMostText)
    fail("the prompt has {} bytes; {} are the most: shorten it", text.size(), kMostText);
  const std::u32string clean = to_lower(compose(decode_utf8(text)));
  std::vector<std::int64_t> out;
  for (std::size_t from = 0; from < clean.size();) {
    if (is_unicode_space(clean[from])) {
      ++from;
      continue;
    }
    const std::size_t length = piece_length(clean, from);
    std::string piece;
    for (const char32_t code : std::u32string_view(clean).substr(from, length)) append_utf8(piece, code);
    append_word(piece, out);
    from += length;
  }
  return out;
}

std::vector<std::vector<std::int64_t>> ClipTokenizer::rows(std::string_view text, bool truncate) const {
  std::vector<std::int64_t> tokens = encode(text);
  constexpr auto kRow = static_cast<std::size_t>(kContext);
  if (truncate && tokens.size() > kRow - 2) tokens.resize(kRow - 2);
  tokens.insert(tokens.begin(), start_);
  tokens.push_back(end_);
  tokens.resize((tokens.size() + kRow - 1) / kRow * kRow, padding_);
  std::vector<std::vector<std::int64_t>> rows;
  for (auto row = tokens.begin(); row != tokens.end(); row += kContext)
    rows.emplace_back(row, row + kContext);
  return rows;
}

}  // namespace lithe
