#pragma once

namespace lithe {

/// The one place where the version stands; CMake reads it from here.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace lithe
