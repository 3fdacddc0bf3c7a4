// Whatever the bytes are, reading them as PLY gives a cloud whose parts fit together or an Error.
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/points/ply.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const lithe::PlyScene scene =
        lithe::parse_ply({reinterpret_cast<const char*>(data), size}, "fuzz", {.wanted = {"label"}});
    const auto fits = [&](std::size_t count) {
      if (count != 0 && count != scene.cloud.positions.size()) std::abort();
    };
    fits(scene.cloud.colours.size());
    fits(scene.cloud.normals.size());
    for (const auto& [name, values] : scene.properties) fits(values.size());
    for (const auto& point : scene.cloud.positions)
      for (const float x : point)
        if (!std::isfinite(x)) std::abort();
    for (const auto& face : scene.cloud.faces)
      for (const std::int32_t corner : face)
        if (corner < 0 || corner >= scene.cloud.size()) std::abort();
  } catch (const lithe::Error&) {
  }
  return 0;
}
