// Writes a model of the make of Stable Diffusion 1 with random weights, small enough to try `lithe stylize`
// on any machine: tiny_sd FOLDER [plain|merged|split], the latter two taking control pictures.
#include <fmt/format.h>

#include <exception>
#include <string>

#include "lithe/models/tiny_stable_diffusion.h"

int main(int argc, char** argv) {
  const std::string form = argc > 2 ? argv[2] : "plain";
  if (argc < 2 || argc > 3 || (form != "plain" && form != "merged" && form != "split")) {
    fmt::print(stderr, "usage: {} FOLDER [plain|merged|split]\n", argv[0]);
    return 2;
  }
  try {
    lithe::write_tiny_stable_diffusion(argv[1], {.control = form == "merged"  ? lithe::ControlForm::Merged
                                                            : form == "split" ? lithe::ControlForm::Split
                                                                              : lithe::ControlForm::None});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  fmt::print("wrote {}\n", argv[1]);
}
