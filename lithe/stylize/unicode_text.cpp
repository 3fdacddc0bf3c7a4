#include "lithe/stylize/unicode_text.h"

#include <algorithm>
#include <iterator>
#include <tuple>

#include "lithe/stylize/unicode_tables.h"

namespace lithe {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

template <std::size_t Count>
bool holds(const unicode::Range (&ranges)[Count], char32_t code) {
  const auto* found = std::partition_point(std::begin(ranges), std::end(ranges),
                                           [&](const unicode::Range& range) { return range.last < code; });
  return found != std::end(ranges) && found->first <= code;
}

/// The Unicode Standard, section 3.12: syllables are numbered by leading consonant, vowel, closing consonant.
char32_t join_hangul(char32_t first, char32_t second) {
  constexpr char32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kClosing = 0x11A7;
  constexpr char32_t kLeadings = 19, kVowelCount = 21, kClosings = 28;
  if (first - kLeading < kLeadings && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kClosings;
  const char32_t syllable = first - kSyllables, closing = second - kClosing;
  if (syllable < kLeadings * kVowelCount * kClosings && syllable % kClosings == 0 && closing > 0 &&
      closing < kClosings)
    return first + closing;
  return 0;
}

/// What the two are as one character; 0 if they stay two.
char32_t join(char32_t first, char32_t second) {
  if (const char32_t syllable = join_hangul(first, second)) return syllable;
  const auto* found = std::partition_point(
      std::begin(unicode::kCompositions), std::end(unicode::kCompositions),
      [&](const unicode::Composition& one) {
        return std::tuple(one.first, one.second) < std::tuple<std::uint32_t, std::uint32_t>(first, second);
      });
  const bool same =
      found != std::end(unicode::kCompositions) && found->first == first && found->second == second;
  return same ? found->joined : 0;
}

char32_t lower(char32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
  const auto* run = std::partition_point(std::begin(unicode::kLower), std::end(unicode::kLower),
                                         [&](const unicode::LowerRun& one) { return one.last < code; });
  if (run == std::end(unicode::kLower) || code < run->first || (code - run->first) % run->step != 0)
    return code;
  return static_cast<char32_t>(static_cast<std::int64_t>(code) + run->distance);
}

}  // namespace

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80       ? 1
                               : lead >> 5 == 6  ? 2
                               : lead >> 4 == 14 ? 3
                               : lead >> 3 == 30 ? 4
                                                 : 0;
    char32_t code = length == 1 ? lead : lead & (0x7F >> length);
    bool valid = length > 0 && i + length <= text.size();
    for (std::size_t k = 1; valid && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      valid = next >> 6 == 2;
      code = code << 6 | (next & 0x3F);
    }
    constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    valid = valid && code >= kLeast[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    out.push_back(valid ? code : kReplacement);
    i += valid ? length : 1;
  }
  return out;
}

void append_utf8(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

bool is_unicode_letter(char32_t code) {
  return holds(unicode::kLetters, code);
}
bool is_unicode_number(char32_t code) {
  return holds(unicode::kNumbers, code);
}
bool is_unicode_space(char32_t code) {
  return holds(unicode::kSpaces, code);
}

std::u32string compose(const std::u32string& text) {
  std::u32string out;
  for (const char32_t code : text) {
    const char32_t joined = out.empty() ? 0 : join(out.back(), code);
    if (joined != 0)
      out.back() = joined;
    else
      out.push_back(code);
  }
  return out;
}

std::u32string to_lower(const std::u32string& text) {
  constexpr char32_t kDottedCapitalI = 0x130, kDotAbove = 0x307;
  std::u32string out;
  for (const char32_t code : text) {
    if (code == kDottedCapitalI)
      out.append({U'i', kDotAbove});  // the one capital whose small form is two characters
    else
      out.push_back(lower(code));
  }
  return out;
}

}  // namespace lithe
