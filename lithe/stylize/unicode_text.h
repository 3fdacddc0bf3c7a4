// The little of Unicode that text prompts need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lithe {

/// Code points of UTF-8 text; bytes that are none become U+FFFD, one each.
std::u32string decode_utf8(std::string_view text);
void append_utf8(std::string& text, char32_t code);

bool is_unicode_letter(char32_t code);  // category L
bool is_unicode_number(char32_t code);  // category N
bool is_unicode_space(char32_t code);

/// Normalisation form C of text whose combining marks stand in canonical order: letters are joined with the
/// marks right behind them, and Hangul letters to syllables. Characters that form C takes apart (for example
/// CJK compatibility ideographs) stay as they are.
std::u32string compose(const std::u32string& text);

/// Character by character, without regard to the language or to the end of a word.
std::u32string to_lower(const std::u32string& text);

}  // namespace lithe
