// A small hash that is equal on every machine, for seeds and checksums; not against attackers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lithe {

/// 64-bit FNV-1a of the bytes.
inline std::uint64_t fnv1a(std::span<const std::byte> bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const std::byte byte : bytes) hash = (hash ^ static_cast<std::uint64_t>(byte)) * 1099511628211u;
  return hash;
}

}  // namespace lithe
