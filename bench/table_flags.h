// What all tables share: their flags, shards of the work, and what is printed when something goes wrong.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "lithe/base/error.h"

namespace lithe::bench {

struct TableFlags {
  std::string tier = "smoke", data_root, results;
  int seeds = 0;    // 0: as many as the tier has
  int threads = 1;  // of a run
  int shard = 0, shards = 1;

  bool mine(int piece) const { return piece % shards == shard; }
  /// True if this process did only a part of the work, which it then says.
  bool partial() const {
    if (shards > 1) fmt::print("shard {} of {} is done; run without --shard for the table\n", shard, shards);
    return shards > 1;
  }
  /// Of three tiers the one asked for.
  template <typename Tier>
  Tier choose(const Tier& smoke, const Tier& small, const Tier& paper) const {
    return tier == "paper" ? paper : tier == "small" ? small : smoke;
  }
};

/// Adds the flags; results lie in `name`_TIER.jsonl where --results does not say, see `run_table`.
inline void add_table_flags(CLI::App& app, TableFlags& flags) {
  app.add_option("--tier", flags.tier, "how much is run")
      ->check(CLI::IsMember({"smoke", "small", "paper"}))
      ->capture_default_str();
  app.add_option("--data-root", flags.data_root, "folder of the data (default: $LITHE_DATA)");
  app.add_option("--results", flags.results, "file of finished runs, which are not done again");
  app.add_option("--seeds", flags.seeds, "paired seeds, instead of the tier's")->check(CLI::Range(1, 1000));
  app.add_option("--threads", flags.threads, "threads of a run")->check(CLI::Range(1, 1024));
  app.add_option_function<std::string>(
         "--shard",
         [&flags](const std::string& text) {
           if (std::sscanf(text.c_str(), "%d/%d", &flags.shard, &flags.shards) != 2 || flags.shards < 1 ||
               flags.shard < 0 || flags.shard >= flags.shards)
             fail("--shard {}: write I/N with I from 0 to N-1", text);
         },
         "the part of the work that this process does")
      ->type_name("I/N");
}

/// Parses the flags and runs the table: its own exit status, or 2 with one line if it throws.
template <typename Run>
int run_table(CLI::App& app, TableFlags& flags, int argc, char** argv, const Run& run) {
  try {
    app.parse(argc, argv);
    if (const char* root = std::getenv("LITHE_DATA"); root && flags.data_root.empty()) flags.data_root = root;
    if (flags.results.empty()) flags.results = app.get_name() + "_" + flags.tier + ".jsonl";
    return run();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), error.what());
    return 2;
  }
}

}  // namespace lithe::bench
