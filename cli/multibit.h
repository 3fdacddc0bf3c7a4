// The actions of `lithe multibit`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lithe/multibit/session.h"

namespace lithe::cli {

void add_multibit_train(CLI::App& verb);
void add_multibit_eval(CLI::App& verb);
void add_multibit_export(CLI::App& verb);

/// "2,4,8" or "2-8" as ascending bit-widths; throws Error(Input) naming the flag.
std::vector<int> parse_bits(const std::string& text);

/// The integer run time of a model; nothing and a note why if it cannot run it.
std::optional<MultibitSession> integer_session(const Graph& graph, std::vector<std::string>& notes);

}  // namespace lithe::cli
