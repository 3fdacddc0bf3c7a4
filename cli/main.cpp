// The program that users start. Loading LibTorch takes a second, so it is only loaded for the verbs that need
// it: they live in a module of their own beside this program.
#include <dlfcn.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "cli/verb.h"

namespace {

namespace fs = std::filesystem;

/// --help, --version, plain `inspect` and `superpoints` read no tensor.
bool needs_torch(int argc, char** argv) {
  const auto is_verb = [](std::string_view word) { return !word.empty() && word[0] != '-'; };
  const auto verb = std::find_if(argv + 1, argv + argc, is_verb);
  if (verb == argv + argc) return false;
  const auto lists = [](std::string_view word) { return word == "--list-operators"; };
  const std::string_view name = *verb;
  return (name != "inspect" && name != "superpoints") || std::any_of(verb, argv + argc, lists);
}

int run_module(int argc, char** argv) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path module = program.parent_path().parent_path() / LITHE_MODULE_FOLDER / "liblithe_verbs.so";
  void* handle = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    fmt::print(stderr, "lithe: cannot load {}; is the installation complete?\n", ::dlerror());
    return 1;
  }
  const auto entry = reinterpret_cast<int (*)(int, char**)>(::dlsym(handle, "lithe_run_verbs"));
  if (!entry) {
    fmt::print(stderr, "lithe: {} is of another version; is the installation complete?\n", module.string());
    return 1;
  }
  return entry(argc, argv);
}

/// `help` and `help VERB` mean `--help` and `VERB --help`.
void accept_help_as_verb(int& argc, char** argv) {
  static char flag[] = "--help";
  if (argc < 2 || std::string_view(argv[1]) != "help") return;
  argv[1] = argc > 2 ? argv[2] : flag;
  if (argc > 2) argv[2] = flag;
  argc = std::min(argc, 3);
}

}  // namespace

int main(int argc, char** argv) {
  // Big activations come and go at every operator; giving their pages back each time costs more than the
  // work.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  // Threads that wait spin for a third of a millisecond, which bridges the gap from operator to operator;
  // spinning on would make them several times slower on a machine that does anything else.
  ::setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
  ::setenv("GOMP_SPINCOUNT", "20000", 0);
  accept_help_as_verb(argc, argv);
  if (needs_torch(argc, argv)) return run_module(argc, argv);
  return lithe::cli::run_command_line(argc, argv, {lithe::cli::add_inspect, lithe::cli::add_superpoints});
}
