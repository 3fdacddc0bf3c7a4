// What libpng would complain about on standard error, found before it is asked.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lithe {

/// The same PNG picture with only the chunks that its pixels hang on (those that the standard calls critical,
/// transparency and orientation); colour profiles, texts and times are left out. Nothing if the file is no
/// whole PNG: a chunk does not end, its checksum does not fit, or the end is missing.
std::optional<std::string> needed_png_chunks(std::string_view bytes);

}  // namespace lithe
